"""`EmbeddedPostgreSQL`: one real server for all processes that share a data directory.

The first to come starts it, later ones attach, the last to leave stops it. Two locks in the data
directory hold that together and fall open by themselves when a process is killed: `start.lock`
for the one who starts or stops, `users.lock` shared by everybody who uses the server. A server
that outlives a killed jitway is found by its `postmaster.pid` and attached to, never doubled.
"""

import asyncio
import contextlib
import fcntl
import os
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import structlog

from jitway.embedded.binaries import find_binaries
from jitway.embedded.cluster import (
    DATABASE,
    SUPERUSER,
    cluster_major,
    make_cluster,
    server_failure,
)
from jitway.embedded.command import POLL_S
from jitway.embedded.places import (
    SYSTEM_STATE_DIR,
    find_cluster,
    make_data_dir,
    make_socket_dir,
    open_private,
    place_cluster,
)
from jitway.embedded.postmaster import (
    Postmaster,
    end_orphans,
    end_postmaster,
    find_postmaster,
    launch,
)
from jitway.embedded.server_user import choose_server_user
from jitway.errors import EmbeddedServerError

START_LOCK = "start.lock"
USERS_LOCK = "users.lock"
START_SAYS = "postgresql-start.log"
LOCK_TIMEOUT_S = 200.0
FAST_STOP_S = 5.0
IMMEDIATE_STOP_S = 2.0
ANSWER_TIMEOUT_S = 10.0
WATCH_S = 0.1
RESTART_PAUSE_S_MAX = 5.0

# A ledger: nothing that was acknowledged may be lost. On the command line, so that neither a file
# nor ALTER SYSTEM can weaken them.
DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
# Checkpoints are rare because each one makes the next write of every page a full page; the price,
# a longer recovery, is bounded by max_wal_size. Logs are bounded by the seven names of a week.
SETTINGS = {
    "shared_buffers": "128MB",
    "max_connections": "100",
    "max_wal_size": "2GB",
    "min_wal_size": "256MB",
    "checkpoint_timeout": "15min",
    "track_commit_timestamp": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "postgresql-%a.log",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
    "log_checkpoints": "off",
    "unix_socket_permissions": "0700",
}

log = structlog.get_logger("jitway.embedded")


class LeftBehind(StrEnum):
    """What `stop_left_behind` found."""

    NOTHING = "nothing"
    STOPPED = "stopped"
    IN_USE = "in_use"


