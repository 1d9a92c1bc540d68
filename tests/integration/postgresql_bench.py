"""What the tests of the PostgreSQL adapter have in common: patience, and a way to cut wires."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import parse_qs, urlsplit

from jitway.adapters.postgresql import DedicatedConnection, PostgreSQLAdapter

COMMIT = b"COMMIT\x00"


async def eventually(holds: Callable[[], Awaitable[object]], *, within_s: float = 5.0) -> None:
    """Wait until the condition holds; fails when it does not in time."""
    async with asyncio.timeout(within_s):
        while not await holds():
            await asyncio.sleep(0.01)


async def active_count(adapter: PostgreSQLAdapter, pattern: str) -> int:
    """How many other server processes run a statement like this."""
    (row,) = await adapter.execute_query(
        "SELECT count(*) AS n FROM pg_stat_activity "
        "WHERE state = 'active' AND query LIKE $1 AND pid <> pg_backend_pid()",
        [pattern],
    )
    return int(row["n"])


async def lane(adapter: PostgreSQLAdapter, **limits: Any) -> DedicatedConnection:
    """A dedicated connection with limits that a test need not think about."""
    defaults = {
        "lock_timeout_ms": 2_000,
        "statement_timeout_ms": 5_000,
        "idle_in_transaction_timeout_ms": 5_000,
    }
    return await adapter.dedicated(**(defaults | limits))


class Cut(Enum):
    """What the wire does to a COMMIT, or to everything."""

    NOTHING = "forward it and its answer"
    BEFORE = "close both ends instead of forwarding it"
    AFTER = "forward it, wait for its answer, and close both ends instead of forwarding that"
    SWALLOW = "forward it, and never forward its answer"
    ALL = "forward nothing in either direction"
    REFUSE = "close a new connection at once"


@dataclass
class Wire:
    """A TCP proxy before a PostgreSQL server."""

    server_url: str
    cut: Cut = Cut.NOTHING
    connections_made: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _listener: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The address of the same database, through the wire."""
        assert self._listener is not None
        port = self._listener.sockets[0].getsockname()[1]
        parts = urlsplit(self.server_url)
        credentials = parts.netloc.rpartition("@")[0] or "postgres"
        return f"postgresql://{credentials}@127.0.0.1:{port}{parts.path}"

    async def open(self) -> None:
        """Listen on a free port."""
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def close(self) -> None:
        """Stop listening and cut what is left."""
        assert self._listener is not None
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections_made += 1
        if self.cut is Cut.REFUSE:
            writer.transport.abort()
            self._tasks.discard(task)
            return
        server_reader, server_writer = await self._reach()
        pumps = [
            asyncio.create_task(self._upstream(reader, server_writer)),
            asyncio.create_task(self._downstream(server_reader, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in (writer, server_writer):
                end.transport.abort()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._tasks.discard(task)

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(self.server_url)
        options = parse_qs(parts.query)
        if host := options.get("host"):
            port = options.get("port", ["5432"])[0]
            return await asyncio.open_unix_connection(f"{host[0]}/.s.PGSQL.{port}")
        return await asyncio.open_connection(parts.hostname, parts.port or 5432)

    async def _upstream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if COMMIT in data and self.cut is Cut.BEFORE:
                return
            if self.cut is not Cut.ALL:
                writer.write(data)

    async def _downstream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if COMMIT in data and self.cut is Cut.AFTER:
                return
            if COMMIT in data and self.cut is Cut.SWALLOW:
                continue
            if self.cut is not Cut.ALL:
                writer.write(data)


@asynccontextmanager
async def wire_to(server_url: str) -> AsyncIterator[Wire]:
    """A wire to the server, for one test."""
    wire = Wire(server_url)
    await wire.open()
    try:
        yield wire
    finally:
        await wire.close()
