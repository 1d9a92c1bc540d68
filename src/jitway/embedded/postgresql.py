"""`EmbeddedPostgreSQL`: one real server for all processes that share a data directory.

The first to come starts it, later ones attach, the last to leave stops it. A server that outlives
a killed jitway is found by its `postmaster.pid` and attached to, never doubled. Refuses to know
what the server is for.
"""

import asyncio
import os
import subprocess
import time
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import structlog

from jitway.embedded.binaries import Binaries, find_binaries
from jitway.embedded.cluster import (
    DATABASE,
    SUPERUSER,
    cluster_major,
    make_cluster,
    server_failure,
)
from jitway.embedded.command import POLL_S
from jitway.embedded.locks import UsersLock, start_lock
from jitway.embedded.places import (
    SYSTEM_STATE_DIR,
    find_cluster,
    make_data_dir,
    make_socket_dir,
    open_private,
    place_cluster,
    remove_socket_dir,
)
from jitway.embedded.postmaster import (
    Postmaster,
    Welcome,
    end_orphans,
    end_postmaster,
    find_postmaster,
    launch,
    launched_here,
    remove_stale_locks,
)
from jitway.embedded.server_settings import server_settings
from jitway.embedded.server_user import ServerUser, choose_server_user
from jitway.errors import EmbeddedServerError

