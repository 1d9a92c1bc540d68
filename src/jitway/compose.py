"""`compose.py`: the one place that knows every part: settings in, running services out.

Opens in order, closes in reverse, and stops half-way as cleanly as at the end. Nothing happens at
import. A store whose URL is not set is not even imported.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import structlog

from jitway.adapters.postgresql import DedicatedConnection, PostgreSQLAdapter
from jitway.archive import keep
from jitway.archive.assemble import LedgerAssembler, Row
from jitway.archive.jsonb import JsonbArchive
from jitway.archive.retention import Retention
from jitway.archive.store import COLLECTIONS, Archive
from jitway.cache.views import CardViews
from jitway.clock import Clock, SystemClock
from jitway.database import DatabaseManager, StoreOptions
from jitway.domain.card import CardView
from jitway.events.broker import (
    JIT_FUNDING_QUEUE,
    QUEUES,
    TRANSACTION_QUEUE,
    WEBHOOK_QUEUE,
    Broker,
    Queue,
)
from jitway.events.consumer import Subscription
from jitway.events.dead_letter import DeadLetters
from jitway.events.local_broker import LocalBroker
from jitway.events.outbox import Outbox
from jitway.events.relay import Relay
from jitway.events.work import EventWork
from jitway.gateway import created
from jitway.gateway.authorize import AuthorizeOptions, Authorizer
from jitway.gateway.documents import (
    Document,
    authorization_document,
    explanation_document,
)
from jitway.gateway.sweep import ExpirySweep
from jitway.ledger.record import load_views
from jitway.profiler.profiler import Profiler
from jitway.settings import Settings, masked_url
from jitway.sql.migrate import check_schema
from jitway.wire.created import decode_created

_log = structlog.get_logger("jitway.compose")

EMBEDDED = "embedded"
# The relay's own connection: a claim that waits longer is made by somebody else meanwhile.
_RELAY_STATEMENT_MS = 5_000
_RELAY_LOCK_MS = 500
_RELAYS = 2


class Role(StrEnum):
    """What a process does with events."""

    ALL = "all"
    RELAY = "relay"
    CONSUMERS = "consumers"
    NONE = "none"

    @property
    def publishes(self) -> bool:
        """Whether it empties the outbox."""
        return self in (Role.ALL, Role.RELAY)

    @property
    def consumes(self) -> bool:
        """Whether it runs the consumers."""
        return self in (Role.ALL, Role.CONSUMERS)


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that runs; made and ended by `services`.

    Args:
        settings: what it was made from.
        clock: instants and ids.
        manager: every store, and how it is.
        postgres: the ledger.
        archive: copies of what happened, to search.
        views: cards with everything above them.
        authorizer: decides authorizations.
        profiler: times them.
        work: what this process does with events.
        dead_letters: what could not be delivered.
    """

    settings: Settings
    clock: Clock
    manager: DatabaseManager
    postgres: PostgreSQLAdapter
    archive: Archive
    views: CardViews
    authorizer: Authorizer
    profiler: Profiler
    work: EventWork
    dead_letters: DeadLetters


