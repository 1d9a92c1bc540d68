"""Latency distributions in fixed memory that can be added and subtracted.

Owns the buckets: exact below 128 ns, then 64 per power of two up to 137 s, 2,048 in all. A
percentile is the middle of its bucket and so at most 0.8 % away from the sample it stands for;
count, sum, least and greatest are exact. Refuses to average percentiles: counts are merged first.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate, compress
from operator import add, sub

import msgspec

BUCKETS = 2_048
NS_MAX = (1 << 37) - 1
"""Longer samples count in the last bucket; the greatest and the sum still know their length."""

_NEVER = 1 << 63


class HistogramCounts(msgspec.Struct, frozen=True):
    """A histogram as plain numbers, to be sent to another process: only the used buckets."""

    buckets: list[int]
    counts: list[int]
    sum_ns: int
    min_ns: int
    max_ns: int

    @property
    def count(self) -> int:
        """How many samples there are."""
        return sum(self.counts)

    @property
    def least_ns(self) -> int:
        """The least sample in nanoseconds; 0 without samples."""
        return 0 if self.min_ns == _NEVER else self.min_ns

    def percentiles(self, percents: Iterable[float]) -> list[int]:
        """As `Histogram.percentiles`, without looking at the buckets that are not used."""
        running = list(accumulate(self.counts))
        if not running:
            return [0 for _ in percents]
        ranks = [_rank(percent, running[-1]) for percent in percents]
        return [self._at_rank(running, rank) for rank in ranks]

    def _at_rank(self, running: Sequence[int], rank: int) -> int:
        if rank >= running[-1]:
            return self.max_ns
        if rank <= 1:
            return self.min_ns
        middle = middle_of(self.buckets[bisect_left(running, rank)])
        return min(max(middle, self.min_ns), self.max_ns)


def bucket_of(span_ns: int) -> int:
    """The index of the bucket that counts a duration."""
    if span_ns < 128:
        return max(span_ns, 0)
    if span_ns > NS_MAX:
        return BUCKETS - 1
    shift = span_ns.bit_length() - 7
    return (shift << 6) + (span_ns >> shift)


def middle_of(bucket: int) -> int:
    """The duration, in nanoseconds, that stands for all samples of a bucket."""
    if bucket < 128:
        return bucket
    shift = (bucket >> 6) - 1
    return ((bucket - (shift << 6)) << shift) + (1 << shift >> 1)


class Histogram:
    """Counts of durations in nanoseconds."""

    __slots__ = ("counts", "max_ns", "min_ns", "sum_ns")

    def __init__(self) -> None:
        self.counts: list[int] = [0] * BUCKETS
        self.sum_ns = 0
        self.min_ns = _NEVER
        self.max_ns = 0

    def record(self, span_ns: int) -> None:
        """Count one duration; a clock that stepped back counts as zero."""
        # `bucket_of`, written out: a call would cost as much as the rest.
        if span_ns < 128:
            span_ns = max(span_ns, 0)
            self.counts[span_ns] += 1
        elif span_ns <= NS_MAX:
            shift = span_ns.bit_length() - 7
            self.counts[(shift << 6) + (span_ns >> shift)] += 1
        else:
            self.counts[-1] += 1
        self.sum_ns += span_ns
        if span_ns > self.max_ns:  # noqa: PLR1730 - max() is a call, and this runs all the time
            self.max_ns = span_ns
        if span_ns < self.min_ns:  # noqa: PLR1730 - likewise
            self.min_ns = span_ns

    @property
    def count(self) -> int:
        """How many samples there are."""
        return sum(self.counts)

    @property
    def mean_ns(self) -> float:
        """The exact mean in nanoseconds; 0 without samples."""
        count = self.count
        return self.sum_ns / count if count else 0.0

    @property
    def least_ns(self) -> int:
        """The least sample in nanoseconds; 0 without samples."""
        return 0 if self.min_ns == _NEVER else self.min_ns

    def percentile(self, percent: float) -> int:
        """The nearest-rank percentile in nanoseconds, see `percentiles`."""
        return self.percentiles([percent])[0]

    def percentiles(self, percents: Iterable[float]) -> list[int]:
        """Nearest-rank percentiles in nanoseconds, within 0.8 % of the sample; 0 without samples.

        Args:
            percents: 0 (the least) to 100 (the greatest); both of these are exact.
        """
        running = list(accumulate(self.counts))
        total = running[-1]
        if not total:
            return [0 for _ in percents]
        return [self._at_rank(running, _rank(percent, total)) for percent in percents]

    def _at_rank(self, running: Sequence[int], rank: int) -> int:
        if rank >= running[-1]:
            return self.max_ns
        if rank <= 1:
            return self.min_ns
        return min(max(middle_of(bisect_left(running, rank)), self.min_ns), self.max_ns)

    def counts_up_to(self, edges_ns: Sequence[int]) -> list[int]:
        """How many samples are at most as long as each edge; edges are rounded to a bucket."""
        running = list(accumulate(self.counts))
        return [running[bucket_of(edge)] for edge in edges_ns]

    def merge(self, other: "Histogram") -> None:
        """Add the samples of another histogram to this one."""
        self.counts = list(map(add, self.counts, other.counts))
        self.sum_ns += other.sum_ns
        self.min_ns = min(self.min_ns, other.min_ns)
        self.max_ns = max(self.max_ns, other.max_ns)

    def since(self, earlier: "Tally", *, min_ns: int, max_ns: int) -> HistogramCounts:
        """The samples that came after a tally of this histogram was taken.

        Args:
            earlier: the tally.
            min_ns: the least of those samples, which no subtraction can know.
            max_ns: the greatest of them.
        """
        first, end = _range(min_ns, max_ns)
        more = list(map(sub, self.counts[first:end], earlier.counts[first:end]))
        return _used(first, more, self.sum_ns - earlier.sum_ns, min_ns, max_ns)

    def tally(self) -> "Tally":
        """The counts of this moment, to subtract later."""
        return Tally(array("Q", self.counts), self.sum_ns)

    def copy(self) -> "Histogram":
        """An independent histogram with the same samples."""
        twin = Histogram()
        twin.merge(self)
        return twin

    def pack(self) -> HistogramCounts:
        """The same as plain numbers."""
        return self.packed(min_ns=self.min_ns, max_ns=self.max_ns)

    def packed(self, *, min_ns: int, max_ns: int) -> HistogramCounts:
        """The same, where the extremes were kept elsewhere."""
        first, end = _range(min_ns, max_ns)
        return _used(first, self.counts[first:end], self.sum_ns, min_ns, max_ns)

    @classmethod
    def unpack(cls, packed: HistogramCounts) -> "Histogram":
        """The histogram that was packed."""
        histogram = cls()
        for bucket, count in zip(packed.buckets, packed.counts, strict=True):
            histogram.counts[bucket] = count
        histogram.sum_ns = packed.sum_ns
        histogram.min_ns, histogram.max_ns = packed.min_ns, packed.max_ns
        return histogram


def _range(min_ns: int, max_ns: int) -> tuple[int, int]:
    """The buckets, from and up to, between two extremes; none without samples."""
    if min_ns == _NEVER:
        return 0, 0
    return bucket_of(min(min_ns, NS_MAX)), bucket_of(max_ns) + 1


def _used(first: int, counts: list[int], sum_ns: int, min_ns: int, max_ns: int) -> HistogramCounts:
    buckets = list(compress(range(first, first + len(counts)), counts))
    return HistogramCounts(buckets, list(filter(None, counts)), sum_ns, min_ns, max_ns)


class Tally(msgspec.Struct, frozen=True):
    """What a histogram had counted at one moment; 16 KB."""

    counts: "array[int]"
    sum_ns: int


def _rank(percent: float, total: int) -> int:
    # Rounded first: 99.9 % of 1000 must be rank 999, not 1000 by a float's last digit.
    exact = round(percent * total / 100, 9)
    whole = int(exact)
    return max(whole if whole == exact else whole + 1, 1)
