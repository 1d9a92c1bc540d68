"""How often a delivery has failed, and why: carried by its headers, trusted to no stranger's."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitway.adapters.rabbitmq.delivery import (
    HISTORY_MAX,
    Incoming,
    Publication,
    cause_of,
    decode_object,
    encode_object,
    headers_after_failure,
    headers_of_replay,
    headers_unchanged,
    read_dead_letter,
    read_delivery,
)
from jitway.errors import InvalidRequest, MalformedMessage

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
values = st.recursive(
    scalars | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
our_names = st.sampled_from(
    [
        "x-attempt",
        "x-history",
        "x-cause",
        "x-first-failed-at",
        "x-last-failed-at",
        "x-death",
        "x-exchange",
        "x-routing-key",
        "x-replays",
        "x-delivery-count",
        "mine",
    ]
)


def incoming(headers: dict[str, Any], body: bytes = b"{}", key: str = "order.made") -> Incoming:
    return Incoming(1, body, "shop", key, "id-1", headers, redelivered=False)


@given(st.dictionaries(our_names, values))
def test_no_header_of_a_stranger_can_stop_a_queue(headers: dict[str, Any]) -> None:
    delivery = read_delivery("orders", incoming(headers))
    after = headers_after_failure(delivery, "ValueError", at=NOW)
    again = read_delivery("orders", incoming(after))
    assert again.attempts == min(delivery.attempts + 1, 1_000)
    assert again.routing_key == delivery.routing_key
    assert again.history[-1].cause == "ValueError"
    assert len(again.history) <= HISTORY_MAX
    read_dead_letter("orders", incoming(headers))


def test_each_failure_adds_to_the_story_and_keeps_the_origin() -> None:
    copy = incoming({"traceparent": "00"})
    delivery = read_delivery("orders", copy)
    for attempt in range(1, 5):
        at = NOW + timedelta(seconds=attempt)
        headers = headers_after_failure(delivery, f"failure {attempt}", at=at)
        copy = Incoming(9, b"{}", "", "orders.retry.500", "id-1", headers, redelivered=False)
        delivery = read_delivery("orders", copy)

    letter = read_dead_letter("orders", copy)
    assert (letter.id, letter.cause) == ("id-1", "failure 4")
    assert letter.delivery.attempts == 4
    assert letter.delivery.exchange == "shop"
    assert letter.delivery.routing_key == "order.made"
    assert letter.delivery.first_failed_at == NOW + timedelta(seconds=1)
    assert letter.last_failed_at == NOW + timedelta(seconds=4)
    assert [failure.cause for failure in letter.delivery.history] == [
        f"failure {attempt}" for attempt in range(1, 5)
    ]
    assert letter.delivery.headers == {"traceparent": "00"}


def test_what_is_put_off_has_not_failed() -> None:
    failed = headers_after_failure(read_delivery("orders", incoming({})), "no", at=NOW)
    delivery = read_delivery("orders", incoming(failed))
    put_off = read_delivery("orders", incoming(headers_unchanged(delivery)))
    assert put_off.attempts == delivery.attempts == 1
    assert put_off.history == delivery.history


def test_a_replay_grants_all_attempts_and_remembers_why() -> None:
    failed = headers_after_failure(read_delivery("orders", incoming({})), "no", at=NOW)
    replayed = headers_of_replay(read_delivery("orders", incoming(failed)))
    delivery = read_delivery("orders", incoming(replayed))
    assert (delivery.attempts, delivery.replays) == (0, 1)
    assert [failure.cause for failure in delivery.history] == ["no"]
    again = read_delivery("orders", incoming(headers_of_replay(delivery)))
    assert again.replays == 2


def test_headers_that_would_break_a_frame_are_left_behind() -> None:
    delivery = read_delivery("orders", incoming({f"h{n}": "x" * 1_000 for n in range(200)}))
    headers = headers_after_failure(delivery, "no", at=NOW)
    assert headers["x-headers-dropped"] == 200
    assert len(repr(headers)) < 4_000


def test_what_the_broker_buried_is_read_from_its_own_record() -> None:
    died = {
        "reason": "delivery_limit",
        "queue": "orders",
        "exchange": "shop",
        "routing-keys": ["order.made"],
        "time": NOW,
    }
    letter = read_dead_letter("orders", incoming({"x-death": [died]}, key="orders.dead"))
    assert "too often" in letter.cause
    assert letter.delivery.routing_key == "order.made"
    assert letter.delivery.exchange == "shop"
    assert letter.last_failed_at == NOW


def test_a_message_without_an_id_is_known_by_its_content() -> None:
    def letter_id(body: bytes) -> str:
        nameless = Incoming(1, body, "shop", "order.made", None, {}, redelivered=False)
        return read_dead_letter("orders", nameless).id

    assert letter_id(b"a") == letter_id(b"a") != letter_id(b"b")
    assert letter_id(b"a").startswith("sha256:")


@given(st.dictionaries(st.text(), st.integers() | st.text(st.characters(codec="utf-8"))))
def test_what_is_encoded_is_decoded(message: dict[str, Any]) -> None:
    assert decode_object(encode_object(message)) == message


@pytest.mark.parametrize("value", [float("nan"), object(), "\ud800", {1, 2}])
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequest, match="JSON"):
        encode_object({"value": value})


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b'{"x":Infinity}', b"\xff", b"[" * 10**5])
def test_what_is_no_object_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_object(body)


@pytest.mark.parametrize("field", ["exchange", "routing_key", "message_id"])
def test_names_fit_their_frames(field: str) -> None:
    fields: dict[str, Any] = {"exchange": "e", "routing_key": "k", "message_id": "m", "body": b""}
    Publication(**fields | {field: "é" * 127})
    with pytest.raises(InvalidRequest, match=field):
        Publication(**fields | {field: "é" * 128})


def test_a_cause_is_one_line_of_bounded_length() -> None:
    assert cause_of(ValueError("a\n  b")) == "ValueError: a b"
    assert cause_of(KeyError()) == "KeyError"
    assert len(cause_of(ValueError("x" * 10_000))) == 500
