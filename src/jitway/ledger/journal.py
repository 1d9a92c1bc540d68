"""`journal.py`: the only writer of what a batch decided. Does not decide, does not announce.

One statement writes keys, decisions, holds, balances, windows and outbox rows. The database says
how many rows of each it wrote, and anything but the expected number undoes all of it.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from jitway.adapters.postgresql import DedicatedConnection, Row
from jitway.domain.card import Account
from jitway.domain.limits import SpendWindow
from jitway.errors import StatementRefused, TransactionConflict
from jitway.sql import statements

_SQL = statements("ledger")

OUTBOX_SLOTS = 4
_SLOT_S = 3600


class KeyTaken(TransactionConflict):
    """Another gateway used one of the keys between our reading and our writing."""

    def __init__(self) -> None:
        super().__init__("an idempotency key was taken meanwhile", "40001")


def outbox_slot(instant: datetime) -> int:
    """The partition of the outbox for what happens at `instant`: its hour, modulo the slots."""
    return int(instant.timestamp()) // _SLOT_S % OUTBOX_SLOTS


class DecisionRow(NamedTuple):
    """One decided request, as it is stored; ids without their prefix.

    The fields stand in the order of the type `decided_row`.
    """

    scope: str
    key: bytes
    content: bytes
    id: str
    program_id: str | None
    cardholder_id: str | None
    card_id: str | None
    account_id: str | None
    reason: str | None
    kind: str
    amount: int
    approved_amount: int
    currency: str
    account_version: int | None
    body: str
    request: str
    explanation: str
    circumstances: str


@dataclass(slots=True)
class BatchOutcome:
    """What a batch decided: one row per request, one per changed account, one per window.

    Args:
        decided_at: the instant of all its decisions.
        expires_at: when their holds end.
        decisions: in the order in which they were decided.
        accounts: those an approval changed, with their version and held amount as read.
        windows: those an approval changed.
    """

    decided_at: datetime
    expires_at: datetime
    decisions: list[DecisionRow] = field(default_factory=list)
    accounts: dict[str, tuple[Account, int, int]] = field(default_factory=dict)
    windows: dict[str, SpendWindow] = field(default_factory=dict)

    def changes(self, account: Account) -> None:
        """Remembers an account as it was read, before its first change."""
        if account.id not in self.accounts:
            self.accounts[account.id] = (account, account.version, account.held)


async def write_batch(connection: DedicatedConnection, outcome: BatchOutcome) -> None:
    """Writes everything a batch decided.

    Args:
        connection: in the transaction that holds the locks.
        outcome: at least one decision.

    Raises:
        KeyTaken: a key was used meanwhile; roll back, read again.
        TransactionConflict: an account or a window is not at the version that was read.
        StatementRefused: a constraint refused a row; roll back, and bisect.
    """
    rows = await connection.fetch(
        _SQL["write_batch"],
        outcome.decisions,
        outcome.decided_at,
        outcome.expires_at,
        outbox_slot(outcome.decided_at),
        [
            (account.id[4:], version_read, account.version, account.held - held_read)
            for account, version_read, held_read in outcome.accounts.values()
        ],
        [_window_change(window) for window in outcome.windows.values()],
    )
    _demand_counts(rows[0], outcome)


async def learn_row_types(connection: DedicatedConnection) -> None:
    """Has a fresh connection learn what `write_batch` is given."""
    await connection.fetch(_SQL["learn_row_types"])


def _window_change(window: SpendWindow) -> tuple[Any, ...]:
    """In the order of the type `window_change`."""
    return (
        window.owner_id[4:],
        window.version,
        *window.starts[:4],
        *window.amounts,
        *window.counts,
    )


def _demand_counts(counts: Row, outcome: BatchOutcome) -> None:
    count = len(outcome.decisions)
    if counts["keys"] != count:
        raise KeyTaken
    if counts["accounts"] != len(outcome.accounts) or counts["windows"] != len(outcome.windows):
        raise TransactionConflict("an account or a window was changed meanwhile", "40001")
    holds = sum(row.approved_amount > 0 for row in outcome.decisions)
    if (counts["decisions"], counts["holds"], counts["announced"]) != (count, holds, count):
        raise StatementRefused("the batch wrote another number of rows than it decided", "XX000")
