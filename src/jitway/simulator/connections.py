"""A lean HTTP/1.1 client: a fixed number of kept-alive connections, one request on each.

Owns connecting, reconnecting, waiting for a free connection and timeouts. Requests are ready-made
bytes; nothing is repeated, so that one submitted request is sent at most once.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import httptools

SWEEP_INTERVAL_S = 0.1
RECONNECT_WAIT_S = 0.1
CONNECT_TIMEOUT_S = 5.0
ANSWER_BYTES_MAX = 1 << 20


class Answer(NamedTuple):
    """What came back. `status` is 0 where no answer came, and `failure` says why."""

    status: int
    body: bytes
    is_replayed: bool
    failure: str = ""


class Exchange:
    """One request and the instants it went through, on the clock of `time.perf_counter_ns`.

    The event loop's own clock will not do: uvloop's stands still for up to a millisecond.
    """

    __slots__ = ("ended_ns", "intended_ns", "on_answer", "request", "sent_ns")

    def __init__(
        self, request: bytes, intended_ns: int, on_answer: Callable[["Exchange", Answer], None]
    ) -> None:
        self.request = request
        self.intended_ns = intended_ns
        self.on_answer = on_answer
        self.sent_ns = 0
        self.ended_ns = 0


class Address(NamedTuple):
    """Where a gateway listens."""

    host: str
    port: int
    is_secure: bool

    @classmethod
    def of(cls, url: str) -> "Address":
        """The address of a URL such as `http://127.0.0.1:3000`.

        Raises:
            ValueError: it is no http or https URL.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http or https URL: {url!r}")
        is_secure = parts.scheme == "https"
        return cls(parts.hostname, parts.port or (443 if is_secure else 80), is_secure)


class Connection(asyncio.Protocol):
    """One connection with at most one request in flight; also the parser's set of callbacks."""

    def __init__(self, pool: "Connections") -> None:
        self.exchange: Exchange | None = None
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""
        self._is_replayed = False
        self._answer: Answer | None = None
        self._stays_open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Become ready for a request."""
        # Not asserted: uvloop's transports do not inherit from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._pool.connected(self)

    def send(self, exchange: Exchange) -> None:
        """Send a request; the connection must be free."""
        assert self._transport is not None
        self.exchange = exchange
        self._body, self._is_replayed = b"", False
        exchange.sent_ns = time.perf_counter_ns()
        self._transport.write(exchange.request)

    def data_received(self, data: bytes) -> None:
        """Parse what came; bytes that are no HTTP, or that nobody asked for, end the connection."""
        if self.exchange is None:
            return self.abort("unasked")
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            return self.abort("not_http")
        # Handed over here and not in a parser's callback, which would swallow exceptions.
        if self._answer is not None:
            self._hand_over(self._answer)
        return None

    def on_header(self, name: bytes, value: bytes) -> None:
        """Notice the one header that matters."""
        if len(name) == 19 and name.lower() == b"idempotent-replayed":
            self._is_replayed = value == b"true"

    def on_body(self, body: bytes) -> None:
        """Collect the body, up to a limit."""
        self._body += body
        if len(self._body) > ANSWER_BYTES_MAX:
            self.abort("answer_too_large")

    def on_message_complete(self) -> None:
        """Notice that the answer is whole; only now the parser knows how it ended."""
        self._stays_open = self._parser.should_keep_alive()
        self._answer = Answer(self._parser.get_status_code(), self._body, self._is_replayed)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the pool, and whoever waits for an answer."""
        self.abort("connection_lost")
        self._pool.lost(self)

    def abort(self, failure: str) -> None:
        """Close at once; a request in flight ends without an answer."""
        exchange, self.exchange = self.exchange, None
        if self._transport is not None:
            self._transport.abort()
        if exchange is not None:
            self._pool.ended(exchange, Answer(0, b"", is_replayed=False, failure=failure))

    def _hand_over(self, answer: Answer) -> None:
        exchange, self.exchange, self._answer = self.exchange, None, None
        if exchange is None:
            return
        if not self._stays_open:
            self.abort("closed")
        self._pool.ended(exchange, answer)
        if self._stays_open:
            self._pool.released(self)


