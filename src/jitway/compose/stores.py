"""`stores.py`: the configured stores, opened and closed as one.

A store whose URL is not set is not even imported.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.clock import Clock
from jitway.database import DatabaseManager, StoreOptions
from jitway.settings import Settings, masked_url

EMBEDDED = "embedded"


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
