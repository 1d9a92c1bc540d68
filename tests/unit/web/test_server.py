"""The server on real sockets: order, deadlines, limits, and an end that loses no answer."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from jitway.web.exchange import Reply, Request
from jitway.web.reader import EdgeLimits
from jitway.web.server import HttpServer
from jitway.web.valve import Valve

GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Gate:
    """An application that answers when the test lets it, and counts what it was asked."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.opened.set()
        self.asked: list[bytes] = []
        self.began = asyncio.Event()

    async def answer(self, request: Request) -> Reply:
        self.asked.append(request.target)
        self.began.set()
        await self.opened.wait()
        if request.target == b"/raise":
            raise RuntimeError("a bug")
        return Reply(200, [(b"x-target", request.target)], request.target + request.body)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@contextlib.asynccontextmanager
async def serving(
    answer: Callable[[Request], Awaitable[Reply]],
    limits: EdgeLimits | None = None,
    *,
    valve: Valve | None = None,
) -> AsyncIterator[tuple[HttpServer, int]]:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    server = HttpServer(answer, limits or EdgeLimits(), valve=valve)
    await server.start(listener)
    try:
        yield server, listener.getsockname()[1]
    finally:
        await server.stop(grace_s=0)
        listener.close()


async def connect(port: int) -> Streams:
    return await asyncio.open_connection("127.0.0.1", port)


async def talk(port: int, *pieces: bytes) -> bytes:
    """Everything the server says until it ends the connection."""
    reader, writer = await connect(port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        await hang_up(writer)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def one_answer(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return head + await reader.readexactly(length)


async def test_answers_come_in_the_order_of_the_questions(gate: Gate) -> None:
    async with serving(gate.answer) as (_, port):
        said = await talk(port, b"".join(GET % number for number in range(100)) + LAST)
    assert said.count(b"HTTP/1.1 200 OK\r\n") == 101
    places = [said.index(b"\r\n\r\n/%d" % number) for number in range(100)]
    assert places == sorted(places)
    assert gate.asked[:3] == [b"/0", b"/1", b"/2"]


async def test_cut_at_every_byte_by_the_network_or_for_good(gate: Gate) -> None:
    request = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
    async with serving(gate.answer) as (server, port):
        for place in range(1, len(request)):
            _, writer = await connect(port)
            writer.write(request[:place])
            await hang_up(writer)
        assert b"/xabc" in await talk(port, *(request[at : at + 1] for at in range(len(request))))
        async with asyncio.timeout(5):
            while server.connections:
                await asyncio.sleep(0.01)
    assert gate.asked == [b"/x"]


async def test_one_at_a_time_on_one_connection(gate: Gate) -> None:
    gate.opened.clear()
    async with serving(gate.answer) as (_, port):
        reader, writer = await connect(port)
        writer.write(GET % 1 + GET % 2)
        await gate.began.wait()
        await asyncio.sleep(0)
        assert gate.asked == [b"/1"]
        gate.opened.set()
        assert b"/1" in await one_answer(reader)
        assert b"/2" in await one_answer(reader)
        await hang_up(writer)


async def test_head_has_a_length_and_no_body(gate: Gate) -> None:
    async with serving(gate.answer) as (_, port):
        said = await talk(port, b"HEAD /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert said.endswith(b"content-length: 2\r\n\r\n")


async def test_a_bug_is_answered_and_the_connection_goes_on(gate: Gate) -> None:
    async with serving(gate.answer) as (_, port):
        said = await talk(port, b"GET /raise HTTP/1.1\r\nHost: a\r\n\r\n" + LAST)
    assert said.startswith(b"HTTP/1.1 500 ")
    assert b'"code":"internal_error"' in said
    assert said.endswith(b"/last")


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"\x16\x03\x01\r\n\r\n", 400, b"malformed_request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000, 431, b"headers_too_large"),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70_000,
            413,
            b"body_too_large",
        ),
    ],
)
async def test_refusals_reach_whoever_is_still_sending(
    gate: Gate, sent: bytes, status: int, code: bytes
) -> None:
    async with serving(gate.answer) as (_, port):
        said = await talk(port, sent)
    assert said.startswith(b"HTTP/1.1 %d " % status)
    assert b"application/problem+json" in said
    assert b'"code":"%b"' % code in said
    assert b"connection: close" in said
    assert not gate.asked


async def test_what_was_asked_before_a_bad_request_is_answered_first(gate: Gate) -> None:
    async with serving(gate.answer) as (_, port):
        said = await talk(port, GET % 1 + GET % 2 + b"\x00\x00")
    assert said.count(b"HTTP/1.1 200") == 2
    assert said.index(b"HTTP/1.1 400") > said.rindex(b"HTTP/1.1 200")


