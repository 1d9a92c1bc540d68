"""The life of a hold, and how an authorization is told."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from jitway.domain.authorization import (
    LIFECYCLE,
    Hold,
    HoldState,
    Message,
    abandoned_body,
    decision_body,
    status_at_first,
    status_of,
)

ACTIVE = Hold(100, 0, 0, HoldState.ACTIVE)
AT = datetime(2026, 3, 29, 1, 0, 0, 7, tzinfo=UTC)


def test_only_an_active_hold_takes_anything() -> None:
    for state in HoldState:
        for message in Message:
            hold = Hold(100, 0, 0, state)
            assert hold.takes(message) is (state is HoldState.ACTIVE)
    assert {state for state, _ in LIFECYCLE} == {HoldState.ACTIVE}
    assert {message for _, message in LIFECYCLE} == set(Message)


@pytest.mark.parametrize(
    ("message", "captured", "released", "state", "remaining"),
    [
        (Message.CAPTURE, 100, 0, HoldState.CAPTURED, 0),
        (Message.CAPTURE, 40, 60, HoldState.CAPTURED, 0),
        (Message.CAPTURE, 40, 0, HoldState.ACTIVE, 60),
        (Message.REVERSAL, 0, 100, HoldState.RELEASED, 0),
        (Message.REVERSAL, 0, 1, HoldState.ACTIVE, 99),
        (Message.EXPIRY, 0, 100, HoldState.EXPIRED, 0),
        (Message.ABANDONMENT, 0, 100, HoldState.ABANDONED, 0),
    ],
)
def test_where_a_message_leads(
    message: Message, captured: int, released: int, state: HoldState, remaining: int
) -> None:
    after = ACTIVE.after(message, captured=captured, released=released)
    assert (after.state, after.remaining) == (state, remaining)
    assert (after.captured, after.released, after.amount) == (captured, released, 100)
    assert ACTIVE.remaining == 100


@pytest.mark.parametrize("message", [Message.REVERSAL, Message.EXPIRY])
def test_whatever_ends_it_what_was_captured_is_captured(message: Message) -> None:
    partly = ACTIVE.after(Message.CAPTURE, captured=1)
    assert partly.after(message, released=99).state is HoldState.CAPTURED


@pytest.mark.parametrize(("captured", "released"), [(0, 0), (101, 0), (60, 41), (-1, 50), (50, -1)])
def test_no_message_takes_what_does_not_remain(captured: int, released: int) -> None:
    with pytest.raises(AssertionError):
        ACTIVE.after(Message.CAPTURE, captured=captured, released=released)


def test_public_statuses() -> None:
    assert status_at_first(approved=False, reserves=False) == "declined"
    assert status_at_first(approved=True, reserves=True) == "open"
    # A verification is over as it is decided.
    assert status_at_first(approved=True, reserves=False) == "released"
    assert status_of(ACTIVE) == "open"
    for state in (
        HoldState.CAPTURED,
        HoldState.RELEASED,
        HoldState.EXPIRED,
        HoldState.ABANDONED,
    ):
        assert status_of(Hold(1, 0, 1, state)) == state


def approved(**changes: Any) -> dict[str, Any]:
    return {
        "id": "aut_1",
        "approved": True,
        "reason": None,
        "card": "crd_1",
        "account": "acc_1",
        "amount": 1250,
        "approved_amount": 1250,
        "currency": "USD",
        "available": 98750,
        "account_version": 17,
        "decided_at": AT,
        "expires_at": AT,
        "status": "open",
    } | changes


def test_the_answer_to_an_approval() -> None:
    assert decision_body(**approved()) == (
        '{"id":"aut_1","decision":"approved","reason":null,"card":"crd_1","account":"acc_1",'
        '"amount":1250,"approved_amount":1250,"currency":"USD","available":98750,'
        '"account_version":17,"decided_at":"2026-03-29T01:00:00.000007Z",'
        '"expires_at":"2026-03-29T01:00:00.000007Z","status":"open"}'
    )


def test_the_answer_to_a_decline_of_nobodys_card() -> None:
    body = decision_body(
        **approved(
            approved=False,
            reason="card_not_found",
            account=None,
            approved_amount=0,
            available=None,
            account_version=None,
            expires_at=None,
            status="declined",
        )
    )
    answer = json.loads(body)
    assert answer["decision"] == "declined"
    assert answer["reason"] == "card_not_found"
    assert [answer[name] for name in ("account", "available", "account_version", "expires_at")] == [
        None
    ] * 4


@pytest.mark.parametrize(
    "card", ['a"b', "a\\", "\u2028", "\x00", "\n", "caf\u00e9", "\U0001f4b3", "", "\u0660"]
)
def test_a_card_is_told_as_it_was_sent(card: str) -> None:
    assert json.loads(decision_body(**approved(card=card)))["card"] == card


def test_the_answer_once_it_is_abandoned() -> None:
    before = json.loads(decision_body(**approved()))
    after = json.loads(abandoned_body(decision_body(**approved())))
    assert list(after) == list(before)
    assert {name: after[name] for name in after if after[name] != before[name]} == {
        "decision": "declined",
        "reason": "abandoned",
        "approved_amount": 0,
        "expires_at": None,
        "status": "abandoned",
    }
