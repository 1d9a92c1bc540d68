"""Which requests are told, and that whoever hands them over neither waits nor fails."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from jitway.profiler import spans as module
from jitway.profiler.spans import BATCH_MAX, Kept, Parent, Spans
from jitway.profiler.trace import Stage, Trace

AT = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
FAST_NS, SLOW_NS = 3_000_000, 100_000_001


class Taker:
    """What a batch is handed to; says when `count` requests were."""

    def __init__(self) -> None:
        self.told: list[Kept] = []
        self.sizes: list[int] = []
        self._more = threading.Condition()

    def __call__(self, batch: Sequence[Kept]) -> bool:
        with self._more:
            self.told += batch
            self.sizes.append(len(batch))
            self._more.notify_all()
        return True

    async def until(self, count: int) -> None:
        def wait() -> bool:
            with self._more:
                return self._more.wait_for(lambda: len(self.told) >= count, timeout=20)

        assert await asyncio.to_thread(wait)


def trace(request_id: str = "req_1") -> Trace:
    made = Trace(lambda: 0, request_id)
    made.add(Stage.DECODE, 1_000_000)
    made.add(Stage.COMMIT, 1_500_000)
    made.add(Stage.OTHER, 500_000)
    return made


@contextlib.asynccontextmanager
async def running(
    export: Callable[[Sequence[Kept]], bool], *, sample: float, **options: Any
) -> AsyncIterator[Spans]:
    spans = Spans(export, lambda: AT, sample=sample, **options)
    spans.start()
    try:
        yield spans
    finally:
        await spans.stop()


async def test_every_request_is_told_at_a_share_of_one_in_small_batches() -> None:
    taker = Taker()
    async with running(taker, sample=1) as spans:
        for number in range(2 * BATCH_MAX + 1):
            spans.take(trace(f"req_{number}"), FAST_NS, decision="declined", reason="limit")
        await taker.until(2 * BATCH_MAX + 1)
    assert [kept.request_id for kept in taker.told] == [
        f"req_{number}" for number in range(2 * BATCH_MAX + 1)
    ]
    assert max(taker.sizes) == BATCH_MAX
    assert spans.counts == {"exported": 2 * BATCH_MAX + 1, "failed": 0, "dropped": 0}


async def test_at_a_share_of_none_only_slow_ones_and_those_with_a_parent_are_told() -> None:
    taker = Taker()
    async with running(taker, sample=0) as spans:
        for _ in range(100):
            spans.take(trace(), FAST_NS, decision="approved")
        spans.take(trace("slow"), SLOW_NS, decision="approved")
        spans.take(trace("with_parent"), FAST_NS, decision="approved", parent=Parent(7, 8))
        await taker.until(2)
    assert [kept.request_id for kept in taker.told] == ["slow", "with_parent"]
    assert [kept.parent for kept in taker.told] == [None, Parent(7, 8)]


async def test_a_share_between_is_about_that_share() -> None:
    spans = Spans(lambda _: True, lambda: AT, sample=0.25, waiting_max=10_000)
    for _ in range(10_000):
        spans.take(trace(), FAST_NS, decision="approved")
    await spans.stop()  # it was not started: what was kept is counted as dropped
    assert 2_000 < spans.counts["dropped"] < 3_000


async def test_what_does_not_fit_is_dropped_and_counted() -> None:
    spans = Spans(lambda _: True, lambda: AT, sample=1, waiting_max=10)
    for _ in range(25):
        spans.take(trace(), FAST_NS, decision="approved")
    assert spans.counts["dropped"] == 15
    await spans.stop()
    assert spans.counts == {"exported": 0, "failed": 0, "dropped": 25}
    spans.take(trace(), FAST_NS, decision="approved")
    assert spans.counts["dropped"] == 26


async def test_an_export_that_fails_is_counted_and_the_next_one_goes_on() -> None:
    taker = Taker()
    broken = threading.Event()

    def export(batch: Sequence[Kept]) -> bool:
        if not broken.is_set():
            broken.set()
            raise ValueError("it cannot be encoded")
        return taker(batch)

    async with running(export, sample=1) as spans:
        spans.take(trace("first"), FAST_NS, decision="approved")
        assert await asyncio.to_thread(broken.wait, 20)
        spans.take(trace("second"), FAST_NS, decision="approved")
        await taker.until(1)
    assert [kept.request_id for kept in taker.told] == ["second"]
    assert spans.counts == {"exported": 1, "failed": 1, "dropped": 0}


async def test_the_stop_hands_on_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH_S", 20)
    monkeypatch.setattr(module, "STOP_S", 20)
    taker = Taker()
    async with running(taker, sample=1) as spans:
        spans.take(trace(), FAST_NS, decision="approved")
    assert len(taker.told) == 1
    assert spans.counts == {"exported": 1, "failed": 0, "dropped": 0}


async def test_the_stop_does_not_wait_for_an_export_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "STOP_S", 0.1)
    hanging, release = threading.Event(), threading.Event()

    def export(_: Sequence[Kept]) -> bool:
        hanging.set()
        return release.wait(60)

    spans = Spans(export, lambda: AT, sample=1)
    spans.start()
    spans.take(trace(), FAST_NS, decision="approved")
    assert await asyncio.to_thread(hanging.wait, 20)
    spans.take(trace(), FAST_NS, decision="approved")
    try:
        async with asyncio.timeout(20):
            await spans.stop()
        assert spans.counts["dropped"] == 1
    finally:
        release.set()


async def test_what_a_late_batch_still_charges_is_not_told() -> None:
    taker = Taker()
    async with running(taker, sample=1) as spans:
        late = trace()
        spans.take(late, FAST_NS, decision="no_decision")
        late.add(Stage.WRITE, 99)
        await taker.until(1)
    assert taker.told[0].spans_ns[Stage.WRITE] == 0


def test_stages_lie_end_to_end_and_fill_the_request() -> None:
    spans_ns = tuple(trace().spans_ns)
    kept = Kept(AT, FAST_NS, spans_ns, "approved", None, "req_1", None)
    began_ns = kept.ended_ns - FAST_NS
    assert kept.laid_out() == [
        ("decode", began_ns, began_ns + 1_000_000),
        ("commit", began_ns + 1_000_000, began_ns + 2_500_000),
        ("other", began_ns + 2_500_000, kept.ended_ns),
    ]
    assert kept.ended_ns % 1_000_000_000 == 678_901_000
