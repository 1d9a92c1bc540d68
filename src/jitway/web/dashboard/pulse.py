"""`pulse.py`: what was answered in each of the last seconds, kept for ten minutes.

Reads the profiler's own counters and copies only one histogram, so that a second costs a fraction
of a millisecond whether or not somebody looks.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from math import ceil
from operator import sub
from typing import Any, NamedTuple

from jitway.profiler.histogram import Histogram, middle_of
from jitway.profiler.profile import TOTAL
from jitway.profiler.profiler import Counted
from jitway.profiler.windows import Label

KEPT_S = 600
WINDOW_S = 60
# Percentiles of stages are made for some of them each second, and come round in so many.
TURNS = 4
STAGE_SLOT_S = 5


class Point(NamedTuple):
    """One second, as it is sent: instant in ms, answers per second, latencies in ms."""

    at: int
    approved: float
    declined: float
    other: float
    p50: float | None
    p95: float | None
    p99: float | None


class Moment(NamedTuple):
    """What only grows, as it stood at one beat."""

    at_s: float
    outcomes: Mapping[Label, int]
    lookups: Mapping[Label, int]


class Pulse:
    """The last seconds of one process.

    Args:
        counted: the profiler's counters, read at each beat.
        over: beats that a point is the average of; more where counters come now and then.
    """

    def __init__(self, counted: Callable[[], Counted], *, over: int = 1) -> None:
        self._counted = counted
        self._earlier: deque[tuple[Moment, Sequence[int]]] = deque(maxlen=over)
        self._moments: deque[Moment] = deque(maxlen=WINDOW_S + 1)
        self.points: deque[Point] = deque(maxlen=KEPT_S)

    def beat(self, *, at_ms: int, now_s: float) -> Point:
        """Takes the second that ends now.

        Args:
            at_ms: milliseconds since 1970.
            now_s: seconds of a clock that never goes back.
        """
        counted = self._counted()
        moment = Moment(now_s, dict(counted.outcomes), dict(counted.lookups))
        counts = list(counted.histograms[TOTAL].counts)
        before, counts_before = self._earlier[0] if self._earlier else (moment, counts)
        self._earlier.append((moment, counts))
        self._moments.append(moment)
        seconds = (now_s - before.at_s) or 1.0
        decisions = by_outcome(grown(moment.outcomes, before.outcomes))
        latencies = percentiles_ms(list(map(sub, counts, counts_before)), (50, 95, 99))
        rates = (round(decisions[name] / seconds, 2) for name in ("approved", "declined", "other"))
        point = Point(at_ms, *rates, *latencies)
        self.points.append(point)
        return point

    def minute(self) -> dict[str, Any]:
        """Decisions and cache lookups of the last minute, or as much of it as there was."""
        if not self._moments:
            return {"seconds": 0, "decisions": by_outcome({}), "reasons": {}, "lookups": []}
        now, then = self._moments[-1], self._moments[0]
        outcomes = grown(now.outcomes, then.outcomes)
        reasons = {reason: n for (decision, reason), n in outcomes.items() if reason and n}
        return {
            "seconds": round(now.at_s - then.at_s, 1),
            "decisions": by_outcome(outcomes),
            "reasons": reasons,
            "lookups": lookups_of(now.lookups, grown(now.lookups, then.lookups)),
        }


class StageWindow:
    """Where the milliseconds of the last minute went; made only while somebody looks.

    Args:
        counted: the profiler's counters.
    """

    def __init__(self, counted: Callable[[], Counted]) -> None:
        self._counted = counted
        self._slots: deque[dict[str, tuple[list[int], int]]] = deque(
            maxlen=WINDOW_S // STAGE_SLOT_S + 1
        )
        self._turn = 0
        self._rows: dict[str, dict[str, float | None]] = {}

    def rows(self) -> list[dict[str, Any]]:
        """The total, then each stage in order: its budget and what it took, in ms.

        The total is fresh each time, and a part of the stages.
        """
        counted = self._counted()
        names = [TOTAL, *counted.budgets_ms]
        if self._turn % STAGE_SLOT_S == 0:
            self._slots.append({name: _copy(counted.histograms[name]) for name in names})
        for place, name in enumerate(names):
            if name not in self._rows or not place or place % TURNS == self._turn % TURNS:
                self._rows[name] = _row(counted.histograms[name], self._slots[0][name])
        self._turn += 1
        return [
            {"name": name, "budget": counted.budgets_ms.get(name)} | self._rows[name]
            for name in names
        ]

    def forget(self) -> None:
        """Nobody looks any more: gives back its memory."""
        self._slots.clear()
        self._rows.clear()
        self._turn = 0


def grown(now: Mapping[Label, int], then: Mapping[Label, int]) -> dict[Label, int]:
    """By how much each counter grew."""
    return {label: n - then.get(label, 0) for label, n in now.items()}


def by_outcome(outcomes: Mapping[Label, int]) -> dict[str, int]:
    """Approved, declined, no decision, and whatever else was answered."""
    told = {"approved": 0, "declined": 0, "no_decision": 0, "other": 0}
    for (decision, _), count in outcomes.items():
        if decision in ("approved", "declined"):
            told[decision] += count
        else:
            told["other"] += count
            if decision == "no_decision":
                told["no_decision"] += count
    return told


def lookups_of(ever: Mapping[Label, int], lately: Mapping[Label, int]) -> list[dict[str, Any]]:
    """Hits and misses by cache level and data type, of the last minute and since the start."""
    return [
        {
            "level": level,
            "kind": kind,
            "hits": lately.get((level, kind, "hit"), 0),
            "misses": lately.get((level, kind, "miss"), 0),
            "hits_ever": ever.get((level, kind, "hit"), 0),
            "misses_ever": ever.get((level, kind, "miss"), 0),
        }
        for level, kind in sorted({label[:2] for label in ever})
    ]


def percentiles_ms(counts: Sequence[int], percents: Sequence[float]) -> list[float | None]:
    """Nearest-rank percentiles of counts by bucket, in milliseconds; None without samples."""
    running = list(accumulate(counts))
    total = running[-1]
    if not total:
        return [None for _ in percents]
    ranks = (max(1, ceil(percent * total / 100)) for percent in percents)
    places = (bisect_left(running, rank) for rank in ranks)
    return [round(middle_of(place) / 1e6, 3) for place in places]


def _copy(histogram: Histogram) -> tuple[list[int], int]:
    return list(histogram.counts), histogram.sum_ns


def _row(histogram: Histogram, then: tuple[list[int], int]) -> dict[str, float | None]:
    counts = list(map(sub, histogram.counts, then[0]))
    count = sum(counts)
    p50, p99 = percentiles_ms(counts, (50, 99))
    average = (histogram.sum_ns - then[1]) / count / 1e6 if count else None
    return {
        "count": count,
        "average": None if average is None else round(average, 4),
        "p50": p50,
        "p99": p99,
    }
