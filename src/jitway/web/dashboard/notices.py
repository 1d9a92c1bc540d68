"""`notices.py`: what changed lately that somebody should know: a bounded list, newest first.

Each notice is about a change, not about a state: one when it begins and one when it ends.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec

from jitway.health import DEGRADED, UNHEALTHY, Report

KEPT_MAX = 50
# From here on somebody waits for what was decided; it is over only well below.
LAG_BEGINS_S, LAG_ENDS_S = 10.0, 2.0


class Notice(msgspec.Struct, frozen=True):
    """One change: when (ms since 1970), how bad (`ok`, `warning`, `critical`), and what."""

    at: int
    severity: str
    text: str


class Notices:
    """Looks at each second, and notes what changed."""

    def __init__(self) -> None:
        self._kept: deque[Notice] = deque(maxlen=KEPT_MAX)
        self._slowness: str | None = None
        self._services: dict[str, str] = {}
        self._is_lagging = False
        self._dead: int | None = None

    def latest(self) -> list[Notice]:
        """The notices, the newest first."""
        return list(reversed(self._kept))

    def note_slowness(self, severity: str | None, *, at: int) -> None:
        """An episode of slow answers: begun, risen or ended."""
        if severity == self._slowness:
            return
        self._slowness = severity
        if severity is None:
            self._add(at, "ok", "Answers are quick again")
        elif severity == "warning":
            self._add(at, "warning", "Slow answers: over 50 ms")
        else:
            self._add(at, "critical", "Very slow answers: over 100 ms")

    def note_services(self, services: Mapping[str, Report], *, at: int) -> None:
        """A store that went away or came back; the first look is no change."""
        for name, report in services.items():
            before = self._services.get(name)
            self._services[name] = report.status
            if before is None or before == report.status:
                continue
            if report.status == UNHEALTHY:
                severity = "critical" if name == "postgres" else "warning"
                self._add(at, severity, f"{name} is away: {report.reason or 'no answer'}")
            elif report.status == DEGRADED:
                self._add(at, "warning", f"{name} is degraded: {report.reason or 'slow'}")
            else:
                self._add(at, "ok", f"{name} is {report.status} again")

    def note_events(self, known: Mapping[str, Any], *, at: int) -> None:
        """Events that wait for too long, and deliveries that were buried."""
        if (outbox := known["outbox"]) is not None:
            if not self._is_lagging and outbox["lag_s"] >= LAG_BEGINS_S:
                self._is_lagging = True
                self._add(at, "warning", f"Events wait: the oldest for {outbox['lag_s']:.0f} s")
            elif self._is_lagging and outbox["lag_s"] <= LAG_ENDS_S:
                self._is_lagging = False
                self._add(at, "ok", "Events are published in time again")
        if (queues := known["queues"]) is not None:
            dead = sum(queue["dead"] for queue in queues)
            if self._dead is not None and dead > self._dead:
                self._add(at, "warning", f"A delivery was buried: {dead} dead letters now")
            self._dead = dead

    def _add(self, at: int, severity: str, text: str) -> None:
        self._kept.append(Notice(at, severity, text))
