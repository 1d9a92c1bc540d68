"""The server process: told from a stranger's, asked whether it answers, launched and ended.

Everything is read from `postmaster.pid` and `/proc`, so a server started by an earlier, killed run
is treated exactly like our own child.
"""

import asyncio
import os
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from jitway.embedded.binaries import Binaries
from jitway.embedded.cluster import DATABASE, SUPERUSER
from jitway.embedded.command import ENVIRONMENT, POLL_S
from jitway.embedded.server_user import ServerUser
from jitway.errors import EmbeddedServerError

PORT = 5432
PROC = Path("/proc")
PROTOCOL_3_0 = 196608
ORPHANS_S = 5.0
REFUSAL_BYTES_MAX = 8192
# The class of refusals while a server starts, recovers or shuts down: 57P01 to 57P03.
CANNOT_NOW = b"\0C57P0"

# A server may outlive the object that started it, and must still be reaped when it ends.
_children: "dict[int, subprocess.Popen[bytes]]" = {}


class Welcome(StrEnum):
    """How a server receives a client."""

    LET_IN = "let_in"
    NOT_NOW = "not_now"
    SILENT = "silent"


@dataclass(frozen=True)
class Postmaster:
    """A live server on one cluster, as its lock file describes it."""

    pid: int
    cluster: Path
    port: int
    socket_dir: Path
    status: str

    @property
    def socket_path(self) -> Path:
        """The socket its clients connect to."""
        return self.socket_dir / f".s.PGSQL.{self.port}"

    @property
    def is_ready(self) -> bool:
        """Whether it takes connections, by its own word."""
        return self.status == "ready"

    async def welcome(self, *, timeout_s: float) -> Welcome:
        """Whether it lets a client in, asked with a bare start-up packet and no driver.

        A frozen server accepts the connection (the kernel does) and stays silent. One that recovers
        from a crash of its own still calls itself ready in its lock file, and says so only here.
        """
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_unix_connection(self.socket_path)
                try:
                    fields = f"user\0{SUPERUSER}\0database\0{DATABASE}\0\0".encode()
                    writer.write(struct.pack("!ii", 8 + len(fields), PROTOCOL_3_0) + fields)
                    kind, size = struct.unpack("!ci", await reader.readexactly(5))
                    said = await reader.readexactly(max(0, min(size, REFUSAL_BYTES_MAX) - 4))
                finally:
                    writer.close()
        except TimeoutError:
            return Welcome.SILENT
        except (OSError, asyncio.IncompleteReadError):
            return Welcome.NOT_NOW
        # Any other refusal is for whoever connects to be told, in the driver's words.
        return Welcome.NOT_NOW if kind == b"E" and CANNOT_NOW in said else Welcome.LET_IN


def find_postmaster(cluster: Path) -> Postmaster | None:
    """The live server on this cluster, whoever started it, or None.

    Raises:
        EmbeddedServerError: the lock file cannot be read.
    """
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EmbeddedServerError(
            f"{cluster}/postmaster.pid cannot be read ({error.strerror}): start jitway as the "
            "user who owns that directory"
        ) from error
    if not lines or not lines[0].isdigit() or not _runs_on(int(lines[0]), cluster):
        return None
    # A server that has only begun has written only the first lines.
    lines += [""] * (8 - len(lines))
    return Postmaster(
        pid=int(lines[0]),
        cluster=cluster,
        port=int(lines[3] or PORT),
        socket_dir=Path(lines[4]),
        status=lines[7].strip() or "starting",
    )


def launch(
    cluster: Path,
    binaries: Binaries,
    user: ServerUser,
    *,
    socket_dir: Path,
    settings: Mapping[str, str],
    says_to: int,
) -> "subprocess.Popen[bytes]":
    """Start the server in a session of its own, so that a terminal's Ctrl-C passes it by.

    Args:
        cluster: its data directory.
        binaries: reachable by the user.
        user: the owner of the cluster.
        socket_dir: where it listens; nowhere else.
        settings: on the command line, which no later file or ALTER SYSTEM outranks.
        says_to: an open file for what it says before its own log is open.

    Raises:
        EmbeddedServerError: the process cannot be started at all.
    """
    quoted_dir = '"' + str(socket_dir).replace('"', '""') + '"'
    fixed = {"port": str(PORT), "listen_addresses": "", "unix_socket_directories": quoted_dir}
    options = [f"--{name}={value}" for name, value in {**settings, **fixed}.items()]
    try:
        child = subprocess.Popen(
            [str(binaries.bin_dir / "postgres"), "-D", str(cluster), *options],
            stdin=subprocess.DEVNULL,
            stdout=says_to,
            stderr=says_to,
            cwd="/",
            env=ENVIRONMENT,
            start_new_session=True,
            umask=0o077,
            **user.options(),
        )
    except OSError as error:
        raise EmbeddedServerError(
            f"PostgreSQL cannot be run as user {user.name} ({error.strerror}): set DATABASE_URL, "
            "or start jitway as an ordinary user"
        ) from error
    _children[child.pid] = child
    return child


