"""`shared_ledger.py`: one ledger for all workers of a gateway, with room for their connections.

Where no PostgreSQL is configured the embedded one is started, watched and stopped here, and the
workers are given its address: none of them ever starts a server.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.compose.messaging import Role, role_of
from jitway.doctor.examine import connections_of_one_process
from jitway.embedded import EmbeddedPostgreSQL
from jitway.errors import SettingsError
from jitway.settings import Settings

# For `jitway verify`, `doctor` and people, and what the server keeps for its administrators.
SPARE = 20
EMBEDDED_MIN = 100
# Two can stand in for each other; more would only ask whether there is something to do.
MOVERS_MAX = 2

_ROOM = """
    SELECT current_setting('max_connections')::int
           - current_setting('superuser_reserved_connections')::int
           - coalesce(current_setting('reserved_connections', true), '0')::int AS room
"""


@asynccontextmanager
async def shared_ledger(settings: Settings) -> AsyncIterator[Settings]:
    """What workers are to be started with: the same settings with the ledger's address.

    Args:
        settings: of the supervisor.

    Raises:
        EmbeddedServerError: the embedded server cannot be started.
        LedgerUnavailable: PostgreSQL cannot be reached.
        SettingsError: it has no room for so many connections.
    """
    async with AsyncExitStack() as stack:
        url = settings.database_url or await _embedded(settings, stack)
        await _check_room(settings, url)
        yield replace(settings, database_url=url, work=role_of(settings).value)


def settings_of(worker: int, settings: Settings) -> Settings:
    """What the worker of a number is started with: the first of them move events as well.

    Args:
        worker: its number, from 1.
        settings: of all.
    """
    return settings if worker <= MOVERS_MAX else replace(settings, work=Role.NONE.value)


def connections_of(settings: Settings) -> int:
    """The most connections that all workers open."""
    return settings.workers * connections_of_one_process(settings.pool_max, settings.lanes)


async def _embedded(settings: Settings, stack: AsyncExitStack) -> str:
    room = max(EMBEDDED_MIN, connections_of(settings) + SPARE)
    server = EmbeddedPostgreSQL(
        settings.data_dir,
        settings={"max_connections": str(room)},
        durable=not settings.unsafe_durability,
    )
    stack.push_async_callback(server.stop)
    url = await server.start()
    watch = asyncio.create_task(server.keep_running(), name="embedded-postgresql")
    stack.push_async_callback(_cancel, watch)
    return url


async def _check_room(settings: Settings, url: str) -> None:
    postgres = PostgreSQLAdapter(database_url=url, pool_size_min=0, pool_size_max=1)
    try:
        (row,) = await postgres.execute_query(_ROOM, [], repeatable=True)
    finally:
        await postgres.close()
    wanted, room = connections_of(settings), row["room"]
    if wanted <= room:
        return
    if settings.database_url:
        advice = "lower JITWAY_WORKERS or JITWAY_POOL_MAX, or raise max_connections"
    else:
        # It was started for fewer, by another command or an earlier life.
        advice = "end what uses it, run `jitway stop`, and start again"
    raise SettingsError(
        f"{settings.workers} workers may open {wanted} connections, and PostgreSQL gives {room}: "
        f"{advice}"
    )


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
