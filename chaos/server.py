"""`server.py`: the embedded PostgreSQL as the kernel sees it: its processes, its locks, its files.

Reads only `/proc` and the data directory, so that it does not believe what it has to judge.
"""

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
POLL_S = 0.02
GONE_S = 20.0
LOCKS = ("start.lock", "users.lock")


@dataclass(frozen=True, slots=True)
class Process:
    """A process of PostgreSQL.

    Args:
        pid: its number.
        parent: the number of its parent.
        title: what it calls itself.
    """

    pid: int
    parent: int
    title: str

    @property
    def is_backend(self) -> bool:
        """Whether it serves one client, by its own words."""
        return self.title.startswith("postgres: ") and "[local]" in self.title


class Server:
    """Whatever runs on one data directory.

    Args:
        data_dir: of a gateway.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    @property
    def cluster(self) -> Path:
        """The server's own directory."""
        return (self._data_dir / "postgresql").resolve()

    def processes(self) -> list[Process]:
        """All its processes: servers, background workers and backends, orphans too."""
        return list(_postgres_processes(str(self.cluster)))

    def postmasters(self) -> list[Process]:
        """Those that no other of its processes has made; there may be only one."""
        found = self.processes()
        pids = {process.pid for process in found}
        # An orphan says what it is, a server shows the command that started it.
        return [
            process
            for process in found
            if process.parent not in pids and not process.title.startswith("postgres: ")
        ]

    def backends(self) -> list[Process]:
        """Those that serve a client."""
        return [process for process in self.processes() if process.is_backend]

    def send(self, what: signal.Signals, *, everybody: bool = True) -> list[int]:
        """Sends a signal to all its processes, or to the server alone; returns to whom."""
        found = self.processes() if everybody else self.postmasters()
        return [process.pid for process in found if send(process.pid, what)]

    async def gone(self, pids: list[int], *, timeout_s: float = GONE_S) -> None:
        """Waits until none of these processes runs.

        Raises:
            TimeoutError: one still does.
        """
        async with asyncio.timeout(timeout_s):
            while any(_state(pid) for pid in pids):
                await asyncio.sleep(POLL_S)

    def left_behind(self) -> list[str]:
        """What an orderly end must not leave: processes, lock files, sockets, held locks."""
        found = [f"process {one.pid} ({one.title})" for one in self.processes()]
        found += [str(path) for path in self.cluster.glob("postmaster.pid")]
        found += [str(path) for path in self.cluster.glob(".s.PGSQL.*")]
        found += [f"{name} is held" for name in LOCKS if _is_held(self._data_dir / name)]
        return found


def send(pid: int, what: signal.Signals) -> bool:
    """Sends a signal to a process that may have ended; whether it was there."""
    try:
        os.kill(pid, what)
    except ProcessLookupError:
        return False
    return True


def _postgres_processes(cluster: str) -> Iterator[Process]:
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        # Processes end while we look at them.
        with contextlib.suppress(OSError):
            if os.readlink(entry / "cwd") != cluster or not _state(int(entry.name)):
                continue
            if (entry / "comm").read_text().strip() != "postgres":
                continue
            parent = int(_fields(int(entry.name))[1])
            title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            yield Process(int(entry.name), parent, title)


def _state(pid: int) -> str:
    """The letter of a process's state; nothing when it has ended, or only waits to be reaped."""
    try:
        state = _fields(pid)[0]
    except (OSError, IndexError):
        return ""
    return "" if state in "ZX" else state


def _fields(pid: int) -> list[str]:
    return (PROC / str(pid) / "stat").read_text().rpartition(") ")[2].split()


def _is_held(path: Path) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
