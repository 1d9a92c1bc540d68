"""`database.py`: every store behind one door: opened in order, watched, closed in reverse.

What is configured is brought up; where no PostgreSQL is, the embedded one is started. Owns no
query and no table. A store whose URL is not set is not even imported.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.clock import Clock, SystemClock
from jitway.embedded import EmbeddedPostgreSQL, default_data_dir
from jitway.errors import JitwayError, SettingsError, StoreUnavailable
from jitway.health import (
    DISABLED,
    MongoDBProbe,
    PostgreSQLProbe,
    Probe,
    RabbitMQProbe,
    RedisProbe,
    Report,
    look,
)

if TYPE_CHECKING:
    from jitway.adapters.mongodb import MongoDBAdapter
    from jitway.adapters.rabbitmq import MessageQueueManager
    from jitway.adapters.redis import RedisAdapter

_log = structlog.get_logger("jitway.database")

# For a service that is restarting with everything else; an optional one is tried again later.
PATIENCE_S = 3.0
SERVICES = ("postgres", "mongodb", "redis", "message_queue")


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """What the stores are opened with, beyond their addresses.

    Args:
        data_dir: of the embedded PostgreSQL; the user's data directory when None.
        postgres: further keywords of `PostgreSQLAdapter`.
        durable: whether the embedded PostgreSQL flushes; False only for benchmarks.
        optional_may_be_down: start without Redis, RabbitMQ or MongoDB when they do not answer;
            they are used as soon as they do.
    """

    data_dir: Path | None = None
    postgres: Mapping[str, Any] = field(default_factory=dict)
    durable: bool = True
    optional_may_be_down: bool = False


class DatabaseManager:
    """Brings up PostgreSQL, MongoDB, Redis and RabbitMQ, as far as they are configured.

    Args:
        config: `DATABASE_URL`, `MONGODB_URI`, `MONGODB_DB`, `REDIS_URL`, `RABBITMQ_URL`; a
            variable that is missing or empty turns its service off, but for PostgreSQL, which is
            then the embedded one.
        options: how they are opened.
        clock: for adapters that need one.

    Raises:
        SettingsError: an address that cannot be meant.
    """

    def __init__(
        self,
        config: Mapping[str, str] | None = None,
        *,
        options: StoreOptions | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._config = {name: value for name, value in (config or {}).items() if value}
        self._options = options or StoreOptions()
        self._clock = clock or SystemClock()
        self._stack: AsyncExitStack | None = None
        self._probes: dict[str, Probe] = {}
        self._postgres: PostgreSQLAdapter | None = None
        self.mongodb: MongoDBAdapter | None = None
        self.redis: RedisAdapter | None = None
        self.message_queue: MessageQueueManager | None = None

    @property
    def postgres(self) -> PostgreSQLAdapter:
        """The ledger's adapter.

        Raises:
            SettingsError: the manager is not initialized, or closed.
        """
        if self._postgres is None:
            raise SettingsError("the stores are not open: await manager.initialize() first")
        return self._postgres

    @property
    def is_embedded(self) -> bool:
        """Whether PostgreSQL is the embedded one."""
        return "DATABASE_URL" not in self._config

    async def initialize(self) -> None:
        """Opens every store in order; a second call changes nothing.

        Raises:
            StoreUnavailable, EmbeddedServerError, SettingsError: a store that must be there is
                not; the text names it, its masked address and what to do. What was opened before
                is closed again.
        """
        if self._stack is not None:
            return
        async with AsyncExitStack() as stack:
            # Whatever happens half-way, nobody is left holding a store that is closed.
            stack.callback(self._forget)
            await self._open_postgres(stack)
            optional: list[tuple[str, Awaitable[None]]] = []
            if "MONGODB_URI" in self._config:
                optional.append(("mongodb", self._open_mongodb(stack)))
            if "REDIS_URL" in self._config:
                optional.append(("redis", self._open_redis(stack)))
            if "RABBITMQ_URL" in self._config:
                optional.append(("message_queue", self._open_message_queue(stack)))
            await self._connect(optional)
            self._stack = stack.pop_all()

    async def _open_postgres(self, stack: AsyncExitStack) -> None:
        url = self._config.get("DATABASE_URL") or await self._start_embedded(stack)
        postgres = PostgreSQLAdapter(database_url=url, **self._options.postgres)
        stack.push_async_callback(postgres.close)
        await postgres.initialize()
        probe = PostgreSQLProbe(postgres)
        stack.callback(probe.close)
        self._postgres = postgres
        self._probes["postgres"] = probe

    async def _start_embedded(self, stack: AsyncExitStack) -> str:
        data_dir = self._options.data_dir or default_data_dir(Path.home())
        embedded = EmbeddedPostgreSQL(data_dir, durable=self._options.durable)
        stack.push_async_callback(embedded.stop)
        url = await embedded.start()
        watch = asyncio.create_task(embedded.keep_running(), name="embedded-postgresql")
        stack.push_async_callback(_cancel, watch)
        return url

    def _open_mongodb(self, stack: AsyncExitStack) -> Awaitable[None]:
        from jitway.adapters.mongodb import MongoDBAdapter

        mongodb = MongoDBAdapter(self._config)
        stack.push_async_callback(mongodb.close)
        self.mongodb = mongodb
        self._probes["mongodb"] = MongoDBProbe(mongodb)
        return self._ready_mongodb(mongodb)

    async def _ready_mongodb(self, mongodb: "MongoDBAdapter") -> None:
        from jitway.archive.mongo import MongoArchive

        await mongodb.connect()
        await MongoArchive(mongodb).ensure_indexes()

    def _open_redis(self, stack: AsyncExitStack) -> Awaitable[None]:
        from jitway.adapters.redis import RedisAdapter

        redis = RedisAdapter(self._config, clock=self._clock)
        stack.push_async_callback(redis.close)
        self.redis = redis
        self._probes["redis"] = RedisProbe(redis)
        return redis.connect()

    def _open_message_queue(self, stack: AsyncExitStack) -> Awaitable[None]:
        from jitway.adapters.rabbitmq import MessageQueueManager

        message_queue = MessageQueueManager(self._config, clock=self._clock)
        stack.push_async_callback(message_queue.close)
        self.message_queue = message_queue
        self._probes["message_queue"] = RabbitMQProbe(message_queue)
        return message_queue.connect(timeout_s=PATIENCE_S)

    async def _connect(self, optional: list[tuple[str, Awaitable[None]]]) -> None:
        """Connects all at once; the first of the order that failed is the one that is raised."""
        outcomes = await asyncio.gather(
            *(self._connect_one(connecting) for _, connecting in optional), return_exceptions=True
        )
        for (name, _), outcome in zip(optional, outcomes, strict=True):
            if not isinstance(outcome, BaseException):
                continue
            tolerated = isinstance(outcome, JitwayError) and not isinstance(outcome, SettingsError)
            if not (tolerated and self._options.optional_may_be_down):
                raise outcome
            _log.warning("service_is_away", service=name, cause=str(outcome))

    async def _connect_one(self, connecting: Awaitable[None]) -> None:
        if not self._options.optional_may_be_down:
            return await connecting
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await connecting
        except TimeoutError:
            raise StoreUnavailable(f"no answer within {PATIENCE_S:g} s") from None

    async def close(self) -> None:
        """Closes every store in reverse, the embedded PostgreSQL last; may be called twice."""
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.aclose()

    def _forget(self) -> None:
        self._probes.clear()
        self._postgres = self.mongodb = self.redis = self.message_queue = None

    async def get_health_status(self) -> dict[str, str]:
        """Each service with `healthy`, `degraded`, `unhealthy` or `disabled`, in about a second."""
        report = await self.get_health_report()
        return {name: service.status for name, service in report.items()}

    async def get_health_report(self) -> dict[str, Report]:
        """The same with latency in milliseconds and the reason; looks and changes nothing."""
        names = list(self._probes)
        reports = await asyncio.gather(*(look(self._probes[name]) for name in names))
        found = dict(zip(names, reports, strict=True))
        return {name: found.get(name, DISABLED) for name in SERVICES}


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