class PoolReader:
    """Reads through the pool with the words of a dedicated connection."""

    def __init__(self, postgres: PostgreSQLAdapter) -> None:
        self._postgres = postgres

    async def fetch(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        """The rows of one statement that may be repeated."""
        return await self._postgres.execute_query(sql, parameters, repeatable=True)


def database_shown(settings: Settings) -> str:
    """Which database it is, fit for eyes: `embedded`, or the address with its password masked."""
    return masked_url(settings.database_url) if settings.database_url else EMBEDDED


@asynccontextmanager
async def ledger(settings: Settings) -> AsyncIterator[PostgreSQLAdapter]:
    """The database alone, for one command: the embedded server is started or attached to.

    Raises:
        EmbeddedServerError: the embedded server cannot be started.
        LedgerUnavailable: PostgreSQL cannot be reached.
    """
    addresses = {"DATABASE_URL": settings.database_url or ""}
    options = _store_options(settings, pool_min=1, pool_max=4)
    manager = DatabaseManager(addresses, options=options)
    try:
        await manager.initialize()
        yield manager.postgres
    finally:
        await manager.close()


@asynccontextmanager
async def stores(
    settings: Settings, *, clock: Clock | None = None
) -> AsyncIterator[DatabaseManager]:
    """Every store that is configured; those that are optional may be down.

    Raises:
        EmbeddedServerError: the embedded server cannot be started.
        LedgerUnavailable: PostgreSQL cannot be reached.
    """
    options = _store_options(settings, pool_min=settings.pool_min, pool_max=settings.pool_max)
    manager = DatabaseManager(_addresses(settings), options=options, clock=clock)
    try:
        await manager.initialize()
        yield manager
    finally:
        await manager.close()


@asynccontextmanager
async def services(
    settings: Settings,
    *,
    clock: Clock | None = None,
    role: Role | None = None,
    consumers: Sequence[Subscription] = (),
) -> AsyncIterator[Services]:
    """Everything that serves, opened in order.

    Args:
        settings: of this process.
        clock: the system's when None.
        role: what it does with events; what the settings say when None.
        consumers: of others, beside our own.

    Raises:
        EmbeddedServerError: the embedded server cannot be started.
        LedgerUnavailable: PostgreSQL cannot be reached.
        SettingsError: PostgreSQL could lose commits.
        SchemaMismatch: the schema is not one this release can serve.
    """
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        manager = await stack.enter_async_context(stores(settings, clock=clock))
        postgres = manager.postgres
        await postgres.check_durability(allow_unsafe=settings.unsafe_durability)
        for name in await check_schema(postgres):
            _log.warning("migration_pending", migration=name)
        views = CardViews(_view_loader(postgres), monotonic_ns=clock.monotonic_ns)
        profiler = Profiler(clock)
        profiler.watch()
        stack.callback(profiler.close)
        authorizer = Authorizer(postgres, views, clock, _authorize_options(settings))
        stack.push_async_callback(authorizer.close)
        await authorizer.start()
        sweep = ExpirySweep(postgres, clock, interval_s=settings.expiry_sweep_s)
        stack.push_async_callback(sweep.stop)
        sweep.start()
        archive = archive_of(manager)
        retention = Retention(archive, clock, archive_days(settings))
        stack.push_async_callback(retention.stop)
        retention.start()
        role = role or role_of(settings)
        broker = broker_of(
            manager, [one.queue for one in consumers], url=settings.rabbitmq_url or ""
        )
        own = _subscriptions(archive, authorizer, postgres, clock)
        work = EventWork(
            postgres,
            clock,
            broker,
            relays=_relays(postgres, broker, clock) if role.publishes else (),
            subscriptions=(*own, *consumers) if role.consumes else (),
            left_behind=None if isinstance(broker, LocalBroker) else LocalBroker(postgres),
        )
        stack.push_async_callback(work.stop)
        await work.start()
        dead = DeadLetters(broker, postgres, clock)
        yield Services(
            settings, clock, manager, postgres, archive, views, authorizer, profiler, work, dead
        )


@asynccontextmanager
async def dead_letters_of(manager: DatabaseManager) -> AsyncIterator[DeadLetters]:
    """The dead letters alone, for one command."""
    broker = broker_of(manager)
    try:
        await broker.connect()
        yield DeadLetters(broker, manager.postgres, SystemClock())
    finally:
        await broker.close()


def role_of(settings: Settings) -> Role:
    """What `serve` does with events: everything, unless others are there to consume."""
    if settings.work != "auto":
        return Role(settings.work)
    return Role.RELAY if settings.database_url and settings.rabbitmq_url else Role.ALL


def broker_of(manager: DatabaseManager, others: Sequence[Queue] = (), *, url: str = "") -> Broker:
    """RabbitMQ where it is configured, else tables of PostgreSQL.

    Args:
        manager: has the stores.
        others: queues beside our own, to be kept declared.
        url: of RabbitMQ, for connections of its own that know those queues.
    """
    if manager.message_queue is None:
        return LocalBroker(manager.postgres, (*QUEUES, *others))
    from jitway.events.rabbitmq_broker import RabbitMQBroker

    if others:
        return RabbitMQBroker.at(url, (*QUEUES, *others))
    return RabbitMQBroker(manager.message_queue)


def _relays(postgres: PostgreSQLAdapter, broker: Broker, clock: Clock) -> list[Relay]:
    async def connect() -> DedicatedConnection:
        return await postgres.dedicated(
            lock_timeout_ms=_RELAY_LOCK_MS,
            statement_timeout_ms=_RELAY_STATEMENT_MS,
            idle_in_transaction_timeout_ms=_RELAY_STATEMENT_MS,
        )

    # Statements do not wait for confirms: PostgreSQL's tables need no second one.
    number = 1 if isinstance(broker, LocalBroker) else _RELAYS
    return [Relay(Outbox(connect), broker, holder=clock.new_id("rly")) for _ in range(number)]


def _subscriptions(
    archive: Archive, authorizer: Authorizer, postgres: PostgreSQLAdapter, clock: Clock
) -> list[Subscription]:
    """Who reads our three queues."""
    by_message = created.authorize_created(postgres, clock, authorizer.authorize, decode_created)
    bare = {JIT_FUNDING_QUEUE: {created.TYPE: by_message}}
    handlers = archive_handlers(archive)
    return [Subscription(queue, handlers[queue.name], bare.get(queue.name, {})) for queue in QUEUES]


def archive_of(manager: DatabaseManager) -> Archive:
    """The archive: in MongoDB where that is configured, else in PostgreSQL."""
    if manager.mongodb is None:
        return JsonbArchive(manager.postgres)
    from jitway.archive.mongo import MongoArchive

    return MongoArchive(manager.mongodb)


def archive_days(settings: Settings) -> dict[str, int]:
    """How long each collection of the archive is kept; 0 for ever."""
    return {name: getattr(settings, f"archive_retention_days_{name}") for name in COLLECTIONS}


def archive_assembler() -> LedgerAssembler:
    """Makes the archive's documents in the form in which HTTP answers."""
    return LedgerAssembler(_explained_authorization)


def archive_handlers(archive: Archive) -> dict[str, keep.Handler]:
    """By queue, what each of our consumers does."""
    assembler = archive_assembler()
    return {
        JIT_FUNDING_QUEUE: keep.keep_decisions(archive, assembler),
        TRANSACTION_QUEUE: keep.keep_transactions(archive, assembler),
        WEBHOOK_QUEUE: keep.keep_webhooks(archive, assembler),
    }


def _explained_authorization(row: Row) -> Document:
    explanation = explanation_document(row["explanation"])
    return authorization_document(row) | {"explanation": explanation}


def _addresses(settings: Settings) -> dict[str, str]:
    return {
        "DATABASE_URL": settings.database_url or "",
        "MONGODB_URI": settings.mongodb_uri or "",
        "MONGODB_DB": settings.mongodb_db,
        "REDIS_URL": settings.redis_url or "",
        "RABBITMQ_URL": settings.rabbitmq_url or "",
    }


def _store_options(settings: Settings, *, pool_min: int, pool_max: int) -> StoreOptions:
    return StoreOptions(
        data_dir=settings.data_dir,
        postgres={
            "pool_size_min": pool_min,
            "pool_size_max": pool_max,
            "query_timeout_ms": int(settings.query_timeout_s * 1000),
            "slow_query_ms": settings.slow_query_ms,
        },
        durable=not settings.unsafe_durability,
        optional_may_be_down=True,
    )


def _authorize_options(settings: Settings) -> AuthorizeOptions:
    return AuthorizeOptions(
        budget_ms=settings.decision_budget_ms,
        hold_ttl_s=settings.hold_ttl_s,
        batch_size_max=settings.batch_size_max,
        waiting_max=settings.waiting_max,
        lanes=settings.lanes,
        statement_timeout_ms=settings.batch_statement_timeout_ms,
    )


def _view_loader(
    postgres: PostgreSQLAdapter,
) -> Callable[[Iterable[str]], Awaitable[dict[str, CardView]]]:
    reader = PoolReader(postgres)

    async def load(card_ids: Iterable[str]) -> dict[str, CardView]:
        return await load_views(reader, card_ids)

    return load