class EmbeddedPostgreSQL:
    """A PostgreSQL server on a data directory, started if none runs there.

    Args:
        data_dir: made if missing; `JITWAY_DATA_DIR`.
        settings: server settings that replace or join the built-in ones.
        durable: False turns every sync off, for tests whose data may be lost; it is logged.
        start_timeout_s: seconds to wait for a server that starts or recovers.
        state_dir: where root keeps what the server's user must reach.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        settings: Mapping[str, str] | None = None,
        durable: bool = True,
        start_timeout_s: float = 120.0,
        state_dir: Path = SYSTEM_STATE_DIR,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self._durable = durable
        self._settings = {**SETTINGS, **(settings or {}), **(DURABLE if durable else NOT_DURABLE)}
        self._start_timeout_s = start_timeout_s
        self._state_dir = state_dir
        self._users_lock: int | None = None
        self._postmaster: Postmaster | None = None
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id, or None when we do not use one."""
        return self._postmaster.pid if self._postmaster else None

    @property
    def is_attached(self) -> bool:
        """Whether the server in use was started by another process, or an earlier one."""
        return self._postmaster is not None and self._child is None

    async def start(self) -> str:
        """Start the server, or attach to the one that runs; returns its `DATABASE_URL`.

        Calling it again returns the same.

        Raises:
            EmbeddedServerError: it cannot be; the text is one sentence that says what to do.
        """
        if self._postmaster is not None:
            return url_of(self._postmaster)
        make_data_dir(self.data_dir)
        self._users_lock = open_private(self.data_dir / USERS_LOCK, os.O_RDWR)
        deadline = time.monotonic() + self._start_timeout_s
        try:
            while (found := await self._try_to_start(deadline)) is None:
                await asyncio.sleep(WATCH_S)
        except BaseException:
            os.close(self._users_lock)
            self._users_lock = None
            raise
        self._postmaster = found
        return url_of(found)

    async def stop(self) -> None:
        """Leave the server, and end it when nobody else uses it; may be called at any time.

        Raises:
            EmbeddedServerError: the server does not end.
        """
        if self._users_lock is None:
            return
        async with _exclusively(self.data_dir):
            users_lock, self._users_lock = self._users_lock, None
            postmaster, self._postmaster = self._postmaster, None
            try:
                if _nobody_else(users_lock) and postmaster is not None:
                    # It may have been restarted by another user since we attached.
                    running = find_postmaster(postmaster.cluster)
                    if running is not None:
                        await end_postmaster(
                            running, fast_s=FAST_STOP_S, immediate_s=IMMEDIATE_STOP_S
                        )
            finally:
                os.close(users_lock)
                self._reap()

    async def keep_running(self) -> None:
        """Start the server again whenever it dies, on the same address; ends only by cancel.

        Every process may do this: the first finds the server dead, the others find it running.
        """
        pause_s = WATCH_S
        while True:
            await asyncio.sleep(pause_s)
            if self._postmaster is None or self._is_alive():
                pause_s = WATCH_S
                continue
            died = self._postmaster.pid
            try:
                async with _exclusively(self.data_dir) as start_lock:
                    deadline = time.monotonic() + self._start_timeout_s
                    self._postmaster = await self._attach_or_launch(start_lock, deadline)
            except EmbeddedServerError as error:
                pause_s = min(pause_s * 2, RESTART_PAUSE_S_MAX)
                log.error("embedded_postgresql_down", pid=died, error=str(error))
            else:
                pause_s = WATCH_S
                log.warning("embedded_postgresql_restarted", died=died, pid=self._postmaster.pid)

    async def __aenter__(self) -> str:
        """As `start()`."""
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """As `stop()`."""
        await self.stop()

    async def _try_to_start(self, deadline: float) -> Postmaster | None:
        """One turn under the start lock; None when another user has to act first."""
        assert self._users_lock is not None
        async with _exclusively(self.data_dir) as start_lock:
            cluster = find_cluster(self.data_dir)
            running = find_postmaster(cluster) if cluster else None
            if running is None and not _nobody_else(self._users_lock):
                # It died under them, and they are about to restart it; or they run where we
                # cannot see processes, such as another container, and a second server there
                # would ruin the data.
                if time.monotonic() < deadline:
                    return None
                raise EmbeddedServerError(
                    f"another jitway uses {self.data_dir}, but its PostgreSQL cannot be seen from "
                    "here: stop that jitway, or choose another JITWAY_DATA_DIR"
                )
            postmaster = await self._attach_or_launch(start_lock, deadline)
            fcntl.flock(self._users_lock, fcntl.LOCK_SH)
            return postmaster

    async def _attach_or_launch(self, start_lock: int, deadline: float) -> Postmaster:
        cluster = find_cluster(self.data_dir)
        user = choose_server_user(cluster)
        binaries = find_binaries(cluster_major(cluster) if cluster else None)
        if cluster is not None:
            running = await self._attach(cluster, deadline)
            if running is not None:
                return running
        binaries = await asyncio.to_thread(binaries.reachable_by, user, self._state_dir)
        if cluster is None:
            cluster = place_cluster(self.data_dir, user, self._state_dir)
            await make_cluster(cluster, binaries, user, durable=self._durable, lock_fd=start_lock)
        if not self._durable:
            log.warning("embedded_postgresql_not_durable", cluster=str(cluster))
        end_orphans(cluster)
        socket_dir = make_socket_dir(cluster, user)
        says_to = open_private(self.data_dir / START_SAYS, os.O_WRONLY | os.O_TRUNC)
        try:
            self._child = launch(
                cluster,
                binaries,
                user,
                socket_dir=socket_dir,
                settings=self._settings,
                says_to=says_to,
            )
        finally:
            os.close(says_to)
        return await self._ready(cluster, self._child, deadline)

    async def _attach(self, cluster: Path, deadline: float) -> Postmaster | None:
        """The running server once it answers, or None when none runs."""
        while (running := find_postmaster(cluster)) is not None:
            if running.is_ready:
                if await running.answers(timeout_s=ANSWER_TIMEOUT_S):
                    return running
                raise EmbeddedServerError(
                    f"PostgreSQL (process {running.pid}) runs on {cluster} and does not answer: "
                    "`jitway stop` ends it"
                )
            _refuse_after(deadline, running, cluster)
            await asyncio.sleep(POLL_S)
        return None

    async def _ready(
        self, cluster: Path, child: "subprocess.Popen[bytes]", deadline: float
    ) -> Postmaster:
        try:
            while child.poll() is None:
                running = find_postmaster(cluster)
                if running is not None and running.pid == child.pid and running.is_ready:
                    return running
                _refuse_after(deadline, running, cluster)
                await asyncio.sleep(POLL_S)
        except asyncio.CancelledError:
            child.terminate()
            raise
        raise server_failure("PostgreSQL did not start", self._last_words(cluster), cluster)

    def _last_words(self, cluster: Path) -> str:
        """What the server said when it gave up: before its log was open, else in its log."""
        said = (self.data_dir / START_SAYS).read_text(errors="replace")
        logs = sorted((cluster / "log").glob("*.log"), key=lambda path: path.stat().st_mtime)
        return said + (logs[-1].read_text(errors="replace")[-4096:] if logs else "")

    def _is_alive(self) -> bool:
        self._reap()
        running = find_postmaster(self._postmaster.cluster) if self._postmaster else None
        return running is not None

    def _reap(self) -> None:
        if self._child is not None and self._child.poll() is not None:
            self._child = None


