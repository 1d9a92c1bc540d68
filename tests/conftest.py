"""The PostgreSQL that the tests run on: always a real one, a database of its own for each test.

The server is `JITWAY_TEST_DATABASE_URL`, else `DATABASE_URL`, else an embedded one in a temporary
directory. A template database is migrated once per process and cloned for each test. Under
pytest-xdist every worker has a server, or at least a template, of its own.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import structlog

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.embedded.postgresql import EmbeddedPostgreSQL
from jitway.sql.migrate import migrate

_numbers = count(1)


def pytest_configure(config: pytest.Config) -> None:
    """Name the one mark that the fixtures here understand."""
    config.addinivalue_line(
        "markers",
        "relaxed_durability: commits of the test's database do not wait for the disk; for tests "
        "that make thousands of them and pull no plug",
    )


@pytest.fixture(autouse=True)
def logging_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command that runs inside a test does not decide what later tests log."""
    before, configure = structlog.get_config(), structlog.configure

    def configure_for_now(**options: Any) -> None:
        # A logger that was cached would keep the command's level for good.
        configure(**(options | {"cache_logger_on_first_use": False}))

    monkeypatch.setattr(structlog, "configure", configure_for_now)
    yield
    configure(**before)


@contextlib.contextmanager
def server_dir() -> Iterator[Path]:
    """A short directory that another user can pass through: root's server runs as one."""
    path = Path(tempfile.mkdtemp(prefix="jitway-"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def database_url(server_url: str, name: str) -> str:
    """The address of another database on the same server."""
    parts = urlsplit(server_url)
    return f"{parts.scheme}://{parts.netloc}/{name}{'?' if parts.query else ''}{parts.query}"


def _fresh_name(kind: str) -> str:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    return f"jitway_test_{kind}_{worker}_{os.getpid()}_{next(_numbers)}"


@pytest.fixture(scope="session")
async def server_url() -> AsyncIterator[str]:
    """The address of a server on which databases may be made."""
    given = os.environ.get("JITWAY_TEST_DATABASE_URL") or os.environ.get("DATABASE_URL")
    if given:
        yield given
        return
    with server_dir() as directory:
        server = EmbeddedPostgreSQL(directory / "data")
        try:
            yield await server.start()
        finally:
            await server.stop()


@pytest.fixture(scope="session")
async def server(server_url: str) -> AsyncIterator[PostgreSQLAdapter]:
    """The adapter that makes and drops databases."""
    adapter = PostgreSQLAdapter(
        {"DATABASE_URL": server_url}, pool_size_min=1, pool_size_max=2, slow_query_ms=60_000
    )
    yield adapter
    await adapter.close()


@contextlib.asynccontextmanager
async def _fresh_database(
    server: PostgreSQLAdapter, server_url: str, kind: str, *, template: str = "template0"
) -> AsyncIterator[str]:
    name = _fresh_name(kind)
    await server.execute_query(f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield database_url(server_url, name)
    finally:
        await server.execute_query(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
async def template(server: PostgreSQLAdapter, server_url: str) -> AsyncIterator[str]:
    """The name of the migrated database that others are cloned from."""
    async with _fresh_database(server, server_url, "template") as url:
        adapter = PostgreSQLAdapter({"DATABASE_URL": url}, pool_size_min=1, slow_query_ms=60_000)
        try:
            await migrate(adapter)
        finally:
            await adapter.close()
        yield urlsplit(url).path.removeprefix("/")


@pytest.fixture
async def database(
    server: PostgreSQLAdapter, server_url: str, template: str, request: pytest.FixtureRequest
) -> AsyncIterator[str]:
    """The address of a migrated database for one test."""
    async with _fresh_database(server, server_url, "clone", template=template) as url:
        if request.node.get_closest_marker("relaxed_durability"):
            name = urlsplit(url).path.removeprefix("/")
            await server.execute_query(f"ALTER DATABASE {name} SET synchronous_commit = off")
        yield url


@pytest.fixture
async def empty_database(server: PostgreSQLAdapter, server_url: str) -> AsyncIterator[str]:
    """The address of a database with nothing in it."""
    async with _fresh_database(server, server_url, "empty") as url:
        yield url


@pytest.fixture
async def adapter(database: str) -> AsyncIterator[PostgreSQLAdapter]:
    """An adapter on the test's database; the pool may grow to the default 20."""
    adapter = PostgreSQLAdapter({"DATABASE_URL": database}, pool_size_min=1)
    yield adapter
    await adapter.close()


class PrivateServer:
    """A server that a test may kill, freeze and bring back; nobody else uses it."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._server = EmbeddedPostgreSQL(data_dir)
        self.url = ""

    async def start(self) -> None:
        """Start it, again or for the first time; wake it if it was frozen."""
        if self._server.pid is not None and _alive(self._server.pid):
            self.thaw()
            return
        await self._server.stop()
        self._server = EmbeddedPostgreSQL(self._data_dir)
        self.url = await self._server.start()

    async def stop(self) -> None:
        """Stop it in order."""
        self.thaw()
        await self._server.stop()

    async def kill(self) -> None:
        """SIGKILL for the server and all its processes, as an out-of-memory killer would."""
        processes = self._processes()
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(10):
            while any(_alive(pid) for pid in processes):
                await asyncio.sleep(0.01)
        if processes:
            _reap(processes[0])

    def freeze(self) -> None:
        """SIGSTOP for every process: sockets stay open and nobody answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`."""
        self._signal(signal.SIGCONT)

    def _signal(self, sent: signal.Signals) -> None:
        for pid in self._processes():
            # A connection that was just closed takes its process along.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sent)

    def _processes(self) -> list[int]:
        postmaster = self._server.pid
        if postmaster is None or not _alive(postmaster):
            return []
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text()
        return [postmaster, *map(int, children.split())]


def _alive(pid: int) -> bool:
    """Whether the process runs; a dead one that nobody has waited for does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


def _reap(pid: int) -> None:
    """Until somebody waits for a child of ours, its process id still counts as taken."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


@pytest.fixture(scope="session")
async def _private_server() -> AsyncIterator[PrivateServer]:
    with server_dir() as directory:
        server = PrivateServer(directory / "data")
        try:
            yield server
        finally:
            await server.stop()


@pytest.fixture
async def private_server(_private_server: PrivateServer) -> AsyncIterator[PrivateServer]:
    """A running server to be broken; it is mended before the next test."""
    await _private_server.start()
    yield _private_server
    await _private_server.start()
