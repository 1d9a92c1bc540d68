"""`card_views.py`: the levels of the cache that are configured, and the feed that keeps them fresh.

Without Redis there is the process's own level over PostgreSQL; with it, what one process evicts
every process forgets.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.cache.encoding import Sealer
from jitway.cache.shared import SharedLevel
from jitway.cache.views import CardViews, CountLookup
from jitway.clock import Clock
from jitway.database import DatabaseManager
from jitway.domain.card import CardView
from jitway.errors import JitwayError
from jitway.ledger.record import load_views
from jitway.sql import statements

if TYPE_CHECKING:
    from jitway.adapters.redis import RedisAdapter

_SQL = statements("views")
_FEED_PAUSE_S = 5.0

_log = structlog.get_logger("jitway.compose")


class PoolReader:
    """Reads through the pool with the words of a dedicated connection."""

    def __init__(self, postgres: PostgreSQLAdapter) -> None:
        self._postgres = postgres

    async def fetch(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        """The rows of one statement that may be repeated."""
        return await self._postgres.execute_query(sql, parameters, repeatable=True)


@asynccontextmanager
async def card_views(
    manager: DatabaseManager, clock: Clock, *, count: CountLookup, entries_max: int
) -> AsyncIterator[CardViews]:
    """The views over every level that there is, and the task that hears of evictions.

    Args:
        manager: has the stores.
        clock: its monotonic clock ends entries.
        count: told of every lookup.
        entries_max: how many cards this process remembers.
    """
    postgres, redis = manager.postgres, manager.redis
    shared = None
    if redis is not None:
        shared = SharedLevel(redis), Sealer(await ledger_identity(postgres))
    views = CardViews(
        view_loader(postgres),
        entries_max=entries_max,
        monotonic_ns=clock.monotonic_ns,
        shared=shared,
        count=count,
    )
    feed = redis and asyncio.create_task(_hear(redis, views), name="card-view-evictions")
    try:
        yield views
    finally:
        if feed:
            feed.cancel()
            await asyncio.gather(feed, return_exceptions=True)
        await views.close()


def view_loader(
    postgres: PostgreSQLAdapter,
) -> Callable[[Iterable[str]], Awaitable[dict[str, CardView]]]:
    """Reads views in the ledger."""
    reader = PoolReader(postgres)

    async def load(card_ids: Iterable[str]) -> dict[str, CardView]:
        return await load_views(reader, card_ids)

    return load


async def ledger_identity(postgres: PostgreSQLAdapter) -> bytes:
    """What tells this ledger from others, copies of it included; only its readers know it.

    Raises:
        StoreUnavailable: PostgreSQL cannot be asked.
    """
    row = (await postgres.execute_query(_SQL["ledger_identity"], repeatable=True))[0]
    return repr(sorted(row.items())).encode()


async def _hear(redis: "RedisAdapter", views: CardViews) -> None:
    """Follows evictions for good; where the server does not permit it, entries live shorter."""
    while True:
        try:
            await redis.listen_for_invalidations(views.hear)
        except JitwayError as refused:
            _log.warning("evictions_not_heard", cause=str(refused))
        except Exception:
            # A reply that nobody thought of must not make this process deaf for good.
            _log.exception("evictions_not_heard")
        # Permission may be given meanwhile; whoever closes the views ends this task.
        await asyncio.sleep(_FEED_PAUSE_S)
