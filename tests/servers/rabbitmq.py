"""RabbitMQ from the system's package, with ports, node name, cookie and directories of its own."""

import asyncio
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.servers.certificates import Certificates
from tests.servers.process import (
    PATH,
    ServerMissing,
    ServerProcess,
    exchange,
    free_port,
    wait_for_start,
    wait_until,
)

PACKAGE = "rabbitmq-server"
BIN_DIR = Path("/usr/lib/rabbitmq/bin")
START_TIMEOUT_S = 60.0
COMMAND_TIMEOUT_S = 30.0
USER = "jitway"
HELLO = b"AMQP\x00\x00\x09\x01"


def is_installed() -> bool:
    """Whether the system's package is there."""
    return (BIN_DIR / "rabbitmq-server").exists() and shutil.which("erl", path=PATH) is not None


class RabbitMQServer:
    """One broker, and the port mapper (epmd) that its runtime asks for.

    Nothing of the package's own service is used or touched: not its node, its user, its cookie,
    its port mapper or its configuration.

    Args:
        directory: for its data; made when missing, and its own.
        certificates: to listen with TLS too.
    """

    def __init__(self, directory: Path, *, certificates: Certificates | None = None) -> None:
        self._directory = directory
        self._certificates = certificates
        self._port_mapper: ServerProcess | None = None
        self._broker: ServerProcess | None = None
        self._password = secrets.token_hex(8)
        self.port, self._distribution_port, self._mapper_port = (free_port() for _ in range(3))
        self.tls_port = free_port() if certificates else 0

    @property
    def url(self) -> str:
        """Its address with user and password."""
        return f"amqp://{USER}:{self._password}@127.0.0.1:{self.port}/"

    @property
    def tls_url(self) -> str:
        """Its address for TLS; the host name is `localhost`, and there is no CA file in it."""
        return f"amqps://{USER}:{self._password}@localhost:{self.tls_port}/"

    @property
    def processes(self) -> list[ServerProcess]:
        """What has to be stopped, in this order."""
        return [process for process in (self._broker, self._port_mapper) if process is not None]

    def start(self) -> None:
        """Start it, for the first time or again, and wait until it serves.

        Raises:
            ServerMissing: it is not installed, or does not start; the text says more.
        """
        if not is_installed():
            raise ServerMissing(f"RabbitMQ is not installed: apt-get install {PACKAGE}")
        if self._broker is not None and self._broker.is_alive:
            self.resume()
            return
        self._write_configuration()
        if self._port_mapper is None or not self._port_mapper.is_alive:
            self._start_port_mapper()
        log = self._directory / "broker.log"
        self._broker = ServerProcess.launch(
            [BIN_DIR / "rabbitmq-server"],
            log=log,
            cwd=self._directory,
            environment=self._environment(),
        )
        wait_for_start(self._broker, self.answers, log=log, patience_s=START_TIMEOUT_S)

    def answers(self) -> bool:
        """Whether it greets a client."""
        return version_at(self.port) is not None

    def stop(self) -> None:
        """End the broker in order, and its port mapper."""
        for process in self.processes:
            process.stop(patience_s=15.0)

    def stop_broker(self) -> None:
        """End the broker in order, as an upgrade does; `start()` brings it back with its data."""
        if self._broker is not None:
            self._broker.stop(patience_s=30.0)

    def kill(self) -> None:
        """SIGKILL for the broker; `start()` brings it back with its data."""
        if self._broker is not None:
            self._broker.kill()

    def pause(self) -> None:
        """SIGSTOP: sockets stay open and nobody answers."""
        if self._broker is not None:
            self._broker.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        if self._broker is not None:
            self._broker.send(signal.SIGCONT)

    async def restart(self) -> None:
        """Start it again, without blocking the loop."""
        await asyncio.to_thread(self.start)

    async def control(self, *arguments: str) -> str:
        """Run `rabbitmqctl` against it; what it says.

        Raises:
            ServerMissing: it failed; the text has what it said.
        """

        def run() -> str:
            ended = subprocess.run(
                [BIN_DIR / "rabbitmqctl", "--quiet", "--node", self._node, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=COMMAND_TIMEOUT_S,
                env=self._environment(),
                cwd=self._directory,
                check=False,
            )
            if ended.returncode != 0:
                raise ServerMissing(f"rabbitmqctl {arguments}: {ended.stdout}{ended.stderr}")
            return ended.stdout

        return await asyncio.to_thread(run)

    @property
    def _node(self) -> str:
        return f"jitway-{self.port}@localhost"

    def _environment(self) -> dict[str, str]:
        place = str(self._directory)
        return {
            "PATH": PATH,
            "LANG": "C.UTF-8",
            "HOME": place,  # the cookie lies there
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_CONFIG_FILE": f"{place}/rabbitmq.conf",
            "RABBITMQ_CONF_ENV_FILE": f"{place}/rabbitmq-env.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{place}/enabled_plugins",
            "RABBITMQ_MNESIA_BASE": f"{place}/data",
            "RABBITMQ_LOG_BASE": f"{place}/log",
            # Waiting schedulers must not eat a small machine's time.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface "
                "{127,0,0,1}"
            ),
            # The script then becomes the broker instead of waiting for it.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _write_configuration(self) -> None:
        for name in ("data", "log"):
            (self._directory / name).mkdir(parents=True, exist_ok=True)
        for name in ("enabled_plugins", "rabbitmq-env.conf"):
            (self._directory / name).touch()
        lines = [
            f"listeners.tcp.1 = 127.0.0.1:{self.port}",
            "log.console = true",
            "log.console.level = warning",
            "log.file = false",
            f"default_user = {USER}",
            f"default_pass = {self._password}",
            "disk_free_limit.absolute = 10MB",
        ]
        if self._certificates is not None:
            lines += [
                f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}",
                f"ssl_options.cacertfile = {self._certificates.ca}",
                f"ssl_options.certfile = {self._certificates.certificate}",
                f"ssl_options.keyfile = {self._certificates.key}",
                "ssl_options.verify = verify_none",
                "ssl_options.fail_if_no_peer_cert = false",
            ]
        (self._directory / "rabbitmq.conf").write_text("\n".join(lines) + "\n")

    def _start_port_mapper(self) -> None:
        # Started by us, or the runtime starts one that outlives everybody.
        log = self._directory / "epmd.log"
        self._port_mapper = ServerProcess.launch(
            ["epmd", "-port", str(self._mapper_port), "-address", "127.0.0.1"],
            log=log,
            cwd=self._directory,
        )
        names = b"\x00\x01n"
        wait_for_start(
            self._port_mapper,
            lambda: bool(exchange(self._mapper_port, names)),
            log=log,
            patience_s=10.0,
        )


