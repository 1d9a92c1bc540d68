"""`jitway` as processes of its own, on the demo's data and nobody else's."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

START_S = 60.0
STOP_S = 20.0


class GatewayFailed(Exception):
    """The gateway did not start, or a command of it failed; the text is its own."""


class Gateway:
    """Runs commands of jitway, and `jitway serve` until it is told to stop.

    Args:
        data_dir: of the embedded PostgreSQL, and of logs.
        port: where it serves; 0 for one that is free.
        environment: of its processes, beside the data directory.
        works: whether `jitway work` runs beside it, as where the services are others'.
    """

    def __init__(
        self, data_dir: Path, port: int, environment: Mapping[str, str], *, works: bool = False
    ) -> None:
        self._environment = {
            **environment,
            "JITWAY_DATA_DIR": str(data_dir),
            "JITWAY_ENV_FILE": os.devnull,
            "HOST": "127.0.0.1",
            "PORT": str(port),
        }
        self._data_dir = data_dir
        self._works = works
        self._processes: list[subprocess.Popen[str]] = []
        self._logs: list[IO[str]] = []
        self.url = ""

    def command(self, *arguments: str) -> dict[str, Any]:
        """What one command prints as JSON; exit code 1 is an answer too.

        Raises:
            GatewayFailed: it could not run.
        """
        done = subprocess.run(
            [sys.executable, "-m", "jitway", *arguments, "--json"],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if done.returncode > 1 or not done.stdout.strip():
            raise GatewayFailed(done.stderr.strip() or f"jitway {arguments[0]} said nothing")
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def start(self) -> None:
        """Starts `jitway serve`, waits until it says where, and starts `jitway work` if it has one.

        Raises:
            GatewayFailed: it ended, or said nothing in time.
        """
        self.url = self._said("serve", "jitway serves at ")
        if self._works:
            self._said("work", "jitway works")

    def _said(self, command: str, beginning: str) -> str:
        """Starts a command that goes on; what it says after this beginning of a line."""
        path = self._data_dir / f"{command}.log"
        log = path.open("w", encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, "-m", "jitway", command],
            env=self._environment,
            stdout=log,
            stderr=log,
            text=True,
            # A terminal's Ctrl-C is ours to pass on, in order.
            start_new_session=True,
        )
        self._processes.append(process)
        self._logs.append(log)
        limit = time.monotonic() + START_S
        while time.monotonic() < limit:
            said = path.read_text(encoding="utf-8")
            for line in said.splitlines():
                if line.startswith(beginning):
                    return line.removeprefix(beginning).strip()
            if process.poll() is not None:
                raise GatewayFailed(said.strip() or f"jitway {command} ended at once")
            time.sleep(0.05)
        raise GatewayFailed(f"jitway {command} was not ready within {START_S:.0f} s; see {path}")

    def get(self, path: str, key: str) -> dict[str, Any]:
        """The JSON that a route answers.

        Raises:
            GatewayFailed: it answers an error, or not at all.
        """
        return self._send(urllib.request.Request(self.url + path), key)

    def text(self, path: str) -> str:
        """What a route answers to anybody, as text.

        Raises:
            OSError: it answers an error, or not at all.
        """
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            said: bytes = answer.read()
        return said.decode()

    def post(self, path: str, key: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON that a route answers to a body.

        Raises:
            GatewayFailed: it answers an error, or not at all.
        """
        request = urllib.request.Request(
            self.url + path,
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())},
        )
        return self._send(request, key)

    def _send(self, request: urllib.request.Request, key: str) -> dict[str, Any]:
        request.add_header("Authorization", f"Bearer {key}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                document: dict[str, Any] = json.load(answer)
                return document
        except urllib.error.HTTPError as error:
            raise GatewayFailed(f"{request.full_url}: {error.read().decode()}") from error
        except OSError as error:
            raise GatewayFailed(f"{request.full_url}: {error}") from error

    def ended(self) -> bool:
        """Whether one of its processes ended by itself."""
        return any(process.poll() is not None for process in self._processes)

    def stop(self) -> None:
        """Ends the gateway as an orchestrator would, then the worker; may be called twice."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        for log in self._logs:
            log.close()
