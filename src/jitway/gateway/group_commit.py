"""`group_commit.py`: collects what arrives while a batch is in flight; knows nothing of cards.

Alone, a request goes at once: there is no timer. What a batch could not lock is parked by its
lock, so that it never holds up the rest, and a second runner waits for that lock, alone and
holding nothing else. Requests of one lock keep the order in which they came.

    submit -> waiting ---> batch in flight ---> answered
                 ^               | locked elsewhere
                 +--- released   v
                 |            parked ---> latecomers' batch ---> answered
                 +---------------+
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from jitway.errors import NoDecision
from jitway.gateway.admission import Admission


class Member(Protocol):
    """One request on its way to a batch."""

    @property
    def lock(self) -> str | None:
        """What must be locked to decide it; None when nothing, which all those have in common."""

    @property
    def answered(self) -> bool:
        """Whether its caller has an answer already, so that no batch need take it."""


_LOOKS_PER_REFUSAL = 16

Item = TypeVar("Item", bound=Member)

Runner = Callable[[list[Item]], Awaitable[list[Item]]]


class GroupCommit(Generic[Item]):
    """One lane of batches: at most one in flight, and one of latecomers beside it.

    Args:
        run: takes a batch, answers what it could lock and returns the rest; never raises.
        run_waiting: the same, but waits for the lock of the first member.
        batch_size_max: members of one batch at most.
        waiting_max: members that may wait, parked ones included.
        admission: told how long batches take and how many are parked, if anybody asks.
    """

    def __init__(
        self,
        run: Runner[Item],
        run_waiting: Runner[Item],
        *,
        batch_size_max: int,
        waiting_max: int,
        admission: Admission | None = None,
    ) -> None:
        self._run = run
        self._run_waiting = run_waiting
        self._batch_size_max = batch_size_max
        self._waiting_max = waiting_max
        self._waiting: deque[Item] = deque()
        self._parked: OrderedDict[str | None, deque[Item]] = OrderedDict()
        self._admission = admission
        self._parked_count = 0
        self._refused_count = 0
        self._in_flight: asyncio.Task[None] | None = None
        self._latecomers: asyncio.Task[None] | None = None
        self._draining = False

    @property
    def depth(self) -> int:
        """How many members wait, parked ones included."""
        return len(self._waiting) + self._parked_count

    @property
    def ahead(self) -> int:
        """How many members a new one finds before it in the lane."""
        return len(self._waiting)

    def submit(self, member: Item) -> None:
        """Puts a member into the next batch, or behind those parked for the same lock.

        Raises:
            NoDecision: too many wait already, or the lane is being closed.
        """
        if self._draining:
            raise NoDecision("the gateway is stopping")
        if self.depth >= self._waiting_max:
            self._make_room()
            if self.depth >= self._waiting_max:
                raise NoDecision("too many requests wait for a decision")
        self._enqueue(member)

    def resubmit(self, member: Item) -> None:
        """Puts a member back whose batch left no trace; it was admitted before."""
        self._enqueue(member)

    def _enqueue(self, member: Item) -> None:
        parked = self._parked.get(member.lock)
        if parked is not None:
            parked.append(member)
            self._count_parked(1)
            return
        self._waiting.append(member)
        if self._in_flight is None:
            self._in_flight = asyncio.ensure_future(self._run_batches())

    async def _run_batches(self) -> None:
        admission = self._admission
        try:
            while batch := self._next_batch():
                began_ns = admission.now_ns() if admission is not None else 0
                self._park(await self._run(batch))
                if admission is not None:
                    admission.observe(len(batch), admission.now_ns() - began_ns)
        finally:
            self._in_flight = None

    def _next_batch(self) -> list[Item]:
        batch: list[Item] = []
        while self._waiting and len(batch) < self._batch_size_max:
            member = self._waiting.popleft()
            if not member.answered:
                batch.append(member)
        return batch

    def _park(self, deferred: list[Item]) -> None:
        """Sets members aside by their lock, with everybody behind them for the same lock."""
        locks = {member.lock for member in deferred}
        if not locks:
            return
        kept: deque[Item] = deque()
        for member in self._waiting:
            (deferred if member.lock in locks else kept).append(member)
        self._waiting = kept
        for member in deferred:
            self._parked.setdefault(member.lock, deque()).append(member)
            self._count_parked(1)
        if self._latecomers is None:
            self._latecomers = asyncio.ensure_future(self._run_latecomers())

    async def _run_latecomers(self) -> None:
        try:
            while self._parked:
                batch, locks = self._next_latecomers()
                deferred = await self._run_waiting(batch) if batch else []
                self._release(locks, deferred)
        finally:
            self._latecomers = None

    def _next_latecomers(self) -> tuple[list[Item], list[str | None]]:
        """The oldest parked lock first: that one is waited for, the others are only tried."""
        batch: list[Item] = []
        locks: list[str | None] = []
        for lock, parked in self._parked.items():
            locks.append(lock)
            while parked and len(batch) < self._batch_size_max:
                member = parked.popleft()
                self._count_parked(-1)
                if not member.answered:
                    batch.append(member)
            if len(batch) >= self._batch_size_max:
                break
        return batch, locks

    def _release(self, locks: list[str | None], deferred: list[Item]) -> None:
        """Returns who came meanwhile to the lane; who is still locked out stays, at the back."""
        behind = {lock: self._parked.pop(lock) for lock in locks}
        still: dict[str | None, deque[Item]] = {}
        for member in deferred:
            still.setdefault(member.lock, deque()).append(member)
            self._count_parked(1)
        for lock, parked in behind.items():
            if lock in still:
                still[lock].extend(parked)
                continue
            self._count_parked(-len(parked))
            for member in parked:
                self._enqueue(member)
        for lock, parked in still.items():
            self._parked.setdefault(lock, deque()).extend(parked)

    def _count_parked(self, change: int) -> None:
        self._parked_count += change
        if self._admission is not None:
            self._admission.parked += change

    def _make_room(self) -> None:
        """Forgets those whose deadline passed while they waited: they need no batch.

        To look at all of them for every refusal would cost more than to decide it, so one in so
        many refusals looks, and the others only at whoever waits longest.
        """
        while self._waiting and self._waiting[0].answered:
            self._waiting.popleft()
        self._refused_count += 1
        if self._refused_count * _LOOKS_PER_REFUSAL < self._waiting_max:
            return
        self._refused_count = 0
        self._waiting = deque(member for member in self._waiting if not member.answered)
        for lock, parked in self._parked.items():
            kept = deque(member for member in parked if not member.answered)
            self._count_parked(len(kept) - len(parked))
            self._parked[lock] = kept

    async def drain(self) -> None:
        """Takes no more and waits until everybody who waits is answered; may be called twice.

        Every member has a deadline, so this ends when the last of them has passed.
        """
        self._draining = True
        while tasks := [task for task in (self._in_flight, self._latecomers) if task]:
            await asyncio.wait(tasks)
