"""`bulk_chunk.py`: one transaction's share of a file: where its work reads, writes and settles."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from jitway.adapters.postgresql import TransactionClient
from jitway.clock import Clock
from jitway.gateway.bulk_lines import FAILED, Failure, Line, Outcome
from jitway.gateway.caller import Caller
from jitway.gateway.documents import Document, text_of
from jitway.ledger.idempotency import claim
from jitway.sql import statements

_SQL = statements("bulk")


@dataclass(slots=True)
class Chunk:
    """One transaction's share of a file.

    Args:
        client: in the transaction.
        clock: for ids.
        caller: who asks.
        program: as it is.
        reason: for the audit.
        lines: at most two hundred, no two with the same key.
        outcomes: one for each line, once the work is done.
    """

    client: TransactionClient
    clock: Clock
    caller: Caller
    program: Document
    reason: str | None
    lines: Sequence[Line]
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def program_id(self) -> str:
        """The digits of the program's id."""
        digits: str = self.program["id"][4:]
        return digits

    async def rows(self, name: str, *values: object) -> list[dict[str, Any]]:
        """The rows of one statement about this program."""
        return await self.client.query(_SQL[name], [self.program_id, *values])

    async def instant(self) -> datetime:
        """The database's, in a statement of its own."""
        return await claim(self.client, self.caller.scope, None, subject="")

    def settle(self, line: Line, outcome: str, id_: str | None = None) -> None:
        """Says what became of a line."""
        self.outcomes.append(Outcome(line.number, outcome, id_))

    def fail(self, line: Line, failure: Failure) -> None:
        """Says why a line was not done."""
        self.outcomes.append(Outcome(line.number, FAILED, None, failure))

    async def audit(
        self, acts: Sequence[tuple[str, Document | None, Document]], at: datetime
    ) -> list[str]:
        """Leaves an audit row for each action with what was before and after; their ids."""
        ids = [self.clock.new_id("adt")[4:] for _ in acts]
        await self.client.query(
            _SQL["insert_audits"],
            [
                self.caller.key_id,
                self.program_id,
                self.reason,
                at,
                ids,
                [action for action, _, _ in acts],
                [after["id"] for _, _, after in acts],
                [before and text_of(before) for _, before, _ in acts],
                [text_of(after) for _, _, after in acts],
            ],
        )
        return ids


class Work(Protocol):
    """One kind of file."""

    @property
    def kind(self) -> str:
        """`cards` or `funding`."""

    async def take(self, chunk: Chunk) -> None:
        """Does a chunk and settles each of its lines.

        Raises:
            StatementRefused, LockTimeout: nothing of the chunk stands.
        """
