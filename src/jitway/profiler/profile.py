"""What a profiler has seen, as plain data: sent between processes, merged, and told to people.

Owns the shape of the statistics. A profile is a copy; nothing here records.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from jitway.profiler.histogram import Histogram, HistogramCounts
from jitway.profiler.recorder import OVER_THRESHOLD_MAX, SlowRequest, slowest_of
from jitway.profiler.windows import Label, Span

TOTAL = "total"
AnyLabel = TypeVar("AnyLabel")


class WindowProfile(msgspec.Struct, frozen=True):
    """One window: histograms by stage (and `total`, `lookup_l1` ...), counters by label.

    An outcome's label is `(decision, reason)`, a lookup's `(level, data type, hit or miss)`.
    """

    seconds: float
    histograms: dict[str, HistogramCounts]
    outcomes: list[tuple[Label, int]]
    lookups: list[tuple[Label, int]]

    def histogram(self, name: str) -> Histogram:
        """The histogram of a stage, of `total`, or of a cache level: `lookup_l1`."""
        return Histogram.unpack(self.histograms[name])


class Profile(msgspec.Struct, frozen=True):
    """All windows (`minute`, `hour`, `start`) of one process, or of several merged.

    `decisions` are those whose rows stand, since the start: the requests of a window count when
    they are answered, and one that nobody was answered counts only here.
    """

    processes: int
    budgets_ms: dict[str, float]
    windows: dict[str, WindowProfile]
    over_threshold: list[SlowRequest]
    slowest: list[SlowRequest]
    loop_lag: HistogramCounts
    gc_pause: HistogramCounts
    alerts: dict[str, int]
    decisions: list[tuple[Label, int]]

    def encode(self) -> bytes:
        """The profile for another process."""
        return msgspec.msgpack.encode(self)

    @staticmethod
    def decode(encoded: bytes) -> "Profile":
        """The profile another process has sent.

        Raises:
            msgspec.DecodeError: the bytes are not a profile.
        """
        return msgspec.msgpack.decode(encoded, type=Profile)

    def statistics(self) -> dict[str, Any]:
        """Tables of plain numbers: milliseconds and per cent."""
        return {
            "processes": self.processes,
            "windows": {name: self._window(window) for name, window in self.windows.items()},
            "over_threshold": msgspec.to_builtins(self.over_threshold),
            "slowest": msgspec.to_builtins(self.slowest),
            "loop_lag_ms": row(self.loop_lag),
            "gc_pause_ms": row(self.gc_pause),
            "alerts": dict(self.alerts),
            "decisions": by_decision(dict(self.decisions)),
        }

    def _window(self, window: WindowProfile) -> dict[str, Any]:
        outcomes = dict(window.outcomes)
        return {
            "seconds": round(window.seconds, 1),
            "total": row(window.histograms[TOTAL]),
            "stages": {
                name: row(window.histograms[name]) | {"budget": budget_ms}
                for name, budget_ms in self.budgets_ms.items()
            },
            "decisions": by_decision(outcomes),
            "approval_rate": approval_rate(outcomes),
            "cache": by_level(dict(window.lookups)),
        }


def merge(profiles: Iterable[Profile]) -> Profile:
    """One profile of several processes.

    Raises:
        ValueError: there are none.
    """
    several = list(profiles)
    if not several:
        raise ValueError("nothing to merge")
    names = several[0].windows
    return Profile(
        processes=sum(profile.processes for profile in several),
        budgets_ms=several[0].budgets_ms,
        windows={name: _merge_windows([p.windows[name] for p in several]) for name in names},
        over_threshold=sorted(
            (slow for profile in several for slow in profile.over_threshold),
            key=lambda slow: slow.finished_at,
        )[-OVER_THRESHOLD_MAX:],
        slowest=slowest_of([slow for profile in several for slow in profile.slowest]),
        loop_lag=_merge_counts(profile.loop_lag for profile in several),
        gc_pause=_merge_counts(profile.gc_pause for profile in several),
        alerts=dict(_sum_labels(list(profile.alerts.items()) for profile in several)),
        decisions=_sum_labels(profile.decisions for profile in several),
    )


def window_profile(span: Span) -> WindowProfile:
    """A window's span as plain data."""
    return WindowProfile(
        seconds=span.seconds,
        histograms=span.histograms,
        outcomes=list(span.outcomes.items()),
        lookups=list(span.lookups.items()),
    )


def row(histogram: HistogramCounts) -> dict[str, float]:
    """Count, and in milliseconds: average, min, max, p50, p95, p99."""
    p50, p95, p99 = histogram.percentiles((50, 95, 99))
    count = histogram.count
    return {
        "count": count,
        "average": histogram.sum_ns / count / 1e6 if count else 0.0,
        "min": histogram.least_ns / 1e6,
        "max": histogram.max_ns / 1e6,
        "p50": p50 / 1e6,
        "p95": p95 / 1e6,
        "p99": p99 / 1e6,
    }


def by_decision(outcomes: Mapping[Label, int]) -> dict[str, Any]:
    """How often each decision was made; those that carry a reason by reason."""
    told: dict[str, Any] = {"approved": 0, "declined": {}}
    for (decision, reason), count in sorted(outcomes.items()):
        if reason:
            told.setdefault(decision, {})[reason] = count
        else:
            told[decision] = count
    return told


def approval_rate(outcomes: Mapping[Label, int]) -> float:
    """Approved in per cent of approved and declined; 0 before the first."""
    approved = sum(count for label, count in outcomes.items() if label[0] == "approved")
    declined = sum(count for label, count in outcomes.items() if label[0] == "declined")
    return 100 * approved / (approved + declined) if approved + declined else 0.0


def by_level(lookups: Mapping[Label, int]) -> dict[str, dict[str, dict[str, float]]]:
    """Hits, misses and hit rate in per cent, by cache level and data type."""
    told: dict[str, dict[str, dict[str, float]]] = {}
    for level, kind in sorted({label[:2] for label in lookups}):
        hits = lookups.get((level, kind, "hit"), 0)
        misses = lookups.get((level, kind, "miss"), 0)
        told.setdefault(level, {})[kind] = {
            "hits": hits,
            "misses": misses,
            "hit_rate": 100 * hits / (hits + misses) if hits + misses else 0.0,
        }
    return told


def _merge_windows(windows: list[WindowProfile]) -> WindowProfile:
    return WindowProfile(
        seconds=max(window.seconds for window in windows),
        histograms={
            name: _merge_counts(window.histograms[name] for window in windows)
            for name in windows[0].histograms
        },
        outcomes=_sum_labels(window.outcomes for window in windows),
        lookups=_sum_labels(window.lookups for window in windows),
    )


def _merge_counts(several: Iterable[HistogramCounts]) -> HistogramCounts:
    merged = Histogram()
    for counts in several:
        merged.merge(Histogram.unpack(counts))
    return merged.pack()


def _sum_labels(several: Iterable[list[tuple[AnyLabel, int]]]) -> list[tuple[AnyLabel, int]]:
    summed: dict[AnyLabel, int] = {}
    for labels in several:
        for label, count in labels:
            summed[label] = summed.get(label, 0) + count
    return list(summed.items())
