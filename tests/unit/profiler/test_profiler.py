"""The profiler by a clock that the test moves."""

import asyncio
import gc
import time
from datetime import UTC, datetime, timedelta

import pytest

from jitway.profiler.alarm import QUIET_NS
from jitway.profiler.pauses import KEPT_MAX, SAMPLE_INTERVAL_S, WORTH_KEEPING_NS, Pauses
from jitway.profiler.profile import Profile, merge
from jitway.profiler.profiler import Profiler
from jitway.profiler.recorder import OVER_THRESHOLD_MAX, SLOWEST_MAX
from jitway.profiler.trace import STAGES, Stage, Trace
from jitway.profiler.windows import LABELS_MAX

MS = 1_000_000
SECOND = 1_000 * MS
MINUTE = 60 * SECOND


class HandClock:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.ns = 7 * SECOND

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=self.ns // 1000)

    def monotonic_ns(self) -> int:
        return self.ns

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_{self.ns:032x}"


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def profiler(clock: HandClock) -> Profiler:
    return Profiler(clock)


def pass_through(
    profiler: Profiler,
    clock: HandClock,
    spans_ms: dict[Stage, float],
    *,
    decision: str = "approved",
    reason: str | None = None,
    name: str = "",
) -> Trace:
    trace = profiler.start(name)
    for stage, span_ms in spans_ms.items():
        clock.ns += int(span_ms * MS)
        trace.mark(stage)
    profiler.finish(trace, decision, reason=reason)
    return trace


def test_stages_are_public_names_in_order() -> None:
    assert [stage.label for stage in STAGES] == [
        "decode", "card_lookup", "user_lookup", "batch_wait", "account_lock", "refresh",
        "limits_check", "decision", "write", "commit", "encode", "other",
    ]  # fmt: skip
    assert all(stage.budget_ms > 0 for stage in STAGES)


def test_marks_charge_what_passed_since_the_last_one(profiler: Profiler, clock: HandClock) -> None:
    trace = pass_through(profiler, clock, {Stage.DECODE: 1, Stage.CARD_LOOKUP: 2})
    assert trace.spans_ns[Stage.DECODE] == 1 * MS
    assert trace.spans_ns[Stage.CARD_LOOKUP] == 2 * MS


def test_what_no_stage_was_charged_with_is_other(profiler: Profiler, clock: HandClock) -> None:
    trace = profiler.start()
    clock.ns += 3 * MS
    trace.mark(Stage.DECODE)
    clock.ns += 4 * MS
    assert profiler.finish(trace, "approved") == 7 * MS
    assert trace.spans_ns[Stage.OTHER] == 4 * MS
    assert sum(trace.spans_ns) == 7 * MS


def test_time_added_from_elsewhere_is_not_charged_again_by_the_next_mark(
    profiler: Profiler, clock: HandClock
) -> None:
    trace = profiler.start()
    clock.ns += 20 * MS
    trace.add(Stage.WRITE, 5 * MS)
    trace.add(Stage.COMMIT, 9 * MS)
    trace.mark(Stage.BATCH_WAIT)
    assert profiler.finish(trace, "approved") == 20 * MS
    assert trace.spans_ns[Stage.BATCH_WAIT] == 6 * MS
    assert sum(trace.spans_ns) == 20 * MS


def test_members_of_a_batch_are_charged_with_its_stages_and_add_up(
    profiler: Profiler, clock: HandClock
) -> None:
    early = profiler.start()
    clock.ns += 2 * MS
    early.mark(Stage.DECODE)
    late = profiler.start()
    clock.ns += 3 * MS
    batch = profiler.start()
    for stage, span_ms in ((Stage.ACCOUNT_LOCK, 1), (Stage.WRITE, 4), (Stage.COMMIT, 5)):
        clock.ns += span_ms * MS
        batch.mark(stage)
    clock.ns += 1 * MS
    for trace in (early, late):
        trace.join(batch)
        trace.mark(Stage.ENCODE)
    assert profiler.finish(early, "approved") == sum(early.spans_ns) == 16 * MS
    assert profiler.finish(late, "declined") == sum(late.spans_ns) == 14 * MS
    for trace in (early, late):
        assert trace.spans_ns[Stage.BATCH_WAIT] == 3 * MS
        assert trace.spans_ns[Stage.COMMIT] == 5 * MS
        assert trace.spans_ns[Stage.ENCODE] == 1 * MS
        assert trace.spans_ns[Stage.OTHER] == 0


