"""`trail.py`: every administrative write leaves who did what, before, after and why.

The audit row and the event stand in the transaction of the act itself. What was left can be found
again by any of it.
"""

from dataclasses import dataclass
from datetime import datetime

from jitway.adapters.postgresql import PostgreSQLAdapter, TransactionClient
from jitway.clock import Clock
from jitway.gateway.caller import Caller
from jitway.gateway.documents import Document, audit_document, text_of
from jitway.gateway.read import (
    CLOCKS_APART,
    ID_FIRST,
    ID_LAST,
    PAGE_DEFAULT,
    check_limit,
    digits_to_find,
    id_at,
)
from jitway.ledger.journal import outbox_slot
from jitway.sql import statements

_SQL = statements("cards")
_ADMINISTRATION = statements("administration")


@dataclass(frozen=True, slots=True)
class Act:
    """One administrative write.

    Args:
        id: `adt_...`, of its audit row; the subject of its idempotency key and of its event.
        actor: the caller's key.
        reason: in the caller's words.
    """

    id: str
    actor: str
    reason: str | None

    @classmethod
    def of(cls, clock: Clock, caller: Caller, reason: str | None) -> "Act":
        """A new act of this caller."""
        return cls(clock.new_id("adt"), caller.key_id, reason)

    async def record(
        self,
        client: TransactionClient,
        action: str,
        after: Document,
        *,
        before: Document | None = None,
        at: datetime,
        account_version: int | None = None,
    ) -> None:
        """Leaves the audit row.

        Args:
            client: in the transaction of the act.
            action: such as `card.frozen`.
            after: the thing as it is now; its id is the subject.
            before: the thing as it was; None when it was made.
            at: when.
            account_version: that the act made of the account it is about; None when it made none,
                or a transfer did.
        """
        program_id = after.get("program") or (
            after["id"] if action.startswith("program.") else None
        )
        await client.query(
            _ADMINISTRATION["insert_audit"],
            [
                self.id[4:],
                self.actor,
                action,
                program_id and program_id[4:],
                after["id"],
                before and text_of(before),
                text_of(after),
                self.reason,
                at,
                after["id"][4:] if account_version is not None else None,
                account_version,
            ],
        )

    async def announce(
        self, client: TransactionClient, event: str, card: Document, *, at: datetime
    ) -> None:
        """Leaves the event of a change of a card; it carries the card as it is now."""
        await client.query(
            _SQL["announce"],
            [
                outbox_slot(at),
                self.id[4:],
                event,
                card["program"][4:],
                card["account"][4:],
                at,
                text_of(card),
            ],
        )


@dataclass(frozen=True, slots=True)
class ActsAsked:
    """Which acts to list; what is None does not restrict.

    Args:
        program: `prg_...`.
        subject: the id of what was changed.
        actor: `key_...`, `cli` or `system`.
        action: such as `card.frozen`.
        from_: recorded at this instant or later.
        to: recorded before this instant.
        limit: how many at most.
        cursor: `next_cursor` of the page before.
    """

    program: str | None = None
    subject: str | None = None
    actor: str | None = None
    action: str | None = None
    from_: datetime | None = None
    to: datetime | None = None
    limit: int = PAGE_DEFAULT
    cursor: str | None = None


async def list_acts(postgres: PostgreSQLAdapter, caller: Caller, asked: ActsAsked) -> Document:
    """What was done, the newest first.

    Returns:
        `{"data": [...], "next_cursor": ...}`; the cursor is None on the last page.

    Raises:
        InvalidRequest: a filter cannot be meant; with its pointer.
    """
    check_limit(asked.limit)
    program = digits_to_find(asked.program, "prg", "/program")
    cursor = digits_to_find(asked.cursor, "adt", "/cursor")
    if program is None:
        program = caller.program_id and caller.program_id[4:]
    elif not caller.may_see(asked.program):
        return {"data": [], "next_cursor": None}
    rows = await postgres.execute_query(
        _ADMINISTRATION["audit"],
        [
            program,
            asked.subject,
            asked.actor,
            asked.action,
            asked.from_,
            asked.to,
            id_at(asked.from_, -CLOCKS_APART, otherwise=ID_FIRST),
            cursor or id_at(asked.to, CLOCKS_APART, otherwise=ID_LAST),
            asked.limit + 1,
        ],
        repeatable=True,
    )
    page = rows[: asked.limit]
    more = len(rows) > asked.limit
    return {
        "data": [audit_document(row) for row in page],
        "next_cursor": f"adt_{page[-1]['id'].hex}" if more else None,
    }
