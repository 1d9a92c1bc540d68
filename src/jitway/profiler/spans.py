"""Which finished requests are told to a collector of traces, and when.

Owns the choice, the bounded queue, and the thread that empties it in small batches. Whoever hands a
request over neither waits nor fails: beyond the bound it is dropped and counted. Knows no protocol.
"""

import asyncio
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

import structlog

from jitway.profiler.alarm import CRITICAL_NS
from jitway.profiler.trace import STAGES, Trace

WAITING_MAX = 2_048
# Encoding holds the interpreter: about 0.2 ms a request, and a batch less than one switch of 5 ms.
BATCH_MAX = 16
PAUSE_S = 0.25
BETWEEN_S = 0.05
FLUSH_S = 0.3
STOP_S = 1.9
RESULTS = ("exported", "failed", "dropped")

_log = structlog.get_logger("jitway.profiler")
_LABELS = tuple(stage.label for stage in STAGES)


class Parent(NamedTuple):
    """The caller's span, which is exported on its side."""

    trace_id: int
    span_id: int


class Kept(NamedTuple):
    """A finished request that will be told; `spans_ns` by position of the stage."""

    ended_at: datetime
    total_ns: int
    spans_ns: tuple[int, ...]
    decision: str
    reason: str | None
    request_id: str
    parent: Parent | None

    @property
    def ended_ns(self) -> int:
        """Nanoseconds since 1970, to a microsecond."""
        return int(self.ended_at.timestamp() * 1e6) * 1_000

    def laid_out(self) -> list[tuple[str, int, int]]:
        """Name, begin and end (ns since 1970) of the stages that were passed, end to end.

        A trace knows how long a stage took and not when: they lie in the order of the path, `other`
        last, wherever it passed.
        """
        at_ns = self.ended_ns - self.total_ns
        laid = []
        for label, span_ns in zip(_LABELS, self.spans_ns, strict=True):
            if span_ns > 0:
                laid.append((label, at_ns, at_ns + span_ns))
                at_ns += span_ns
        return laid


class Spans:
    """Chooses, keeps and hands on; to be started and stopped once.

    Args:
        export: sends a batch and says whether it was taken; runs in a thread of ours.
        now: the instant by the wall.
        sample: which share of the requests is told, 0 to 1.
        waiting_max: how many may wait to be told.
        slow_ns: one that took longer is always told.
    """

    def __init__(
        self,
        export: Callable[[Sequence[Kept]], bool],
        now: Callable[[], datetime],
        *,
        sample: float,
        waiting_max: int = WAITING_MAX,
        slow_ns: int = CRITICAL_NS,
    ) -> None:
        self._export = export
        self._now = now
        self._sample = sample
        self._waiting_max = waiting_max
        self._slow_ns = slow_ns
        self._chance = random.Random().random  # noqa: S311 chooses samples, guards nothing
        self._waiting: deque[Kept] = deque()
        self._ending = threading.Event()
        self._flush_until = 0.0
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._is_taken = True
        # Each is written by one side: `dropped` by the event loop, the others by the thread.
        self.counts: dict[str, int] = dict.fromkeys(RESULTS, 0)

    def start(self) -> None:
        """Begins to hand on what waits."""
        self._thread.start()

    async def stop(self) -> None:
        """Hands on what fits into a moment, drops the rest; ends within 2 s, also by a dead end."""
        self._flush_until = time.monotonic() + FLUSH_S
        self._ending.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, STOP_S)
        self.counts["dropped"] += len(self._waiting)
        self._waiting.clear()

    def take(
        self,
        trace: Trace,
        total_ns: int,
        *,
        decision: str,
        reason: str | None = None,
        parent: Parent | None = None,
    ) -> None:
        """Looks at a finished request and keeps it if it is to be told; takes a microsecond or two.

        Args:
            trace: finished; copied, because a late batch may still write to it.
            total_ns: what the profiler said.
            decision: as the profiler was told.
            reason: likewise.
            parent: the caller's span, where the caller tells its own: then this one is told too.
        """
        if parent is None and total_ns <= self._slow_ns and self._chance() >= self._sample:
            return
        if len(self._waiting) >= self._waiting_max or self._ending.is_set():
            self.counts["dropped"] += 1
            return
        spans_ns = tuple(trace.spans_ns)
        self._waiting.append(
            Kept(self._now(), total_ns, spans_ns, decision, reason, trace.request_id, parent)
        )

    def _run(self) -> None:
        # Looked at by the clock: to be woken would take the interpreter from who hands over.
        while not self._ending.wait(BETWEEN_S if self._waiting else PAUSE_S):
            self._hand_on()
        # Counted from the stop, not from the end of a batch that hung until now.
        while self._waiting and time.monotonic() < self._flush_until:
            self._hand_on()

    def _hand_on(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_MAX))]
        if not batch:
            return
        try:
            is_taken = self._export(batch)
        except Exception:
            _log.exception("traces_not_made")
            is_taken = False
        self.counts["exported" if is_taken else "failed"] += len(batch)
        if is_taken != self._is_taken:
            self._is_taken = is_taken
            if is_taken:
                _log.info("traces_exported_again")
            else:
                _log.warning("traces_not_exported", hint="check JITWAY_OTEL_ENDPOINT")
