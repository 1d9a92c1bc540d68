"""The supervisor over processes that serve nobody: what it does when they fail, hang or babble."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from jitway.errors import WorkerFailed
from jitway.supervisor import Supervisor
from jitway.supervisor import supervisor as supervising

PATIENCE_S = 30.0
# A worker as bare as can be: it says what `say` makes of its brief, and goes on as that tells it.
WORKER = """
import os, socket, sys, time
from jitway.supervisor import messages as m
from jitway.supervisor.line import first_message
line = socket.socket(fileno=int(sys.argv[1]))
brief = first_message(line)
line.settimeout(None)
def say(message):
    line.sendall(m.encode(message))
def until_stopped():
    while True:
        size = int.from_bytes(line.recv(4, socket.MSG_WAITALL) or sys.exit(1), "big")
        if isinstance(m.decode(line.recv(size, socket.MSG_WAITALL)), m.Stop):
            return
def lives():
    # How many of its kind there were before.
    with open(brief.settings.decode(), "a+") as file:
        file.write("x")
        return file.tell()
"""
SERVES = "say(m.Serving()); until_stopped()"


@asynccontextmanager
async def supervising_some(
    script: str, directory: Path, *, workers: int = 2
) -> AsyncIterator[Supervisor]:
    listener = socket.create_server(("127.0.0.1", 0))
    supervisor = Supervisor(
        [sys.executable, "-c", WORKER + script],
        lambda number: os.fsencode(directory / f"lives-{number}"),
        listener,
        workers=workers,
    )
    try:
        yield supervisor
    finally:
        await supervisor.stop(timeout_s=PATIENCE_S)
        assert listener.fileno() == -1


async def lives(directory: Path, number: int) -> int:
    path = directory / f"lives-{number}"
    return path.stat().st_size if path.exists() else 0


async def test_it_starts_when_all_serve_and_ends_when_all_have_ended(tmp_path: Path) -> None:
    async with supervising_some(SERVES, tmp_path) as supervisor:
        async with asyncio.timeout(PATIENCE_S):
            await supervisor.start()
        pids = [one.process.pid for one in supervisor._workers.values()]
        assert len(pids) == 2
        assert await supervisor.stop(timeout_s=PATIENCE_S)
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "brief.number == 2 or until_stopped()\n"
            "say(m.Failed('no ledger: start it', False)); sys.exit(1)",
            "no ledger: start it",
        ),
        ("os._exit(7)", "it ended with 7"),
        ("os.kill(os.getpid(), 9)", "ended by SIGKILL"),
        ("line.sendall(b'GET / HTTP/1.1'); time.sleep(60)", "ended by SIGKILL"),
    ],
)
async def test_one_that_cannot_start_ends_the_start(script: str, said: str, tmp_path: Path) -> None:
    async with supervising_some(script, tmp_path) as supervisor:
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(WorkerFailed, match=said):
                await supervisor.start()


async def test_one_that_dies_again_and_again_ends_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "PAUSE_S_MAX", 0.1)
    monkeypatch.setattr(supervising, "FAILURES_MAX", 3)
    script = "say(m.Serving())\nif brief.number == 1: until_stopped()\ntime.sleep(0.5); os._exit(3)"
    async with supervising_some(script, tmp_path) as supervisor:
        async with asyncio.timeout(PATIENCE_S):
            await supervisor.start()
            assert "worker 2 ended 3 times" in await asyncio.shield(supervisor.broken)


async def test_a_store_that_is_away_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "PAUSE_S_MAX", 0.01)
    monkeypatch.setattr(supervising, "FAILURES_MAX", 3)
    script = (
        "n = lives()\n"
        "if n == 1: say(m.Serving()); time.sleep(0.5); os._exit(3)\n"
        "if n < 6: say(m.Failed('PostgreSQL is away', True)); sys.exit(1)\n"
        "say(m.Serving()); until_stopped()"
    )
    async with supervising_some(script, tmp_path, workers=1) as supervisor:
        async with asyncio.timeout(PATIENCE_S):
            await supervisor.start()
            while await lives(tmp_path, 1) < 6 or supervisor._roll.serving < 1:
                assert not supervisor.broken.done()
                await asyncio.sleep(0.02)


async def test_one_that_hangs_for_long_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "TICK_S", 0.05)
    monkeypatch.setattr(supervising, "MISSING_TICKS", 2)
    monkeypatch.setattr(supervising, "HUNG_TICKS", 40)
    script = (
        "n = lives()\nsay(m.Serving())\n"
        "import threading\n"
        "def beat():\n    while n > 1: say(m.Pulse([])); time.sleep(0.02)\n"
        "threading.Thread(target=beat, daemon=True).start()\nuntil_stopped()"
    )
    async with supervising_some(script, tmp_path, workers=1) as supervisor:
        async with asyncio.timeout(PATIENCE_S):
            await supervisor.start()
            while supervisor._roll.missing < 1:
                await asyncio.sleep(0.01)
            while await lives(tmp_path, 1) < 2 or supervisor._roll.serving < 1:
                await asyncio.sleep(0.01)


async def test_one_that_does_not_end_is_killed(tmp_path: Path) -> None:
    async with supervising_some("say(m.Serving()); time.sleep(60)", tmp_path) as supervisor:
        async with asyncio.timeout(PATIENCE_S):
            await supervisor.start()
            pids = [one.process.pid for one in supervisor._workers.values()]
            os.kill(pids[0], signal.SIGSTOP)
            assert not await supervisor.stop(timeout_s=0.2)
        assert not supervisor._workers
