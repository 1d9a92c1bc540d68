"""The bodies of the other routes: bounds, absent ones, controls, and one canonical text."""

import json
from typing import Any

import pytest

from jitway.domain.limits import Limit, Period
from jitway.errors import InvalidRequest, MalformedMessage
from jitway.wire import bodies
from jitway.wire.bodies import decode_body


def encoded(**members: Any) -> bytes:
    return json.dumps(members).encode()


def test_a_capture_is_final_unless_it_says_otherwise() -> None:
    assert decode_body(bodies.Capture, encoded(amount=5)).final
    assert not decode_body(bodies.Capture, encoded(amount=5, final=False)).final
    stated = decode_body(bodies.Capture, encoded(amount=5, final=True))
    assert stated.canonical() == decode_body(bodies.Capture, encoded(amount=5)).canonical()


def test_a_reversal_and_a_change_of_state_may_have_no_body() -> None:
    assert decode_body(bodies.Reversal, b"").amount is None
    assert decode_body(bodies.Reversal, b"{}").amount is None
    assert decode_body(bodies.Reversal, encoded(amount=None)).amount is None
    assert decode_body(bodies.CardState, b"").reason is None
    with pytest.raises(MalformedMessage):
        decode_body(bodies.Capture, b"")


@pytest.mark.parametrize(
    ("kind", "raw", "pointer"),
    [
        (bodies.Capture, encoded(amount=0), "/amount"),
        (bodies.Capture, encoded(amount=1.0), "/amount"),
        (bodies.Capture, encoded(amount=1, final=1), "/final"),
        (bodies.Reversal, encoded(amount=-5), "/amount"),
        (bodies.Program, encoded(name="", currency="USD", time_zone="UTC"), "/name"),
        (bodies.Program, encoded(name="P", currency="ABC", time_zone="UTC"), "/currency"),
        (bodies.Program, encoded(name="P", currency="USD", time_zone="Mars/Base"), "/time_zone"),
        (bodies.Program, encoded(name="P", currency="USD", time_zone="../etc"), "/time_zone"),
        (bodies.Program, encoded(name="P", currency="USD", time_zone="/etc/passwd"), "/time_zone"),
        (bodies.Cardholder, encoded(program="p", external_id="a\u0000"), "/external_id"),
        (bodies.Account, encoded(cardholder="c", currency="USD", credit_line=-1), "/credit_line"),
        (bodies.Account, encoded(cardholder="c", currency="USD", posted=5), "/posted"),
        (bodies.Movement, encoded(amount=1, description="x" * 501), "/description"),
        (bodies.Card, encoded(cardholder="c", account="a", last4="12345"), "/last4"),
        (bodies.Card, encoded(cardholder="c", account="a", id="crd_1"), "/id"),
        (bodies.Card, encoded(cardholder="c", account="a", state="active"), "/state"),
        (
            bodies.Card,
            encoded(cardholder="c", account="a", external_id="4242424242424242"),
            "/external_id",
        ),
        (bodies.CardState, encoded(reason=5), "/reason"),
        (bodies.Controls, encoded(limits={}), "/limits"),
        (bodies.Controls, encoded(limits=[{"period": "hour", "amount": 1}]), "/limits/0/period"),
        (bodies.Controls, encoded(limits=[{"period": "day", "amount": "1"}]), "/limits/0/amount"),
        (bodies.Controls, encoded(block={"mcc": ["59421"]}), "/block/mcc"),
        (bodies.Controls, encoded(block={"mcc": ["0000"] * 1001}), "/block/mcc"),
    ],
)
def test_what_is_wrong_is_named(kind: type[bodies.Body], raw: bytes, pointer: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode_body(kind, raw)
    assert refused.value.pointer is not None
    assert refused.value.pointer.startswith(pointer)


def test_a_member_that_stands_twice_is_refused_at_any_depth() -> None:
    raw = b'{"limits":[{"period":"day","amount":1,"am\\u006funt":2}]}'
    with pytest.raises(MalformedMessage):
        decode_body(bodies.Controls, raw)


def test_controls_in_domain_words() -> None:
    body = decode_body(
        bodies.Controls,
        encoded(
            limits=[
                {"period": "month", "count": 9, "amount": 100},
                {"period": "transaction", "amount": 5},
            ],
            allow={"mcc": [], "merchant": [], "country": []},
            block={"mcc": ["7995"], "country": ["KP"]},
        ),
    )
    controls = bodies.controls_of(body)
    assert controls.limits == (
        Limit(Period.TRANSACTION, amount=5),
        Limit(Period.MONTH, amount=100, count=9),
    )
    assert controls.blocked_mccs == {"7995"}
    assert controls.blocked_merchants == frozenset()
    assert controls.blocked_countries == {"KP"}


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"limits": [{"period": "day"}]}, "/limits/0"),
        ({"limits": [{"period": "transaction", "count": 1}]}, "/limits/0/count"),
        ({"limits": [{"period": "day", "count": 1}] * 2}, "/limits/1/period"),
        ({"allow": {"mcc": ["5942"]}}, "/allow"),
    ],
)
def test_controls_that_cannot_be_meant(members: dict[str, Any], pointer: str) -> None:
    body = decode_body(bodies.Controls, encoded(**members))
    with pytest.raises(InvalidRequest) as refused:
        bodies.controls_of(body)
    assert refused.value.pointer == pointer


@pytest.mark.parametrize("key", ["k", "!" * 255, "a-b_c.d:e~"])
def test_idempotency_keys(key: str) -> None:
    assert bodies.check_idempotency_key(key) == key


@pytest.mark.parametrize("key", ["", "a b", "a\n", "x" * 256, "\u00e9", "\x7f"])
def test_what_is_no_idempotency_key(key: str) -> None:
    with pytest.raises(InvalidRequest):
        bodies.check_idempotency_key(key)
