"""The chart of accounts: which side, which layer, and what becomes of a balance."""

import json
from datetime import UTC, datetime

import pytest

from jitway.domain.authorization import Message
from jitway.domain.card import Account
from jitway.domain.transfer import (
    CHART,
    SYSTEM_CODES,
    Layer,
    Side,
    SystemCode,
    TransferKind,
    apply,
    transfer_body,
)


def account(posted: int = 0, held: int = 0, floor: int = 0, shortfall: int = 0) -> Account:
    return Account("acc_1", "USD", "active", posted, held, floor, shortfall, 7)


def test_every_kind_has_a_place() -> None:
    assert set(CHART) == set(TransferKind)
    assert {message.value for message in Message} <= {kind.value for kind in TransferKind}
    assert {code.value for code in SystemCode} <= set(SYSTEM_CODES)
    assert len({policy.event for policy in CHART.values()}) == len(CHART)


@pytest.mark.parametrize(
    ("kind", "sign"),
    [
        (TransferKind.DEPOSIT, 1),
        (TransferKind.WITHDRAWAL, -1),
        (TransferKind.CAPTURE, -1),
        (TransferKind.REVERSAL, 0),
        (TransferKind.EXPIRY, 0),
        (TransferKind.ABANDONMENT, 0),
    ],
)
def test_what_a_kind_moves(kind: TransferKind, sign: int) -> None:
    policy = CHART[kind]
    assert policy.sign == sign
    assert (policy.layer is Layer.PENDING) == (sign == 0)
    if sign:
        assert (policy.side is Side.CREDIT) == (sign > 0)


def test_a_transfer_is_the_next_version() -> None:
    one = account(posted=100, held=60)
    apply(one, TransferKind.CAPTURE, 40, held_change=-60)
    assert (one.posted, one.held, one.available, one.version) == (60, 0, 60, 8)
    apply(one, TransferKind.DEPOSIT, 5)
    assert (one.posted, one.version) == (65, 9)


@pytest.mark.parametrize(
    ("posted", "amount", "left"), [(-130, 10, 70), (-130, 80, 0), (-130, 500, 0), (-51, 1, 0)]
)
def test_a_shortfall_shrinks_to_what_is_still_below_the_floor(
    posted: int, amount: int, left: int
) -> None:
    one = account(posted=posted, floor=-50, shortfall=-50 - posted)
    apply(one, TransferKind.DEPOSIT, amount)
    assert one.shortfall == left


def test_a_shortfall_never_grows_here() -> None:
    one = account(posted=100)
    apply(one, TransferKind.WITHDRAWAL, 150)
    # The schema refuses this account; nobody forgives it by a shortfall.
    assert (one.posted, one.shortfall) == (-50, 0)


@pytest.mark.parametrize(("amount", "held_change"), [(0, 0), (-1, 0), (1, 1), (1, -61)])
def test_impossible_transfers(amount: int, held_change: int) -> None:
    with pytest.raises(AssertionError):
        apply(account(posted=100, held=60), TransferKind.CAPTURE, amount, held_change=held_change)


@pytest.mark.parametrize("description", [None, 'rent "May"', "\u00e9\n\u2028"])
def test_a_transfer_as_it_is_told(description: str | None) -> None:
    body = transfer_body(
        id="trf_1",
        kind=TransferKind.DEPOSIT,
        authorization=None,
        account="acc_1",
        amount=5,
        currency="USD",
        account_version=3,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        description=description,
    )
    assert json.loads(body) == {
        "id": "trf_1",
        "kind": "deposit",
        "authorization": None,
        "account": "acc_1",
        "amount": 5,
        "currency": "USD",
        "account_version": 3,
        "created_at": "2026-01-01T00:00:00.000000Z",
        "description": description,
    }
