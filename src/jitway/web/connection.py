"""`connection.py`: one caller's connection: requests in, answers out, in order and in time.

Owns deadlines, back-pressure and how a connection ends: never by a reset that would take an
answer with it. What a request may look like is `reader.py`'s.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Protocol

import structlog

from jitway.web.addresses import is_within, source_of
from jitway.web.exchange import Header, Reply, Request, Stream, problem_reply, request_id_of
from jitway.web.handshakes import Handshake
from jitway.web.problems import INTERNAL, Problem
from jitway.web.reader import EdgeLimits, Phase, RequestReader
from jitway.web.valve import REFUSAL, Valve

_log = structlog.get_logger("jitway.web.connection")

_NEVER = float("inf")
_LINGER_S = 1.0
_LINGER_BYTES_MAX = 4 * 1024 * 1024
_WRITE_BUFFER_MAX = 256 * 1024
# While the server stops, an idle connection may be about to ask: it is heard for so long. A busy
# caller uses up what it has open, so that none is closed in the instant in which it asks.
_HEARD_S = 1.0
_IDLE = Phase.IDLE
_STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}


class Host(Protocol):
    """What a connection asks of the server that accepted it."""

    answer: Callable[[Request], Awaitable[Reply]]
    limits: EdgeLimits
    valve: Valve | None
    draining: bool
    date: Header
    connections: set["Connection"]
    sources: dict[str, int]
    tasks: set[asyncio.Task[None]]


class Connection(asyncio.Protocol):
    """One caller's connection; requests are answered one after the other.

    Args:
        host: the server that accepted it.
        handshake: what comes before it, over TLS; it was counted until now.
    """

    def __init__(self, host: Host, *, handshake: Handshake | None = None) -> None:
        self._host = host
        self._handshake = handshake
        self._limits = host.limits
        self._valve = host.valve
        self._loop = asyncio.get_running_loop()
        self._reader = RequestReader(host.limits)
        self._transport: asyncio.Transport
        self._address = ""
        self._task: asyncio.Task[None]
        # Whole requests, and at most one refusal at the end, that wait for their turn.
        self._queue: deque[Request | Problem] = deque()
        self._is_answering = False
        # Whether the request under way is one of those that the valve counts.
        self._is_counted = False
        self._is_unread = False
        # While an answer comes piece by piece: who sends it, and whether the next may be sent.
        self._pump: asyncio.Task[None] | None = None
        self._is_read = asyncio.Event()
        self._has_ended = False
        self._thrown_away = 0
        # The source this connection is counted for; empty for a proxy of ours.
        self._source = ""
        self.deadline = self._loop.time() + self._limits.first_byte_s
        """The instant of the loop's clock at which the server calls `expire`."""

    # Of asyncio --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A caller has connected."""
        self._transport = transport  # type: ignore[assignment]  # a stream: it was accepted
        self._transport.set_write_buffer_limits(high=_WRITE_BUFFER_MAX)
        self._address = _address(transport)
        host, limits = self._host, self._limits
        if self._handshake is not None:
            self._handshake.end()
        host.connections.add(self)
        if not is_within(self._address, limits.trusted):
            self._source = source_of(self._address)
            host.sources[self._source] = host.sources.get(self._source, 0) + 1
        of_source = host.sources.get(self._source, 0)
        if len(host.connections) > limits.connections_max or of_source > limits.per_address_max:
            self._reader.end()
            self._take([_too_many()])

    def connection_lost(self, _: Exception | None) -> None:
        """The connection is over; a request under way is finished, and its answer dropped."""
        self._reader.end()
        self._queue.clear()
        self._host.connections.discard(self)
        self._leave_source()
        self.end_stream()

    def data_received(self, data: bytes) -> None:
        """Bytes from the caller, in pieces of any size."""
        reader = self._reader
        if reader.phase is Phase.ENDED:
            self._throw_away(len(data))
            return
        valve = self._valve
        if valve is not None and valve.admission.is_full and self._is_fresh():
            refusal = valve.refuse(data, self._host.date)
            if refusal is not None:
                self.deadline = self._loop.time() + self._limits.keep_alive_s
                self._transport.write(refusal)
                return
        steps = reader.steps
        asked = reader.feed(data)
        if steps != reader.steps:
            self._await(reader.phase)
        self._take(asked)
        if reader.continue_asked() and not self._is_answering:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def eof_received(self) -> bool:
        """The caller sends no more; what it asked is still answered."""
        self._has_ended = True
        self._reader.end()
        # Nobody waits for the rest of what has no end.
        self.end_stream()
        # Under TLS nothing can be sent to whoever has ended.
        return self._transport.can_write_eof() and (self._is_answering or bool(self._queue))

    def pause_writing(self) -> None:
        """The caller does not read its answers."""
        self._is_unread = True
        self._is_read.clear()
        self.deadline = self._loop.time() + self._limits.write_s

    def resume_writing(self) -> None:
        """It reads again."""
        self._is_unread = False
        self._is_read.set()
        self._await(self._reader.phase)
        self._next()

    # Of the server -----------------------------------------------------------------------------

    def expire(self) -> None:
        """The deadline of whatever it waits for has passed."""
        phase = self._reader.phase
        if self._is_unread:
            self.cut()
        elif phase in {Phase.HEAD, Phase.BODY}:
            is_known = self._reader.has_begun
            self._reader.end()
            if is_known or self._is_answering:
                self._take([_too_slow()])
            else:
                self.cut()
        elif self._is_answering:
            # What is under way has limits of its own.
            self.deadline = _NEVER
        else:
            self.cut()

    def leave(self, *, stopping_at: float) -> None:
        """Ends a connection that has been idle for a while.

        Args:
            stopping_at: when the server began to stop, on the loop's clock.
        """
        is_idle = self._reader.phase is Phase.IDLE and not (self._is_answering or self._queue)
        idle_since = max(stopping_at, self.deadline - self._limits.keep_alive_s)
        if is_idle and self._loop.time() - idle_since >= _HEARD_S:
            self._linger()

    def end_stream(self) -> None:
        """Ends an answer that has no end of its own, if one is under way; the caller asks again."""
        if self._pump is not None:
            self._pump.cancel()

    def cut(self) -> None:
        """Closes the connection at once, whatever it waits for."""
        self.deadline = _NEVER
        self._transport.abort()

    # Ours --------------------------------------------------------------------------------------

    def _await(self, phase: Phase) -> None:
        limits = self._limits
        if phase is Phase.HEAD:
            self.deadline = self._loop.time() + limits.head_s
        elif phase is Phase.BODY:
            self.deadline = self._loop.time() + limits.body_s
        elif phase is Phase.IDLE:
            self.deadline = self._loop.time() + limits.keep_alive_s

    def _take(self, asked: Sequence[Request | Problem]) -> None:
        if asked:
            self._queue.extend(asked)
            if len(self._queue) > self._limits.pipelined_max:
                self._transport.pause_reading()
            self._next()

    def _leave_source(self) -> None:
        source, self._source = self._source, ""
        if not source:
            return
        self._host.sources[source] -= 1
        if not self._host.sources[source]:
            del self._host.sources[source]

    def _is_fresh(self) -> bool:
        """Whether what comes now is the beginning of a request that is answered next."""
        if self._is_answering or self._queue or self._is_unread or self._host.draining:
            return False
        return self._reader.phase is _IDLE

    def _next(self) -> None:
        """Answers what waits first, unless an answer is under way or unread."""
        while self._queue and not (self._is_answering or self._is_unread):
            asked = self._queue.popleft()
            if len(self._queue) == self._limits.pipelined_max:
                self._transport.resume_reading()
            if isinstance(asked, Problem):
                self._write(problem_reply(asked, request_id_of([])), closing=True, is_head=False)
                self._linger()
            elif self._lets_in(asked):
                self._is_answering = True
                self._task = self._loop.create_task(self._answer(asked))
                self._host.tasks.add(self._task)
            else:
                self._send(asked, problem_reply(REFUSAL, request_id_of(asked.headers)))

    def _lets_in(self, request: Request) -> bool:
        """Whether a request is looked at; one that is, is counted until it is answered."""
        valve = self._valve
        self._is_counted = valve is not None and valve.guards(request)
        if valve is None or not self._is_counted:
            return True
        if valve.admission.is_full:
            valve.admission.refused += 1
            return False
        valve.admission.under_way += 1
        return True

    async def _answer(self, request: Request) -> None:
        task, valve = self._task, self._valve
        try:
            request.address = self._address
            reply = await self._host.answer(request)
        except Exception:
            _log.exception("answer_failed")
            reply = problem_reply(INTERNAL, request_id_of(request.headers))
        finally:
            # Not by a callback of the task: the loop would be asked once more for each request.
            self._host.tasks.discard(task)
            if valve is not None and self._is_counted:
                valve.admission.under_way -= 1
        if reply.stream is not None:
            self._begin_stream(reply, reply.stream, is_head=request.method == "HEAD")
            return
        self._is_answering = False
        if not self._transport.is_closing():
            self._send(request, reply)
            self._next()

    def _send(self, request: Request, reply: Reply) -> None:
        leaving = self._host.draining or self._reader.phase is Phase.ENDED
        closing = not request.keeps_alive or (leaving and not self._queue)
        self._write(reply, closing=closing, is_head=request.method == "HEAD")
        if closing:
            self._linger()
        elif self._reader.phase is Phase.IDLE and not self._is_unread:
            self._await(Phase.IDLE)

    def _begin_stream(self, reply: Reply, stream: Stream, *, is_head: bool) -> None:
        if self._transport.is_closing():
            stream.close()
            return
        self._write(reply, closing=True, is_head=is_head)
        if is_head or self._host.draining:
            self._is_answering = False
            stream.close()
            self._linger()
            return
        pump = self._pump = self._loop.create_task(self._pour(stream))
        self._host.tasks.add(pump)

        def poured(_: object) -> None:
            self._host.tasks.discard(pump)
            self._is_answering = False
            stream.close()
            self._linger()

        # Not at the end of the task itself: one that is cancelled before it began has none.
        pump.add_done_callback(poured)

    async def _pour(self, stream: Stream) -> None:
        """Sends a body piece by piece, no faster than it is read."""
        try:
            while True:
                while self._is_unread:
                    await self._is_read.wait()
                self._transport.write(await anext(stream))
        except StopAsyncIteration:
            return
        except Exception:
            _log.exception("stream_failed")

    def _write(self, reply: Reply, *, closing: bool, is_head: bool) -> None:
        parts = [_STATUS_LINES[reply.status]]
        for name, value in (*reply.headers, self._host.date):
            parts += (name, b": ", value, b"\r\n")
        if closing:
            parts.append(b"connection: close\r\n")
        if reply.stream is None:
            parts.append(b"content-length: %d\r\n" % len(reply.body))
        parts.append(b"\r\n")
        if not is_head:
            parts.append(reply.body)
        self._transport.write(b"".join(parts))

    def _linger(self) -> None:
        """Says that nothing more comes, and reads on for a while without looking.

        Closed with unread bytes the socket would be reset, and the answer lost with it.
        """
        self._reader.end()
        self._queue.clear()
        if self._transport.is_closing():
            return
        if self._has_ended or not self._transport.can_write_eof():
            # TLS says by itself that nothing more comes, and waits for the caller to say the same.
            self._transport.close()
            return
        self.deadline = self._loop.time() + _LINGER_S
        self._transport.resume_reading()
        self._transport.write_eof()

    def _throw_away(self, size: int) -> None:
        self._thrown_away += size
        if self._thrown_away > _LINGER_BYTES_MAX:
            self.cut()


def _address(transport: asyncio.BaseTransport) -> str:
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else ""


def _too_many() -> Problem:
    return Problem(503, "too_many_connections", "come back later", headers={"Retry-After": "1"})


def _too_slow() -> Problem:
    return Problem(408, "request_timeout", "the request did not arrive in time")
