"""`alerting.py`: what an operator is told of, and how each of it is seen."""

import os
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.clock import Clock
from jitway.events.local_broker import LocalBroker
from jitway.events.work import EventWork
from jitway.gateway.alerts import Alerts, Condition, Source
from jitway.health import DEGRADED, UNHEALTHY, HealthWatch
from jitway.profiler.profiler import Profiler
from jitway.sql import statements

_SQL = statements("alerts")

OUTBOX_LAG_S = 60.0
# Between the two nothing is said: a lag that hovers about its limit is one episode.
OUTBOX_CLEAR_S = 30.0
DEAD_LETTERS_EVERY_S = 15.0


@asynccontextmanager
async def alerting(
    postgres: PostgreSQLAdapter, clock: Clock, profiler: Profiler, work: EventWork
) -> AsyncIterator[Alerts]:
    """Looks, while it is open, at slow answers and, where this process moves events, at those.

    Args:
        postgres: the ledger.
        clock: instants and ids.
        profiler: of the decisions.
        work: what this process does with events.
    """
    alerts = Alerts(postgres, clock, profiler, process=f"{socket.gethostname()}:{os.getpid()}")
    if work.relays:
        alerts.watch(_OutboxLag(work).look)
    if work.consumers:
        alerts.watch(_DeadLetters(work, postgres).look)
    alerts.start()
    try:
        yield alerts
    finally:
        await alerts.stop()


def services_watched(watch: HealthWatch) -> Source:
    """What is wrong with the stores."""

    async def look() -> Sequence[Condition]:
        return [
            Condition("service", name, _severity(name, report.status), report.reason or "")
            for name, report in watch.services.items()
            if report.status in (DEGRADED, UNHEALTHY)
        ]

    return look


def _severity(service: str, status: str) -> str:
    """Only without PostgreSQL no money can be decided."""
    return "critical" if service == "postgres" and status == UNHEALTHY else "warning"


class _OutboxLag:
    """Events that wait longer than they should; the relay has counted them."""

    def __init__(self, work: EventWork) -> None:
        self._relay = work.relays[0]

    async def look(self) -> Sequence[Condition] | None:
        lag_s, depth = self._relay.lag_s, self._relay.depth
        if lag_s > OUTBOX_LAG_S:
            detail = f"{depth:,} events wait, the oldest for {lag_s:.0f} s"
            return [Condition("outbox", "events", "warning", detail)]
        return None if lag_s > OUTBOX_CLEAR_S else []


class _DeadLetters:
    """Messages that were buried and wait for a person; looked at now and then."""

    def __init__(self, work: EventWork, postgres: PostgreSQLAdapter) -> None:
        self._broker = work.broker
        self._queues = [consumer.subscription.queue.name for consumer in work.consumers]
        self._postgres = postgres
        self._seen: Sequence[Condition] = ()
        self._look_at_s = 0.0

    async def look(self) -> Sequence[Condition]:
        if time.monotonic() >= self._look_at_s:
            self._look_at_s = time.monotonic() + DEAD_LETTERS_EVERY_S
            dead = await self._count()
            detail = f"{dead} dead letters wait: `jitway dead-letters list`"
            found = Condition("dead_letters", "queues", "warning", detail)
            self._seen = (found,) if dead else ()
        return self._seen

    async def _count(self) -> int:
        if isinstance(self._broker, LocalBroker):
            rows = await self._postgres.execute_query(_SQL["count_dead_letters"], repeatable=True)
            dead: int = rows[0]["dead"]
            return dead
        return sum([await self._broker.depth(f"{queue}.dead") for queue in self._queues])
