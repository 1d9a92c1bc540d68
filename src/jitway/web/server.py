"""`server.py`: HTTP/1.1 on a listening socket: accepts, keeps time for all, and drains.

Why not a stock server: none bounds how long a request may take to arrive, none ends without a
reset for somebody, and their interface costs more per request than all the rest of HTTP.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from email.utils import formatdate

from jitway.supervisor.shares import Shares
from jitway.web.acceptor import Acceptor
from jitway.web.connection import Connection
from jitway.web.exchange import Header, Reply, Request
from jitway.web.handshakes import Handshakes
from jitway.web.reader import EdgeLimits
from jitway.web.valve import Valve

_TICK_S = 0.25
_POLL_S = 0.01
# A connection that shook hands before the listener closed must still be accepted.
_LAST_ACCEPTS_S = 0.05


class HttpServer:
    """Accepts connections and keeps their deadlines.

    Args:
        answer: answers one request; never raises for anything a caller can send.
        limits: of each connection.
        valve: turns requests away while there are too many; None lets all in.
    """

    def __init__(
        self,
        answer: Callable[[Request], Awaitable[Reply]],
        limits: EdgeLimits,
        *,
        valve: Valve | None = None,
    ) -> None:
        self.answer = answer
        self.limits = limits
        self.valve = valve
        self.draining = False
        self.date: Header = (b"date", b"")
        self.connections: set[Connection] = set()
        self.sources: dict[str, int] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._acceptor: Acceptor | None = None
        self._ticker: asyncio.TimerHandle | None = None

    async def start(
        self,
        listener: socket.socket,
        *,
        shares: Shares | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Begins to accept.

        Args:
            listener: bound; `stop` closes it.
            shares: of the processes that accept from it; None: nobody else does.
            tls: the certificate to show, for HTTPS.
        """
        self._listener = listener
        self._tick()
        if shares is None and tls is None:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: Connection(self), sock=listener, backlog=self.limits.backlog
            )
            return
        # asyncio's own server shakes hands with everybody before anybody is counted.
        listener.settimeout(0)
        listener.listen(self.limits.backlog)
        handshakes = None
        if tls is not None:
            handshakes = Handshakes(
                self.limits, open_now=lambda: len(self.connections), sources=self.sources
            )
        self._acceptor = Acceptor(
            listener,
            lambda handshake: Connection(self, handshake=handshake),
            open_now=lambda: len(self.connections),
            shares=shares,
            tls=tls,
            handshakes=handshakes,
        )

    def drain(self) -> None:
        """From now on every answer ends its connection, and streams end at once."""
        self.draining = True
        for connection in list(self.connections):
            connection.end_stream()

    async def stop(self, *, grace_s: float) -> None:
        """Accepts no more, answers what was asked, and closes; may be called twice, or first.

        Args:
            grace_s: how long requests under way may take; then their connections are cut.
        """
        self.drain()
        await self._stop_accepting()
        loop = asyncio.get_running_loop()
        stopping_at = loop.time()
        while self.connections and loop.time() < stopping_at + grace_s:
            for connection in list(self.connections):
                connection.leave(stopping_at=stopping_at)
            await asyncio.sleep(_POLL_S)
        for connection in list(self.connections):
            connection.cut()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks.clear()
        if self._ticker is not None:
            self._ticker.cancel()

    async def _stop_accepting(self) -> None:
        server, self._server = self._server, None
        acceptor, self._acceptor = self._acceptor, None
        if (server is None and acceptor is None) or self._listener is None:
            return
        # No new handshakes from here on, while those that are done are still accepted.
        self._listener.listen(0)
        if acceptor is not None:
            acceptor.hurry()
        await asyncio.sleep(_LAST_ACCEPTS_S)
        if acceptor is not None:
            await acceptor.close()
            self._listener.close()
        if server is not None:
            server.close()

    def _tick(self) -> None:
        """One timer for all connections: one for each would cost more than a request."""
        loop = asyncio.get_running_loop()
        self.date = (b"date", formatdate(usegmt=True).encode())
        now = loop.time()
        for connection in [held for held in self.connections if held.deadline < now]:
            connection.expire()
        self._ticker = loop.call_later(_TICK_S, self._tick)
