"""`bulk.py`: a file of lines becomes cards, or money in accounts, chunk by chunk, each line once.

A chunk is one transaction of at most two hundred lines; nothing is all-or-nothing beyond it. A line
that cannot be is reported and the others go on. Sending the same file again changes nothing and
says so: a line is known by its own key, for good. A trial does all of it and undoes it.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jitway.adapters.postgresql import PostgreSQLAdapter, TransactionClient
from jitway.clock import Clock
from jitway.errors import (
    InvalidRequest,
    LockTimeout,
    OutcomeUnknown,
    StatementRefused,
    TransactionConflict,
)
from jitway.gateway import owned
from jitway.gateway.bulk_chunk import Chunk, Work
from jitway.gateway.bulk_lines import (
    FAILED,
    LEFT_OUT,
    MADE,
    UNCHANGED,
    Failure,
    Line,
    Ordered,
    Outcome,
    Report,
    sorted_out,
)
from jitway.gateway.caller import Answer, Caller, Idempotency
from jitway.gateway.documents import text_of
from jitway.gateway.keyed import keep, once
from jitway.gateway.trail import Act
from jitway.ledger.idempotency import claim, in_transaction, recall

CHUNK_MAX = 200
_ATTEMPTS_MAX = 3
_AGAIN_AFTER_S = 0.1


async def take_file(
    postgres: PostgreSQLAdapter,
    clock: Clock,
    caller: Caller,
    work: Work,
    lines: Sequence[Line],
    ordered: Ordered,
    *,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Report:
    """Takes a file, line by line, in chunks that each stand or fall alone.

    Args:
        postgres: the ledger.
        clock: for ids.
        caller: who asks.
        work: the kind of file.
        lines: of the file, in its order.
        ordered: how to take it.
        progress: told how many lines are done, of how many, after every chunk.

    Returns:
        What became of each line.

    Raises:
        InvalidRequest: no program was named, and the caller's key has none.
        NotFound: there is no such program for this caller.
        Conflict: the program is closed.
        StoreUnavailable: the ledger is away; what was done stands, and sending the file again does
            the rest.
    """
    program_id = ordered.program or caller.program_id
    if program_id is None:
        raise InvalidRequest("say which program it is for", "/program")
    await _look_at(postgres, caller, program_id)
    taking = _Taking(postgres, clock, caller, work, program_id, ordered.reason)
    settled, pending = sorted_out(lines)
    if ordered.dry_run or ordered.strict:
        tried = settled + await taking.all(pending, undone=True, progress=progress)
        impossible = any(one.outcome == FAILED for one in tried)
        if ordered.dry_run or impossible:
            if not ordered.dry_run:
                _leave_out(tried)
            return _report(work, program_id, tried, dry_run=ordered.dry_run, applied=False)
    done = settled + await taking.all(pending, undone=False, progress=progress)
    return _report(work, program_id, done, dry_run=False, applied=True)


async def answer_file(
    postgres: PostgreSQLAdapter,
    clock: Clock,
    caller: Caller,
    work: Work,
    lines: Sequence[Line],
    ordered: Ordered,
    *,
    idempotency: Idempotency | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Answer:
    """As `take_file`; leaves an audit row of the whole, and answers a repeat with the same report.

    Returns:
        200 and the report.

    Raises:
        IdempotencyConflict: the key was used with other content.
        Otherwise what `take_file` raises.
    """
    if idempotency is not None and not ordered.dry_run:
        key = idempotency

        async def known(client: TransactionClient) -> tuple[int, str] | None:
            return await recall(client, caller.scope, key)

        if (answered := await in_transaction(postgres, known)) is not None:
            return Answer(*answered, replayed=True)
    report = await take_file(postgres, clock, caller, work, lines, ordered, progress=progress)
    answer = Answer(200, text_of(report.document()))
    if not report.applied:
        return answer

    async def act(client: TransactionClient) -> Answer:
        trail = Act.of(clock, caller, ordered.reason)
        at = await claim(client, caller.scope, idempotency, subject=trail.id[4:])
        after = {"id": report.program, **report.summary()}
        await trail.record(client, f"bulk.{work.kind}", after, at=at)
        return await keep(client, caller, idempotency, answer, at=at)

    return await once(postgres, caller, idempotency, act)


async def _look_at(postgres: PostgreSQLAdapter, caller: Caller, program_id: str) -> None:
    async def look(client: TransactionClient) -> None:
        await owned.open_program(client, caller, program_id)

    await in_transaction(postgres, look)


def _report(
    work: Work, program_id: str, outcomes: list[Outcome], *, dry_run: bool, applied: bool
) -> Report:
    if not applied:
        for one in outcomes:
            one.id = one.id if one.outcome == UNCHANGED else None
    in_order = sorted(outcomes, key=lambda one: one.line)
    return Report(work.kind, program_id, dry_run, applied, in_order)


def _leave_out(outcomes: list[Outcome]) -> None:
    for one in outcomes:
        if one.outcome == MADE:
            one.outcome = LEFT_OUT


class _Undo(Exception):
    """Ends a trial: everything it did is rolled back."""


@dataclass(frozen=True, slots=True)
class _Taking:
    postgres: PostgreSQLAdapter
    clock: Clock
    caller: Caller
    work: Work
    program_id: str
    reason: str | None

    async def all(
        self, lines: Sequence[Line], *, undone: bool, progress: Callable[[int, int], None]
    ) -> list[Outcome]:
        """Every line, chunk by chunk."""
        outcomes: list[Outcome] = []
        for start in range(0, len(lines), CHUNK_MAX):
            some = lines[start : start + CHUNK_MAX]
            outcomes += await self._some(some, undone=undone)
            progress(start + len(some), len(lines))
        return outcomes

    async def _some(self, lines: Sequence[Line], *, undone: bool) -> list[Outcome]:
        """A chunk, or its halves, until only the line that cannot be is left out."""
        try:
            return await self._once(lines, undone=undone)
        except (StatementRefused, LockTimeout) as error:
            if len(lines) > 1:
                half = len(lines) // 2
                first = await self._some(lines[:half], undone=undone)
                return first + await self._some(lines[half:], undone=undone)
            busy = isinstance(error, LockTimeout | TransactionConflict)
            failure = (
                Failure("account_busy", "the account is in use elsewhere; send it again")
                if busy
                else Failure("invalid_request", "the ledger refuses this line")
            )
            return [Outcome(lines[0].number, FAILED, None, failure)]

    async def _once(self, lines: Sequence[Line], *, undone: bool) -> list[Outcome]:
        """One transaction; again where a COMMIT was not confirmed, for every line counts once."""
        for attempt in range(_ATTEMPTS_MAX):
            chunks: list[Chunk] = []

            async def act(client: TransactionClient, chunks: list[Chunk] = chunks) -> None:
                program = await owned.open_program(client, self.caller, self.program_id)
                chunk = Chunk(client, self.clock, self.caller, program, self.reason, lines)
                await self.work.take(chunk)
                assert len(chunk.outcomes) == len(lines)
                chunks.append(chunk)
                if undone:
                    raise _Undo

            try:
                await in_transaction(self.postgres, act)
            except _Undo:
                pass
            except OutcomeUnknown:
                if attempt == _ATTEMPTS_MAX - 1:
                    raise
                await asyncio.sleep(_AGAIN_AFTER_S)
                continue
            return chunks[-1].outcomes
        raise AssertionError("the last attempt returns or raises")