def test_metrics_are_milliseconds_and_per_cent(profiler: Profiler, clock: HandClock) -> None:
    for number in range(1_000):
        declined = number % 200 < 3
        pass_through(
            profiler,
            clock,
            {Stage.WRITE: 1 + number % 10},
            decision="declined" if declined else "approved",
            reason="card_frozen" if declined else None,
        )
    stats = profiler.get_metrics_stats()
    assert set(stats) == {
        "count", "average", "min", "max", "p50", "p95", "p99", "approval_rate",
    }  # fmt: skip
    assert stats["count"] == 1_000
    assert stats["approval_rate"] == 98.5
    assert (stats["min"], stats["max"]) == (1.0, 10.0)
    assert stats["average"] == pytest.approx(5.5)
    assert stats["p50"] == pytest.approx(5.0, rel=0.02)
    assert stats["p99"] == pytest.approx(10.0, rel=0.02)


def test_replays_and_no_decisions_do_not_move_the_approval_rate(
    profiler: Profiler, clock: HandClock
) -> None:
    for decision in ("approved", "replayed", "no_decision", "replayed"):
        pass_through(profiler, clock, {}, decision=decision)
    assert profiler.get_metrics_stats()["approval_rate"] == 100.0
    decisions = profiler.statistics()["windows"]["start"]["decisions"]
    assert decisions == {"approved": 1, "declined": {}, "replayed": 2, "no_decision": 1}


def test_before_the_first_request_everything_is_zero(profiler: Profiler) -> None:
    assert set(profiler.get_metrics_stats().values()) == {0}


def test_windows_forget_and_the_start_remembers(profiler: Profiler, clock: HandClock) -> None:
    pass_through(profiler, clock, {Stage.WRITE: 40}, decision="declined", reason="card_frozen")
    clock.ns += 2 * MINUTE
    pass_through(profiler, clock, {Stage.WRITE: 2})
    windows = profiler.statistics()["windows"]
    assert windows["minute"]["total"]["count"] == 1
    assert windows["minute"]["total"]["max"] == 2.0
    assert windows["minute"]["decisions"] == {"approved": 1, "declined": {}}
    assert 55 <= windows["minute"]["seconds"] <= 65
    for name in ("hour", "start"):
        assert windows[name]["total"]["count"] == 2
        assert windows[name]["total"]["max"] == 40.0
        assert windows[name]["total"]["min"] == 2.0
        assert windows[name]["decisions"]["declined"] == {"card_frozen": 1}
    clock.ns += 66 * MINUTE
    windows = profiler.statistics()["windows"]
    assert windows["minute"]["total"]["count"] == windows["hour"]["total"]["count"] == 0
    assert 55 * 60 <= windows["hour"]["seconds"] <= 65 * 60
    assert windows["start"]["total"]["count"] == 2


def test_a_minute_under_steady_traffic_holds_a_minute(profiler: Profiler, clock: HandClock) -> None:
    for second in range(300):
        pass_through(profiler, clock, {Stage.WRITE: 1 + second / 100})
        clock.ns += SECOND - int((1 + second / 100) * MS)
    minute = profiler.statistics()["windows"]["minute"]
    assert minute["seconds"] - 1 <= minute["total"]["count"] <= minute["seconds"] + 1
    assert minute["total"]["max"] == pytest.approx(1 + 299 / 100)
    # The exact least of the window, give or take the slot in which it began.
    assert minute["total"]["min"] == pytest.approx(1 + (300 - minute["seconds"]) / 100, abs=0.06)


def test_a_slow_request_is_kept_whole_and_names_its_guilty_stage(
    profiler: Profiler, clock: HandClock
) -> None:
    for guilty in STAGES:
        spans: dict[Stage, float] = {stage: stage.budget_ms / 2 for stage in STAGES[:-1]}
        pass_through(profiler, clock, spans | {guilty: 80.0}, name=f"aut_{guilty.label}")
        slow = profiler.profile().over_threshold[-1]
        assert slow.request_id == f"aut_{guilty.label}"
        assert (slow.guilty, slow.severity) == (guilty.label, "warning")
        assert slow.stages_ms[guilty.label] == 80.0
        assert slow.over_budget_ms == pytest.approx(80.0 - guilty.budget_ms)
        assert sum(slow.stages_ms.values()) == pytest.approx(slow.total_ms)


def test_thresholds_are_fifty_and_a_hundred_milliseconds(
    profiler: Profiler, clock: HandClock
) -> None:
    for span_ms in (50, 51, 100, 101):
        pass_through(profiler, clock, {Stage.COMMIT: span_ms}, name=str(span_ms))
    kept = [(slow.request_id, slow.severity) for slow in profiler.profile().over_threshold]
    assert kept == [("51", "warning"), ("100", "warning"), ("101", "critical")]


