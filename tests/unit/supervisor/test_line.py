"""Messages between processes: whole or not at all, bounded, and nobody waits for a deaf peer."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from jitway.profiler.profiler import Profiler
from jitway.supervisor import line as lines
from jitway.supervisor import messages
from jitway.supervisor.families import Family, Sample
from jitway.supervisor.line import Line, first_message
from jitway.supervisor.messages import AnyMessage, Ask, Brief, Pulse, Roll, Serving, Told, What


@asynccontextmanager
async def a_line() -> AsyncIterator[tuple[Line, Line]]:
    one, other = socket.socketpair()
    ends = await Line.over(one), await Line.over(other)
    try:
        yield ends
    finally:
        for end in ends:
            end.close()


async def test_what_is_said_is_heard_in_order() -> None:
    family = Family("jitway_x", "counter", "X.", [Sample("jitway_x_total", (("a", "b"),), 3.0)])
    said: list[AnyMessage] = [
        Brief(3, 4, b"settings"),
        Serving(),
        Pulse([family], Profiler().profile()),
        Ask(7, What.METRICS, [family]),
        Told(7, None),
        Roll(2, 0, 1),
    ]
    async with a_line() as (here, there):
        for message in said:
            assert here.send(message)
        assert [await there.receive() for _ in said] == said


async def test_a_peer_that_is_gone_says_nothing() -> None:
    async with a_line() as (here, there):
        there.close()
        assert await here.receive() is None
        here.close()
        assert not here.send(Serving())


async def test_a_deaf_peer_is_not_told_more() -> None:
    async with a_line() as (here, _):
        document = bytes(100_000)
        sent = 0
        # What the kernel takes, what we keep, and not a message more.
        while here.send(Told(1, document)) and sent < 1000:
            sent += 1
        assert sent < 1000
        assert not here.send(Serving())


async def test_what_is_too_long_is_neither_sent_nor_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_line() as (here, there):
        here.send(Told(1, bytes(10_000)))
        monkeypatch.setattr(lines, "FRAME_BYTES_MAX", 5_000)
        with pytest.raises(ValueError, match="too long"):
            await there.receive()
        monkeypatch.setattr(messages, "FRAME_BYTES_MAX", 5_000)
        with pytest.raises(ValueError, match="too long"):
            here.send(Told(1, bytes(10_000)))


@pytest.mark.parametrize("garbage", [b"\x00\x00\x00\x02{}", b"\x00\x00\x00\x00", b"GET / HTTP/1.1"])
async def test_garbage_is_no_message(garbage: bytes) -> None:
    one, other = socket.socketpair()
    end = await Line.over(one)
    other.sendall(garbage)
    with pytest.raises(ValueError, match=r"too long|malformed|Expected|truncated"):
        await end.receive()
    end.close()
    other.close()


def test_the_first_message_needs_no_loop() -> None:
    one, other = socket.socketpair()
    with one, other:
        other.sendall(messages.encode(Brief(1, 1, b"x" * 70_000)))
        assert first_message(one) == Brief(1, 1, b"x" * 70_000)
        other.close()
        with pytest.raises(ConnectionResetError):
            first_message(one)
