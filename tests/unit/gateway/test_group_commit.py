"""The group commit collects, parks and keeps order; batches are held on barriers, never on time."""

import asyncio
from dataclasses import dataclass, field

import pytest

from jitway.errors import NoDecision
from jitway.gateway.group_commit import GroupCommit


@dataclass(eq=False)
class Request:
    name: str
    lock: str | None = "a"
    answered: bool = False


@dataclass
class Runner:
    """Stands for a lane: says when a batch began, and ends it when told."""

    locked_elsewhere: set[str | None] = field(default_factory=set)
    batches: list[list[str]] = field(default_factory=list)
    began: asyncio.Queue[list[str]] = field(default_factory=asyncio.Queue)
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def run(self, batch: list[Request]) -> list[Request]:
        names = [request.name for request in batch]
        self.batches.append(names)
        self.began.put_nowait(names)
        await self.gate.acquire()
        deferred = [request for request in batch if request.lock in self.locked_elsewhere]
        for request in batch:
            request.answered = request not in deferred
        return deferred


def group_of(
    lane: Runner, latecomers: Runner, *, batch_size_max: int = 64, waiting_max: int = 100
) -> GroupCommit[Request]:
    return GroupCommit(
        lane.run, latecomers.run, batch_size_max=batch_size_max, waiting_max=waiting_max
    )


async def test_a_lone_request_goes_at_once_and_the_next_ones_together() -> None:
    lane = Runner()
    group = group_of(lane, Runner())
    group.submit(Request("first"))
    assert await lane.began.get() == ["first"]
    for name in ("second", "third", "fourth"):
        group.submit(Request(name))
    lane.gate.release()
    assert await lane.began.get() == ["second", "third", "fourth"]
    lane.gate.release()
    await group.drain()


async def test_a_batch_has_a_largest_size() -> None:
    lane = Runner()
    group = group_of(lane, Runner(), batch_size_max=2)
    for number in range(5):
        group.submit(Request(str(number)))
    for _ in range(3):
        lane.gate.release()
    await group.drain()
    assert lane.batches == [["0", "1"], ["2", "3"], ["4"]]


async def test_what_is_locked_elsewhere_never_holds_up_the_rest() -> None:
    lane, latecomers = Runner(locked_elsewhere={"busy"}), Runner()
    group = group_of(lane, latecomers)
    group.submit(Request("b1", "busy"))
    await lane.began.get()
    group.submit(Request("b2", "busy"))
    group.submit(Request("x", "free"))
    group.submit(Request("b3", "busy"))
    lane.gate.release()
    # The lane goes on with the free one, while those of the busy lock wait beside it, in order.
    assert await lane.began.get() == ["x"]
    assert await latecomers.began.get() == ["b1", "b2", "b3"]
    group.submit(Request("b4", "busy"))
    lane.gate.release()
    lane.locked_elsewhere.clear()
    latecomers.gate.release()
    assert await lane.began.get() == ["b4"]
    lane.gate.release()
    await group.drain()
    assert group.depth == 0


async def test_a_lock_that_does_not_come_goes_to_the_back() -> None:
    lane = Runner(locked_elsewhere={"a", "b"})
    latecomers = Runner(locked_elsewhere={"a"})
    group = group_of(lane, latecomers)
    group.submit(Request("a1", "a"))
    group.submit(Request("b1", "b"))
    await lane.began.get()
    lane.gate.release()
    assert await latecomers.began.get() == ["a1", "b1"]
    group.submit(Request("a2", "a"))
    latecomers.gate.release()
    assert await latecomers.began.get() == ["a1", "a2"]
    latecomers.locked_elsewhere.clear()
    latecomers.gate.release()
    await group.drain()
    assert latecomers.batches == [["a1", "b1"], ["a1", "a2"]]


async def test_whoever_has_an_answer_already_is_not_taken_along() -> None:
    lane = Runner()
    group = group_of(lane, Runner())
    group.submit(Request("first"))
    await lane.began.get()
    late = Request("late")
    group.submit(late)
    group.submit(Request("next"))
    late.answered = True
    lane.gate.release()
    assert await lane.began.get() == ["next"]
    lane.gate.release()
    await group.drain()


async def test_too_many_waiting_are_refused_and_answered_ones_make_room() -> None:
    lane = Runner()
    group = group_of(lane, Runner(), waiting_max=2)
    group.submit(Request("in flight"))
    await lane.began.get()
    waiting = [Request("1"), Request("2")]
    for request in waiting:
        group.submit(request)
    with pytest.raises(NoDecision, match="too many"):
        group.submit(Request("3"))
    waiting[0].answered = True
    group.submit(Request("4"))
    assert group.depth == 2
    for _ in range(2):
        lane.gate.release()
    await group.drain()
    assert lane.batches[-1] == ["2", "4"]


async def test_those_without_a_lock_can_be_put_off_too() -> None:
    """Two requests for an unknown card with one key: the second was left unanswered.

    Seen to fail with the assertion in `_park` that every deferred member has a lock.
    """
    lane, latecomers = Runner(locked_elsewhere={None}), Runner()
    group = group_of(lane, latecomers)
    first, second = Request("first", None), Request("second", None)
    group.submit(first)
    await lane.began.get()
    group.submit(second)
    lane.gate.release()
    assert await latecomers.began.get() == ["first", "second"]
    latecomers.gate.release()
    await group.drain()
    assert first.answered
    assert second.answered
    assert group.depth == 0


async def test_a_crowd_of_refusals_does_not_look_at_everybody_each_time() -> None:
    """A refusal looked at 4,096 members, 0.6 ms: more than a decision costs.

    Seen to fail with a look at everybody in each refused `submit`.
    """

    class Counting:
        lock = "a"
        looks = 0

        @property
        def answered(self) -> bool:
            self.looks += 1
            return False

    release = asyncio.Event()

    async def run(_batch: list[Counting]) -> list[Counting]:
        await release.wait()
        return []

    group = GroupCommit(run, run, batch_size_max=64, waiting_max=1000)
    group.submit(Counting())
    await asyncio.sleep(0)
    waiting = [Counting() for _ in range(1000)]
    for request in waiting:
        group.submit(request)
    for _ in range(100):
        with pytest.raises(NoDecision, match="too many"):
            group.submit(Counting())
    assert sum(request.looks for request in waiting) <= 100 * 20
    release.set()
    await group.drain()


async def test_a_draining_group_takes_nobody_new_and_answers_the_rest() -> None:
    lane = Runner()
    group = group_of(lane, Runner())
    request = Request("first")
    group.submit(request)
    await lane.began.get()
    draining = asyncio.ensure_future(group.drain())
    await asyncio.sleep(0)
    with pytest.raises(NoDecision, match="stopping"):
        group.submit(Request("second"))
    lane.gate.release()
    await draining
    assert request.answered
    await group.drain()