def test_the_slowest_are_kept_without_a_threshold_and_bounded(
    profiler: Profiler, clock: HandClock
) -> None:
    for number in range(200):
        pass_through(profiler, clock, {Stage.COMMIT: (number * 37) % 200 / 10}, name=str(number))
    slowest = [slow.total_ms for slow in profiler.profile().slowest]
    assert slowest == [tenths / 10 for tenths in range(199, 199 - SLOWEST_MAX, -1)]


def test_the_slowest_of_a_past_hour_make_room(profiler: Profiler, clock: HandClock) -> None:
    for _ in range(SLOWEST_MAX):
        pass_through(profiler, clock, {Stage.COMMIT: 30})
    for _ in range(3):
        clock.ns += 61 * MINUTE
        for _ in range(2):
            pass_through(profiler, clock, {Stage.COMMIT: 2})
    assert [slow.total_ms for slow in profiler.profile().slowest] == [2.0] * 4


def test_requests_over_a_threshold_are_bounded(profiler: Profiler, clock: HandClock) -> None:
    for number in range(OVER_THRESHOLD_MAX + 10):
        pass_through(profiler, clock, {Stage.COMMIT: 60}, name=str(number))
    kept = profiler.profile().over_threshold
    assert len(kept) == OVER_THRESHOLD_MAX
    assert kept[-1].request_id == str(OVER_THRESHOLD_MAX + 9)


def test_one_alert_for_one_episode(profiler: Profiler, clock: HandClock) -> None:
    for span_ms in (60, 70, 49, 80):
        pass_through(profiler, clock, {Stage.COMMIT: span_ms}, name=f"aut_{span_ms}")
        clock.ns += SECOND
    (alert,) = profiler.alerts()
    assert (alert.severity, alert.request_id, alert.stage) == ("warning", "aut_60", "commit")
    assert (alert.total_ms, alert.threshold_ms) == (60.0, 50.0)
    assert profiler.alerts() == []


def test_an_episode_rises_once_and_ends_once(profiler: Profiler, clock: HandClock) -> None:
    for span_ms in (60, 120, 60, 130):
        pass_through(profiler, clock, {Stage.WRITE: span_ms}, name=f"aut_{span_ms}")
    assert [alert.severity for alert in profiler.alerts()] == ["warning", "critical"]
    clock.ns += QUIET_NS
    (resolved,) = profiler.alerts()
    assert (resolved.severity, resolved.slow_count) == ("resolved", 4)
    assert (resolved.total_ms, resolved.request_id) == (130.0, "aut_130")
    pass_through(profiler, clock, {Stage.WRITE: 60})
    assert [alert.severity for alert in profiler.alerts()] == ["warning"]
    assert profiler.profile().alerts == {"warning": 2, "critical": 1, "resolved": 1}


def test_an_episode_lasts_while_requests_come_near_the_threshold(
    profiler: Profiler, clock: HandClock
) -> None:
    pass_through(profiler, clock, {Stage.WRITE: 60})
    for _ in range(6):
        clock.ns += QUIET_NS // 2
        pass_through(profiler, clock, {Stage.WRITE: 45})
    assert [alert.severity for alert in profiler.alerts()] == ["warning"]
    for _ in range(3):
        clock.ns += QUIET_NS // 2
        pass_through(profiler, clock, {Stage.WRITE: 39})
    assert [alert.severity for alert in profiler.alerts()] == ["resolved"]


def test_an_episode_that_ended_unobserved_is_resolved_before_the_next_begins(
    profiler: Profiler, clock: HandClock
) -> None:
    pass_through(profiler, clock, {Stage.WRITE: 60})
    clock.ns += 2 * QUIET_NS
    pass_through(profiler, clock, {Stage.WRITE: 60})
    severities = [alert.severity for alert in profiler.alerts()]
    assert severities == ["warning", "resolved", "warning"]


def test_lookups_are_counted_by_level_and_type(profiler: Profiler) -> None:
    for hit in (True, True, True, False):
        profiler.count_lookup("l1", "card", hit=hit, span_ns=2_000)
    profiler.count_lookup("l2", "user", hit=False)
    start = profiler.profile().windows["start"]
    assert start.histogram("lookup_l1").count == 4
    cache = profiler.statistics()["windows"]["minute"]["cache"]
    assert cache == {
        "l1": {"card": {"hits": 3, "misses": 1, "hit_rate": 75.0}},
        "l2": {"user": {"hits": 0, "misses": 1, "hit_rate": 0.0}},
    }


