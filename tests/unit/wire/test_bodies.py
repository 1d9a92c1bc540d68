"""The bodies of the other routes: bounds, absent ones, controls, and one canonical text."""

import json
from datetime import UTC, date, datetime
from typing import Any, get_args

import pytest

from jitway.domain.limits import LISTED, Limit, Period, SpendControls
from jitway.domain.message import CardPresence, EntryMode
from jitway.errors import InvalidRequest, MalformedMessage
from jitway.wire import administration, bodies
from jitway.wire.bodies import decode_body
from jitway.wire.forms import CardPresenceName, EntryModeName

# In UTC there are no such dates.
BEFORE_ALL, AFTER_ALL = "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"


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
        (bodies.Controls, encoded(allow={"merchant": ["x" * 65]}), "/allow/merchant"),
        (bodies.Controls, encoded(allow={"merchant": ["m"] * 1001}), "/allow/merchant"),
        (bodies.Controls, encoded(allow={"country": ["USA"]}), "/allow/country"),
        (bodies.Controls, encoded(allow={"entry_mode": ["telex"]}), "/allow/entry_mode"),
        (bodies.Controls, encoded(block={"card_presence": [True]}), "/block/card_presence"),
        (bodies.Controls, encoded(block={"card": ["present"]}), "/block/card"),
        (bodies.Card, encoded(cardholder="c", account="a", valid_from=5), "/valid_from"),
        (bodies.Card, encoded(cardholder="c", account="a", valid_until="soon"), "/valid_until"),
        (administration.Key, encoded(scopes=["read"], expires_at=BEFORE_ALL), "/expires_at"),
        (administration.Key, encoded(scopes=["read"], expires_at=AFTER_ALL), "/expires_at"),
        (administration.Rotation, encoded(until=BEFORE_ALL), "/until"),
        (administration.Rotation, encoded(until=AFTER_ALL), "/until"),
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
            allow={"mcc": [], "merchant": ["m-1"], "country": ["US", "XK", "US"]},
            block={"mcc": ["7995"], "country": ["KP"], "entry_mode": ["manual", "fallback"]},
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
    assert controls.blocked_entry_modes == {"manual", "fallback"}
    assert controls.blocked_card_presences == frozenset()
    assert controls.allowed_mccs == frozenset()
    assert controls.allowed_merchants == {"m-1"}
    assert controls.allowed_countries == {"US", "XK"}
    assert controls.allowed_entry_modes == frozenset()


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"limits": [{"period": "day"}]}, "/limits/0"),
        ({"limits": [{"period": "transaction", "count": 1}]}, "/limits/0/count"),
        ({"limits": [{"period": "day", "count": 1}] * 2}, "/limits/1/period"),
        ({"allow": {"country": ["US", "UK"]}}, "/allow/country/1"),
        ({"block": {"country": ["ZZ"]}}, "/block/country/0"),
    ],
)
def test_controls_that_cannot_be_meant(members: dict[str, Any], pointer: str) -> None:
    body = decode_body(bodies.Controls, encoded(**members))
    with pytest.raises(InvalidRequest) as refused:
        bodies.controls_of(body)
    assert refused.value.pointer == pointer


def test_validity_is_an_instant_or_a_date() -> None:
    assert bodies.validity_of(None, "valid_from") is None
    assert bodies.validity_of("2028-02-29", "valid_until") == date(2028, 2, 29)
    instant = bodies.validity_of("2026-06-17T02:00:00+02:00", "valid_from")
    assert instant == datetime(2026, 6, 17, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    ["2026-02-30", "20260230xx", "2026-W01-1", "2026-06-17T02:00:00", "2026/06/17", "0000-00-00"],
)
def test_what_is_no_validity(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        bodies.validity_of(text, "valid_until")
    assert refused.value.pointer == "/valid_until"


def test_the_first_and_the_last_instant_are_in_the_calendar() -> None:
    for text in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"):
        assert decode_body(administration.Rotation, encoded(until=text)).until is not None


def test_every_list_has_its_place_in_domain_words() -> None:
    """The body, what is stored and the domain name the same lists in one order."""
    assert tuple(bodies.Lists.__struct_fields__) == LISTED
    assert [name for name, _ in SpendControls().blocked] == list(LISTED)
    assert [name for name, _ in SpendControls().allowed] == list(LISTED)
    assert set(get_args(EntryModeName)) == set(EntryMode)
    assert set(get_args(CardPresenceName)) == set(CardPresence)


@pytest.mark.parametrize("key", ["k", "!" * 255, "a-b_c.d:e~"])
def test_idempotency_keys(key: str) -> None:
    assert bodies.check_idempotency_key(key) == key


@pytest.mark.parametrize("key", ["", "a b", "a\n", "x" * 256, "\u00e9", "\x7f"])
def test_what_is_no_idempotency_key(key: str) -> None:
    with pytest.raises(InvalidRequest):
        bodies.check_idempotency_key(key)
