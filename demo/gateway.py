"""`jitway` as a process of its own, on the demo's data directory and nobody else's."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
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
        data_dir: of the embedded PostgreSQL.
        port: where it serves; 0 for one that is free.
        environment: of its processes, beside the data directory.
    """

    def __init__(self, data_dir: Path, port: int, environment: Mapping[str, str]) -> None:
        self._environment = {
            **environment,
            "JITWAY_DATA_DIR": str(data_dir),
            "JITWAY_ENV_FILE": os.devnull,
            "HOST": "127.0.0.1",
            "PORT": str(port),
        }
        self._serve: subprocess.Popen[str] | None = None
        self._log: IO[str] | None = None
        self._log_path = data_dir / "serve.log"
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
        """Starts `jitway serve` and waits until it says where.

        Raises:
            GatewayFailed: it ended, or said nothing in time.
        """
        self._log = self._log_path.open("w", encoding="utf-8")
        self._serve = subprocess.Popen(
            [sys.executable, "-m", "jitway", "serve"],
            env=self._environment,
            stdout=self._log,
            stderr=self._log,
            text=True,
            # A terminal's Ctrl-C is ours to pass on, in order.
            start_new_session=True,
        )
        limit = time.monotonic() + START_S
        while time.monotonic() < limit:
            said = self._log_path.read_text(encoding="utf-8")
            for line in said.splitlines():
                if line.startswith("jitway serves at "):
                    self.url = line.removeprefix("jitway serves at ").strip()
                    return
            if self._serve.poll() is not None:
                raise GatewayFailed(said.strip() or "the gateway ended at once")
            time.sleep(0.05)
        raise GatewayFailed(f"the gateway did not serve within {START_S:.0f} s; see its log")

    def get(self, path: str, key: str) -> dict[str, Any]:
        """The JSON that a route answers.

        Raises:
            GatewayFailed: it answers an error, or not at all.
        """
        return self._send(urllib.request.Request(self.url + path), key)

    def post(self, path: str, key: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON that a route answers to a body.

        Raises:
            GatewayFailed: it answers an error, or not at all.
        """
        request = urllib.request.Request(
            self.url + path,
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
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
        """Whether the gateway ended by itself."""
        return self._serve is not None and self._serve.poll() is not None

    def stop(self) -> None:
        """Ends the gateway as an orchestrator would; may be called twice."""
        if self._serve is not None and self._serve.poll() is None:
            self._serve.send_signal(signal.SIGTERM)
            try:
                self._serve.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._serve.kill()
                self._serve.wait()
        if self._log is not None:
            self._log.close()
