"""What several workers counted becomes one: counters never go back, gauges keep their meaning."""

import random

import pytest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from jitway.profiler.profile import merge as merge_profiles
from jitway.profiler.profiler import Profiler
from jitway.supervisor import counts as counting
from jitway.supervisor.counts import Counts
from jitway.supervisor.families import Family, exposition, merge, plain


def families(number: float, *, gauge: str = "jitway_group_commit_depth") -> list[Family]:
    counter = CounterMetricFamily("jitway_decisions", "Decisions.", labels=["outcome"])
    counter.add_metric(["approved"], number)
    histogram = HistogramMetricFamily("jitway_authorization_seconds", "How long.")
    histogram.add_metric([], [("0.1", number), ("+Inf", number + 1)], number / 2)
    return plain([counter, histogram, GaugeMetricFamily(gauge, "A gauge.", value=number)])


def told(several: list[Family]) -> dict[str, float]:
    """By name and label, as whoever scrapes reads it."""
    text = exposition(several).decode()
    return {
        sample.name + "".join(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_counters_and_histograms_are_added_up() -> None:
    whole = told(merge([families(3), families(5)]))
    assert whole["jitway_decisions_totalapproved"] == 8
    assert whole["jitway_authorization_seconds_bucket0.1"] == 8
    assert whole["jitway_authorization_seconds_bucket+Inf"] == 10
    assert whole["jitway_authorization_seconds_count"] == 10
    assert whole["jitway_authorization_seconds_sum"] == 4


@pytest.mark.parametrize(
    ("gauge", "value"),
    [
        ("jitway_group_commit_depth", 8),
        ("jitway_outbox_lag_seconds", 5),
        ("jitway_ready", 3),
        ("jitway_group_commit_batch_size_average", 4),
        ("process_max_fds", 3),
    ],
)
def test_gauges_become_one_by_their_meaning(gauge: str, value: float) -> None:
    assert told(merge([families(3, gauge=gauge), families(5, gauge=gauge)]))[gauge] == value


def test_what_only_one_has_stays() -> None:
    whole = told(merge([families(3), families(5)[:1], []]))
    assert whole["jitway_decisions_totalapproved"] == 8
    assert whole["jitway_group_commit_depth"] == 3


def test_one_that_does_not_answer_keeps_its_counts_and_loses_its_gauges() -> None:
    counts = Counts()
    counts.learn(1, families(3))
    counts.learn(2, families(5))
    whole = told(merge(counts.told({1})))
    assert whole["jitway_decisions_totalapproved"] == 8
    assert whole["jitway_group_commit_depth"] == 3


def test_no_counter_goes_back_whoever_dies() -> None:
    draw = random.Random(0)
    counts = Counts()
    known = {1: 0, 2: 0, 3: 0}
    last = total = 0.0
    for _ in range(300):
        worker = draw.randint(1, 3)
        if draw.random() < 0.1:
            counts.end(worker)
            known[worker] = 0
        else:
            more = draw.randint(0, 9)
            known[worker] += more
            total += more
            counts.learn(worker, families(known[worker]))
        seen = told(merge(counts.told({1, 2, 3}))).get("jitway_decisions_totalapproved", 0.0)
        assert seen == total >= last
        last = seen


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def a_profile(requests: int) -> Profiler:
    profiler = Profiler()
    for _ in range(requests):
        profiler.finish(profiler.start(), "approved")
        profiler.count_decision(("approved", ""))
    return profiler


def test_a_profile_keeps_who_ended_and_lets_them_fade() -> None:
    clock = Clock()
    counts = Counts(clock)
    counts.learn(1, profile=a_profile(2).profile())
    counts.learn(2, profile=a_profile(3).profile())
    counts.end(2)

    def requests(window: str) -> int:
        whole = merge_profiles(counts.profiles()).statistics()
        count: int = whole["windows"][window]["total"]["count"]
        return count

    assert merge_profiles(counts.profiles()).processes == 1
    assert [requests(window) for window in ("minute", "hour", "start")] == [5, 5, 5]
    clock.now_s = 61
    assert [requests(window) for window in ("minute", "hour", "start")] == [2, 5, 5]
    clock.now_s = 3601
    assert [requests(window) for window in ("minute", "hour", "start")] == [2, 2, 5]


def test_many_who_ended_take_no_more_room() -> None:
    counts = Counts()
    profile = a_profile(1).profile()
    for _ in range(5 * counting.ENDED_MAX):
        counts.learn(1, families(1), profile)
        counts.end(1)
    assert len(counts.profiles()) == counting.ENDED_MAX + 1
    whole = merge_profiles(counts.profiles()).statistics()
    assert whole["windows"]["start"]["total"]["count"] == 5 * counting.ENDED_MAX
    assert whole["decisions"]["approved"] == 5 * counting.ENDED_MAX
    assert told(merge(counts.told(set())))["jitway_decisions_totalapproved"] == 80
