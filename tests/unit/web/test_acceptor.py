"""Several that accept from one socket: each gets its share, and nobody waits in vain."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import pytest

from jitway.supervisor.shares import Shares
from jitway.web.acceptor import Acceptor

PATIENCE_S = 20.0


@dataclass
class Process:
    """What one of them has open."""

    connections: set[asyncio.Transport] = field(default_factory=set)

    def protocol(self, _: object) -> asyncio.Protocol:
        return Open(self)


class Open(asyncio.Protocol):
    def __init__(self, process: Process) -> None:
        self._open = process.connections
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._open.add(transport)

    def connection_lost(self, _: Exception | None) -> None:
        self._open.discard(self._transport)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=256) as made:
        made.settimeout(0)
        yield made


@contextmanager
def shared(workers: int) -> Iterator[list[Shares]]:
    """What the supervisor and each of so many workers see."""
    supervisor = Shares.make(workers)
    numbers = range(1, workers + 1)
    seen = [Shares(supervisor.descriptor, workers=workers, own=number) for number in numbers]
    try:
        yield [supervisor, *seen]
    finally:
        for one in seen:
            one.descriptor = -1
            one.close()
        supervisor.close()


@asynccontextmanager
async def accepting(listener: socket.socket, shares: Shares) -> AsyncIterator[Process]:
    process = Process()
    # One loop watches a descriptor once.
    with listener.dup() as own:
        own.settimeout(0)
        acceptor = Acceptor(
            own, process.protocol, open_now=lambda: len(process.connections), shares=shares
        )
        try:
            yield process
        finally:
            await acceptor.close()
            for transport in list(process.connections):
                transport.abort()


@asynccontextmanager
async def callers(listener: socket.socket, number: int) -> AsyncIterator[None]:
    """So many who connect at once and stay."""
    host, port = listener.getsockname()
    opening = [asyncio.open_connection(host, port) for _ in range(number)]
    opened = await asyncio.gather(*opening)
    try:
        yield
    finally:
        for _, writer in opened:
            writer.close()


async def until_open(number: int, *processes: Process) -> list[int]:
    async with asyncio.timeout(PATIENCE_S):
        while sum(len(one.connections) for one in processes) < number:
            await asyncio.sleep(0.005)
    return [len(one.connections) for one in processes]


async def test_two_share_evenly(listener: socket.socket) -> None:
    with shared(2) as (_, first, second):
        async with (
            accepting(listener, first) as one,
            accepting(listener, second) as other,
            callers(listener, 40),
        ):
            assert min(await until_open(40, one, other)) >= 15


async def test_one_that_comes_later_gets_what_comes_then(listener: socket.socket) -> None:
    with shared(2) as (_, first, second):
        async with accepting(listener, first) as one, callers(listener, 20):
            await until_open(20, one)
            async with accepting(listener, second) as other, callers(listener, 16):
                assert (await until_open(36, one, other))[1] >= 12


async def test_nobody_is_waited_for_in_vain(listener: socket.socket) -> None:
    with shared(2) as (supervisor, first, second):
        # It hangs: it is there, has none, and takes none.
        second.tell(0)
        async with accepting(listener, first) as one, callers(listener, 20):
            assert await until_open(20, one) == [20]
            supervisor.cross_out(2)
            assert first.least_of_others() > 1_000_000


async def test_who_hurries_takes_all_that_are_there(listener: socket.socket) -> None:
    with shared(2) as (_, first, second):
        second.tell(0)
        process = Process()
        acceptor = Acceptor(
            listener, process.protocol, open_now=lambda: len(process.connections), shares=first
        )
        async with callers(listener, 100):
            acceptor.hurry()
            await until_open(100, process)
            await acceptor.close()
            for transport in list(process.connections):
                transport.abort()
