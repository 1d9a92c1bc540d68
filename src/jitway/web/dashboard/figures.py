"""`figures.py`: everything the page shows of the whole gateway, put together once a second.

Reads what is in memory, and what `gathering.py` was told last; waits for nothing. Of several
workers it shows the sum, which is asked for while somebody looks.
"""

import time
from typing import Any

import msgspec

from jitway import __version__
from jitway.compose import Services
from jitway.health import HealthWatch
from jitway.profiler.alarm import CRITICAL_NS, WARNING_NS
from jitway.web.dashboard.gathering import Gathering
from jitway.web.dashboard.pulse import Point, Pulse, StageWindow
from jitway.web.dashboard.whole import Whole

SLOWEST = 10
TOLD = 20
# Workers tell once a second, each at a moment of its own: their sums come in steps.
SMOOTHED = 3


class Figures:
    """The figures of this gateway, and of the ledger it serves from.

    Args:
        services: what runs.
        watch: how each store was a moment ago.
    """

    def __init__(self, services: Services, watch: HealthWatch) -> None:
        self._services = services
        self._watch = watch
        own, crew = services.profiler.counted, services.crew
        self._whole = None if crew is None else Whole(crew, own())
        self._counted = own if self._whole is None else self._whole.counted
        self._pulse = self._new_pulse()
        self._stages = StageWindow(self._counted)
        self._gathering = Gathering(services, self._whole)
        self._started_at = _now_ms()
        self._point: Point | None = None

    def beat(self) -> None:
        """Takes the second that ends now; of one worker also while nobody looks."""
        if self._whole is not None:
            if not self._whole.is_new:
                return
            self._whole.is_new = False
            if self._point is None:
                # What was counted before is no part of the last minute.
                self._stages.forget()
        self._point = self._pulse.beat(at_ms=_now_ms(), now_s=time.monotonic())

    def snapshot(self) -> bytes:
        """What is sent to every open page, as one server-sent event."""
        known = self._gathering.known()
        whole, slowest = known.pop("whole", None), known.pop("slowest", None)
        figures = self._now() | known
        if whole is not None:
            figures["batch"] |= whole["batch"]
            figures["pool"] = whole["pool"]
        if slowest:
            figures["slowest"] = slowest[:SLOWEST]
        return _event("figures", figures)

    def history(self) -> bytes:
        """What a page is told once, before the first snapshot: the last minutes."""
        settings = self._services.settings
        return _event(
            "history",
            {
                "version": __version__,
                "started_at": self._started_at,
                "warning_ms": WARNING_NS / 1e6,
                "critical_ms": CRITICAL_NS / 1e6,
                "budget_ms": settings.decision_budget_ms,
                "points": list(self._pulse.points),
            },
        )

    def rest(self) -> None:
        """Nobody looks any more."""
        self._stages.forget()
        if self._whole is not None:
            # What was counted while nobody looked belongs to no second.
            self._pulse, self._point = self._new_pulse(), None
        self._gathering.rest()

    async def stop(self) -> None:
        """Ends what runs in the background; may be called twice."""
        await self._gathering.stop()

    def _new_pulse(self) -> Pulse:
        return Pulse(self._counted, over=1 if self._whole is None else SMOOTHED)

    def _now(self) -> dict[str, Any]:
        services = self._services
        workers = 1 if services.crew is None else services.crew.roll.serving
        return {
            "workers": workers,
            "point": self._point,
            "minute": self._pulse.minute(),
            "stages": self._stages.rows(),
            "slowest": services.profiler.slowest()[:SLOWEST],
            "batch": {
                "average": round(services.authorizer.batch_size_average, 2),
                "waiting": services.authorizer.depth,
                "max": services.settings.batch_size_max,
            },
            "pool_max": services.settings.pool_max * workers,
            "status": self._watch.status,
            "services": self._watch.services,
            "alerts": [
                {"alert": alert, "subject": subject, "severity": severity}
                for (alert, subject), severity in services.alerts.active.items()
            ],
            "told": list(reversed(services.alerts.latest))[:TOLD],
        }


def _event(name: str, data: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
