"""`health.py`: whether each store answers, and what that means for whoever asks.

A probe looks at one store within a second and changes nothing. Money is decided by PostgreSQL
alone, so the other stores can only degrade the whole.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import msgspec
import structlog

from jitway.adapters.postgresql import DedicatedConnection, PostgreSQLAdapter
from jitway.errors import BrokerUnavailable, JitwayError, LedgerUnavailable

if TYPE_CHECKING:
    from jitway.adapters.mongodb import MongoDBAdapter
    from jitway.adapters.rabbitmq import MessageQueueManager
    from jitway.adapters.redis import RedisAdapter

HEALTHY, DEGRADED, UNHEALTHY = "healthy", "degraded", "unhealthy"
TIMEOUT_MS = 1_000
# A store that needs this long for a sign of life will soon need longer.
SLOW_MS = 250.0
INTERVAL_S = 1.0
# What was seen this long ago says nothing about now.
STALE_S = 4.0

_WRITABLE = """
    SELECT NOT pg_is_in_recovery() AND current_setting('default_transaction_read_only') = 'off'
        AS writable
"""
_log = structlog.get_logger("jitway.health")


class Report(msgspec.Struct, frozen=True):
    """How one service is.

    Args:
        status: `healthy`, `degraded`, `unhealthy` or `disabled`.
        latency_ms: of a sign of life; None when there was none.
        reason: why it is not healthy.
    """

    status: str
    latency_ms: float | None = None
    reason: str | None = None


DISABLED = Report("disabled", None, "not configured")


class Probe(Protocol):
    """One look at one store."""

    async def look(self) -> None:
        """Returns when the store answers.

        Raises:
            Degraded: it answers, but does not do all of its work.
            JitwayError: it does not answer.
        """


class Degraded(JitwayError):
    """The store answers, but does not do all of its work; the text says what it does not."""


async def look(probe: Probe) -> Report:
    """One look, within a second."""
    started_ns = time.perf_counter_ns()
    try:
        async with asyncio.timeout(TIMEOUT_MS / 1000):
            await probe.look()
    except Degraded as degraded:
        return Report(DEGRADED, _ms_since(started_ns), str(degraded))
    except JitwayError as error:
        return Report(UNHEALTHY, None, str(error))
    except TimeoutError:
        return Report(UNHEALTHY, None, f"no answer within {TIMEOUT_MS} ms")
    latency_ms = _ms_since(started_ns)
    if latency_ms > SLOW_MS:
        return Report(DEGRADED, latency_ms, f"slow: {latency_ms:.0f} ms for a sign of life")
    return Report(HEALTHY, latency_ms)


def _ms_since(started_ns: int) -> float:
    return round((time.perf_counter_ns() - started_ns) / 1e6, 3)


class PostgreSQLProbe:
    """Asks on a connection of its own, so that a busy pool is no illness."""

    def __init__(self, postgres: PostgreSQLAdapter) -> None:
        self._postgres = postgres
        self._connection: DedicatedConnection | None = None

    async def look(self) -> None:
        """Whether it answers and takes writes."""
        try:
            rows = await (await self._connected()).fetch(_WRITABLE)
        except BaseException:
            # Also when our own limit cancelled it: an answer may still be on its way.
            self.close()
            raise
        if not rows[0]["writable"]:
            raise LedgerUnavailable(f"{self._postgres.address} is read-only")

    async def _connected(self) -> DedicatedConnection:
        if self._connection is None or self._connection.closed:
            self._connection = await self._postgres.dedicated(
                lock_timeout_ms=TIMEOUT_MS,
                statement_timeout_ms=TIMEOUT_MS,
                idle_in_transaction_timeout_ms=TIMEOUT_MS,
            )
        return self._connection

    def close(self) -> None:
        """Ends its connection; may be called twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


class MongoDBProbe:
    """A ping."""

    def __init__(self, mongodb: "MongoDBAdapter") -> None:
        self._mongodb = mongodb

    async def look(self) -> None:
        """Whether it answers."""
        await self._mongodb.ping()


class RedisProbe:
    """A ping."""

    def __init__(self, redis: "RedisAdapter") -> None:
        self._redis = redis

    async def look(self) -> None:
        """Whether it answers."""
        await self._redis.ping()


class RabbitMQProbe:
    """A round trip on a channel; an alarm that stops publishing is no death."""

    def __init__(self, message_queue: "MessageQueueManager") -> None:
        self._message_queue = message_queue

    async def look(self) -> None:
        """Whether it answers and takes messages."""
        try:
            await self._message_queue.ping(timeout_s=TIMEOUT_MS / 1000)
        except BrokerUnavailable as error:
            if "alarm" in str(error):
                raise Degraded(str(error)) from error
            raise


class HealthWatch:
    """Looks again and again, so that a route answers at once from what was seen last.

    Args:
        report: looks at every service.
        interval_s: seconds between two looks.
    """

    def __init__(
        self,
        report: Callable[[], Awaitable[Mapping[str, Report]]],
        *,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._report = report
        self._interval_s = interval_s
        self._task: asyncio.Task[None] | None = None
        self._seen: Mapping[str, Report] = {}
        self._seen_at = -STALE_S

    @property
    def services(self) -> dict[str, Report]:
        """Each service as it was a moment ago."""
        if time.monotonic() - self._seen_at < STALE_S:
            return dict(self._seen)
        stale = Report(UNHEALTHY, None, "nobody could look at it lately")
        return dict.fromkeys(self._seen, stale) or {"postgres": stale}

    @property
    def status(self) -> str:
        """Of the whole: unhealthy when money cannot be decided."""
        return overall({name: service.status for name, service in self.services.items()})

    @property
    def is_ready(self) -> bool:
        """Whether money can be decided."""
        return self.status != UNHEALTHY

    def start(self) -> None:
        """Begins to look; a second call changes nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="health-watch")

    async def stop(self) -> None:
        """Ends it; may be called twice, or before `start`."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(self._interval_s)

    async def look(self) -> None:
        """Looks once; what it finds is kept, and a change is logged."""
        before = self._seen
        self._seen = await self._report()
        self._seen_at = time.monotonic()
        for name, service in self._seen.items():
            if name not in before or before[name].status != service.status:
                write = _log.info if service.status in (HEALTHY, "disabled") else _log.warning
                write("service_health", service=name, status=service.status, cause=service.reason)


def overall(statuses: Mapping[str, str]) -> str:
    """The status of the whole: PostgreSQL decides, any other can only degrade it."""
    if statuses["postgres"] == UNHEALTHY:
        return UNHEALTHY
    ill = any(status in (DEGRADED, UNHEALTHY) for status in statuses.values())
    return DEGRADED if ill else HEALTHY
