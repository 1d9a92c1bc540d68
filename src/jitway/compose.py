"""`compose.py`: the one place that knows every part: settings in, running services out.

Opens in order, closes in reverse, and stops half-way as cleanly as at the end. Nothing happens at
import. A store whose URL is not set is not even imported.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.cache.views import CardViews
from jitway.clock import Clock, SystemClock
from jitway.database import DatabaseManager, StoreOptions
from jitway.domain.card import CardView
from jitway.gateway.authorize import AuthorizeOptions, Authorizer
from jitway.gateway.sweep import ExpirySweep
from jitway.ledger.record import load_views
from jitway.profiler.profiler import Profiler
from jitway.settings import Settings, masked_url
from jitway.sql.migrate import check_schema

_log = structlog.get_logger("jitway.compose")

EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that runs; made and ended by `services`.

    Args:
        settings: what it was made from.
        clock: instants and ids.
        manager: every store, and how it is.
        postgres: the ledger.
        views: cards with everything above them.
        authorizer: decides authorizations.
        profiler: times them.
    """

    settings: Settings
    clock: Clock
    manager: DatabaseManager
    postgres: PostgreSQLAdapter
    views: CardViews
    authorizer: Authorizer
    profiler: Profiler


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
async def services(settings: Settings, *, clock: Clock | None = None) -> AsyncIterator[Services]:
    """Everything that serves, opened in order.

    Args:
        settings: of this process.
        clock: the system's when None.

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
        yield Services(settings, clock, manager, postgres, views, authorizer, profiler)


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
