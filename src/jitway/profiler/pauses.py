"""What stops a whole process for a moment: a blocked event loop and garbage collection.

Owns a sampler on the event loop and a hook of the collector; both keep only a bounded tail.
Says how much of a given interval was lost, and refuses to say to whom.
"""

import asyncio
import gc
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from jitway.profiler.histogram import Histogram

SAMPLE_INTERVAL_S = 0.05
KEPT_MAX = 256
WORTH_KEEPING_NS = 1_000_000


class Lost(NamedTuple):
    """Nanoseconds of an interval that belonged to nobody."""

    loop_lag_ns: int
    gc_pause_ns: int


class Pauses:
    """Watches one event loop and the collector between `start` and `stop`."""

    def __init__(self, now: Callable[[], int] = time.perf_counter_ns) -> None:
        self.loop_lag = Histogram()
        self.gc_pause = Histogram()
        self._now = now
        self._lags: deque[tuple[int, int]] = deque(maxlen=KEPT_MAX)
        self._collections: deque[tuple[int, int]] = deque(maxlen=KEPT_MAX)
        self._collection_began_ns = 0
        self._due_ns: int | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to watch the running event loop; a second start changes nothing."""
        if self._timer is None:
            gc.callbacks.append(self._collecting)
            self._wait(asyncio.get_running_loop())

    def stop(self) -> None:
        """Stop watching; may come twice, or before the start."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._due_ns = None
            gc.callbacks.remove(self._collecting)

    def during(self, began_ns: int, ended_ns: int) -> Lost:
        """What was lost between two instants of the same clock."""
        lags = _overlaps(self._lags, began_ns, ended_ns)
        # A loop that is blocked right now has not told the sampler yet: count up to this moment.
        if self._due_ns is not None and ended_ns > self._due_ns:
            lags.append(_overlap((self._due_ns, ended_ns), began_ns, ended_ns))
        return Lost(max(lags, default=0), sum(_overlaps(self._collections, began_ns, ended_ns)))

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due_ns = self._now() + int(SAMPLE_INTERVAL_S * 1e9)
        self._timer = loop.call_later(SAMPLE_INTERVAL_S, self._sample, loop)

    def _sample(self, loop: asyncio.AbstractEventLoop) -> None:
        now, due_ns = self._now(), self._due_ns
        if due_ns is None:
            return
        lag_ns = max(now - due_ns, 0)
        self.loop_lag.record(lag_ns)
        if lag_ns >= WORTH_KEEPING_NS:
            self._lags.append((due_ns, now))
        self._wait(loop)

    def _collecting(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._collection_began_ns = self._now()
            return
        began_ns, ended_ns = self._collection_began_ns, self._now()
        self.gc_pause.record(ended_ns - began_ns)
        # Collections of the youngest generation are many and harmless; they would push out others.
        if ended_ns - began_ns >= WORTH_KEEPING_NS:
            self._collections.append((began_ns, ended_ns))


def _overlaps(pauses: deque[tuple[int, int]], began_ns: int, ended_ns: int) -> list[int]:
    """By how much each pause lies in an interval; the latest first, and none that cannot."""
    found = []
    # When everything is slow everybody asks, so nobody may look at more than what is theirs.
    for pause in reversed(pauses):
        if pause[1] <= began_ns:
            break
        found.append(_overlap(pause, began_ns, ended_ns))
    return found


def _overlap(pause: tuple[int, int], began_ns: int, ended_ns: int) -> int:
    return max(min(pause[1], ended_ns) - max(pause[0], began_ns), 0)
