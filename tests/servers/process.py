"""A server process of ours, in a group of its own: its signals reach nobody else."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jitway.embedded.server_user import ServerUser

POLL_S = 0.02
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


class ServerMissing(Exception):
    """A server is not installed, or did not start; the text says what to do."""


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A process group known by its leader.

    A process id is used again some day; with its start (in ticks since the machine's) it is not
    mistaken for another.
    """

    pid: int
    started_ticks: int

    @classmethod
    def launch(
        cls,
        command: Sequence[str | Path],
        *,
        log: Path,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        user: ServerUser | None = None,
    ) -> "ServerProcess":
        """Start a command; it outlives us unless it is stopped. What it says goes to the log."""
        options = user.options() if user is not None else {}
        with log.open("ab") as said:
            child = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={"PATH": PATH, "LANG": "C.UTF-8", **(environment or {})},
                start_new_session=True,
                **options,
            )
        # Reaped in `is_alive`; it need not be ours by then.
        child.returncode = 0
        return cls(child.pid, _started_ticks(child.pid) or 0)

    @property
    def is_alive(self) -> bool:
        """Whether it runs; a dead one that nobody has waited for does not."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        return _started_ticks(self.pid) == self.started_ticks

    def send(self, what: signal.Signals) -> None:
        """Send a signal to the whole group, if it is still the one we started."""
        if self.is_alive:
            os.killpg(self.pid, what)

    def stop(self, *, gently: signal.Signals = signal.SIGTERM, patience_s: float = 10.0) -> None:
        """End it: in order, or by force when that takes too long."""
        self.send(signal.SIGCONT)
        if self.is_alive:
            os.kill(self.pid, gently)
        if not wait_until(lambda: not self.is_alive, patience_s):
            self.kill()

    def kill(self) -> None:
        """SIGKILL, as an out-of-memory killer would; returns when it is gone."""
        self.send(signal.SIGKILL)
        if not wait_until(lambda: not self.is_alive, 10.0):
            raise ServerMissing(f"process {self.pid} survived SIGKILL")


def wait_until(holds: Callable[[], bool], patience_s: float) -> bool:
    """Whether it came to hold within that many seconds."""
    deadline = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def wait_for_start(
    process: ServerProcess, holds: Callable[[], bool], *, log: Path, patience_s: float
) -> None:
    """Wait until a server is ready.

    Raises:
        ServerMissing: it ended, or took too long; the text has the end of its log.
    """
    ready = wait_until(lambda: holds() or not process.is_alive, patience_s)
    if ready and process.is_alive:
        return
    what = f"was not ready within {patience_s:g} s" if process.is_alive else "ended at once"
    said = log.read_text(errors="replace")[-2000:] if log.exists() else ""
    process.kill()
    raise ServerMissing(f"a server {what}; the end of {log}:\n{said}")


def free_port() -> int:
    """A TCP port that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def exchange(port: int, request: bytes, *, timeout_s: float = 2.0) -> bytes:
    """What a server on this machine answers first, or nothing."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
            connection.sendall(request)
            return connection.recv(4096)
    except OSError:
        return b""


def _started_ticks(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in {"Z", "X"} else int(fields[18])
