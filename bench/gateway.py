"""A PostgreSQL of the benchmark's own, and the gateway that serves on it in its own process.

Owns their beginning and their end. Both are what a user gets: the embedded server with its own
settings, durability on, and `jitway serve`.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import uvloop

from jitway.embedded import EmbeddedPostgreSQL
from jitway.embedded.places import reachable_data_dir
from jitway.simulator.connections import Address, Connections
from jitway.simulator.merchants import MERCHANTS
from jitway.simulator.requests import Writer

HERE = Path(__file__).parent
START_S = 30
STOP_S = 15
COMMAND_S = 300
WARM_CONNECTIONS = 32


@dataclass(frozen=True)
class Server:
    """A running PostgreSQL: its address, its postmaster and where its data lies."""

    url: str
    pid: int
    data_dir: Path

    def database(self, name: str) -> str:
        """The address of another database of it."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))


@dataclass(frozen=True)
class Gateway:
    """A serving gateway: its address and its process."""

    url: str
    pid: int


@contextmanager
def postgresql() -> Iterator[Server]:
    """An embedded server on fresh data, durable; the data is removed at the end."""
    place = reachable_data_dir(HERE.parent / ".bench", "bench")
    place.mkdir(parents=True, exist_ok=True)
    data_dir = Path(tempfile.mkdtemp(dir=place))
    # What the server's own user must pass through.
    data_dir.chmod(0o711)
    server = EmbeddedPostgreSQL(data_dir)
    with asyncio.Runner() as runner:
        try:
            url = runner.run(server.start())
            assert server.pid is not None
            yield Server(url, server.pid, data_dir)
        finally:
            runner.run(server.stop())
            shutil.rmtree(data_dir, ignore_errors=True)


def jitway(database_url: str, *arguments: str) -> Any:
    """What a command of ours prints as JSON.

    Raises:
        RuntimeError: it ended with another code than 0 or 1.
    """
    done = subprocess.run(
        [sys.executable, "-m", "jitway", *arguments, "--json"],
        env=environment(database_url),
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"jitway {arguments[0]} ended with {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)


def environment(database_url: str, **settings: str) -> dict[str, str]:
    """Ours without anybody's settings but the database, and those that are given."""
    ours = re.compile(r"JITWAY_|DATABASE_|MONGODB_|REDIS_|RABBITMQ_|HOST\Z|PORT\Z")
    kept = {name: value for name, value in os.environ.items() if not ours.match(name)}
    quiet = {
        "JITWAY_ENV_FILE": os.devnull,
        # Slow statements are the measurement's own doing.
        "JITWAY_LOG_LEVEL": "error",
        # pgbench has no relay beside it either: both sides write the outbox, and nobody reads it.
        "JITWAY_WORK": "none",
    }
    return kept | {"DATABASE_URL": database_url} | quiet | settings


@contextmanager
def serving(database_url: str, **settings: str) -> Iterator[Gateway]:
    """`jitway serve` on a free port, until the end.

    Raises:
        RuntimeError: it did not start, or did not end well.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "jitway", "serve", "--port", "0"],
        env=environment(database_url, **settings),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        # A start that hangs is ended, so that reading its first line ends too.
        guard = threading.Timer(START_S, process.kill)
        guard.start()
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline())
            guard.cancel()
            if found is None:
                raise RuntimeError("jitway serve did not start; what it said stands above")
            yield Gateway(found[0], process.pid)
        finally:
            guard.cancel()
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
        if process.returncode != 0:
            raise RuntimeError(f"jitway serve ended with {process.returncode}")


def ask_once_about(gateway: Gateway, key: str, cards: Sequence[str]) -> None:
    """One authorization for each card, so that all of them are remembered.

    Raises:
        RuntimeError: one was not decided.
    """

    async def ask() -> None:
        address = Address.of(gateway.url)
        write = Writer(address, key)
        connections = Connections(address, size=WARM_CONNECTIONS, timeout_s=10)
        await connections.open()
        at_once = asyncio.Semaphore(WARM_CONNECTIONS)

        async def one(card: str) -> int:
            request = write.authorization(
                write.new_key(),
                card=card,
                amount_minor=100,
                currency="USD",
                merchant=MERCHANTS[0],
            )
            async with at_once:
                return (await connections.call(request)).status

        try:
            statuses = await asyncio.gather(*map(one, cards))
        finally:
            await connections.close()
        if set(statuses) != {200}:
            raise RuntimeError(f"the gateway answered {sorted(set(statuses))}")

    uvloop.run(ask())