async def test_an_endless_body_is_cut_while_memory_stays(gate: Gate) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    async with serving(gate.answer) as (_, port):
        reader, writer = await connect(port)
        writer.write(head)
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 64 * 1024 * 1024:
                writer.write(chunk)
                await writer.drain()
                sent += len(chunk)
        assert sent < 32 * 1024 * 1024
        with contextlib.suppress(OSError):
            assert (await reader.read(13)).startswith(b"HTTP/1.1 413")
        await hang_up(writer)
    assert not gate.asked


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\nHos", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx"]
)
async def test_a_request_that_does_not_arrive_in_time(gate: Gate, first: bytes) -> None:
    limits = EdgeLimits(head_s=0.3, body_s=0.3)
    async with serving(gate.answer, limits) as (_, port):
        began = time.monotonic()
        said = await talk(port, first)
        assert said.startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - began >= 0.3
    assert not gate.asked


async def test_a_trickle_does_not_move_the_deadline(gate: Gate) -> None:
    limits = EdgeLimits(head_s=0.3)
    async with serving(gate.answer, limits) as (_, port):
        reader, writer = await connect(port)

        async def trickle() -> None:
            with contextlib.suppress(OSError):
                for byte in b"GET / HTTP/1.1\r\nX: " + b"x" * 1000:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(0.02)

        trickling = asyncio.create_task(trickle())
        async with asyncio.timeout(5):
            assert (await reader.read(12)) == b"HTTP/1.1 408"
        trickling.cancel()
        await hang_up(writer)


async def test_idle_connections_and_blank_lines_are_closed(gate: Gate) -> None:
    limits = EdgeLimits(first_byte_s=0.2, keep_alive_s=0.2, head_s=0.2)
    async with serving(gate.answer, limits) as (_, port):
        assert await talk(port) == b""
        assert await talk(port, b"\r\n\r\n") == b""
        reader, writer = await connect(port)
        writer.write(GET % 1)
        assert b"/1" in await one_answer(reader)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        await hang_up(writer)


async def test_a_slow_answer_is_no_idle_connection(gate: Gate) -> None:
    gate.opened.clear()
    limits = EdgeLimits(keep_alive_s=0.1, head_s=0.1, body_s=0.1)
    async with serving(gate.answer, limits) as (_, port):
        reader, writer = await connect(port)
        writer.write(GET % 1)
        await gate.began.wait()
        await asyncio.sleep(0.6)
        gate.opened.set()
        assert b"/1" in await one_answer(reader)
        await hang_up(writer)


async def test_whoever_does_not_read_is_cut(gate: Gate) -> None:
    async def large(_: Request) -> Reply:
        return Reply(200, [], b"x" * 1_000_000)

    limits = EdgeLimits(write_s=0.3)
    async with serving(large, limits) as (server, port):
        reader, writer = await connect(port)
        reader._limit = 1  # type: ignore[attr-defined]  # a caller that stops reading
        writer.write(b"".join(GET % number for number in range(200)))
        async with asyncio.timeout(10):
            while not server.connections:
                await asyncio.sleep(0.01)
            while server.connections:
                await asyncio.sleep(0.01)
        await hang_up(writer)


async def test_one_connection_too_many_is_told_so(gate: Gate) -> None:
    async with serving(gate.answer, EdgeLimits(connections_max=2)) as (_, port):
        first, second = await connect(port), await connect(port)
        for reader, writer in (first, second):
            writer.write(GET % 1)
            await one_answer(reader)
        said = await talk(port, GET % 3)
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in said
        await hang_up(first[1])
        await hang_up(second[1])


async def test_half_closed_callers_get_their_answer(gate: Gate) -> None:
    gate.opened.clear()
    async with serving(gate.answer) as (_, port):
        reader, writer = await connect(port)
        writer.write(GET % 7)
        writer.write_eof()
        await gate.began.wait()
        gate.opened.set()
        async with asyncio.timeout(5):
            assert (await reader.read()).endswith(b"/7")
        await hang_up(writer)


async def test_draining_every_answer_ends_its_connection_and_new_ones_are_served(
    gate: Gate,
) -> None:
    async with serving(gate.answer) as (server, port):
        reader, writer = await connect(port)
        writer.write(GET % 1)
        assert b"connection: close" not in await one_answer(reader)
        server.drain()
        writer.write(GET % 2)
        said = await one_answer(reader)
        assert b"connection: close" in said
        assert await reader.read() == b""
        await hang_up(writer)
        assert (await talk(port, GET % 3)).endswith(b"/3")


