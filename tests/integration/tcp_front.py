"""A TCP relay in front of a server: adds TLS, changes replies, or swallows them."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Literal

Change = Callable[[bytes], bytes | None]


class TcpFront:
    """Listens on a port of its own and relays both ways.

    Args:
        upstream_port: the server behind it; 0 = none: connections are taken and nothing is said.
        tls: when given, clients must speak TLS.
    """

    def __init__(self, upstream_port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self._upstream_port = upstream_port
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._relays: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.accepted = 0
        self.reply_delay_s = 0.0
        self.on_reply: Change = lambda reply: reply
        self.on_request: Change = lambda request: request

    @property
    def open_connections(self) -> set[asyncio.StreamWriter]:
        """What is still open on this side, to either end."""
        return self._writers

    async def start(self) -> "TcpFront":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for relay in list(self._relays):
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)
        for writer in list(self._writers):
            await self._close(writer)
        await self._server.wait_closed()

    async def __aenter__(self) -> "TcpFront":
        return await self.start()

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._writers.add(writer)
        if self._upstream_port == 0:
            return
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        self._writers.add(up_writer)
        for relay in (
            self._relay(reader, up_writer, "on_request", writer),
            self._relay(up_reader, writer, "on_reply", up_writer),
        ):
            task = asyncio.create_task(relay)
            self._relays.add(task)
            task.add_done_callback(self._relays.discard)

    async def _relay(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        change: Literal["on_request", "on_reply"],
        other: asyncio.StreamWriter,
    ) -> None:
        with contextlib.suppress(OSError):
            while said := await reader.read(65_536):
                changed: bytes | None = getattr(self, change)(said)
                if changed is None:
                    break
                if change == "on_reply" and self.reply_delay_s:
                    await asyncio.sleep(self.reply_delay_s)
                writer.write(changed)
                await writer.drain()
        await self._close(writer)
        await self._close(other)

    async def _close(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        writer.close()
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            async with asyncio.timeout(1):
                await writer.wait_closed()
