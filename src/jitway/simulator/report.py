"""What came of a run: every request in exactly one column, and how long they took.

Owns the columns and their sum. Authorizations, captures and reversals are counted apart.
"""

import time
from collections import Counter
from typing import Any

from jitway.profiler.histogram import Histogram
from jitway.simulator.connections import Exchange

SLIP_WORTH_SAYING_NS = 1_000_000_000
CAUSES_MAX = 64


class Report:
    """Counts and latencies of a run, growing while it runs.

    Every authorization sent ends in one of `approved`, `declined`, `replays`, `conflicts`,
    `no_decision` and `errors`. A replay is the repetition of an answered request that got the same
    answer, a conflict one with other content that was refused with 409.

    Args:
        planned: how many authorizations are to be sent.
    """

    def __init__(self, planned: int) -> None:
        self.planned = planned
        self.sent = 0
        self.approved = 0
        self.declined: Counter[str] = Counter()
        self.replays = 0
        self.conflicts = 0
        self.no_decision = 0
        self.errors: Counter[str] = Counter()
        self.captures = 0
        self.reversals = 0
        self.follow_up_errors: Counter[str] = Counter()
        self.latency = Histogram()
        self.service = Histogram()
        self.follow_up_latency = Histogram()
        self.lateness = Histogram()
        self.not_possible: tuple[str, ...] = ()
        self.seconds = 0.0
        self._cpu_before_s = time.process_time()
        self._began_ns = time.perf_counter_ns()
        self.cpu_share = 0.0

    @property
    def decisions(self) -> int:
        """How many decisions the gateway must have stored for these requests."""
        return self.approved + self.declined.total()

    @property
    def ended(self) -> int:
        """How many authorizations stand in one of the columns."""
        repeated = self.replays + self.conflicts
        return self.decisions + repeated + self.no_decision + self.errors.total()

    @property
    def has_slipped(self) -> bool:
        """Whether something was sent more than a second late: latencies then tell of that too."""
        return self.lateness.max_ns > SLIP_WORTH_SAYING_NS

    def observe(self, exchange: Exchange, *, is_warm: bool) -> None:
        """Time an authorization from the instant it was meant to be sent."""
        if is_warm:
            self.latency.record(exchange.ended_ns - exchange.intended_ns)
            self.service.record(exchange.ended_ns - exchange.sent_ns)
            self.lateness.record(exchange.sent_ns - exchange.intended_ns)

    def fail(self, cause: str) -> None:
        """Count an authorization that ended in a way it should not."""
        self.errors[_bounded(self.errors, cause)] += 1

    def fail_follow_up(self, cause: str) -> None:
        """Count a capture or reversal that did not succeed."""
        self.follow_up_errors[_bounded(self.follow_up_errors, cause)] += 1

    def finish(self) -> None:
        """Stop the clocks."""
        self.seconds = (time.perf_counter_ns() - self._began_ns) / 1e9
        self.cpu_share = (time.process_time() - self._cpu_before_s) / max(self.seconds, 1e-9)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON has it: milliseconds, counts, CPU as a share of one core."""
        return {
            "planned": self.planned,
            "sent": self.sent,
            "approved": self.approved,
            "declined": dict(sorted(self.declined.items())),
            "replays": self.replays,
            "conflicts": self.conflicts,
            "no_decision": self.no_decision,
            "errors": self.errors.total(),
            "errors_by_cause": dict(sorted(self.errors.items())),
            "captures": self.captures,
            "reversals": self.reversals,
            "follow_up_errors": self.follow_up_errors.total(),
            "follow_up_errors_by_cause": dict(sorted(self.follow_up_errors.items())),
            "latency_ms": _milliseconds(self.latency),
            "service_ms": _milliseconds(self.service),
            "lateness_ms": _milliseconds(self.lateness),
            "follow_up_latency_ms": _milliseconds(self.follow_up_latency),
            "schedule_slipped": self.has_slipped,
            "roles_not_possible": list(self.not_possible),
            "seconds": round(self.seconds, 3),
            "rate": round(self.sent / self.seconds, 1) if self.seconds else 0.0,
            "cpu_share": round(self.cpu_share, 3),
        }


def _milliseconds(histogram: Histogram) -> dict[str, float]:
    values = histogram.percentiles((50, 95, 99, 100))
    names = ("p50", "p95", "p99", "max")
    return {name: round(value / 1e6, 3) for name, value in zip(names, values, strict=True)}


def _bounded(causes: Counter[str], cause: str) -> str:
    return cause if cause in causes or len(causes) < CAUSES_MAX else "other"