def launched_here(pid: int) -> bool:
    """Whether the process is a child of ours; children that ended are reaped on the way."""
    for child in [child for child in _children.values() if child.poll() is not None]:
        del _children[child.pid]
    return pid in _children


def remove_stale_locks(cluster: Path, socket_dir: Path) -> None:
    """Remove the lock files of a dead server, in its directory and beside its socket.

    PostgreSQL takes any process of its user for a live server, a zombie too, and after a restart
    of a container the numbers are always the same few. Only for the holder of the start lock.
    """
    if find_postmaster(cluster) is not None:
        return
    (cluster / "postmaster.pid").unlink(missing_ok=True)
    (socket_dir / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)


async def end_postmaster(postmaster: Postmaster, *, fast_s: float, immediate_s: float) -> None:
    """Shut the server down: fast, then immediately, then by force; the data is safe in all three.

    Args:
        postmaster: the server.
        fast_s: seconds for an orderly end, which writes a checkpoint.
        immediate_s: seconds for an end that leaves recovery to the next start.

    Raises:
        EmbeddedServerError: not even SIGKILL ended it.
    """
    steps = ((signal.SIGINT, fast_s), (signal.SIGQUIT, immediate_s), (signal.SIGKILL, immediate_s))
    for sent, patience_s in steps:
        _send(postmaster.pid, sent)
        # A frozen server must wake up to hear it.
        _send(postmaster.pid, signal.SIGCONT)
        if await _until(lambda: not _runs_on(postmaster.pid, postmaster.cluster), patience_s):
            launched_here(postmaster.pid)
            await end_orphans(postmaster.cluster)
            return
    raise EmbeddedServerError(
        f"PostgreSQL (process {postmaster.pid}) does not end: its disk may hang; mend that, then "
        "run `jitway stop`"
    )


async def end_orphans(cluster: Path) -> int:
    """End server processes whose postmaster is dead, since a new one must wait for them.

    Recovery from the log follows anyway, so nothing is lost. Returns how many there were.
    """
    orphans = list(_processes_in(cluster))
    for pid in orphans:
        _send(pid, signal.SIGKILL)
    if orphans:
        await _until(lambda: not any(_processes_in(cluster)), ORPHANS_S)
    return len(orphans)


def _runs_on(pid: int, cluster: Path) -> bool:
    """Whether the process is a live postmaster of this cluster and not a reused number."""
    try:
        command = (PROC / str(pid) / "cmdline").read_bytes()
        name, _, rest = (PROC / str(pid) / "stat").read_text().partition("(")[2].rpartition(")")
    except OSError:
        return False
    if name != "postgres" or rest.split()[0] in "ZX":
        return False
    arguments = command.split(b"\0")
    # A process on its way out has no memory left to read its arguments from, but is still there.
    if not command:
        return True
    if b"-D" not in arguments[:-1]:
        return False
    given = arguments[arguments.index(b"-D") + 1]
    return Path(os.fsdecode(given)).resolve() == cluster.resolve()


def _processes_in(cluster: Path) -> Iterator[int]:
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The server and its children work in their data directory; nobody else should.
            if os.readlink(entry / "cwd") != str(cluster):
                continue
            name = (entry / "comm").read_text().strip()
        except OSError:
            continue
        if name == "postgres":
            yield int(entry.name)


def _send(pid: int, what: signal.Signals) -> None:
    try:
        os.kill(pid, what)
    except ProcessLookupError:
        pass
    except PermissionError as error:
        raise EmbeddedServerError(
            f"PostgreSQL (process {pid}) belongs to another user: run `jitway stop` as that user"
        ) from error


async def _until(holds: Callable[[], bool], patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_S)
    return True
