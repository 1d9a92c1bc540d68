"""`alerts.py`: what an operator should hear of, as a log line, a count and an `alert.*` event.

Owns the episodes: each is told when it begins, once more when it gets worse, and when it is over.
Looks now and then, beside the decisions and never on their way; what cannot be announced because
PostgreSQL is away waits in a bounded list.

    nothing -- wrong for `raise_after_s` --> warning, critical
       ^                                        |
       '------- right for `clear_after_s` ------'
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.clock import Clock
from jitway.domain.instant import instant_text
from jitway.errors import JitwayError
from jitway.gateway.documents import text_of
from jitway.ledger.journal import outbox_slot
from jitway.profiler.alarm import Alert
from jitway.profiler.profiler import Profiler
from jitway.sql import statements

_SQL = statements("alerts")
_log = structlog.get_logger("jitway.alerts")

INTERVAL_S = 1.0
RAISE_AFTER_S = 3.0
CLEAR_AFTER_S = 10.0
WAITING_MAX = 256
LATEST_MAX = 50
EPISODES_MAX = 256
CLEARED = "cleared"
_PUBLISH_S = 2.0
_LOOK_S = 2.0
_STOP_S = 3.0


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong at this moment.

    Args:
        alert: which alert it is: `service`, `outbox`; a word of a bounded vocabulary.
        subject: of what: `redis`.
        severity: `warning` or `critical`.
        detail: one sentence.
    """

    alert: str
    subject: str
    severity: str
    detail: str


Source = Callable[[], Awaitable[Sequence[Condition] | None]]
"""All that is wrong now in one matter; None when that cannot be said."""


@dataclass(slots=True)
class _Episode:
    """One condition from its first sight to its end; `severity` is what was told of it."""

    condition: Condition
    since_ns: int
    seen_ns: int
    severity: str = ""


@dataclass(slots=True)
class _Matter:
    """A source with its episodes by subject."""

    source: Source
    episodes: dict[tuple[str, str], _Episode] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Told:
    """An alert on its way to the outbox."""

    id: str
    type: str
    at: datetime
    body: str


