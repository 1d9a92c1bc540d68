"""Histograms against sorted samples."""

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from jitway.profiler.histogram import BUCKETS, NS_MAX, Histogram, bucket_of, middle_of

spans_ns = st.integers(min_value=0, max_value=NS_MAX)
# Exponents first, so that every power of two is as likely as any other.
log_spans_ns = st.integers(0, 36).flatmap(lambda power: st.integers(0, (1 << power + 1) - 1))
samples = st.lists(spans_ns | log_spans_ns, min_size=1, max_size=300)
percents = st.floats(min_value=0, max_value=100)


def filled(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


def nearest_rank(values: list[int], percent: float) -> int:
    rank = max(math.ceil(round(percent * len(values) / 100, 9)), 1)
    return sorted(values)[rank - 1]


def same(left: Histogram, right: Histogram) -> bool:
    return left.pack() == right.pack()


@given(spans_ns)
def test_a_bucket_stands_for_its_samples_within_two_per_cent(span_ns: int) -> None:
    bucket = bucket_of(span_ns)
    assert 0 <= bucket < BUCKETS
    assert abs(middle_of(bucket) - span_ns) <= 0.02 * span_ns


@given(spans_ns, spans_ns)
def test_longer_samples_never_count_in_an_earlier_bucket(one: int, other: int) -> None:
    assert (bucket_of(one) <= bucket_of(other)) or one > other


@given(samples, percents)
def test_a_percentile_is_the_sorted_sample_within_two_per_cent(
    values: list[int], percent: float
) -> None:
    exact = nearest_rank(values, percent)
    assert abs(filled(values).percentile(percent) - exact) <= 0.02 * exact


@given(samples)
def test_count_sum_least_and_greatest_are_exact(values: list[int]) -> None:
    histogram = filled(values)
    assert (histogram.count, histogram.sum_ns) == (len(values), sum(values))
    assert (histogram.least_ns, histogram.max_ns) == (min(values), max(values))
    assert (histogram.percentile(0), histogram.percentile(100)) == (min(values), max(values))


@given(samples, samples)
def test_merging_is_recording_both(one: list[int], other: list[int]) -> None:
    merged = filled(one)
    merged.merge(filled(other))
    assert same(merged, filled(one + other))


@given(samples, samples)
def test_a_difference_is_what_came_later(earlier: list[int], later: list[int]) -> None:
    histogram = filled(earlier)
    tally = histogram.tally()
    for value in later:
        histogram.record(value)
    difference = histogram.since(tally, min_ns=min(later), max_ns=max(later))
    assert difference == filled(later).pack()


@given(samples, st.lists(percents, min_size=1, max_size=5))
def test_packed_percentiles_are_the_same(values: list[int], several: list[float]) -> None:
    histogram = filled(values)
    packed = histogram.pack()
    assert packed.percentiles(several) == histogram.percentiles(several)
    assert (packed.count, packed.least_ns) == (histogram.count, histogram.least_ns)
    assert Histogram().pack().percentiles(several) == [0] * len(several)


@given(st.lists(spans_ns, max_size=50))
def test_packing_loses_nothing(values: list[int]) -> None:
    histogram = filled(values)
    assert same(Histogram.unpack(histogram.pack()), histogram)


@given(samples, st.integers(min_value=128, max_value=NS_MAX))
def test_counts_up_to_an_edge_are_right_but_for_its_own_bucket(
    values: list[int], edge_ns: int
) -> None:
    counted = filled(values).counts_up_to([edge_ns])[0]
    assert sum(value <= edge_ns for value in values) <= counted
    assert counted <= sum(value <= edge_ns * 1.02 for value in values)


def test_samples_beyond_the_last_bucket_are_counted_and_stay_exact_at_the_extremes() -> None:
    histogram = filled([1_000, NS_MAX * 4])
    assert histogram.count == 2
    assert histogram.percentile(100) == NS_MAX * 4
    assert histogram.sum_ns == 1_000 + NS_MAX * 4


def test_a_clock_that_stepped_back_is_counted_as_zero() -> None:
    histogram = filled([-5, -70_000])
    assert (histogram.count, histogram.sum_ns, histogram.least_ns) == (2, 0, 0)
    assert histogram.counts[0] == 2


def test_an_empty_histogram_says_zero() -> None:
    histogram = Histogram()
    assert histogram.percentiles([0, 50, 99, 100]) == [0, 0, 0, 0]
    assert (histogram.count, histogram.mean_ns, histogram.least_ns) == (0, 0.0, 0)


def test_a_copy_is_independent() -> None:
    histogram = filled([10, 20])
    twin = histogram.copy()
    twin.record(30)
    assert (histogram.count, twin.count) == (2, 3)


def test_many_samples_of_a_realistic_shape() -> None:
    draw = random.Random(1)
    values = [int(draw.lognormvariate(14.5, 0.9)) for _ in range(20_000)]
    histogram = filled(values)
    for percent in (1, 50, 90, 95, 99, 99.9):
        exact = nearest_rank(values, percent)
        assert abs(histogram.percentile(percent) - exact) <= 0.02 * exact
