"""`jitway work` as a process, and what `serve` does of it: halves, plugins, ends, left-overs."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.compose import Role, role_of
from jitway.events.broker import QUEUES, Message
from jitway.events.local_broker import LocalBroker
from jitway.settings import Settings, load
from tests.conformance.brokers import eventually
from tests.integration.http.gateway import serving
from tests.service_skips import require_service
from tests.world import World

ROOT = Path(__file__).parents[2]
START_S = 30
STOP_S = 10


class Work:
    """`jitway work` and what it says."""

    def __init__(self, process: asyncio.subprocess.Process, said: str) -> None:
        self.process = process
        self.said = said

    async def terminate(self) -> float:
        """SIGTERM; how many seconds it takes to end well."""
        began_s = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STOP_S + 5):
            assert await self.process.wait() == 0
        return time.monotonic() - began_s


@contextlib.asynccontextmanager
async def working(
    database: str, directory: Path, *arguments: str, **environ: str
) -> AsyncIterator[Work]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "jitway", "work", *arguments),
        cwd=directory,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "JITWAY_ENV_FILE": os.devnull,
            "DATABASE_URL": database,
            **environ,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_S):
            lines = b""
            while b"jitway works" not in lines:
                line = await process.stdout.readline()
                assert line, lines.decode()
                lines += line
        yield Work(process, lines.decode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.fixture
async def world(adapter: PostgreSQLAdapter) -> AsyncIterator[World]:
    async with World(adapter) as world:
        yield world


async def archived(world: World, collection: str = "authorizations") -> int:
    rows = await world.rows("SELECT count(*) AS n FROM archive WHERE collection = $1", collection)
    return int(rows[0]["n"])


async def test_two_halves_make_a_whole(database: str, tmp_path: Path, world: World) -> None:
    await world.deposit(1_000)
    for _ in range(5):
        await world.approve(10)
    async with (
        working(database, tmp_path, "--only", "relay") as relay,
        working(database, tmp_path, "--only", "consumers") as consumers,
    ):
        assert "jitway works: relay over PostgreSQL" in relay.said
        assert "jit-funding-queue, transaction-processing-queue, webhook-queue" in consumers.said
        await eventually(lambda: _is(archived(world), 5))
        await eventually(lambda: _is(archived(world, "transactions"), 1))
        assert await relay.terminate() < STOP_S
        assert await consumers.terminate() < STOP_S
    assert await world.rows("SELECT FROM delivery") == []
    assert await world.rows("SELECT FROM outbox_claim") == []


async def _is(count: object, expected: int) -> bool:
    return bool(await count == expected)  # type: ignore[misc]


async def test_a_worker_that_died_is_taken_over(
    database: str, tmp_path: Path, world: World
) -> None:
    """K11, K12: what it held comes again, and is applied once."""
    await world.deposit(1_000)
    async with working(database, tmp_path) as dying:
        for _ in range(20):
            await world.approve(1)
        dying.process.kill()
        await dying.process.wait()
    async with working(database, tmp_path):
        await eventually(lambda: _is(archived(world), 20), within_s=30)
    rows = await world.rows("SELECT count(*) AS n FROM inbox WHERE consumer = 'jit-funding-queue'")
    assert rows[0]["n"] == 20


def example() -> str:
    """The consumer of the documentation."""
    text = (ROOT / "docs" / "events.md").read_text()
    found = re.search(r"^```python\n(# my_consumers\.py\n.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


async def test_the_documented_consumer_works_beside_ours(
    database: str, tmp_path: Path, world: World
) -> None:
    (tmp_path / "my_consumers.py").write_text(example())
    await world.rows("CREATE TABLE declined_by_reason (reason text PRIMARY KEY, count bigint)")
    async with working(database, tmp_path, "--consumers", "my_consumers") as work:
        assert "declines-by-reason" in work.said
        for _ in range(3):
            await world.authorize(50)

        async def counted() -> bool:
            rows = await world.rows("SELECT reason, count FROM declined_by_reason")
            return [tuple(row.values()) for row in rows] == [("insufficient_available_balance", 3)]

        await eventually(counted)
        # It steals nothing from ours.
        await eventually(lambda: _is(archived(world), 3))


@pytest.mark.parametrize(
    ("arguments", "environ", "sentence"),
    [
        (["--consumers", "no_such_module"], {}, "cannot be imported"),
        (["--consumers", "json"], {}, "must have CONSUMERS"),
        ([], {"DATABASE_URL": "postgresql://u:canary@127.0.0.1:1/d"}, "127.0.0.1:1"),
        ([], {"JITWAY_WORK": "everything"}, "JITWAY_WORK must be one of auto, all, relay, none"),
    ],
)
async def test_what_cannot_start_says_why_in_one_sentence(
    database: str, tmp_path: Path, arguments: list[str], environ: dict[str, str], sentence: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "jitway", "work", *arguments),
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "JITWAY_ENV_FILE": os.devnull,
            "DATABASE_URL": database,
            **environ,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(START_S):
        _, complaint = await process.communicate()
    assert process.returncode == 1
    assert sentence in complaint.decode()
    assert "Traceback" not in complaint.decode()
    assert "canary" not in complaint.decode()


def settings(tmp_path: Path, **environ: str) -> Settings:
    return load({"HOME": str(tmp_path), **environ}, tmp_path)


def test_what_serve_does_with_events(tmp_path: Path) -> None:
    database = {"DATABASE_URL": "postgresql://h/d"}
    broker = {"RABBITMQ_URL": "amqp://h/"}
    assert role_of(settings(tmp_path)) is Role.ALL
    assert role_of(settings(tmp_path, **database)) is Role.ALL
    assert role_of(settings(tmp_path, **broker)) is Role.ALL
    assert role_of(settings(tmp_path, **database, **broker)) is Role.RELAY
    assert role_of(settings(tmp_path, JITWAY_WORK="none")) is Role.NONE


async def test_serve_delivers_without_anything_configured(database: str, tmp_path: Path) -> None:
    async with serving(database, tmp_path) as gateway:
        await gateway.authorize()
        postgres = gateway.services.postgres

        async def kept() -> bool:
            rows = await postgres.execute_query(
                "SELECT collection, count(*) AS n FROM archive GROUP BY 1 ORDER BY 1"
            )
            return [tuple(row.values()) for row in rows] == [
                ("authorizations", 1),
                ("transactions", 1),
            ]

        await eventually(kept)
        statistics = gateway.services.work.statistics()
        assert statistics["relay"]["published"] >= 3
        assert statistics["consumers"]["jit-funding-queue"]["applied"] == 1
    json.dumps(statistics)


async def test_deliveries_of_a_life_without_rabbitmq_are_not_forgotten(
    database: str, tmp_path: Path, adapter: PostgreSQLAdapter
) -> None:
    rabbitmq = require_service("rabbitmq")
    local = LocalBroker(adapter, QUEUES)
    await local.connect()
    left = Message("webhook.lost", "left-behind", b"[]")
    assert await local.publish_many([left]) == [None]
    async with serving(
        database, tmp_path, furnished=False, RABBITMQ_URL=rabbitmq, JITWAY_WORK="all"
    ) as gateway:

        async def taken() -> bool:
            rows = await gateway.services.postgres.execute_query("SELECT id FROM dead_letter")
            return [row["id"] for row in rows] == ["left-behind"]

        await eventually(taken)
