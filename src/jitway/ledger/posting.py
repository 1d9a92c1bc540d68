"""`posting.py`: one transfer at a time: locks what it touches, and books it.

The only writer of money but the batch (`journal.py`). Locks in everybody's order: account, windows,
hold; keys come after. Does not decide whether a transfer may be: the verbs do.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from jitway.adapters.postgresql import TransactionClient
from jitway.domain.authorization import Hold, HoldState, Message
from jitway.domain.card import Account
from jitway.domain.limits import LIFETIME_START, SpendWindow, window_starts
from jitway.domain.transfer import CHART, Side, TransferKind, apply, transfer_body
from jitway.errors import StatementRefused, TransactionConflict
from jitway.ledger.journal import outbox_slot
from jitway.sql import statements

_SQL = statements("postings")

_WINDOW_COLUMNS = 12


@dataclass(frozen=True, slots=True)
class Authorized:
    """What a decision was; none of it ever changes.

    Args:
        id: `aut_...`.
        program_id: of the card; None when no card was known.
        owner_ids: of its windows: card, cardholder and program.
        account_id: None when no card was known.
        approved: the outcome.
        reserves: whether it is an approval with a hold.
        decided_at: in UTC.
        zone: the program's.
    """

    id: str
    program_id: str | None
    owner_ids: tuple[str, ...]
    account_id: str | None
    approved: bool
    reserves: bool
    decided_at: datetime
    zone: ZoneInfo | None


@dataclass(slots=True)
class Held:
    """An approval's funds under their locks.

    Args:
        authorization: whose they are.
        program_id: `prg_...`.
        account: that they are in.
        hold: as it is.
        windows: that counted the approval and count now.
        expires_at: when the hold ends.
        recalled: whether the approval was answered again.
        now: the database's instant, once all of it was locked.
    """

    authorization: Authorized
    program_id: str
    account: Account
    hold: Hold
    windows: list[SpendWindow]
    expires_at: datetime
    recalled: bool
    now: datetime


@dataclass(slots=True)
class Posting:
    """One transfer, ready to be booked.

    Args:
        id: `trf_...`.
        kind: of the transfer.
        program_id: `prg_...`.
        account: as it is once the transfer is booked.
        amount: minor units.
        at: when.
        description: the caller's words.
        held: the approval it belongs to.
        hold: what becomes of its hold.
    """

    id: str
    kind: TransferKind
    program_id: str
    account: Account
    amount: int
    at: datetime
    description: str | None = None
    held: Held | None = None
    hold: Hold | None = None

    @property
    def held_change(self) -> int:
        """Minor units of the hold that this transfer ends, never above zero."""
        if self.held is None or self.hold is None:
            return 0
        return self.hold.remaining - self.held.hold.remaining

    @property
    def windows(self) -> list[SpendWindow]:
        """The windows that get something back."""
        if self.held is None or self.hold is None:
            return []
        return self.held.windows if self.hold.released != self.held.hold.released else []

    @property
    def body(self) -> str:
        """The transfer as the API writes it."""
        return transfer_body(
            id=self.id,
            kind=self.kind,
            authorization=None if self.held is None else self.held.authorization.id,
            account=self.account.id,
            amount=self.amount,
            currency=self.account.currency,
            account_version=self.account.version,
            created_at=self.at,
            description=self.description,
        )


async def authorized(client: TransactionClient, authorization_id: str) -> Authorized | None:
    """What was decided, or None when there is no such decision."""
    rows = await client.query(_SQL["authorized"], [authorization_id[4:]])
    if not rows:
        return None
    row = rows[0]
    owners = (row["card_id"], row["cardholder_id"], row["program_id"])
    return Authorized(
        id=authorization_id,
        program_id=row["program_id"] and f"prg_{row['program_id'].hex}",
        owner_ids=tuple(owner.hex for owner in owners if owner is not None),
        account_id=row["account_id"] and f"acc_{row['account_id'].hex}",
        approved=row["outcome"] == "approved",
        reserves=row["approved_amount"] > 0,
        decided_at=row["decided_at"],
        zone=row["time_zone"] and ZoneInfo(row["time_zone"]),
    )


async def lock_account(client: TransactionClient, account_id: str) -> tuple[str, Account] | None:
    """Locks one account: its program's id, and the account as it is now; None when there is none.

    Raises:
        LockTimeout: it stayed locked elsewhere.
    """
    rows = await client.query(_SQL["lock_account"], [account_id[4:]])
    if not rows:
        return None
    row = rows[0]
    account = Account(
        account_id,
        row["currency"],
        row["state"],
        row["posted"],
        row["held"],
        row["floor"],
        row["shortfall"],
        row["version"],
    )
    return f"prg_{row['program_id'].hex}", account


async def lock_held(client: TransactionClient, authorization: Authorized) -> Held:
    """Locks the account, the windows and the hold of an approval, in this order.

    Raises:
        LockTimeout: one of them stayed locked elsewhere.
        StatementRefused: the account or the hold is missing, which can only be damage.
    """
    assert authorization.account_id is not None
    locked = await lock_account(client, authorization.account_id)
    rows = await client.query(_SQL["lock_windows"], [list(authorization.owner_ids)])
    holds = await client.query(_SQL["lock_hold"], [authorization.id[4:]])
    if locked is None or not holds:
        raise StatementRefused(f"{authorization.id} was approved and has no hold", "XX000")
    hold = holds[0]
    return Held(
        authorization,
        *locked,
        Hold(hold["amount"], hold["captured"], hold["released"], HoldState(hold["state"])),
        [_window(row) for row in rows if row["version"] >= 0],
        hold["expires_at"],
        recalled=hold["recalled_at"] is not None,
        now=hold["now"],
    )


def _window(row: dict[str, Any]) -> SpendWindow:
    _, version, *values = row.values()
    # A lifetime begins before every date.
    starts = [*values[:4], LIFETIME_START]
    return SpendWindow(row["owner_id"].hex, version, starts, values[4:9], values[9:14])


def on_hold(
    held: Held, message: Message, *, transfer_id: str, captured: int = 0, released: int = 0
) -> Posting:
    """Books what a message does to a hold, in memory: the account, the hold and its windows.

    Args:
        held: under its locks; its account and windows are changed.
        message: what happened to the authorization.
        transfer_id: `trf_...`.
        captured: minor units that move to the network.
        released: minor units that are given back.
    """
    kind = TransferKind(message)
    hold = held.hold.after(message, captured=captured, released=released)
    amount = captured or released
    apply(held.account, kind, amount, held_change=-captured - released)
    if released:
        assert held.authorization.zone is not None
        starts = window_starts(held.authorization.decided_at, held.authorization.zone)
        for window in held.windows:
            window.give_back(released, starts, whole=hold.released == hold.amount)
    return Posting(
        transfer_id, kind, held.program_id, held.account, amount, held.now, held=held, hold=hold
    )


async def post(client: TransactionClient, posting: Posting) -> None:
    """Books one transfer: its row, the account, the hold, the windows and the outbox.

    Args:
        client: in the transaction that holds the locks.
        posting: what is booked; its account is at its next version.

    Raises:
        TransactionConflict: a window is not at the version that was read.
        StatementRefused: a constraint refused it, or a row was not where it must be.
    """
    policy = CHART[posting.kind]
    account, held, hold = posting.account, posting.held, posting.hold
    rows = await client.query(
        _SQL["post"],
        [
            posting.id[4:],
            account.id[4:],
            posting.kind,
            policy.layer,
            policy.side is Side.CREDIT,
            posting.amount,
            posting.held_change,
            None if held is None else held.authorization.id[4:],
            account.version,
            posting.description,
            posting.at,
            posting.program_id[4:],
            policy.system,
            account.currency,
            outbox_slot(posting.at),
            policy.event,
            account.posted,
            account.held,
            account.shortfall,
            hold and hold.captured,
            hold and hold.released,
            hold and hold.state,
            held and held.hold.remaining,
            *_columns(posting.windows),
        ],
    )
    counts = rows[0]
    if counts["windows"] != len(posting.windows):
        raise TransactionConflict("a window was changed meanwhile", "40001")
    holds = 0 if hold is None else 1
    if tuple(counts.values())[:4] != (1, 1, 1, holds):
        raise StatementRefused(f"{posting.id} found no row of its account or hold", "XX000")


def _columns(windows: list[SpendWindow]) -> list[list[object]]:
    rows = [
        (window.owner_id, window.version, *window.amounts, *window.counts) for window in windows
    ]
    return [list(column) for column in zip(*rows, strict=True)] or [[]] * _WINDOW_COLUMNS
