"""What was recorded in the last minute, the last hour and since the start, in fixed memory.

Everything is recorded once, into totals that only grow. At each turn of a slot the totals are
tallied, and a window is the difference between now and its oldest tally: so three windows cost a
request no more than one. Least and greatest, which no difference can know, are kept by slot.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from jitway.profiler.histogram import Histogram, HistogramCounts, Tally

SLOT_NS = 5 * 1_000_000_000
MINUTE_SLOTS = 12
HOUR_SLOT_NS = 60 * SLOT_NS
HOUR_SLOTS = 12
LABELS_MAX = 128
"""Distinct outcomes and distinct cache lookups are each counted under at most so many labels."""

Label = tuple[str, ...]
Extremes = list[tuple[int, int]]


class Labels:
    """Counters by label, with a bound on the labels: what comes too late counts as `other`."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: dict[Label, int] = {}

    def count(self, label: Label) -> None:
        """Add one to a label."""
        counts = self.counts
        if label in counts:
            counts[label] += 1
        elif len(counts) < LABELS_MAX:
            counts[label] = 1
        else:
            label = ("other",) * len(label)
            counts[label] = counts.get(label, 0) + 1


@dataclass(slots=True)
class Totals:
    """What only grows: histograms by name, outcomes, cache lookups."""

    histograms: dict[str, Histogram]
    outcomes: Labels = field(default_factory=Labels)
    lookups: Labels = field(default_factory=Labels)


@dataclass(slots=True, frozen=True)
class Moment:
    """The totals as they stood at one instant."""

    at_ns: int
    tallies: list[Tally]
    outcomes: dict[Label, int]
    lookups: dict[Label, int]


@dataclass(slots=True, frozen=True)
class Span:
    """What was recorded in one window; `seconds` is what it really covers."""

    seconds: float
    histograms: dict[str, HistogramCounts]
    outcomes: dict[Label, int]
    lookups: dict[Label, int]


class Window:
    """The tallies and extremes of the last slots."""

    def __init__(self, first: Moment, *, slot_ns: int, slots: int) -> None:
        self._slot_ns = slot_ns
        self._slots = slots
        self._slot_began_ns = first.at_ns
        self._moments: deque[Moment] = deque([first], maxlen=slots + 1)
        self._extremes: deque[Extremes] = deque(maxlen=slots)
        self._nothing: Extremes = _nothing(len(first.tallies))
        self._open = self._nothing

    def turn(self, now: Moment, extremes: Extremes) -> None:
        """Close the slots that have ended; nothing may have been recorded since the first did."""
        self._open = _widest([self._open, extremes])
        ended = (now.at_ns - self._slot_began_ns) // self._slot_ns
        # After a long idle time only the last slots matter, so that catching up stays cheap.
        for slot in range(max(ended - self._slots - 1, 0), ended):
            at_ns = self._slot_began_ns + (slot + 1) * self._slot_ns
            self._moments.append(replace(now, at_ns=at_ns))
            self._extremes.append(self._nothing if slot else self._open)
        if ended:
            self._open = self._nothing
            self._slot_began_ns += ended * self._slot_ns

    def span(self, totals: Totals, *, now_ns: int) -> Span:
        """What was recorded since the oldest tally."""
        oldest = self._moments[0]
        extremes = _widest([*self._extremes, self._open, extremes_of(totals)])
        histograms = {
            name: histogram.since(tally, min_ns=least, max_ns=greatest)
            for (name, histogram), tally, (least, greatest) in zip(
                totals.histograms.items(), oldest.tallies, extremes, strict=True
            )
        }
        return Span(
            (now_ns - oldest.at_ns) / 1e9,
            histograms,
            _more(totals.outcomes, oldest.outcomes),
            _more(totals.lookups, oldest.lookups),
        )


class Windows:
    """Turns the slots as time passes and answers for each window."""

    def __init__(self, totals: Totals, *, now_ns: int) -> None:
        self._totals = totals
        self._started_ns = now_ns
        self._ever: Extremes = _nothing(len(totals.histograms))
        first = _moment(totals, now_ns)
        self._minute = Window(first, slot_ns=SLOT_NS, slots=MINUTE_SLOTS)
        self._hour = Window(first, slot_ns=HOUR_SLOT_NS, slots=HOUR_SLOTS)
        self.next_turn_ns = now_ns + SLOT_NS

    def turn(self, *, now_ns: int) -> None:
        """Close the slots that have ended; to be called before recording and before reading."""
        if now_ns < self.next_turn_ns:
            return
        now = _moment(self._totals, now_ns)
        extremes = extremes_of(self._totals)
        self._ever = _widest([self._ever, extremes])
        self._minute.turn(now, extremes)
        self._hour.turn(now, extremes)
        _forget_extremes(self._totals)
        self.next_turn_ns += ((now_ns - self.next_turn_ns) // SLOT_NS + 1) * SLOT_NS

    def spans(self, *, now_ns: int) -> dict[str, Span]:
        """The three windows: `minute`, `hour` and `start`."""
        self.turn(now_ns=now_ns)
        return {
            "minute": self._minute.span(self._totals, now_ns=now_ns),
            "hour": self._hour.span(self._totals, now_ns=now_ns),
            "start": self.since_start(now_ns=now_ns),
        }

    def since_start(self, *, now_ns: int) -> Span:
        """Everything that was ever recorded."""
        totals = self._totals
        extremes = _widest([self._ever, extremes_of(totals)])
        ever = {
            name: histogram.packed(min_ns=least, max_ns=greatest)
            for (name, histogram), (least, greatest) in zip(
                totals.histograms.items(), extremes, strict=True
            )
        }
        return Span(
            (now_ns - self._started_ns) / 1e9,
            ever,
            dict(totals.outcomes.counts),
            dict(totals.lookups.counts),
        )


def extremes_of(totals: Totals) -> Extremes:
    """Least and greatest of each histogram since they were last forgotten."""
    return [(histogram.min_ns, histogram.max_ns) for histogram in totals.histograms.values()]


def _forget_extremes(totals: Totals) -> None:
    empty = Histogram()
    for histogram in totals.histograms.values():
        histogram.min_ns, histogram.max_ns = empty.min_ns, empty.max_ns


def _widest(parts: Sequence[Extremes]) -> Extremes:
    return [
        (min(least for least, _ in same), max(greatest for _, greatest in same))
        for same in zip(*parts, strict=True)
    ]


def _nothing(histograms: int) -> Extremes:
    empty = Histogram()
    return [(empty.min_ns, empty.max_ns)] * histograms


def _moment(totals: Totals, at_ns: int) -> Moment:
    return Moment(
        at_ns,
        [histogram.tally() for histogram in totals.histograms.values()],
        dict(totals.outcomes.counts),
        dict(totals.lookups.counts),
    )


def _more(labels: Labels, earlier: dict[Label, int]) -> dict[Label, int]:
    grown = {label: count - earlier.get(label, 0) for label, count in labels.counts.items()}
    return {label: count for label, count in grown.items() if count}
