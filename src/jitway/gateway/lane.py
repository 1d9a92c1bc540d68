"""`lane.py`: runs batches on a dedicated connection and deals with how they can fail.

Refused by a constraint: bisected, until the poisonous member stands alone. Conflict: repeated.
Connection lost before COMMIT: nothing stands, repeated on a new one. Lost in COMMIT: unknown; the
members go again, and find under the account's lock what became of them.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from jitway.adapters.postgresql import DedicatedConnection
from jitway.cache.views import CardViews
from jitway.clock import Clock
from jitway.errors import (
    JitwayError,
    LedgerUnavailable,
    LockTimeout,
    NoDecision,
    OutcomeUnknown,
    StatementRefused,
    StoreUnavailable,
    TransactionConflict,
)
from jitway.gateway.batch import Batch, Settled
from jitway.gateway.caller import Answer
from jitway.gateway.waiting import Waiting
from jitway.profiler.trace import Stage, Trace
from jitway.profiler.windows import Label

Late = Callable[[str, str], None]
Decided = Callable[[Label], None]
Resubmit = Callable[[Waiting], None]

_log = structlog.get_logger(__name__)

_CONFLICTS_MAX = 8
_BACKOFF_S = (0.005, 0.01, 0.02, 0.05, 0.1)
_RECENT_BATCHES = 128


class Reserve:
    """How long write and commit took lately, so that late members are left out before them."""

    def __init__(self) -> None:
        self._recent_ns: deque[int] = deque(maxlen=_RECENT_BATCHES)

    def observe(self, span_ns: int) -> None:
        """Remembers one batch."""
        self._recent_ns.append(span_ns)

    def p99_ns(self) -> int:
        """The recent p99; zero before the first batch."""
        if not self._recent_ns:
            return 0
        ordered = sorted(self._recent_ns)
        return ordered[(len(ordered) * 99 - 1) // 100]


def _leave_unsettled(members: list[Waiting]) -> None:
    for member in members:
        member.unsettled = None


class Lane:
    """One dedicated connection, made on first use and made again when it breaks.

    Args:
        connect: opens a dedicated connection with the batch's own timeouts.
        views: told of views that proved stale.
        clock: for traces.
        hold_ttl: how long an approval reserves its amount.
        hang_s: a batch that takes longer loses its connection.
        late: told the id and account of an approval that nobody was answered.
        resubmit: takes a member whose batch left no known trace.
        decided: told each decision that stands, once: its row is there, answered or not.
        waiting_for_lock: whether this lane waits for the first member's locks.
    """

    def __init__(  # noqa: PLR0913 one argument for each who is told of something
        self,
        connect: Callable[[], Awaitable[DedicatedConnection]],
        views: CardViews,
        clock: Clock,
        *,
        hold_ttl: timedelta,
        hang_s: float,
        late: Late,
        resubmit: Resubmit,
        decided: Decided,
        waiting_for_lock: bool,
    ) -> None:
        self._connect = connect
        self._views = views
        self._clock = clock
        self._hold_ttl = hold_ttl
        self._hang_s = hang_s
        self._late = late
        self._resubmit = resubmit
        self._decided = decided
        self._waiting_for_lock = waiting_for_lock
        self._connection: DedicatedConnection | None = None
        self._reserve = Reserve()
        self._closed = False
        self.batches = 0
        self.members = 0

    async def open(self) -> None:
        """Connects now, so that the first request need not.

        Raises:
            StoreUnavailable: PostgreSQL cannot be reached.
        """
        await self._connected()

    async def close(self) -> None:
        """Closes the connection, also under a batch, and makes no other; may be called twice."""
        self._closed = True
        self._drop_connection()

    async def run(self, members: list[Waiting]) -> list[Waiting]:
        """Decides a batch; every member is answered but for those it returns. Never raises.

        Returns:
            Members whose lock is held elsewhere; whoever was waited for in vain comes last.
        """
        return await self._run(members, waiting=self._waiting_for_lock)

    async def _run(self, members: list[Waiting], *, waiting: bool) -> list[Waiting]:
        conflicts = failures = 0
        while members := [member for member in members if not member.answered]:
            try:
                return await self._attempt(members, waiting=waiting)
            except LockTimeout:
                return await self._locked_out(members, waiting=waiting)
            except TransactionConflict:
                conflicts += 1
                if conflicts > _CONFLICTS_MAX:
                    return await self._bisect(members, waiting=waiting, cause="endless conflicts")
            except StatementRefused as refused:
                cause = f"{refused.sqlstate} {refused.constraint}"
                return await self._bisect(members, waiting=waiting, cause=cause)
            except StoreUnavailable as unavailable:
                if failures & (failures - 1) == 0:
                    _log.warning("batch_repeated", cause=str(unavailable), members=len(members))
                if self._closed:
                    _leave_unsettled(members)
                await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
                failures += 1
            except Exception as error:
                # A bug that one member meets must not cost its neighbours their answer. Its trace
                # is told once, of that member alone: to write one can take longer than a batch.
                alone = len(members) == 1
                _log.error("batch_failed", members=len(members), exc_info=error if alone else None)
                self._drop_connection()
                return await self._bisect(members, waiting=waiting, cause=type(error).__name__)
        return []

    async def _locked_out(self, members: list[Waiting], *, waiting: bool) -> list[Waiting]:
        """Something stayed locked: whoever was waited for goes to the back, others are tried."""
        if not waiting:
            return members
        lock = members[0].lock
        others = [member for member in members if member.lock != lock]
        stuck = [member for member in members if member.lock == lock]
        return [*await self._run(others, waiting=False), *stuck]

    async def _attempt(self, members: list[Waiting], *, waiting: bool) -> list[Waiting]:
        """One transaction; whatever it raises, nothing of it stands."""
        connection = await self._connected()
        watchdog = asyncio.get_running_loop().call_later(self._hang_s, connection.terminate)
        trace = Trace(self._clock.monotonic_ns)
        batch = Batch(
            connection,
            members,
            trace=trace,
            hold_ttl=self._hold_ttl,
            reserve_ns=self._reserve.p99_ns(),
            waiting_for_lock=waiting,
        )
        try:
            await connection.begin()
            stands = await batch.decide() and any(not member.unattended for member in members)
            if stands:
                await connection.commit()
            else:
                await connection.rollback()
        except OutcomeUnknown:
            self._drop_connection()
            self._settle_unknown(members, batch)
            return []
        except JitwayError:
            await self._undo(connection)
            raise
        finally:
            watchdog.cancel()
        trace.mark(Stage.COMMIT)
        if stands:
            self._reserve.observe(trace.spans_ns[Stage.WRITE] + trace.spans_ns[Stage.COMMIT])
        self._deliver(batch, trace, stands=stands)
        return batch.settled.deferred

    def _deliver(self, batch: Batch, trace: Trace, *, stands: bool) -> None:
        settled = batch.settled
        self.batches += 1
        self.members += len(settled.answers)
        for view in settled.reloaded:
            self._views.store(view)
        if stands:
            for label in settled.decided.values():
                self._decided(label)
        for member, answer in settled.answers:
            if member.unsettled is not None:
                self._settle(member, answer, settled)
            member.trace.join(trace)
            approval = settled.approvals.get(member) if stands else None
            if approval is not None:
                member.unanswered.update([approval])
            if not member.answer(answer) and approval is not None:
                self._late(*approval)

    def _settle(self, member: Waiting, answer: Answer | JitwayError, settled: Settled) -> None:
        """Counts what an earlier commit of unknown outcome decided, now that it is recalled."""
        label, member.unsettled = member.unsettled, None
        recalled = isinstance(answer, Answer) and not answer.replayed
        if label is not None and recalled and member not in settled.decided:
            self._decided(label)

    def _settle_unknown(self, members: list[Waiting], batch: Batch) -> None:
        """Sends the members again: behind the account's lock they find what became of them."""
        approvals, decided = batch.settled.approvals, batch.settled.decided
        _log.warning("commit_outcome_unknown", members=len(members), approvals=len(approvals))
        for member in members:
            approval = approvals.get(member)
            if member.unattended and approval is not None:
                self._late(*approval)
            elif approval is not None:
                member.unanswered.update([approval])
            # Also for whom nobody waits any more: what stands is counted.
            member.unsettled = decided.get(member, member.unsettled)
            if not member.answered:
                self._resubmit(member)

    async def _bisect(self, members: list[Waiting], *, waiting: bool, cause: str) -> list[Waiting]:
        """Finds the members that make a batch fail; their neighbours are decided."""
        if len(members) == 1:
            _log.error("request_refused_by_ledger", cause=cause)
            members[0].answer(NoDecision("the ledger refused to write this decision"))
            return []
        half = len(members) // 2
        return [
            *await self._run(members[:half], waiting=waiting),
            *await self._run(members[half:], waiting=waiting),
        ]

    async def _connected(self) -> DedicatedConnection:
        if self._connection is None or self._connection.closed:
            if self._closed:
                raise LedgerUnavailable("the gateway is stopping")
            self._connection = await self._connect()
        return self._connection

    async def _undo(self, connection: DedicatedConnection) -> None:
        try:
            await connection.rollback()
        except JitwayError:
            self._drop_connection()

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
