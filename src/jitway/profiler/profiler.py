"""The recorder every authorization passes through: stages, totals, decisions, cache lookups.

Owns the histograms, the windows, the flight recorder and the alarm, and hands out copies. Decides
nothing, starts no task but the loop watch, and holds a fixed amount of memory (about 6 MB).
Recording one authorization with eleven stages takes about 9 us (`python -m bench.overhead`).
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from jitway.clock import Clock, SystemClock
from jitway.profiler.alarm import CRITICAL_NS, QUIET, SEVERITIES, WARNING_NS, Alarm, Alert
from jitway.profiler.histogram import Histogram
from jitway.profiler.pauses import Pauses
from jitway.profiler.profile import TOTAL, Profile, approval_rate, row, window_profile
from jitway.profiler.recorder import FlightRecorder, SlowRequest, describe
from jitway.profiler.trace import STAGES, Stage, Trace
from jitway.profiler.windows import Label, Labels, Totals, Windows

CACHE_LEVELS = ("l1", "l2", "l3")


class Counted(NamedTuple):
    """What a profiler counts, not copied: for whoever reads it at once and changes nothing.

    The histograms' `min_ns` and `max_ns` are of the present slot only; counts and sums are since
    the start.
    """

    histograms: Mapping[str, Histogram]
    decisions: Mapping[Label, int]
    outcomes: Mapping[Label, int]
    lookups: Mapping[Label, int]
    loop_lag: Histogram
    gc_pause: Histogram
    budgets_ms: Mapping[str, float]
    alerts: Mapping[str, int]
    severity: str | None


class Profiler:
    """Records the one real path of one process.

    Args:
        clock: its monotonic clock times everything; tests bring their own.
        budgets_ms: other budgets than the stages' own, in milliseconds.
        warning_ns: a request longer than this is kept whole and raises a warning.
        critical_ns: the same for critical.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        budgets_ms: Mapping[Stage, float] | None = None,
        warning_ns: int = WARNING_NS,
        critical_ns: int = CRITICAL_NS,
    ) -> None:
        self._clock = clock or SystemClock()
        self._now = self._clock.monotonic_ns
        self._budgets_ms = {stage: stage.budget_ms for stage in STAGES} | dict(budgets_ms or {})
        names = [*(stage.label for stage in STAGES), TOTAL, *map("lookup_{}".format, CACHE_LEVELS)]
        histograms = {name: Histogram() for name in names}
        self._stages = [histograms[stage.label] for stage in STAGES]
        self._total = histograms[TOTAL]
        self._lookup_times = {level: histograms[f"lookup_{level}"] for level in CACHE_LEVELS}
        self._totals = Totals(histograms)
        self._decisions = Labels()
        self._windows = Windows(self._totals, now_ns=self._now())
        budgets_ns = {stage: int(ms * 1e6) for stage, ms in self._budgets_ms.items()}
        self._recorder = FlightRecorder(budgets_ns)
        self._alarm = Alarm(warning_ns=warning_ns, critical_ns=critical_ns)
        self._pauses = Pauses(self._now)

    def watch(self) -> None:
        """Begin to watch the running event loop and the garbage collector."""
        self._pauses.start()

    def close(self) -> None:
        """Stop watching; may come twice, or before `watch`."""
        self._pauses.stop()

    def start(self, request_id: str = "") -> Trace:
        """A trace that begins now.

        Args:
            request_id: what to call the request, should it turn out to be slow.
        """
        return Trace(self._now, request_id)

    def finish(self, trace: Trace, decision: str, *, reason: str | None = None) -> int:
        """Record a request that has been answered; a trace is finished once.

        Args:
            trace: its stages; what none was charged with becomes `other`.
            decision: `approved`, `declined`, `no_decision`, `replayed`, `conflict` ...; a bounded
                vocabulary, as is `reason`.
            reason: why it was declined.

        Returns:
            The total in nanoseconds.
        """
        now = self._now()
        if now >= self._windows.next_turn_ns:
            self._turn(now)
        total_ns = now - trace.started_ns
        trace.spans_ns[Stage.OTHER] += now - trace.last_ns
        trace.last_ns = now
        for histogram, span_ns in zip(self._stages, trace.spans_ns, strict=True):
            # A stage that was not passed has no sample: its percentiles are of those that did.
            if span_ns:
                histogram.record(span_ns)
        self._total.record(total_ns)
        self._totals.outcomes.count((decision, reason or ""))
        if total_ns > self._recorder.floor_ns or total_ns > self._alarm.clear_ns:
            self._take_note(trace, now, total_ns=total_ns, decision=decision, reason=reason)
        return total_ns

    def count_decision(self, label: Label) -> None:
        """Count a decision whose commit stands, whether or not its caller was answered.

        Args:
            label: `approved` or `declined`, and the reason or nothing.
        """
        self._decisions.count(label)

    def count_lookup(self, level: str, kind: str, *, hit: bool, span_ns: int | None = None) -> None:
        """Count a cache lookup.

        Args:
            level: `l1`, `l2` or `l3`.
            kind: the data type: `card`, `user`, `limits` ...
            hit: whether the level knew the answer.
            span_ns: how long the lookup took, where it was measured.
        """
        self._totals.lookups.count((level, kind, "hit" if hit else "miss"))
        if span_ns is not None:
            self._lookup_times[level].record(span_ns)

    def alerts(self) -> list[Alert]:
        """The alerts since the last call; each is returned once."""
        self._alarm.settle(now_ns=self._now(), at=self._clock.now())
        return self._alarm.drain()

    def profile(self) -> Profile:
        """A copy of everything: to be merged with other processes', or told."""
        spans = self._windows.spans(now_ns=self._now())
        return Profile(
            processes=1,
            budgets_ms={stage.label: ms for stage, ms in self._budgets_ms.items()},
            windows={name: window_profile(span) for name, span in spans.items()},
            over_threshold=self._recorder.over_threshold(),
            slowest=self._recorder.slowest(),
            loop_lag=self._pauses.loop_lag.pack(),
            gc_pause=self._pauses.gc_pause.pack(),
            alerts=dict(self._alarm.raised),
            decisions=list(self._decisions.counts.items()),
        )

    def counted(self) -> Counted:
        """Everything since the start, without a copy: a scrape must not cost what a profile does.

        Reading it settles the alarm, so that an episode also ends when no request comes any more.
        """
        self._alarm.settle(now_ns=self._now(), at=self._clock.now())
        return Counted(
            self._totals.histograms,
            self._decisions.counts,
            self._totals.outcomes.counts,
            self._totals.lookups.counts,
            self._pauses.loop_lag,
            self._pauses.gc_pause,
            {stage.label: ms for stage, ms in self._budgets_ms.items()},
            self._alarm.raised,
            self._alarm.severity,
        )

    def slowest(self) -> list[SlowRequest]:
        """The slowest requests of the last hour or two, slowest first, without the rest."""
        return self._recorder.slowest()

    def statistics(self) -> dict[str, Any]:
        """The profile as tables of plain numbers: milliseconds and per cent."""
        return self.profile().statistics()

    async def told(self) -> dict[str, Any]:
        """The same, with a breath for the loop between reading and telling."""
        profile = self.profile()
        await asyncio.sleep(0)
        return profile.statistics()

    def get_metrics_stats(self) -> dict[str, float]:
        """Since the start: count; average, min, max, p50, p95, p99 in ms; approval rate in %."""
        start = self._windows.since_start(now_ns=self._now())
        return row(start.histograms[TOTAL]) | {"approval_rate": approval_rate(start.outcomes)}

    def _turn(self, now: int) -> None:
        self._windows.turn(now_ns=now)
        self._recorder.age(now_ns=now)
        self._alarm.settle(now_ns=now, at=self._clock.now())

    def _take_note(
        self, trace: Trace, now: int, *, total_ns: int, decision: str, reason: str | None
    ) -> None:
        at: datetime = self._clock.now()
        guilty = self._recorder.guilty(trace)
        level = self._alarm.level_of(total_ns)
        if total_ns > self._alarm.clear_ns:
            self._alarm.observe(
                total_ns,
                request_id=trace.request_id,
                stage=guilty[0].label,
                now_ns=now,
                at=at,
            )
        if level > QUIET or total_ns > self._recorder.floor_ns:
            slow = describe(
                trace,
                guilty,
                self._pauses.during(trace.started_ns, now),
                total_ns=total_ns,
                finished_at=at,
                decision=decision,
                reason=reason,
                severity=SEVERITIES[level],
            )
            self._recorder.keep(slow, now_ns=now)