def version_at(port: int) -> str | None:
    """The product and version that a broker on this machine greets with; None if there is none."""
    greeting = exchange(port, HELLO)
    if greeting[:1] != b"\x01":
        return None
    return f"{_property(greeting, 'product')} {_property(greeting, 'version')}"


def _property(greeting: bytes, name: str) -> str:
    key = bytes([len(name)]) + name.encode() + b"S"
    _, found, rest = greeting.partition(key)
    length = int.from_bytes(rest[:4], "big")
    return rest[4 : 4 + length].decode(errors="replace") if found else "?"


@asynccontextmanager
async def private_rabbitmq(**options: Any) -> AsyncIterator[RabbitMQServer]:
    """A running broker for a test to break; it is gone afterwards, with its data.

    Raises:
        ServerMissing: it is not installed, or does not start.
    """
    with tempfile.TemporaryDirectory(prefix="jitway-rabbitmq-") as directory:
        broker = RabbitMQServer(Path(directory), **options)
        try:
            await broker.restart()
            yield broker
        finally:
            await asyncio.to_thread(_end, broker)


def _end(broker: RabbitMQServer) -> None:
    broker.resume()
    for process in broker.processes:
        process.kill()
    # Its helpers notice a moment later, and write no more after that.
    wait_until(lambda: not broker.answers(), 5.0)
