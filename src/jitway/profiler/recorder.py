"""The flight recorder: whole traces of slow requests, each naming its guilty stage.

Owns two bounded sets: the last requests over the warning threshold, and the slowest ones of the
last hour or two however fast. Refuses to alert: `alarm.py` does.
"""

import heapq
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from itertools import count

import msgspec

from jitway.profiler.pauses import Lost
from jitway.profiler.trace import STAGES, Stage, Trace

OVER_THRESHOLD_MAX = 256
SLOWEST_MAX = 20
GENERATION_NS = 3_600 * 1_000_000_000
_NAMES = tuple(stage.label for stage in STAGES)


class SlowRequest(msgspec.Struct, frozen=True):
    """One request kept whole; durations in milliseconds.

    `severity` is `warning`, `critical`, or None for one that was merely among the slowest.
    `guilty` is the stage furthest over its budget, and `over_budget_ms` by how much.
    """

    finished_at: datetime
    request_id: str
    decision: str
    reason: str | None
    severity: str | None
    total_ms: float
    guilty: str
    over_budget_ms: float
    stages_ms: dict[str, float]
    loop_lag_ms: float
    gc_pause_ms: float


class FlightRecorder:
    """Decides which requests are kept, and for how long."""

    def __init__(self, budgets_ns: Mapping[Stage, int]) -> None:
        self._budgets_ns = [budgets_ns[stage] for stage in STAGES]
        self._over: deque[SlowRequest] = deque(maxlen=OVER_THRESHOLD_MAX)
        self._slowest: list[tuple[float, int, SlowRequest]] = []
        self._slowest_before: list[tuple[float, int, SlowRequest]] = []
        self._generation_ends_ns = 0
        self._order = count()
        self.floor_ns = 0
        """A request at most this long is not among the slowest."""

    def keep(self, slow: SlowRequest, *, now_ns: int) -> None:
        """Keep a request that is over a threshold or longer than the floor."""
        if slow.severity is not None:
            self._over.append(slow)
        if now_ns >= self._generation_ends_ns:
            self._generation_ends_ns = now_ns + GENERATION_NS
            self._slowest_before, self._slowest = self._slowest, []
        entry = (slow.total_ms, next(self._order), slow)
        if len(self._slowest) < SLOWEST_MAX:
            heapq.heappush(self._slowest, entry)
        else:
            heapq.heappushpop(self._slowest, entry)
        if len(self._slowest) == SLOWEST_MAX:
            self.floor_ns = int(self._slowest[0][0] * 1e6)

    def age(self, *, now_ns: int) -> None:
        """Let requests among the slowest again when an hour has passed."""
        if now_ns >= self._generation_ends_ns:
            self.floor_ns = 0

    def guilty(self, trace: Trace) -> tuple[Stage, int]:
        """The stage furthest over its budget (or least below it), and by how many nanoseconds."""
        excess_ns = [
            span - budget for span, budget in zip(trace.spans_ns, self._budgets_ns, strict=True)
        ]
        worst = max(range(len(excess_ns)), key=excess_ns.__getitem__)
        return STAGES[worst], excess_ns[worst]

    def over_threshold(self) -> list[SlowRequest]:
        """The last requests over a threshold, oldest first."""
        return list(self._over)

    def slowest(self) -> list[SlowRequest]:
        """The slowest requests of the last hour or two, slowest first."""
        return slowest_of([slow for _, _, slow in self._slowest + self._slowest_before])


def slowest_of(requests: list[SlowRequest]) -> list[SlowRequest]:
    """The slowest of some requests, slowest first, as many as a recorder keeps."""
    return sorted(requests, key=lambda slow: slow.total_ms, reverse=True)[:SLOWEST_MAX]


def describe(
    trace: Trace,
    guilty: tuple[Stage, int],
    lost: Lost,
    *,
    total_ns: int,
    finished_at: datetime,
    decision: str,
    reason: str | None,
    severity: str | None,
) -> SlowRequest:
    """A trace as the record that is kept."""
    stage, excess_ns = guilty
    return SlowRequest(
        finished_at=finished_at,
        request_id=trace.request_id,
        decision=decision,
        reason=reason,
        severity=severity,
        total_ms=total_ns / 1e6,
        guilty=stage.label,
        over_budget_ms=max(excess_ns, 0) / 1e6,
        stages_ms={name: ns / 1e6 for name, ns in zip(_NAMES, trace.spans_ns, strict=True)},
        loop_lag_ms=lost.loop_lag_ns / 1e6,
        gc_pause_ms=lost.gc_pause_ns / 1e6,
    )