START_SAYS = "postgresql-start.log"
FAST_STOP_S = 5.0
IMMEDIATE_STOP_S = 2.0
ANSWER_TIMEOUT_S = 10.0
WATCH_S = 0.1
RESTART_PAUSE_S_MAX = 5.0
OTHERS_RESTART_S = 15.0
MEMORY_IN_USE_S = 10.0
LOG_TAIL_BYTES = 8192

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
        binaries: the PostgreSQL to run; None = the best one found that suits the data.
        state_dir: where root keeps what the server's user must reach.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        settings: Mapping[str, str] | None = None,
        durable: bool = True,
        start_timeout_s: float = 120.0,
        binaries: Binaries | None = None,
        state_dir: Path = SYSTEM_STATE_DIR,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self._durable = durable
        self._settings = server_settings(settings, durable=durable)
        self._start_timeout_s = start_timeout_s
        self._binaries = binaries
        self._state_dir = state_dir
        self._users_lock: UsersLock | None = None
        self._postmaster: Postmaster | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id, or None when we do not use one."""
        return self._postmaster.pid if self._postmaster else None

    @property
    def is_attached(self) -> bool:
        """Whether the server in use was started by another process, or an earlier one."""
        return self._postmaster is not None and not launched_here(self._postmaster.pid)

    async def start(self) -> str:
        """Start the server, or attach to the one that runs; returns its `DATABASE_URL`.

        Calling it again returns the same.

        Raises:
            EmbeddedServerError: it cannot be; the text is one sentence that says what to do.
        """
        if self._postmaster is not None:
            return url_of(self._postmaster)
        make_data_dir(self.data_dir)
        self._users_lock = UsersLock(self.data_dir)
        patience_until = time.monotonic() + min(self._start_timeout_s, OTHERS_RESTART_S)
        try:
            while (found := await self._try_to_start(patience_until)) is None:
                await asyncio.sleep(WATCH_S)
        except BaseException:
            self._users_lock.close()
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
        async with start_lock(self.data_dir):
            users_lock, self._users_lock = self._users_lock, None
            postmaster, self._postmaster = self._postmaster, None
            try:
                if users_lock.is_ours_alone() and postmaster is not None:
                    await _end_server(postmaster.cluster)
            finally:
                users_lock.close()

    async def keep_running(self) -> None:
        """Start the server again whenever it dies, on the same address; ends only by cancel.

        Every process may do this: the first finds the server dead, the others find it running.
        """
        pause_s = WATCH_S
        while True:
            await asyncio.sleep(pause_s)
            if self._postmaster is None or find_postmaster(self._postmaster.cluster):
                pause_s = WATCH_S
                continue
            died = self._postmaster.pid
            try:
                async with start_lock(self.data_dir) as lock:
                    self._postmaster = await self._attach_or_launch(lock)
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

    async def _try_to_start(self, patience_until: float) -> Postmaster | None:
        """One turn under the start lock; None when another user has to act first."""
        assert self._users_lock is not None
        async with start_lock(self.data_dir) as lock:
            cluster = find_cluster(self.data_dir)
            running = find_postmaster(cluster) if cluster else None
            if running is None and not self._users_lock.is_ours_alone():
                # It died under them, and they are about to restart it; or they run where we
                # cannot see processes, such as another container, and a second server there
                # would ruin the data.
                if time.monotonic() < patience_until:
                    return None
                raise EmbeddedServerError(
                    f"another jitway uses {self.data_dir}, but its PostgreSQL cannot be seen from "
                    "here: stop that jitway, or choose another JITWAY_DATA_DIR"
                )
            postmaster = await self._attach_or_launch(lock)
            self._users_lock.share()
            return postmaster

    async def _attach_or_launch(self, lock: int) -> Postmaster:
        deadline = time.monotonic() + self._start_timeout_s
        cluster = find_cluster(self.data_dir)
        user = choose_server_user(cluster)
        if cluster is not None:
            running = await self._attach(cluster, deadline)
            if running is not None:
                return running
        major = cluster_major(cluster) if cluster else None
        binaries = find_binaries(major, [self._binaries] if self._binaries else None)
        binaries = await asyncio.to_thread(binaries.reachable_by, user, self._state_dir)
        if cluster is None:
            cluster = place_cluster(self.data_dir, user, self._state_dir)
            await make_cluster(cluster, binaries, user, durable=self._durable, lock_fd=lock)
        return await self._launch(cluster, binaries, user, deadline)

    async def _launch(
        self, cluster: Path, binaries: Binaries, user: ServerUser, deadline: float
    ) -> Postmaster:
        if not self._durable:
            log.warning("embedded_postgresql_not_durable", cluster=str(cluster))
        await end_orphans(cluster)
        socket_dir = make_socket_dir(cluster, user)
        remove_stale_locks(cluster, socket_dir)
        patience_until = time.monotonic() + MEMORY_IN_USE_S
        while True:
            says_to = open_private(self.data_dir / START_SAYS, os.O_WRONLY | os.O_TRUNC)
            try:
                child = launch(
                    cluster,
                    binaries,
                    user,
                    socket_dir=socket_dir,
                    settings=self._settings,
                    says_to=says_to,
                )
            finally:
                os.close(says_to)
            ready = await self._ready(cluster, child, deadline)
            if ready is not None:
                return ready
            said = self._last_words(cluster)
            # Where we may not look at other users' processes, orphans end in their own time.
            if "is still in use" not in said or time.monotonic() > patience_until:
                raise server_failure("PostgreSQL did not start", said, cluster)
            await asyncio.sleep(WATCH_S)

    async def _attach(self, cluster: Path, deadline: float) -> Postmaster | None:
        """The running server once it answers, or None when none runs."""
        while (running := find_postmaster(cluster)) is not None:
            if running.is_ready:
                welcome = await running.welcome(timeout_s=ANSWER_TIMEOUT_S)
                if welcome is Welcome.LET_IN:
                    return running
                if welcome is Welcome.SILENT:
                    raise EmbeddedServerError(
                        f"PostgreSQL (process {running.pid}) runs on {cluster} and does not "
                        "answer: `jitway stop` ends it"
                    )
            _refuse_after(deadline, running, cluster)
            await asyncio.sleep(POLL_S)
        return None

    async def _ready(
        self, cluster: Path, child: "subprocess.Popen[bytes]", deadline: float
    ) -> Postmaster | None:
        """The launched server once it takes connections, or None when it gave up."""
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
        return None

    def _last_words(self, cluster: Path) -> str:
        """What the server said when it gave up: before its log was open, else in its log."""
        said = _tail(self.data_dir / START_SAYS)
        logs = sorted((cluster / "log").glob("*.log"), key=lambda path: path.stat().st_mtime)
        return said if "FATAL:" in said or "PANIC:" in said or not logs else _tail(logs[-1])


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
    async with start_lock(data_dir):
        users_lock = UsersLock(data_dir)
        try:
            if not users_lock.is_ours_alone():
                return LeftBehind.IN_USE
            return LeftBehind.STOPPED if await _end_server(cluster) else LeftBehind.NOTHING
        finally:
            users_lock.close()


async def _end_server(cluster: Path) -> bool:
    """End what runs on the cluster, by whomever it was started; returns whether anything did."""
    running = find_postmaster(cluster)
    if running is None:
        return await end_orphans(cluster) > 0
    await end_postmaster(running, fast_s=FAST_STOP_S, immediate_s=IMMEDIATE_STOP_S)
    remove_socket_dir(cluster, running.socket_dir)
    return True


def _refuse_after(deadline: float, running: Postmaster | None, cluster: Path) -> None:
    if time.monotonic() <= deadline:
        return
    pid = running.pid if running else "not yet known"
    raise EmbeddedServerError(
        f"PostgreSQL (process {pid}) on {cluster} is still starting, which after a crash can take "
        "minutes: it goes on by itself, start jitway again in a while"
    )


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - LOG_TAIL_BYTES))
        return file.read().decode(errors="replace")
