"""`trail.py`: every administrative write leaves who did what, before, after and why.

The audit row and the event stand in the transaction of the act itself.
"""

from dataclasses import dataclass
from datetime import datetime

from jitway.adapters.postgresql import TransactionClient
from jitway.clock import Clock
from jitway.gateway.caller import Caller
from jitway.gateway.documents import Document, text_of
from jitway.ledger.journal import outbox_slot
from jitway.sql import statements

_SQL = statements("cards")


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
    ) -> None:
        """Leaves the audit row.

        Args:
            client: in the transaction of the act.
            action: such as `card.frozen`.
            after: the thing as it is now; its id is the subject.
            before: the thing as it was; None when it was made.
            at: when.
        """
        program_id = after.get("program") or (
            after["id"] if action.startswith("program.") else None
        )
        await client.query(
            _SQL["insert_audit"],
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
