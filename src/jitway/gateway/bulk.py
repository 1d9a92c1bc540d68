"""`bulk.py`: a file of lines becomes cards, or money in accounts, chunk by chunk, each line once.

A chunk is one transaction of at most two hundred lines; nothing is all-or-nothing beyond it. A line
that cannot be is reported and the others go on. Sending the same file again changes nothing and
says so: a line is known by its own key, for good. A trial does all of it and undoes it. A strict
file is tried as a whole, then done chunk by chunk up to the first in which a line is refused.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from jitway.adapters.postgresql import PostgreSQLAdapter, TransactionClient
from jitway.clock import Clock
from jitway.errors import (
    IdempotencyConflict,
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
        progress: told how many lines are settled, of how many, after every chunk.

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
        if ordered.dry_run or _any_failed(tried):
            if not ordered.dry_run:
                _leave_out(tried)
            return _report(work, program_id, tried, dry_run=ordered.dry_run, applied=False)
        done = settled + await taking.until_refused(pending, progress=progress)
        stands = not _any_failed(done) or any(one.outcome == MADE for one in done)
        return _report(work, program_id, done, dry_run=False, applied=stands)
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

    The key is claimed when the report is there, for a key without an answer would tell a repeat
    nothing. Who finds it taken by then has booked its lines all the same: it gets its own report,
    which is not kept.

    Returns:
        200 and the report.

    Raises:
        IdempotencyConflict: the key was used with other content; nothing of this file was done.
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

    def leaving(key: Idempotency | None) -> Callable[[TransactionClient], Awaitable[Answer]]:
        async def act(client: TransactionClient) -> Answer:
            trail = Act.of(clock, caller, ordered.reason)
            at = await claim(client, caller.scope, key, subject=trail.id[4:])
            after = {"id": report.program, **report.summary()}
            await trail.record(client, f"bulk.{work.kind}", after, at=at)
            return await keep(client, caller, key, answer, at=at)

        return act

    try:
        return await once(postgres, caller, idempotency, leaving(idempotency))
    except (IdempotencyConflict, LockTimeout):
        # The key is somebody else's since the file began. A refusal would deny what was booked.
        return await once(postgres, caller, None, leaving(None))


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


def _any_failed(outcomes: Sequence[Outcome]) -> bool:
    return any(one.outcome == FAILED for one in outcomes)


def _leave_out(outcomes: list[Outcome]) -> None:
    for one in outcomes:
        if one.outcome == MADE:
            one.outcome, one.id = LEFT_OUT, None


def _refusal(error: StatementRefused | LockTimeout) -> Failure:
    if isinstance(error, LockTimeout | TransactionConflict):
        return Failure("account_busy", "the account is in use elsewhere; send it again")
    return Failure("invalid_request", "the ledger refuses this line")


class _Undo(Exception):
    """Ends a transaction that is not to stand: everything it did is rolled back."""


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

    async def until_refused(
        self, lines: Sequence[Line], *, progress: Callable[[int, int], None]
    ) -> list[Outcome]:
        """Chunk by chunk, up to the first with a line that cannot be: that and the rest is left."""
        outcomes: list[Outcome] = []
        for start in range(0, len(lines), CHUNK_MAX):
            some = lines[start : start + CHUNK_MAX]
            outcomes += await self._whole(some)
            if _any_failed(outcomes):
                rest = lines[start + len(some) :]
                outcomes += [Outcome(line.number, LEFT_OUT) for line in rest]
                progress(len(lines), len(lines))
                break
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
            return [Outcome(lines[0].number, FAILED, None, _refusal(error))]

    async def _whole(self, lines: Sequence[Line]) -> list[Outcome]:
        """A chunk with every line of it; or none, and which of them cannot be."""
        try:
            outcomes = await self._once(lines, undone=False, whole=True)
        except (StatementRefused, LockTimeout) as error:
            outcomes = await self._some(lines, undone=True)
            if not _any_failed(outcomes):
                # Alone none is to blame, or no longer: what was refused is all that was new.
                outcomes = [
                    Outcome(one.line, FAILED, None, _refusal(error)) if one.outcome == MADE else one
                    for one in outcomes
                ]
            _leave_out(outcomes)
            return outcomes
        if _any_failed(outcomes):
            _leave_out(outcomes)
        return outcomes

    async def _once(
        self, lines: Sequence[Line], *, undone: bool, whole: bool = False
    ) -> list[Outcome]:
        """One transaction; again where a COMMIT was not confirmed, for every line counts once.

        Args:
            lines: at most two hundred.
            undone: it is a trial.
            whole: a line that fails undoes the others.
        """
        for attempt in range(_ATTEMPTS_MAX):
            chunks: list[Chunk] = []

            async def act(client: TransactionClient, chunks: list[Chunk] = chunks) -> None:
                program = await owned.open_program(client, self.caller, self.program_id)
                chunk = Chunk(client, self.clock, self.caller, program, self.reason, lines)
                await self.work.take(chunk)
                assert len(chunk.outcomes) == len(lines)
                chunks.append(chunk)
                if undone or (whole and _any_failed(chunk.outcomes)):
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