class Alerts:
    """Looks at everything that can be wrong, again and again until it is stopped.

    Args:
        postgres: the ledger, for its outbox.
        clock: instants and ids.
        profiler: of whose slow requests it tells.
        process: how this process is called in what it says.
        interval_s: seconds between two looks.
    """

    def __init__(
        self,
        postgres: PostgreSQLAdapter,
        clock: Clock,
        profiler: Profiler,
        *,
        process: str,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._postgres = postgres
        self._clock = clock
        self._profiler = profiler
        self._process = process
        self._interval_s = interval_s
        self._matters: list[_Matter] = []
        self._waiting: deque[_Told] = deque()
        self._task: asyncio.Task[None] | None = None
        self.told: Counter[tuple[str, str]] = Counter()
        """How often each alert was told, by alert and severity."""
        self.dropped = 0
        """Alerts that were logged and counted, but never became events: too many waited."""
        self.latest: deque[Mapping[str, Any]] = deque(maxlen=LATEST_MAX)
        """What was told last, the newest at the end, as the events say it."""

    def watch(self, source: Source) -> None:
        """Looks at one more matter from now on."""
        self._matters.append(_Matter(source))

    @property
    def waiting(self) -> int:
        """Alerts that are no events yet."""
        return len(self._waiting)

    @property
    def active(self) -> Mapping[tuple[str, str], str]:
        """The severity of each episode that was told and is not over, by alert and subject."""
        found = {
            key: episode.severity
            for matter in self._matters
            for key, episode in matter.episodes.items()
            if episode.severity
        }
        if severity := self._profiler.counted().severity:
            found["latency", "authorizations"] = severity
        return found

    def start(self) -> None:
        """Begins to look; a second call changes nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="alerts")

    async def stop(self) -> None:
        """Tells what it knows, within a moment; may be called twice, or before `start`."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait({task})
        self._take_slowness()
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                await self._publish()

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:
                # A bug in one look must not silence every later alert.
                _log.exception("alerts_failed")
            await asyncio.sleep(self._interval_s)

    async def look(self) -> None:
        """Looks once at every matter, and announces what is new."""
        self._take_slowness()
        for matter in self._matters:
            await self._look_at(matter)
        await self._publish()

    async def _look_at(self, matter: _Matter) -> None:
        try:
            async with asyncio.timeout(_LOOK_S):
                wrong = await matter.source()
        except (JitwayError, TimeoutError):
            wrong = None
        if wrong is None:
            # Not to know is no news: neither that it began, nor that it is over.
            return
        now_ns = self._clock.monotonic_ns()
        for condition in wrong:
            self._see(matter.episodes, condition, now_ns)
        for key, episode in list(matter.episodes.items()):
            if episode.seen_ns != now_ns:
                self._miss(matter.episodes, key, episode, now_ns)

    def _see(
        self, episodes: dict[tuple[str, str], _Episode], condition: Condition, now_ns: int
    ) -> None:
        key = condition.alert, condition.subject
        episode = episodes.get(key)
        if episode is None:
            if len(episodes) >= EPISODES_MAX:
                return
            episode = episodes[key] = _Episode(condition, now_ns, now_ns)
        episode.condition, episode.seen_ns = condition, now_ns
        is_worse = episode.severity == "warning" and condition.severity == "critical"
        if is_worse or (not episode.severity and now_ns - episode.since_ns >= RAISE_AFTER_S * 1e9):
            episode.severity = condition.severity
            self._tell(condition.alert, condition.severity, condition.subject, condition.detail)

    def _miss(
        self,
        episodes: dict[tuple[str, str], _Episode],
        key: tuple[str, str],
        episode: _Episode,
        now_ns: int,
    ) -> None:
        if not episode.severity:
            del episodes[key]
        elif now_ns - episode.seen_ns >= CLEAR_AFTER_S * 1e9:
            del episodes[key]
            self._tell(*key[:1], CLEARED, key[1], f"no longer: {episode.condition.detail}")

    def _take_slowness(self) -> None:
        for alert in self._profiler.alerts():
            severity = CLEARED if alert.severity == "resolved" else alert.severity
            facts = {
                "threshold_ms": alert.threshold_ms,
                "total_ms": round(alert.total_ms, 3),
                "request_id": alert.request_id,
                "stage": alert.stage,
                "slow_requests": alert.slow_count,
            }
            self._tell("latency", severity, "authorizations", _slowness(alert), facts)

    def _tell(
        self,
        alert: str,
        severity: str,
        subject: str,
        detail: str,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """A log line and a count now, an event as soon as the ledger takes it."""
        self.told[alert, severity] += 1
        write = {"critical": _log.error, CLEARED: _log.info}.get(severity, _log.warning)
        what = "alert_cleared" if severity == CLEARED else "alert_raised"
        write(what, alert=alert, severity=severity, subject=subject, detail=detail)
        at, id_ = self._clock.now(), self._clock.new_id("alr")
        document = {
            "id": id_,
            "alert": alert,
            "severity": severity,
            "subject": subject,
            "detail": detail,
            "process": self._process,
            "raised_at": instant_text(at),
            "facts": dict(facts or {}),
        }
        self.latest.append(document)
        if len(self._waiting) >= WAITING_MAX:
            self._waiting.popleft()
            self.dropped += 1
        type_ = f"alert.{alert}.{severity}"
        self._waiting.append(_Told(id_[4:], type_, at, text_of(document)))

    async def _publish(self) -> None:
        """Leaves events for what waits; what fails waits on."""
        while self._waiting:
            told = self._waiting[0]
            values = [outbox_slot(told.at), told.id, told.type, told.at, told.body]
            try:
                async with asyncio.timeout(_PUBLISH_S):
                    await self._postgres.execute_query(
                        _SQL["announce_alert"], values, repeatable=True
                    )
            except (JitwayError, TimeoutError):
                return
            if self._waiting and self._waiting[0] is told:
                self._waiting.popleft()


def _slowness(alert: Alert) -> str:
    if alert.severity == "resolved":
        return (
            f"no slow answers any more: {alert.slow_count} took over {alert.threshold_ms:g} ms, "
            f"the slowest {alert.total_ms:.0f} ms, most over its budget in {alert.stage}"
        )
    return (
        f"an answer took {alert.total_ms:.0f} ms, over {alert.threshold_ms:g} ms; "
        f"most over its budget: {alert.stage}"
    )
