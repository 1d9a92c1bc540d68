"""`movers.py`: what is killed: `jitway work` in halves, the broker and the archive.

Owns the processes. RabbitMQ is a private one; without it the broker is PostgreSQL, which is not
killed here.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from chaos.gateway import LOG_BYTES_MAX, GatewayFailed
from jitway.adapters.mongodb import MongoDBAdapter
from jitway.archive.mongo import MongoArchive
from jitway.archive.store import AUTHORIZATIONS, TRANSACTIONS, every
from tests.servers.mongodb import MongoDBServer
from tests.servers.rabbitmq import RabbitMQServer

START_S = 60.0
STOP_S = 20.0
DATABASE = "chaos"
CHECKOUT = Path(__file__).resolve().parent.parent


class Mover:
    """One `jitway work`.

    Args:
        name: in messages.
        arguments: after `work`.
        environment: of the process.
        log: where it complains.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self._arguments = tuple(arguments)
        self._environment = dict(environment)
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._works = False

    async def start(self) -> None:
        """Starts it; does not wait until it works."""
        self._works = False
        if self._log.exists() and self._log.stat().st_size > LOG_BYTES_MAX:
            self._log.unlink()
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "jitway", "work", *self._arguments),
                cwd=CHECKOUT,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    async def works(self) -> None:
        """Waits until it says so, once for each start.

        Raises:
            GatewayFailed: it ended, or said nothing in time.
        """
        if self._works:
            return
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(START_S):
                said = await self._process.stdout.readline()
        except TimeoutError:
            said = b""
        if not said.startswith(b"jitway works"):
            words = self._log.read_text(errors="replace")[-2_000:].strip()
            raise GatewayFailed(f"{self.name} does not work: {words}")
        self._works = True

    async def restart_with(self, settings: Mapping[str, str]) -> None:
        """Ended in order and begun again, with these settings more."""
        await self.terminate()
        self._environment.update(settings)
        await self.start()

    async def strike(self) -> None:
        """SIGKILL, wherever it is, and begun again."""
        assert self._process is not None
        if self._process.returncode is None:
            os.kill(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        await self.start()

    async def terminate(self) -> tuple[int, float]:
        """SIGTERM, and until it is gone: its exit code, and the seconds that took."""
        assert self._process is not None
        began_s = time.monotonic()
        if self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                code = await self._process.wait()
        except TimeoutError:
            await self.kill()
            code = -signal.SIGKILL
        return code, time.monotonic() - began_s

    async def kill(self) -> None:
        """SIGKILL for good; may be called when it does not run."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


class BrokerOfOurs:
    """A private RabbitMQ that is killed and comes back with its data."""

    name = "broker"

    def __init__(self, directory: Path) -> None:
        self._server = RabbitMQServer(directory)
        self._coming_back: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return self._server.url

    @property
    def is_up(self) -> bool:
        """Whether it is not just coming back."""
        return self._coming_back is None or self._coming_back.done()

    async def start(self) -> None:
        """Starts it and waits until it serves."""
        await self._server.restart()

    async def strike(self) -> None:
        """SIGKILL; it comes back while others are struck."""
        await self.go()
        self.come_back()

    async def go(self) -> None:
        """SIGKILL, and nothing more."""
        await asyncio.to_thread(self._server.kill)

    def come_back(self) -> None:
        """Begins to start it again; `works` waits until it serves."""
        self._coming_back = asyncio.create_task(self._server.restart())

    async def pause(self, seconds: float) -> None:
        """SIGSTOP for a while: sockets stay open and nobody answers."""
        self._server.pause()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._server.resume()

    async def works(self) -> None:
        """Waits until it is back."""
        if self._coming_back is not None:
            await self._coming_back

    async def kill(self) -> None:
        """Ends it for good."""
        if self._coming_back is not None:
            await asyncio.wait({self._coming_back})
        self._server.resume()
        for process in self._server.processes:
            await asyncio.to_thread(process.kill)


class ArchiveOfOurs:
    """A private MongoDB, or what speaks its protocol; not there until it is started."""

    def __init__(self, directory: Path) -> None:
        self._server = MongoDBServer(directory, environments=CHECKOUT / ".services")

    @property
    def settings(self) -> dict[str, str]:
        """What a worker needs to know of it."""
        return {"MONGODB_URI": self._server.url, "MONGODB_DB": DATABASE}

    async def start(self) -> None:
        """Starts it, again with its data, and waits until it serves.

        Raises:
            ServerMissing: none can be had.
        """
        await asyncio.to_thread(self._server.start)

    async def kill(self) -> None:
        """SIGKILL; may be called when it does not run."""
        for process in self._server.processes:
            await asyncio.to_thread(process.kill)

    async def amounts(self) -> dict[str, int]:
        """The documents that have an amount: by their event's id."""
        if not self._server.processes:
            return {}
        mongodb = MongoDBAdapter(mongodb_uri=self._server.url, mongodb_db=DATABASE)
        archive, found = MongoArchive(mongodb), {}
        try:
            for collection in (AUTHORIZATIONS, TRANSACTIONS):
                async for some in every(archive, collection):
                    found.update({"evt_" + one["_id"][4:]: one["amount"] for one in some})
        finally:
            await mongodb.close()
        return found