def url_of(postmaster: Postmaster) -> str:
    """The `DATABASE_URL` of a running server: its Unix socket and the database `jitway`."""
    socket_dir = quote(str(postmaster.socket_dir), safe="")
    return f"postgresql://{SUPERUSER}@/{DATABASE}?host={socket_dir}&port={postmaster.port}"


def running_url(data_dir: Path) -> str | None:
    """The address of the server that runs on this data directory now, or None.

    It promises nothing about the next moment; whoever needs the server uses `EmbeddedPostgreSQL`.

    Raises:
        EmbeddedServerError: what lies there belongs to another user.
    """
    cluster = find_cluster(data_dir)
    running = find_postmaster(cluster) if cluster else None
    return url_of(running) if running is not None and running.is_ready else None


async def stop_left_behind(data_dir: Path) -> LeftBehind:
    """End the server that a killed jitway left behind; one in use is left alone.

    Raises:
        EmbeddedServerError: it belongs to another user, or does not end.
    """
    cluster = find_cluster(data_dir)
    if cluster is None:
        return LeftBehind.NOTHING
    async with _exclusively(data_dir):
        users_lock = open_private(data_dir / USERS_LOCK, os.O_RDWR)
        try:
            if not _nobody_else(users_lock):
                return LeftBehind.IN_USE
            running = find_postmaster(cluster)
            if running is not None:
                await end_postmaster(running, fast_s=FAST_STOP_S, immediate_s=IMMEDIATE_STOP_S)
                return LeftBehind.STOPPED
            return LeftBehind.STOPPED if end_orphans(cluster) else LeftBehind.NOTHING
        finally:
            os.close(users_lock)


@contextlib.asynccontextmanager
async def _exclusively(data_dir: Path) -> AsyncIterator[int]:
    """Hold the start lock; yields its number, for a child that must hold it too."""
    lock = open_private(data_dir / START_LOCK, os.O_RDWR)
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    try:
        while not _locked(lock):
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"another jitway has been starting or stopping PostgreSQL on {data_dir} for "
                    f"{LOCK_TIMEOUT_S:.0f} s: end that process, then start again"
                )
            await asyncio.sleep(POLL_S)
        yield lock
    finally:
        os.close(lock)


def _locked(number: int) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _nobody_else(users_lock: int) -> bool:
    """Whether no other process uses the server. Only asked under the start lock."""
    return _locked(users_lock)


def _refuse_after(deadline: float, running: Postmaster | None, cluster: Path) -> None:
    if time.monotonic() <= deadline:
        return
    pid = running.pid if running else "not yet known"
    raise EmbeddedServerError(
        f"PostgreSQL (process {pid}) on {cluster} is still starting, which after a crash can take "
        "minutes: it goes on by itself, start jitway again in a while"
    )
