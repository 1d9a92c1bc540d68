"""One alert for one episode of slowness.

An episode begins with the first request over the warning threshold, may rise to critical once,
and ends when for a while no request came near the threshold again. Owns that state machine:

    quiet -- over warning --> warning -- over critical --> critical
      ^  `------ over critical --------------------------------^ |
      '-- nothing above 80 % of the warning threshold for 30 s --'
"""

from collections import deque
from datetime import datetime

import msgspec

WARNING_NS = 50_000_000
CRITICAL_NS = 100_000_000
CLEAR_SHARE = 0.8
QUIET_NS = 30 * 1_000_000_000
PENDING_MAX = 256

QUIET, WARNING, CRITICAL = range(3)
SEVERITIES = (None, "warning", "critical")


class Alert(msgspec.Struct, frozen=True):
    """A change of an episode.

    `severity` is `warning`, `critical` or `resolved`; `total_ms`, `request_id` and `stage` are
    those of the request that raised it, for `resolved` of the episode's slowest. `slow_count` is
    how many requests of the episode were over the warning threshold until now.
    """

    severity: str
    raised_at: datetime
    threshold_ms: float
    total_ms: float
    request_id: str
    stage: str
    slow_count: int


class Alarm:
    """Turns slow requests into alerts, edge-triggered and with hysteresis."""

    def __init__(self, *, warning_ns: int = WARNING_NS, critical_ns: int = CRITICAL_NS) -> None:
        assert 0 < warning_ns < critical_ns, "a warning must come before it is critical"
        self.warning_ns = warning_ns
        self.critical_ns = critical_ns
        self.clear_ns = int(warning_ns * CLEAR_SHARE)
        self.raised: dict[str, int] = {"warning": 0, "critical": 0, "resolved": 0}
        self._level = QUIET
        self._last_slow_ns = 0
        self._slow_count = 0
        self._worst: tuple[int, str, str] = (0, "", "")
        self._pending: deque[Alert] = deque(maxlen=PENDING_MAX)

    @property
    def severity(self) -> str | None:
        """The state of the present episode: None, `warning` or `critical`."""
        return SEVERITIES[self._level]

    def level_of(self, total_ns: int) -> int:
        """Which threshold a duration is over: QUIET, WARNING or CRITICAL."""
        return (total_ns > self.warning_ns) + (total_ns > self.critical_ns)

    def observe(
        self, total_ns: int, *, request_id: str, stage: str, now_ns: int, at: datetime
    ) -> None:
        """Take note of a request over the clear threshold."""
        self.settle(now_ns=now_ns, at=at)
        self._last_slow_ns = now_ns
        level = self.level_of(total_ns)
        if level == QUIET:
            return
        self._slow_count += 1
        self._worst = max(self._worst, (total_ns, request_id, stage))
        if level > self._level:
            self._level = level
            self._raise(level, (total_ns, request_id, stage), at)

    def settle(self, *, now_ns: int, at: datetime) -> None:
        """End the episode if it has been quiet for long enough."""
        if self._level == QUIET or now_ns - self._last_slow_ns < QUIET_NS:
            return
        self._raise(QUIET, self._worst, at)
        self._level, self._slow_count, self._worst = QUIET, 0, (0, "", "")

    def drain(self) -> list[Alert]:
        """The alerts since the last call; each is returned once."""
        drained = list(self._pending)
        self._pending.clear()
        return drained

    def _raise(self, level: int, cause: tuple[int, str, str], at: datetime) -> None:
        severity = SEVERITIES[level] or "resolved"
        threshold_ns = self.critical_ns if level == CRITICAL else self.warning_ns
        total_ns, request_id, stage = cause
        self.raised[severity] += 1
        self._pending.append(
            Alert(
                severity=severity,
                raised_at=at,
                threshold_ms=threshold_ns / 1e6,
                total_ms=total_ns / 1e6,
                request_id=request_id,
                stage=stage,
                slow_count=self._slow_count,
            )
        )
