"""Stops asking a dependency that does not answer, and finds out when it is back.

Owns the three states and when to probe. Makes no call, starts no task and never sleeps: the
adapter asks `admits()` before a call, reports failures, and runs a probe when one is due.

    closed ──failures_max within window_ms──> open ──pause over──> half_open
       ^                                       ^                      │
       │                                       └────probe failed──────┤
       └──────────────────────probe succeeded──────────────────────────┘
"""

import random
from collections import deque
from collections.abc import Callable
from enum import StrEnum

from jitway.clock import Clock

NS_PER_MS = 1_000_000


class BreakerState(StrEnum):
    """Where a breaker stands; the value is what statistics show."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitBreaker:
    """Opens after several failures within a short time; a lone probe closes it again.

    Only a probe decides about an open breaker: answers to calls that were under way when it
    opened say nothing about now.

    Args:
        clock: tells the time; tests move it by hand.
        failures_max: so many failures within `window_ms` open it.
        window_ms: how long a failure is remembered, in milliseconds.
        pause_ms: the first wait before a probe, in milliseconds; each failed probe doubles it.
        pause_ms_max: the longest wait, in milliseconds, before jitter.
        jitter: share of a pause that is random, 0 to 1: many processes must not probe at once.
        draw: yields a number from 0 to 1; tests fix it.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        failures_max: int = 5,
        window_ms: int = 1000,
        pause_ms: int = 250,
        pause_ms_max: int = 2000,
        jitter: float = 0.2,
        draw: Callable[[], float] = random.random,
    ) -> None:
        assert failures_max >= 1
        assert 0 < pause_ms <= pause_ms_max
        assert 0 <= jitter <= 1
        self._clock = clock
        self._window_ns = window_ms * NS_PER_MS
        self._pause_ms_first = pause_ms
        self._pause_ms_max = pause_ms_max
        self._jitter = jitter
        self._draw = draw
        self._failed_at_ns: deque[int] = deque(maxlen=failures_max)
        self._state = BreakerState.CLOSED
        self._pause_ms = pause_ms
        self._probe_at_ns = 0
        self.opened_count = 0
        self.rejected_count = 0

    @property
    def state(self) -> BreakerState:
        """Where it stands now."""
        return self._state

    def admits(self) -> bool:
        """Whether a call may be made; a refusal is counted."""
        if self._state is BreakerState.CLOSED:
            return True
        self.rejected_count += 1
        return False

    def record_failure(self) -> None:
        """A call that was admitted failed; enough of them within the window open the breaker."""
        if self._state is not BreakerState.CLOSED:
            return
        now_ns = self._clock.monotonic_ns()
        self._failed_at_ns.append(now_ns)
        if len(self._failed_at_ns) < (self._failed_at_ns.maxlen or 1):
            return
        if now_ns - self._failed_at_ns[0] <= self._window_ns:
            self.opened_count += 1
            self._open(self._pause_ms_first)

    def claim_probe(self) -> bool:
        """True for exactly one caller once the pause is over; it must report the outcome."""
        if self._state is not BreakerState.OPEN:
            return False
        if self._clock.monotonic_ns() < self._probe_at_ns:
            return False
        self._state = BreakerState.HALF_OPEN
        return True

    def probe_failed(self) -> None:
        """The probe got no answer: stay open, and wait twice as long before the next one."""
        if self._state is BreakerState.HALF_OPEN:
            self._open(min(self._pause_ms * 2, self._pause_ms_max))

    def reset(self) -> None:
        """The dependency answered a probe: forget the failures and admit calls."""
        self._failed_at_ns.clear()
        self._state = BreakerState.CLOSED

    def _open(self, pause_ms: int) -> None:
        self._failed_at_ns.clear()
        self._state = BreakerState.OPEN
        self._pause_ms = pause_ms
        # Jitter only shortens: the pause is the bound that recovery time is promised from.
        jittered_ms = pause_ms * (1 - self._jitter * self._draw())
        self._probe_at_ns = self._clock.monotonic_ns() + int(jittered_ms * NS_PER_MS)
