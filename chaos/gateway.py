"""`gateway.py`: `jitway serve` as a process that is killed, ended and begun again on one port.

Owns the process and its log, which is bounded. The gateway is what a user runs, with an embedded
PostgreSQL on a data directory of its own.
"""

import asyncio
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

START_S = 120.0
STOP_S = 30.0
COMMAND_S = 300.0
LOG_BYTES_MAX = 4 << 20
_OURS = re.compile(r"JITWAY_|DATABASE_|MONGODB_|REDIS_|RABBITMQ_|HOST\Z|PORT\Z")


class GatewayFailed(Exception):
    """It did not start, did not end, or a command of it failed; the text is its own."""


def free_port() -> int:
    """A TCP port that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


class Gateway:
    """One gateway on one data directory.

    Args:
        data_dir: of the embedded PostgreSQL.
        log: where it says what goes wrong.
        settings: of its processes, beside the data directory and the port.
    """

    def __init__(
        self, data_dir: Path, log: Path, settings: Mapping[str, str] | None = None
    ) -> None:
        self.port = free_port()
        self._log = log
        inherited = {name: value for name, value in os.environ.items() if not _OURS.match(name)}
        self._environment = {
            **inherited,
            "JITWAY_DATA_DIR": str(data_dir),
            "JITWAY_ENV_FILE": os.devnull,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            **(settings or {}),
        }
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The process id of the gateway that runs."""
        assert self._process is not None, "it was not started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def command(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """The exit code of one command, and what it prints as JSON.

        Raises:
            GatewayFailed: it could not run.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "jitway",
            *arguments,
            "--json",
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(COMMAND_S):
            said, complaint = await process.communicate()
        code = process.returncode
        if code is None or code > 1 or not said.strip():
            raise GatewayFailed(f"jitway {arguments[0]} ended with {code}: {complaint.decode()}")
        return code, json.loads(said)

    async def start(self) -> float:
        """Starts it and waits until it serves; returns the seconds that took.

        Raises:
            GatewayFailed: it ended, or said nothing in time.
        """
        assert not self.is_running
        began_s = time.monotonic()
        if self._log.exists() and self._log.stat().st_size > LOG_BYTES_MAX:
            self._log.unlink()
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "jitway",
                "serve",
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                # A terminal's Ctrl-C is for whoever runs us to pass on.
                start_new_session=True,
            )
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(START_S):
                said = await self._process.stdout.readline()
        except TimeoutError:
            raise GatewayFailed(f"the gateway did not serve within {START_S:.0f} s") from None
        if not said.startswith(b"jitway serves at "):
            code = await self._process.wait()
            raise GatewayFailed(f"the gateway ended with {code}: {self._last_words()}")
        return time.monotonic() - began_s

    def send(self, what: signal.Signals) -> None:
        """Sends it a signal, if it runs."""
        if self.is_running:
            os.kill(self.pid, what)

    async def runs_out(self) -> int:
        """Waits for its end, as long as that takes; returns its exit code."""
        assert self._process is not None
        return await self._process.wait()

    async def ended(self, *, timeout_s: float = STOP_S) -> int:
        """Waits for its end; returns its exit code.

        Raises:
            GatewayFailed: it does not end; it is killed then.
        """
        assert self._process is not None
        try:
            async with asyncio.timeout(timeout_s):
                return await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise GatewayFailed(f"the gateway did not end within {timeout_s:.0f} s") from None

    async def kill(self) -> None:
        """SIGKILL, and until it is gone; may be called when it does not run."""
        if self.is_running:
            self.send(signal.SIGKILL)
            await self.ended()

    async def terminate(self) -> tuple[int, float]:
        """SIGTERM, and until it is gone: its exit code, and the seconds that took."""
        began_s = time.monotonic()
        self.send(signal.SIGTERM)
        code = await self.ended()
        return code, time.monotonic() - began_s

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-2_000:].strip()
