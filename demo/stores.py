"""The four services of `scripts/demo --full`: private servers that end with the demo."""

import contextlib
import sys
from pathlib import Path

from tests.servers.services import Services

NAMES = {
    "DATABASE_URL": "PostgreSQL",
    "MONGODB_URI": "MongoDB",
    "REDIS_URL": "Redis",
    "RABBITMQ_URL": "RabbitMQ",
}


class StoreMissing(Exception):
    """One of the four cannot be had; what is missing was said on standard error."""


class Stores:
    """PostgreSQL, a server of MongoDB's protocol, Redis and RabbitMQ on free ports.

    Args:
        directory: where their data lies; made when missing.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._services = Services(directory, {})

    def start(self) -> dict[str, str]:
        """Starts all four.

        Returns:
            The environment that makes jitway use them.

        Raises:
            StoreMissing: one cannot be had.
        """
        # Standard output is for the demo's document.
        with contextlib.redirect_stdout(sys.stderr):
            if self._services.start():
                raise StoreMissing(
                    "not all four services can be had here; what is missing is above"
                )
        urls = {name: server.url for name, server in self._services.running().items()}
        return {**urls, "MONGODB_DB": "jitway_demo"}

    def processes(self) -> dict[str, int]:
        """The process of each server, by its name."""
        return {
            NAMES[variable]: server.processes[0][0]
            for variable, server in self._services.running().items()
        }

    def stop(self) -> None:
        """Ends what was started and removes its data; may be called twice."""
        self._services.stop()
