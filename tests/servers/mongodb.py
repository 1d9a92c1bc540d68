"""A server that speaks MongoDB's protocol: a real mongod, else one of two from the package index.

SecantusDB stores in WiredTiger and acts as a replica set. It is under the GPL: a process of its
own in a virtual environment of its own, never imported and never shipped. NX-27017, on SQLite, is
the second choice, where the first has no wheel. Both prove that our calls are right; neither
proves what a replica set does with a majority write concern.
"""

import shutil
import struct
import subprocess
import sys
from pathlib import Path

from tests.servers.process import (
    PATH,
    ServerMissing,
    ServerProcess,
    exchange,
    free_port,
    wait_for_start,
)

REQUIREMENTS = Path(__file__).parents[2] / "requirements" / "mongodb-server.txt"
START_TIMEOUT_S = 30.0
INSTALL_TIMEOUT_S = 300.0


class MongoDBServer:
    """One server of the three kinds.

    Args:
        directory: for its data and log; made when missing.
        environments: where a virtual environment for the server may be made, and is kept.
    """

    def __init__(self, directory: Path, *, environments: Path) -> None:
        self._directory = directory
        self._environments = environments
        self._process: ServerProcess | None = None
        self.port = free_port()
        self.product = ""

    @property
    def url(self) -> str:
        """Its address."""
        return f"mongodb://127.0.0.1:{self.port}/"

    @property
    def processes(self) -> list[ServerProcess]:
        """What has to be stopped."""
        return [self._process] if self._process is not None else []

    def start(self) -> None:
        """Start the best there is and wait until it serves.

        Raises:
            ServerMissing: none of the three can be had.
        """
        data = self._directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        self.product, command = self._choose(data)
        log = self._directory / "server.log"
        environment = {"HOME": str(self._directory)}
        self._process = ServerProcess.launch(
            command, log=log, cwd=self._directory, environment=environment
        )
        wait_for_start(
            self._process, lambda: answers(self.port), log=log, patience_s=START_TIMEOUT_S
        )

    def _choose(self, data: Path) -> tuple[str, list[str | Path]]:
        port = str(self.port)
        options: list[str | Path]
        if mongod := shutil.which("mongod", path=PATH):
            options = ["--bind_ip", "127.0.0.1", "--port", port, "--dbpath", data]
            return "MongoDB", [mongod, *options]
        try:
            secantus = self._installed_secantus()
        except (OSError, subprocess.SubprocessError) as error:
            why = error.stderr if isinstance(error, subprocess.CalledProcessError) else error
            print(f"SecantusDB cannot be installed, NX-27017 instead: {why}", file=sys.stderr)
        else:
            options = ["--host", "127.0.0.1", "--port", port, "--storage-path", data]
            return "SecantusDB", [secantus, *options, "--cache-size", "256M"]
        nx_27017 = Path(sys.executable).parent / "nx-27017"
        if nx_27017.exists():
            options = ["--host", "127.0.0.1", "--port", port, "--data-dir", data]
            options += ["--log-file", self._directory / "nx.log"]
            options += ["--pid-file", self._directory / "nx.pid"]
            return "NX-27017", [nx_27017, *options]
        raise ServerMissing(
            "no server for MongoDB's protocol can be had: set MONGODB_URI, install mongod, or "
            "make a package index reachable"
        )

    def _installed_secantus(self) -> Path:
        """The server's program, in an environment that is made the first time."""
        environment = self._environments / "mongodb-server"
        program = environment / "bin" / "secantusd-py"
        stamp = environment / ".installed"
        wanted = REQUIREMENTS.read_text()
        if not (program.exists() and stamp.exists() and stamp.read_text() == wanted):
            _run(sys.executable, "-m", "venv", "--clear", environment)
            pip: list[str | Path] = [
                environment / "bin" / "python",
                "-m",
                "pip",
                "install",
                "--quiet",
            ]
            _run(*pip, "--disable-pip-version-check", "--require-hashes", "-r", REQUIREMENTS)
            stamp.write_text(wanted)
        return program


def answers(port: int) -> bool:
    """Whether a server of this protocol answers a hello there."""
    # A BSON document {hello: 1, $db: "admin"} in an OP_MSG: two fields, written out.
    fields = b"\x10hello\x00" + struct.pack("<i", 1)
    fields += b"\x02$db\x00" + struct.pack("<i", 6) + b"admin\x00"
    document = struct.pack("<i", len(fields) + 5) + fields + b"\x00"
    body = struct.pack("<iB", 0, 0) + document
    return b"maxWireVersion" in exchange(
        port, struct.pack("<iiii", 16 + len(body), 1, 0, 2013) + body
    )


def _run(*command: str | Path) -> None:
    subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
        check=True,
    )