async def test_stopping_answers_what_is_under_way_and_then_refuses(gate: Gate) -> None:
    gate.opened.clear()
    async with serving(gate.answer) as (server, port):
        reader, writer = await connect(port)
        writer.write(GET % 1)
        await gate.began.wait()
        stopping = asyncio.create_task(server.stop(grace_s=5))
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                while True:
                    _, probe = await connect(port)
                    await hang_up(probe)
                    await asyncio.sleep(0.01)
        gate.opened.set()
        assert (await one_answer(reader)).endswith(b"/1")
        await hang_up(writer)
        await stopping
        assert not server.connections
        assert not server.tasks


async def test_a_connection_that_asks_while_the_server_stops_is_heard(gate: Gate) -> None:
    async with serving(gate.answer) as (server, port):
        reader, writer = await connect(port)
        writer.write(GET % 1)
        await one_answer(reader)
        stopping = asyncio.create_task(server.stop(grace_s=5))
        await asyncio.sleep(0.2)
        writer.write(GET % 2)
        assert (await one_answer(reader)).endswith(b"/2")
        await hang_up(writer)
        await stopping


async def test_stopping_has_an_end(gate: Gate) -> None:
    gate.opened.clear()
    async with serving(gate.answer) as (server, port):
        reader, writer = await connect(port)
        writer.write(GET % 1)
        await gate.began.wait()
        await server.stop(grace_s=0.1)
        assert not server.tasks
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        await hang_up(writer)
        await server.stop(grace_s=0)


class Counting:
    """A body that counts for ever, each piece when the test lets it."""

    def __init__(self, size: int = 1) -> None:
        self.turn = asyncio.Semaphore(0)
        self.closed = asyncio.Event()
        self.given = 0
        self._size = size

    async def __anext__(self) -> bytes:
        await self.turn.acquire()
        self.given += 1
        return b"%d " % self.given * self._size

    def close(self) -> None:
        assert not self.closed.is_set(), "closed twice"
        self.closed.set()


@contextlib.asynccontextmanager
async def streaming(
    body: Counting, limits: EdgeLimits | None = None
) -> AsyncIterator[tuple[HttpServer, int]]:
    async def answer(_: Request) -> Reply:
        return Reply(200, [(b"content-type", b"text/plain")], b"first ", body)

    async with serving(answer, limits) as served:
        yield served


async def begin(port: int) -> Streams:
    reader, writer = await connect(port)
    writer.write(GET % 1)
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"connection: close" in head
        assert b"content-length" not in head
        assert await reader.readexactly(6) == b"first "
    return reader, writer


async def test_a_stream_is_sent_piece_by_piece_until_its_caller_goes() -> None:
    body = Counting()
    async with streaming(body) as (server, port), asyncio.timeout(10):
        reader, writer = await begin(port)
        for piece in (b"1 ", b"2 ", b"3 "):
            body.turn.release()
            assert await reader.readexactly(2) == piece
        await hang_up(writer)
        await body.closed.wait()
        while server.connections or server.tasks:
            await asyncio.sleep(0.01)


async def test_a_stream_ends_when_the_server_drains() -> None:
    body = Counting()
    async with streaming(body) as (server, port), asyncio.timeout(10):
        reader, writer = await begin(port)
        server.drain()
        assert await reader.read() == b""
        assert body.closed.is_set()
        await hang_up(writer)
        # One that is asked for meanwhile is told what there is, and no more.
        body.closed.clear()
        assert (await talk(port, GET % 1)).endswith(b"first ")
        assert body.closed.is_set()


async def test_who_does_not_hang_up_after_a_stream_is_cut() -> None:
    body = Counting()
    async with streaming(body) as (server, port), asyncio.timeout(10):
        reader, writer = await begin(port)
        server.drain()
        await reader.read()
        while server.connections:
            await asyncio.sleep(0.01)
        writer.transport.abort()


async def test_a_stream_nobody_reads_waits_and_is_cut() -> None:
    body = Counting(size=100_000)
    body.turn = asyncio.Semaphore(1_000_000)
    async with streaming(body, EdgeLimits(write_s=0.3)) as (server, port), asyncio.timeout(10):
        reader, writer = await connect(port)
        writer.write(GET % 1)
        await body.closed.wait()
        assert body.given < 200, "pieces were made that nobody could be sent"
        assert not server.connections
        writer.transport.abort()
        reader.feed_eof()


async def test_head_of_a_stream_has_no_body() -> None:
    body = Counting()
    async with streaming(body) as (_, port):
        said = await talk(port, b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert said.endswith(b"\r\n\r\n")
    assert body.closed.is_set()


async def test_a_stream_that_fails_ends_its_connection() -> None:
    class Failing(Counting):
        async def __anext__(self) -> bytes:
            raise RuntimeError("a bug")

    body = Failing()
    async with streaming(body) as (_, port):
        assert (await talk(port, GET % 1)).endswith(b"first ")
    assert body.closed.is_set()
