"""`figures.py`: everything the page shows of the whole gateway, put together once a second.

Reads what is in memory, and what `gathering.py` was told last; waits for nothing.
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

SLOWEST = 10
TOLD = 20


class Figures:
    """The figures of this process, and of the ledger it serves from.

    Args:
        services: what runs.
        watch: how each store was a moment ago.
    """

    def __init__(self, services: Services, watch: HealthWatch) -> None:
        self._services = services
        self._watch = watch
        self._pulse = Pulse(services.profiler.counted)
        self._stages = StageWindow(services.profiler.counted)
        self._gathering = Gathering(services)
        self._started_at = _now_ms()
        self._point: Point | None = None

    def beat(self) -> None:
        """Takes the second that ends now; also while nobody looks."""
        self._point = self._pulse.beat(at_ms=_now_ms(), now_s=time.monotonic())

    def snapshot(self) -> bytes:
        """What is sent to every open page, as one server-sent event."""
        return _event("figures", self._now() | self._gathering.known())

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
        self._gathering.rest()

    async def stop(self) -> None:
        """Ends what runs in the background; may be called twice."""
        await self._gathering.stop()

    def _now(self) -> dict[str, Any]:
        services = self._services
        return {
            "workers": 1 if services.crew is None else services.crew.roll.serving,
            "point": self._point,
            "minute": self._pulse.minute(),
            "stages": self._stages.rows(),
            "slowest": services.profiler.slowest()[:SLOWEST],
            "batch": {
                "average": round(services.authorizer.batch_size_average, 2),
                "waiting": services.authorizer.depth,
                "max": services.settings.batch_size_max,
            },
            "pool_max": services.settings.pool_max,
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