class Connections:
    """A fixed number of connections to one address, replaced when they break.

    Args:
        address: where to.
        size: how many connections.
        timeout_s: how long a request may take, waiting for a connection included.
    """

    def __init__(self, address: Address, *, size: int, timeout_s: float) -> None:
        self.in_flight = 0
        self._loop = asyncio.get_running_loop()
        self._address = address
        self._size = size
        self._timeout_ns = int(timeout_s * 1e9)
        self._all: set[Connection] = set()
        self._idle: list[Connection] = []
        self._waiting: deque[Exchange] = deque()
        self._connecting: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._all_ended = asyncio.Event()
        self._is_closed = False

    async def open(self) -> None:
        """Connect all.

        Raises:
            OSError: the first connection was refused, or took too long.
        """
        await self._connect()
        await asyncio.gather(*(self._connect() for _ in range(self._size - 1)))
        self._sweeper = self._loop.call_later(SWEEP_INTERVAL_S, self._sweep)

    async def close(self) -> None:
        """Close all connections; nobody is told any more of requests still in flight."""
        self._is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        self._waiting.clear()
        for connection in list(self._all):
            connection.abort("closed")

    def submit(self, exchange: Exchange) -> None:
        """Send a request on a free connection, or let it wait for one in arrival order."""
        self.in_flight += 1
        if self._idle:
            self._idle.pop().send(exchange)
        else:
            self._waiting.append(exchange)

    async def call(self, request: bytes) -> Answer:
        """Send a request and wait for its answer."""
        answered: asyncio.Future[Answer] = self._loop.create_future()

        def settle(_: Exchange, answer: Answer) -> None:
            if not answered.done():
                answered.set_result(answer)

        self.submit(Exchange(request, time.perf_counter_ns(), settle))
        return await answered

    async def drain(self) -> None:
        """Wait until every request has ended; each does within the timeout."""
        while self.in_flight:
            self._all_ended.clear()
            await self._all_ended.wait()

    def connected(self, connection: Connection) -> None:
        """A connection is up."""
        self._all.add(connection)
        self.released(connection)

    def released(self, connection: Connection) -> None:
        """A connection is free: the request that has waited longest goes next."""
        if self._waiting:
            connection.send(self._waiting.popleft())
        else:
            self._idle.append(connection)

    def ended(self, exchange: Exchange, answer: Answer) -> None:
        """A request has its answer, or never will."""
        self.in_flight -= 1
        exchange.ended_ns = time.perf_counter_ns()
        if not self.in_flight:
            self._all_ended.set()
        if not self._is_closed:
            exchange.on_answer(exchange, answer)

    def lost(self, connection: Connection) -> None:
        """A connection is gone: replace it."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if not self._is_closed:
            task = self._loop.create_task(self._reconnect())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self) -> None:
        context = ssl.create_default_context() if self._address.is_secure else None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._loop.create_connection(
                    lambda: Connection(self), self._address.host, self._address.port, ssl=context
                )
        except TimeoutError as error:
            raise OSError(f"no connection within {CONNECT_TIMEOUT_S:.0f} s") from error

    async def _reconnect(self) -> None:
        while not self._is_closed:
            try:
                await self._connect()
            except OSError:
                await asyncio.sleep(RECONNECT_WAIT_S)
            else:
                return

    def _sweep(self) -> None:
        overdue_ns = time.perf_counter_ns() - self._timeout_ns
        while self._waiting and self._waiting[0].intended_ns < overdue_ns:
            self._fail(self._waiting.popleft(), "no_free_connection")
        for connection in list(self._all):
            exchange = connection.exchange
            if exchange is not None and exchange.intended_ns < overdue_ns:
                connection.abort("timeout")
        self._sweeper = self._loop.call_later(SWEEP_INTERVAL_S, self._sweep)

    def _fail(self, exchange: Exchange, failure: str) -> None:
        exchange.sent_ns = time.perf_counter_ns()
        self.ended(exchange, Answer(0, b"", is_replayed=False, failure=failure))
