"""An end in order: nobody who was connected is failed, and nothing is left behind.

A request has failed when a byte of it was sent on a connection that the gateway had accepted, and
it got no whole answer, or another than it would get on any other day. A connection that is refused
once the gateway no longer listens carried no request: its caller goes elsewhere.
"""

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.connection import NotSent
from chaos.gateway import free_port
from tests.end_to_end.asking import Asking
from tests.end_to_end.conftest import House

DRAIN_S_MAX = 10.0
CALLERS = 12
WARM_REQUESTS = 50
# Makes its standard input the terminal that its session obeys, and becomes the gateway.
IN_THE_FOREGROUND = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "jitway", "serve"])
"""


@contextlib.asynccontextmanager
async def under_load(asking: Asking) -> AsyncIterator[None]:
    """Callers of all habits, who go on until they are refused."""
    await asking.prepare()

    def forever() -> bool:
        return True

    # One that connects anew each time must find the door open or shut, never slammed.
    habits: list[dict[str, Any]] = [
        {},
        {"keeping_alive": False},
        {"request": asking.deposit, "pause_s": 0.2},
    ]
    async with asyncio.TaskGroup() as callers:
        for number in range(CALLERS):
            habit = habits[number % 3]
            callers.create_task(asking.keep_asking(number, forever, **habit))
        async with asyncio.timeout(30):
            while len(asking.ends) < WARM_REQUESTS:
                await asyncio.sleep(0.01)
        yield


async def test_sigterm_under_load_fails_no_request(house: House) -> None:
    gateway = house.gateway()
    await gateway.start()
    asking = Asking(gateway.port, house.key)
    async with under_load(asking):
        before = len(asking.ends)
        probing = asyncio.create_task(readiness(asking))
        code, seconds = await gateway.terminate()
    assert list(asking.failures()) == []
    assert asking.refused == CALLERS
    # It said so while it still served, and to go elsewhere with the next request.
    assert (503, "close") in await probing
    assert len(asking.ends) > before
    assert code == 0
    assert seconds < DRAIN_S_MAX
    assert house.server.left_behind() == []


async def readiness(asking: Asking) -> set[tuple[int, str | None]]:
    """What `/ready` says until nobody answers there: status, and what becomes of the connection."""
    said = set()
    with contextlib.suppress(NotSent):
        while True:
            reply = await asking.look("/ready")
            said.add((reply.status, reply.headers.get("connection")))
            await asyncio.sleep(0.02)
    return said


async def test_a_request_under_way_is_answered(house: House) -> None:
    gateway = house.gateway(JITWAY_DRAIN_S="0")
    await gateway.start()
    asking = Asking(gateway.port, house.key)
    await asking.prepare()
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    request = asking.authorization(0).raw
    writer.write(request[:-5])
    await asyncio.sleep(0.1)
    gateway.send(signal.SIGTERM)
    async with asyncio.timeout(DRAIN_S_MAX):
        while not await refuses(gateway.port):
            await asyncio.sleep(0.01)
        writer.write(request[-5:])
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    writer.close()
    assert await gateway.ended() == 0


async def test_a_second_sigterm_ends_it_now_and_the_next_start_goes_on(house: House) -> None:
    gateway = house.gateway(JITWAY_DRAIN_S="5")
    await gateway.start()
    asking = Asking(gateway.port, house.key)
    await asking.prepare()
    postmasters = [one.pid for one in house.server.postmasters()]
    gateway.send(signal.SIGTERM)
    async with asyncio.timeout(DRAIN_S_MAX):
        while (await asking.look("/ready")).status == 200:
            await asyncio.sleep(0.01)
    gateway.send(signal.SIGTERM)
    # Well before its five seconds of serving on are over.
    assert await gateway.ended(timeout_s=4) == 1
    assert [one.pid for one in house.server.postmasters()] == postmasters
    following = house.gateway()
    await following.start()
    asking.port = following.port
    assert (await asking.authorize()).status == 200
    assert [one.pid for one in house.server.postmasters()] == postmasters
    assert (await following.terminate())[0] == 0


async def test_a_start_that_waits_refuses_callers_and_ends_when_it_is_told_to(
    house: House,
) -> None:
    gateway = house.gateway()
    lock = (house.data_dir / "start.lock").open("rb")
    fcntl.flock(lock, fcntl.LOCK_EX)
    starting = asyncio.ensure_future(gateway.start())
    try:
        async with asyncio.timeout(30):
            while not await is_bound(gateway.port):
                await asyncio.sleep(0.02)
        assert await refuses(gateway.port)
        gateway.send(signal.SIGTERM)
        assert await gateway.ended(timeout_s=DRAIN_S_MAX) == 0
    finally:
        lock.close()
        with pytest.raises(Exception, match="ended with 0"):
            await starting


async def test_ctrl_c_of_a_terminal_ends_the_gateway_and_then_its_server(house: House) -> None:
    port = free_port()
    with a_terminal(house, port) as (terminal, process):
        said = await asyncio.to_thread(read_line, terminal)
        assert "jitway serves at" in said
        asking = Asking(port, house.key)
        async with under_load(asking):
            assert os.tcgetpgrp(terminal) == os.getpgid(process.pid)
            for one in house.server.processes():
                # What the terminal's keys reach is the session of the gateway alone.
                assert os.getsid(one.pid) != os.getsid(process.pid)
            os.write(terminal, b"\x03")
            code = await asyncio.to_thread(process.wait, DRAIN_S_MAX + 5)
    assert list(asking.failures()) == []
    assert code == 0
    assert house.server.left_behind() == []


@contextlib.contextmanager
def a_terminal(house: House, port: int) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """`jitway serve` in the foreground of a terminal of its own."""
    ours, theirs = pty.openpty()
    environment = {
        **os.environ,
        "JITWAY_DATA_DIR": str(house.data_dir),
        "JITWAY_ENV_FILE": os.devnull,
        "JITWAY_LOG_LEVEL": "error",
        "PORT": str(port),
    }
    environment.pop("DATABASE_URL", None)
    process = subprocess.Popen(
        [sys.executable, "-c", IN_THE_FOREGROUND],
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield ours, process
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_line(terminal: int) -> str:
    """Until the terminal shows the end of a line."""
    said = b""
    while b"\n" not in said:
        said += os.read(terminal, 1024)
    return said.decode()


async def refuses(port: int) -> bool:
    """Whether nobody listens there."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return True
    writer.close()
    return False


async def is_bound(port: int) -> bool:
    """Whether a process has taken the port already."""
    wanted = f"0100007F:{port:04X}"
    if any(line.split()[1] == wanted for line in lines_of("/proc/net/tcp")):
        return True
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def lines_of(path: str) -> list[str]:
    return Path(path).read_text().splitlines()[1:]
