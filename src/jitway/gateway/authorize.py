"""`authorize.py`: one request from question to answer; the composition of lanes and late approvals.

    authorize() -> card_lookup -> group commit { batch.py on a lane } -> answer, or no decision

Only PostgreSQL decides. What is answered as no decision is never left approved: an approval that
committed late is abandoned, under its account's lock, unless a retry recalls it first.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from jitway.adapters.postgresql import DedicatedConnection, PostgreSQLAdapter
from jitway.cache.views import CardViews
from jitway.clock import Clock, id_digits
from jitway.domain.card import CardView
from jitway.domain.message import Authorization
from jitway.errors import NoDecision, StoreUnavailable
from jitway.gateway.admission import Admission
from jitway.gateway.caller import Answer, Caller, Idempotency
from jitway.gateway.group_commit import GroupCommit
from jitway.gateway.lane import Lane
from jitway.gateway.late import LateApprovals
from jitway.gateway.waiting import Waiting
from jitway.ledger.journal import learn_row_types
from jitway.profiler.profiler import Profiler
from jitway.profiler.trace import Stage, Trace
from jitway.profiler.windows import Label

_SETTLE_S = 1.0


@dataclass(frozen=True, slots=True)
class AuthorizeOptions:
    """Limits of the decision path.

    Args:
        budget_ms: from the request's arrival to its answer, at most.
        hold_ttl_s: seconds an approval reserves its amount.
        batch_size_max: requests of one commit.
        waiting_max: requests that wait in one lane.
        waiting_per_account_max: requests that wait for one account.
        lanes: batches in flight at a time.
        lock_timeout_ms: how long a latecomer waits for a lock.
        statement_timeout_ms: of every statement of a batch, enforced by the server.
        hang_ms: a batch that takes longer loses its connection.
    """

    budget_ms: int = 1000
    hold_ttl_s: int = 604_800
    batch_size_max: int = 128
    waiting_max: int = 4096
    waiting_per_account_max: int = 1024
    lanes: int = 1
    lock_timeout_ms: int = 100
    statement_timeout_ms: int = 500
    hang_ms: int = 5000


@dataclass(slots=True)
class Asked:
    """One request as the wire understood it.

    Args:
        request: what is asked.
        caller: by whom.
        idempotency: digests of key and content.
        canonical: the canonical JSON of the body.
        deadline_ms: the caller's own limit, or None.
        trace: started when the request arrived.
    """

    request: Authorization
    caller: Caller
    idempotency: Idempotency
    canonical: str
    deadline_ms: int | None
    trace: Trace


def _not_counted(_decided: Label) -> None:
    """Nobody asked for the count."""


class Authorizer:
    """Decides authorizations by group commit.

    Args:
        postgres: the ledger.
        views: card views; hints, never trusted.
        clock: instants and ids.
        options: the limits.
        profiler: told what was decided.
    """

    def __init__(
        self,
        postgres: PostgreSQLAdapter,
        views: CardViews,
        clock: Clock,
        options: AuthorizeOptions | None = None,
        *,
        profiler: Profiler | None = None,
    ) -> None:
        self._postgres = postgres
        self._views = views
        self._clock = clock
        self._options = options or AuthorizeOptions()
        self._decided = profiler.count_decision if profiler else _not_counted
        self._waiting_by_account: dict[str, int] = {}
        self._late = LateApprovals(postgres, clock)
        self.admission = Admission(
            budget_ms=self._options.budget_ms,
            batch_size_max=self._options.batch_size_max,
            lanes=self._options.lanes,
            waiting_max=self._options.waiting_max,
            monotonic_ns=clock.monotonic_ns,
        )
        """For whoever lets requests in: whether one more can be answered in time."""
        self._lanes: list[Lane] = []
        self._groups = [self._group() for _ in range(self._options.lanes)]

    def _group(self) -> GroupCommit[Waiting]:
        def resubmit(member: Waiting) -> None:
            group.resubmit(member)

        lane = self._lane(resubmit, waiting_for_lock=False)
        latecomers = self._lane(resubmit, waiting_for_lock=True)
        self._lanes += (lane, latecomers)
        group = GroupCommit[Waiting](
            lane.run,
            latecomers.run,
            batch_size_max=self._options.batch_size_max,
            waiting_max=self._options.waiting_max,
            admission=self.admission,
        )
        return group

    def _lane(self, resubmit: Callable[[Waiting], None], *, waiting_for_lock: bool) -> Lane:
        options = self._options
        return Lane(
            self._dedicated(waiting_for_lock=waiting_for_lock),
            self._views,
            self._clock,
            hold_ttl=timedelta(seconds=options.hold_ttl_s),
            hang_s=options.hang_ms / 1000,
            late=self._late.add,
            resubmit=resubmit,
            decided=self._decided,
            waiting_for_lock=waiting_for_lock,
        )

    def _dedicated(self, *, waiting_for_lock: bool) -> Callable[[], Awaitable[DedicatedConnection]]:
        options = self._options

        async def connect() -> DedicatedConnection:
            connection = await self._postgres.dedicated(
                lock_timeout_ms=options.lock_timeout_ms,
                statement_timeout_ms=options.statement_timeout_ms,
                idle_in_transaction_timeout_ms=options.statement_timeout_ms,
            )
            try:
                await learn_row_types(connection)
            except BaseException:
                connection.terminate()
                raise
            return connection

        return connect

    async def start(self) -> None:
        """Opens the lanes and begins to watch for late approvals.

        Raises:
            StoreUnavailable: PostgreSQL cannot be reached.
        """
        self._late.start()
        for lane in self._lanes:
            await lane.open()

    @property
    def depth(self) -> int:
        """How many requests wait for a batch."""
        return sum(group.depth for group in self._groups)

    @property
    def batch_size_average(self) -> float:
        """Members per batch since start."""
        batches = sum(lane.batches for lane in self._lanes)
        return sum(lane.members for lane in self._lanes) / batches if batches else 0.0

    async def authorize(self, asked: Asked) -> Answer:
        """Approves or declines one request, once for each key.

        Returns:
            200 and the decision; the stored one, byte for byte, when the key was used before.

        Raises:
            IdempotencyConflict: the key was used with other content.
            NoDecision: the deadline passed, too many wait, or the ledger is away.
        """
        trace = asked.trace
        deadline_ns = trace.started_ns + self._budget_ms(asked) * 1_000_000
        card_id = asked.request.card if id_digits(asked.request.card, "crd") else None
        view = await self._view(card_id, deadline_ns)
        trace.mark(Stage.CARD_LOOKUP)
        member = Waiting(
            asked.request,
            asked.caller,
            asked.idempotency,
            canonical=asked.canonical,
            card_id=card_id,
            view=view,
            authorization_digits=self._clock.new_id("aut")[4:],
            deadline_ns=deadline_ns,
            monotonic_ns=self._clock.monotonic_ns,
            trace=trace,
        )
        trace.mark(Stage.USER_LOOKUP)
        return await self._submit(member)

    def _budget_ms(self, asked: Asked) -> int:
        budget_ms = self._options.budget_ms
        return budget_ms if asked.deadline_ms is None else min(asked.deadline_ms, budget_ms)

    async def _view(self, card_id: str | None, deadline_ns: int) -> CardView | None:
        if card_id is None:
            return None
        known, view = self._views.peek(card_id)
        if known:
            return view
        seconds_left = (deadline_ns - self._clock.monotonic_ns()) / 1e9
        try:
            async with asyncio.timeout(seconds_left):
                return await self._views.card(card_id)
        except TimeoutError:
            raise NoDecision("the card could not be read before the deadline") from None
        except StoreUnavailable as error:
            raise NoDecision(f"the ledger is away: {error}") from error

    async def _submit(self, member: Waiting) -> Answer:
        lock = member.lock or ""
        group = self._groups[hash(lock) % len(self._groups)]
        waiting = self._waiting_by_account
        ahead = waiting.get(lock, 0)
        if lock and ahead >= self._options.waiting_per_account_max:
            raise NoDecision("too many requests wait for this account")
        if member.ns_left() < self.admission.wait_ns(group.ahead):
            raise NoDecision("the requests before this one take longer than its deadline")
        waiting[lock] = ahead + 1
        try:
            group.submit(member)
            return await member.wait(self._abandon_unanswered)
        finally:
            if waiting[lock] > 1:
                waiting[lock] -= 1
            else:
                del waiting[lock]

    def _abandon_unanswered(self, member: Waiting) -> None:
        """No decision was answered: what may stand of ours must not."""
        for authorization_id, account_id in member.unanswered.items():
            self._late.add(authorization_id, account_id)

    async def drain(self) -> None:
        """Takes no more requests, and ends when those that wait are answered."""
        await asyncio.gather(*(group.drain() for group in self._groups))

    async def close(self) -> None:
        """Drains, as long as anybody can wait, and abandons what is late; may be called twice."""
        await self._drain_within(self._options.budget_ms / 1000)
        for lane in self._lanes:
            await lane.close()
        # A batch that lost its connection now says what of it may stand.
        await self._drain_within(_SETTLE_S)
        await self._late.stop()

    async def _drain_within(self, limit_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self.drain()