def test_labels_are_bounded(profiler: Profiler, clock: HandClock) -> None:
    for number in range(LABELS_MAX * 3):
        pass_through(profiler, clock, {}, decision=f"d{number}", reason="r")
    outcomes = dict(profiler.profile().windows["start"].outcomes)
    assert len(outcomes) == LABELS_MAX + 1
    assert outcomes["other", "other"] == LABELS_MAX * 2


def test_profiles_of_several_processes_merge_like_one(clock: HandClock) -> None:
    one, two, both = Profiler(clock), Profiler(clock), Profiler(clock)
    for number in range(50):
        spans: dict[Stage, float] = {Stage.WRITE: number + 1, Stage.COMMIT: 1}
        for profiler in (one if number % 3 else two, both):
            pass_through(profiler, clock, spans, reason=None, name=str(number))
            profiler.count_lookup("l1", "card", hit=bool(number % 2))
    profiles = [Profile.decode(profiler.profile().encode()) for profiler in (one, two)]
    merged, expected = merge(profiles).statistics(), both.statistics()
    assert merged["processes"] == 2
    for name in ("minute", "hour", "start"):
        assert merged["windows"][name] == expected["windows"][name]

    def names(statistics: dict[str, list[dict[str, str]]], kind: str) -> list[str]:
        return [slow["request_id"] for slow in statistics[kind]]

    assert names(merged, "over_threshold") == names(expected, "over_threshold")
    assert names(merged, "slowest") == names(expected, "slowest")


def test_merging_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to merge"):
        merge([])


def test_pauses_say_what_was_lost_in_an_interval(clock: HandClock) -> None:
    pauses = Pauses(clock.monotonic_ns)
    pauses._collecting("start", {})
    began_ns = clock.ns
    clock.ns += 10 * MS
    pauses._collecting("stop", {})
    assert pauses.during(began_ns + 4 * MS, began_ns + 100 * MS).gc_pause_ns == 6 * MS
    assert pauses.during(began_ns + 10 * MS, began_ns + 100 * MS).gc_pause_ns == 0
    assert pauses.gc_pause.count == 1


def test_short_collections_push_out_no_long_one(clock: HandClock) -> None:
    pauses = Pauses(clock.monotonic_ns)
    for span_ns in (20 * MS, *[WORTH_KEEPING_NS // 2] * KEPT_MAX * 2):
        pauses._collecting("start", {})
        clock.ns += span_ns
        pauses._collecting("stop", {})
    assert pauses.during(0, clock.ns).gc_pause_ns == 20 * MS


async def test_a_blocked_loop_is_seen_even_before_it_runs_again() -> None:
    pauses = Pauses()
    pauses.start()
    try:
        began_ns = time.perf_counter_ns()
        # The very fault that is watched for: a call that blocks the loop.
        time.sleep(SAMPLE_INTERVAL_S + 0.03)  # noqa: ASYNC251
        ended_ns = time.perf_counter_ns()
        assert pauses.during(began_ns, ended_ns).loop_lag_ns >= 25 * MS
        while not pauses.loop_lag.count:
            await asyncio.sleep(0)
        assert pauses.during(began_ns, ended_ns).loop_lag_ns >= 25 * MS
        assert pauses.loop_lag.max_ns >= 25 * MS
    finally:
        pauses.stop()


async def test_a_collection_is_timed_while_watching_and_not_after() -> None:
    profiler = Profiler()
    profiler.watch()
    profiler.watch()
    hooks = len(gc.callbacks)
    gc.collect()
    counted = Profile.decode(profiler.profile().encode()).gc_pause.counts
    assert sum(counted) >= 1
    profiler.close()
    profiler.close()
    assert len(gc.callbacks) == hooks - 1


async def test_loop_lag_and_collections_stand_beside_a_slow_request() -> None:
    profiler = Profiler(warning_ns=1 * MS, critical_ns=1_000 * SECOND)
    profiler.watch()
    try:
        trace = profiler.start("aut_1")
        time.sleep(SAMPLE_INTERVAL_S + 0.02)  # noqa: ASYNC251
        trace.mark(Stage.DECODE)
        profiler.finish(trace, "approved")
    finally:
        profiler.close()
    (slow,) = profiler.profile().over_threshold
    assert slow.loop_lag_ms >= 15
    assert slow.guilty == "decode"
