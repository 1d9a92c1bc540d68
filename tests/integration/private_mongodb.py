"""A MongoDB-protocol server that one test may stop, kill and freeze; nobody else uses it."""

import asyncio
import contextlib
import shutil
import signal
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.servers.certificates import Certificates
from tests.servers.mongodb import START_TIMEOUT_S, MongoDBServer, answers
from tests.servers.process import ServerProcess, wait_for_start

ENVIRONMENTS = Path(__file__).parents[2] / ".services"


class FeatureMissing(Exception):
    """The product that runs here cannot do what a test needs."""


class PrivateMongoDB(MongoDBServer):
    """The best server there is, with what a test asks of it.

    Args:
        directory: for its data and log.
        certificates: when given, the server speaks TLS with them.
    """

    def __init__(self, directory: Path, *, certificates: Certificates | None = None) -> None:
        super().__init__(directory, environments=ENVIRONMENTS)
        self._certificates = certificates
        self._wants_authentication = False

    async def start(self) -> None:  # type: ignore[override]  # these tests are asynchronous
        await asyncio.to_thread(self._start)

    def _start(self) -> None:
        data = self._directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        self.product, command = self._choose(data)
        log = self._directory / "server.log"
        environment = {"HOME": str(self._directory)}
        self._process = ServerProcess.launch(
            command, log=log, cwd=self._directory, environment=environment
        )
        wait_for_start(self._process, self._is_ready, log=log, patience_s=START_TIMEOUT_S)

    def _is_ready(self) -> bool:
        if self._certificates is None:
            return answers(self.port)
        tls = ssl.create_default_context(cafile=str(self._certificates.ca))
        try:
            with (
                socket.create_connection(("127.0.0.1", self.port), timeout=2) as plain,
                tls.wrap_socket(plain, server_hostname="localhost"),
            ):
                return True
        except OSError:
            return False

    async def restart_with_authentication(self) -> None:
        self._wants_authentication = True
        await self.stop()
        await self.start()

    async def stop(self) -> None:
        for process in self.processes:
            await asyncio.to_thread(process.stop)

    async def kill(self) -> None:
        for process in self.processes:
            await asyncio.to_thread(process.kill)

    def freeze(self) -> None:
        self._running.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._running.send(signal.SIGCONT)

    @property
    def _running(self) -> ServerProcess:
        (process,) = self.processes
        return process

    def _choose(self, data: Path) -> tuple[str, list[str | Path]]:
        product, command = super()._choose(data)
        if product == "NX-27017":
            if self._certificates is not None or self._wants_authentication:
                raise FeatureMissing(f"{product} has neither TLS nor authentication")
            return product, command
        if product == "SecantusDB":
            command.append("--enable-test-commands")
            if self._certificates is not None:
                command += ["--tls-cert-file", self._certificates.certificate]
                command += ["--tls-key-file", self._certificates.key]
        else:
            command += ["--setParameter", "enableTestCommands=1"]
            if self._certificates is not None:
                both = self._certificates.key.with_name("both.pem")
                both.write_text(
                    self._certificates.certificate.read_text() + self._certificates.key.read_text()
                )
                command += ["--tlsMode", "requireTLS", "--tlsCertificateKeyFile", both]
        return product, [*command, *(["--auth"] if self._wants_authentication else [])]


@contextlib.asynccontextmanager
async def private_mongodb(
    *, certificates: Certificates | None = None
) -> AsyncIterator[PrivateMongoDB]:
    """A running server; the test is skipped where there is none to run."""
    directory = Path(tempfile.mkdtemp(prefix="jitway-mongodb-"))
    server = PrivateMongoDB(directory, certificates=certificates)
    try:
        try:
            await server.start()
        except FeatureMissing as missing:
            pytest.skip(f"{missing}; SecantusDB and mongod have")
        yield server
    finally:
        # Its data goes too, so nothing is lost by not waiting for an orderly end.
        await server.kill()
        shutil.rmtree(directory, ignore_errors=True)
