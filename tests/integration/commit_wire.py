"""A wire before PostgreSQL that fails at a COMMIT: before it, behind it, or for a while.

gateway ---> CommitWire ---> PostgreSQL
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
from urllib.parse import parse_qs, urlsplit

_COMMIT = b"COMMIT\x00"


class Fault(Enum):
    """What happens to one COMMIT; nothing of it reaches the gateway but a closed connection."""

    CUT_BEFORE = "both ends are closed in its place"
    CUT_AFTER = "it is carried out, and both ends are closed in place of its answer"
    SWALLOW = "it is carried out, and its answer never comes; the connection stays open"
    HOLD = "the gateway's end is closed, and it is carried out only when the test says so"
    DELAY = "it is carried out late"


class CommitWire:
    """A TCP proxy to one PostgreSQL server.

    Args:
        server_url: of the server.
        seed: of the faults that come by chance.
    """

    def __init__(self, server_url: str, *, seed: int = 0) -> None:
        self._server_url = server_url
        self._random = random.Random(seed)
        self._planned: deque[Fault] = deque()
        self._chance = 0.0
        self._by_chance: tuple[Fault, ...] = ()
        self._held = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self.happened: list[Fault] = []

    @property
    def url(self) -> str:
        """The address of the same database, through the wire."""
        assert self._listener is not None
        port = self._listener.sockets[0].getsockname()[1]
        parts = urlsplit(self._server_url)
        credentials = parts.netloc.rpartition("@")[0] or "postgres"
        return f"postgresql://{credentials}@127.0.0.1:{port}{parts.path}"

    def plan(self, *faults: Fault) -> None:
        """The next COMMITs meet these, each one of them."""
        self._planned.extend(faults)

    def by_chance(self, chance: float, *faults: Fault) -> None:
        """Every later COMMIT meets one of these with some chance; zero ends it."""
        self._chance, self._by_chance = chance, faults

    def release(self) -> None:
        """Carries out what is held."""
        self._held.set()

    def fault(self) -> Fault | None:
        """What the COMMIT that came now meets."""
        fault = None
        if self._planned:
            fault = self._planned.popleft()
        elif self._by_chance and self._random.random() < self._chance:
            fault = self._random.choice(self._by_chance)
        if fault is not None:
            self.happened.append(fault)
        return fault

    async def open(self) -> None:
        """Listens on a free port."""
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def close(self) -> None:
        """Cuts what is left."""
        assert self._listener is not None
        self._listener.close()
        await _cancelled(list(self._tasks))
        # The loop closes aborted sockets on its next turn.
        await asyncio.sleep(0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        pumps: list[asyncio.Task[None]] = []
        try:
            server_reader, server_writer = await self._reach()
            ends.append(server_writer)
            line = _Line(self, reader, writer, server_reader, server_writer)
            pumps += (asyncio.create_task(line.upstream()), asyncio.create_task(line.downstream()))
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            await _cancelled(pumps)
            if line.is_held:
                await self._carry_out(writer, server_reader, server_writer)
        finally:
            for end in ends:
                end.transport.abort()
            await _cancelled(pumps)

    async def _carry_out(
        self,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> None:
        writer.transport.abort()
        await self._held.wait()
        server_writer.write(b"Q" + (4 + len(_COMMIT)).to_bytes(4, "big") + _COMMIT)
        await server_reader.readuntil(_COMMIT)

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(self._server_url)
        options = parse_qs(parts.query)
        if host := options.get("host"):
            port = options.get("port", ["5432"])[0]
            return await asyncio.open_unix_connection(f"{host[0]}/.s.PGSQL.{port}")
        return await asyncio.open_connection(parts.hostname, parts.port or 5432)


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _Line:
    """One connection through the wire."""

    def __init__(
        self,
        wire: CommitWire,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> None:
        self._wire = wire
        self._reader, self._writer = reader, writer
        self._server_reader, self._server_writer = server_reader, server_writer
        self._fault: Fault | None = None
        self.is_held = False

    async def upstream(self) -> None:
        while data := await self._reader.read(65_536):
            if _COMMIT in data:
                self._fault = self._wire.fault()
                if self._fault is Fault.CUT_BEFORE:
                    return
                if self._fault is Fault.HOLD:
                    self.is_held = True
                    return
                if self._fault is Fault.DELAY:
                    await asyncio.sleep(0.05)
            self._server_writer.write(data)

    async def downstream(self) -> None:
        while data := await self._server_reader.read(65_536):
            if _COMMIT in data and self._fault is Fault.CUT_AFTER:
                return
            if _COMMIT in data and self._fault is Fault.SWALLOW:
                continue
            self._writer.write(data)


@asynccontextmanager
async def commit_wire_to(server_url: str, *, seed: int = 0) -> AsyncIterator[CommitWire]:
    """A wire for one test."""
    wire = CommitWire(server_url, seed=seed)
    await wire.open()
    try:
        yield wire
    finally:
        await wire.close()
