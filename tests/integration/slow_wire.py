"""A wire before PostgreSQL on which one statement of one batch is late.

gateway ---> SlowWire ---> PostgreSQL

A batch is BEGIN, three statements and COMMIT, each sent when the one before was answered; that
order, not their text, tells them apart.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.integration.commit_wire import CommitWire

STATEMENTS = ("account_lock", "refresh", "write", "commit")


class SlowWire(CommitWire):
    """Delays what it is told to, once."""

    def __init__(self, server_url: str) -> None:
        super().__init__(server_url)
        self._armed: tuple[str, float] | None = None
        self.delaying = asyncio.Event()

    def delay(self, statement: str, seconds: float) -> None:
        """The next statement of this kind goes on only after so long."""
        assert statement in STATEMENTS
        self._armed = (statement, seconds)
        self.delaying.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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

    async def _upstream(
        self, reader: asyncio.StreamReader, server_writer: asyncio.StreamWriter
    ) -> None:
        place = -1
        while data := await reader.read(65_536):
            if b"COMMIT\x00" in data:
                await self._pass("commit")
                place = -1
            elif b"BEGIN" in data:
                place = 0
            elif 0 <= place < 3:
                await self._pass(STATEMENTS[place])
                place += 1
            server_writer.write(data)

    async def _pass(self, statement: str) -> None:
        if self._armed is not None and self._armed[0] == statement:
            seconds, self._armed = self._armed[1], None
            self.delaying.set()
            await asyncio.sleep(seconds)

    async def _downstream(
        self, server_reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await server_reader.read(65_536):
            writer.write(data)


@asynccontextmanager
async def slow_wire_to(server_url: str) -> AsyncIterator[SlowWire]:
    """A wire for one test."""
    wire = SlowWire(server_url)
    await wire.open()
    try:
        yield wire
    finally:
        await wire.close()
