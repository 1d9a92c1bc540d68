"""`jitway doctor` on real servers: each trouble is made, found, and said with what to do."""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.adapters.rabbitmq import MessageQueueManager
from jitway.adapters.rabbitmq.topology import GUIDE_TOPOLOGY
from jitway.doctor import CATALOGUE, NOTE, PROBLEM, Finding, Plan, Seen, examine
from jitway.doctor import postgresql as ledger_look
from jitway.doctor import queues as queues_look
from jitway.embedded import EmbeddedPostgreSQL
from jitway.sql.migrate import migrate
from tests.integration.leaks import eventually, holdings
from tests.integration.private_redis import private_redis
from tests.integration.rabbitmq_scenes import remove, until_depth
from tests.servers.rabbitmq import RabbitMQServer
from tests.service_skips import require_service

pytest_plugins = ["tests.integration.rabbitmq_fixtures"]

ROOT = Path(__file__).parents[2]
# Two seconds to look, one to close, and a busy machine.
BOUND_S = 6.0


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    """A data directory that is not used."""
    return tmp_path / "data"


async def look(data_dir: Path, **plan: Any) -> dict[str, Seen]:
    """Everything that was seen, by its subject."""
    return {seen.subject: seen for seen in await examine(Plan(data_dir=data_dir, **plan))}


def codes(seen: Seen, level: str = PROBLEM) -> set[str]:
    return {finding.code for finding in seen.findings if finding.level == level}


def the(seen: Seen, code: str) -> Finding:
    (finding,) = [finding for finding in seen.findings if finding.code == code]
    assert finding.advice == CATALOGUE[code][1]
    return finding


def test_the_docs_explain_every_finding() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (problem|note) \| \S.* \| \S.* \|$", text, re.MULTILINE)
    assert rows == [(code, level) for code, (level, _) in CATALOGUE.items()]


def test_the_commands_that_are_advised_are_written_as_commands() -> None:
    for code, (level, advice) in CATALOGUE.items():
        assert level in (PROBLEM, NOTE), code
        assert advice, code
        assert "jitway " not in re.sub(r"`[^`]*`", "", advice), code


class TestLedger:
    async def test_all_is_right(self, database: str, nowhere: Path) -> None:
        seen = (await look(nowhere, database_url=database))["postgres"]
        assert seen.findings == []
        assert seen.status == "reachable"
        assert seen.product is not None
        assert seen.product.startswith("PostgreSQL 1")
        assert seen.latency_ms is not None
        assert seen.figures["connections_max"] > 50
        assert seen.figures["outbox_waiting"] == 0
        assert abs(seen.figures["clock_skew_s"]) < 2

    async def test_nothing_is_changed(self, empty_database: str, nowhere: Path) -> None:
        await look(nowhere, database_url=empty_database)
        adapter = PostgreSQLAdapter(database_url=empty_database, pool_size_min=0)
        try:
            (row,) = await adapter.execute_query(
                "SELECT count(*) AS made FROM pg_class WHERE relnamespace NOT IN "
                "(SELECT oid FROM pg_namespace WHERE nspname ~ '^(pg_|information_schema)')"
            )
            assert row["made"] == 0
            (row,) = await adapter.execute_query(
                "SELECT count(*) AS left FROM pg_stat_activity "
                "WHERE application_name = 'jitway_doctor' AND datname = current_database()"
            )
            assert row["left"] == 0
        finally:
            await adapter.close()

    async def test_a_schema_that_is_missing(self, empty_database: str, nowhere: Path) -> None:
        seen = (await look(nowhere, database_url=empty_database))["postgres"]
        assert codes(seen) == {"schema"}
        assert "jitway migrate" in the(seen, "schema").detail

    async def test_a_slow_statement_is_shown_without_its_values(
        self, database: str, adapter: PostgreSQLAdapter, nowhere: Path
    ) -> None:
        slow = asyncio.create_task(adapter.execute_query("SELECT pg_sleep(20), 'canary' AS name"))
        try:
            seen: list[Seen] = []

            async def is_seen() -> bool:
                found = await look(nowhere, database_url=database, slow_query_ms=50)
                seen.append(found["postgres"])
                return "slow_queries" in codes(seen[-1])

            await eventually(is_seen, within_s=10)
            detail = the(seen[-1], "slow_queries").detail
            assert "SELECT pg_sleep(?)" in detail
            assert "canary" not in detail
            assert seen[-1].figures["pool_busy"] == 1
        finally:
            slow.cancel()
            await asyncio.gather(slow, return_exceptions=True)

    async def test_a_pool_of_which_all_is_busy(self, database: str, nowhere: Path) -> None:
        adapter = PostgreSQLAdapter(database_url=database, pool_size_min=0, pool_size_max=3)
        busy = [asyncio.create_task(adapter.execute_query("SELECT pg_sleep(20)")) for _ in "abc"]
        try:

            async def is_seen() -> bool:
                found = await look(nowhere, database_url=database, pool_max=3, slow_query_ms=60_000)
                return codes(found["postgres"]) == {"pool_exhausted"}

            await eventually(is_seen, within_s=10)
        finally:
            for task in busy:
                task.cancel()
            await asyncio.gather(*busy, return_exceptions=True)
            await adapter.close()

    async def test_a_pool_larger_than_the_server(self, database: str, nowhere: Path) -> None:
        seen = (await look(nowhere, database_url=database, pool_max=900, lanes=2))["postgres"]
        assert codes(seen) == {"connection_budget"}
        assert "908 connections" in the(seen, "connection_budget").detail

    async def test_connections_that_others_took(
        self, database: str, nowhere: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ledger_look, "CONNECTIONS_SHARE_MAX", 0.0)
        seen = (await look(nowhere, database_url=database))["postgres"]
        assert codes(seen) == {"connections_exhausted"}

    @pytest.mark.parametrize(
        ("setting", "said"),
        [
            ("synchronous_commit = off", "synchronous_commit off"),
            ("default_transaction_read_only = on", "read-only"),
        ],
    )
    async def test_settings_that_lose_commits_or_refuse_them(
        self, database: str, server: PostgreSQLAdapter, nowhere: Path, setting: str, said: str
    ) -> None:
        name = urlsplit(database).path.removeprefix("/")
        await server.execute_query(f"ALTER DATABASE {name} SET {setting}")
        seen = (await look(nowhere, database_url=database))["postgres"]
        assert codes(seen) == {"durability"}
        assert said in the(seen, "durability").detail

    @pytest.mark.parametrize(("shift_s", "said"), [(-9.0, "ahead of"), (9.0, "behind")])
    async def test_clocks_that_differ(
        self,
        database: str,
        nowhere: Path,
        monkeypatch: pytest.MonkeyPatch,
        shift_s: float,
        said: str,
    ) -> None:
        monkeypatch.setattr(ledger_look, "_wall_s", lambda: time.time() + shift_s)
        seen = (await look(nowhere, database_url=database))["postgres"]
        assert codes(seen) == {"clock_skew"}
        assert said in the(seen, "clock_skew").detail

    async def test_events_that_nobody_publishes(
        self, database: str, adapter: PostgreSQLAdapter, nowhere: Path
    ) -> None:
        await adapter.execute_query(
            "INSERT INTO outbox (slot, id, type, occurred_at, body) "
            "VALUES (0, gen_random_uuid(), 'card.frozen', now() - interval '1 hour', '{}')"
        )
        seen = (await look(nowhere, database_url=database))["postgres"]
        assert codes(seen) == {"outbox_waiting"}
        assert "1 events wait" in the(seen, "outbox_waiting").detail
        assert seen.figures["outbox_waiting"] == 1

    async def test_dead_letters_of_a_jitway_without_rabbitmq(
        self, database: str, adapter: PostgreSQLAdapter, nowhere: Path
    ) -> None:
        await adapter.execute_query(
            "INSERT INTO dead_letter (queue, id, routing_key, body, cause, attempts, replays, "
            "history, first_failed_at, last_failed_at) "
            "VALUES ('webhook-queue', 'evt_1', 'webhook.received', '', 'ValueError', 4, 0, '[]', "
            "now(), now())"
        )
        seen = (await look(nowhere, database_url=database))["postgres"]
        assert codes(seen) == {"dead_letters"}
        assert the(seen, "dead_letters").subject == "webhook-queue"
        assert seen.figures["dead_letters"] == {"webhook-queue": 1}

    async def test_an_address_that_cannot_be_meant(self, nowhere: Path) -> None:
        plan = {"database_url": "postgresql://u:canary@[h/d", "redis_url": "redis://:canary@h/x/y"}
        found = await look(nowhere, **plan)
        for subject in ("postgres", "redis"):
            assert codes(found[subject]) == {"bad_setting"}
            assert "canary" not in repr(found[subject])


class TestEmbedded:
    async def test_no_ledger_yet(self, nowhere: Path) -> None:
        seen = (await look(nowhere))["postgres"]
        assert codes(seen) == {"not_initialized"}
        assert (seen.status, seen.address) == ("not_running", "embedded")
        assert seen.figures["disk_free_bytes"] > 0
        assert not nowhere.exists()

    async def test_running_and_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with tempfile.TemporaryDirectory(prefix="jitway-") as directory:
            Path(directory).chmod(0o711)
            data_dir = Path(directory) / "data"
            server = EmbeddedPostgreSQL(data_dir)
            adapter = PostgreSQLAdapter(database_url=await server.start(), pool_size_min=0)
            await migrate(adapter)
            await adapter.close()
            seen = (await look(data_dir))["postgres"]
            assert seen.findings == []
            assert (seen.status, seen.address) == ("reachable", "embedded")
            await server.stop()
            monkeypatch.setattr(ledger_look, "DISK_FREE_BYTES_MIN", 2**80)
            seen = (await look(data_dir))["postgres"]
            assert codes(seen) == {"disk_space"}
            assert codes(seen, NOTE) == {"not_running"}


class TestUnreachable:
    async def test_nobody_listens_and_no_secret_is_shown(self, nowhere: Path) -> None:
        before = holdings()
        began = time.monotonic()
        found = await look(
            nowhere,
            database_url="postgresql://u:hunter2@127.0.0.1:1/d",
            mongodb_uri="mongodb://u:hunter2@127.0.0.1:1/",
            redis_url="redis://u:hunter2@127.0.0.1:1/0",
            rabbitmq_url="amqp://u:hunter2@127.0.0.1:1/",
        )
        assert time.monotonic() - began < BOUND_S
        for seen in found.values():
            assert codes(seen) == {"unreachable"}, seen.subject
            assert "127.0.0.1:1" in the(seen, "unreachable").detail
            assert seen.status == "unreachable"
        assert "hunter2" not in repr(found)
        await eventually(lambda: holdings() == before)

    async def test_servers_that_accept_and_say_nothing(self, nowhere: Path) -> None:
        async with silent_server() as port:
            began = time.monotonic()
            found = await look(
                nowhere,
                database_url=f"postgresql://u:p@127.0.0.1:{port}/d",
                mongodb_uri=f"mongodb://127.0.0.1:{port}/",
                redis_url=f"redis://127.0.0.1:{port}/0",
                rabbitmq_url=f"amqp://u:p@127.0.0.1:{port}/",
            )
            assert time.monotonic() - began < BOUND_S
        assert [codes(seen) for seen in found.values()] == [{"unreachable"}] * 4

    async def test_what_is_not_configured_is_disabled(self, nowhere: Path) -> None:
        found = await look(nowhere)
        for subject in ("mongodb", "redis", "message_queue"):
            assert found[subject].status == "disabled"
            assert found[subject].findings == []

    async def test_another_machine_without_tls_is_a_note(self, nowhere: Path) -> None:
        found = await look(
            nowhere,
            redis_url="redis://cache.invalid/0",
            rabbitmq_url="amqps://u:p@queue.invalid/",
            database_url="postgresql://u:p@ledger.invalid/d?sslmode=verify-full",
        )
        assert codes(found["redis"], NOTE) == {"unencrypted"}
        assert codes(found["message_queue"], NOTE) == set()
        assert codes(found["postgres"], NOTE) == set()


@contextlib.asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """The port of somebody who accepts and never says a word."""
    accepted: list[asyncio.StreamWriter] = []

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in accepted:
            writer.transport.abort()


class TestCache:
    async def test_capped_and_idle(self, nowhere: Path) -> None:
        async with private_redis("--maxmemory", "64mb") as server:
            seen = (await look(nowhere, redis_url=server.url))["redis"]
        assert seen.findings == []
        assert seen.product is not None
        assert re.fullmatch(r"(Redis|Valkey) \d+\.\d+\.\d+.*", seen.product)
        assert seen.figures["memory_max_bytes"] == 64 * 1024**2
        assert seen.figures["hit_rate"] is None

    async def test_no_cap_and_many_misses_are_notes(self, nowhere: Path) -> None:
        async with private_redis() as server:
            await send(server.port, b"GET nobody\r\n" * 1_500)
            seen = (await look(nowhere, redis_url=server.url))["redis"]
        assert codes(seen) == set()
        assert codes(seen, NOTE) == {"cache_uncapped", "cache_misses"}
        assert "100 % of 1,500 lookups" in the(seen, "cache_misses").detail

    async def test_full_without_eviction(self, nowhere: Path) -> None:
        async with private_redis(
            "--maxmemory", "3mb", "--maxmemory-policy", "noeviction"
        ) as server:
            value = b"x" * 10_000
            fill = b"".join(b"SET key:%d %s\r\n" % (number, value) for number in range(400))
            await send(server.port, fill)
            seen = (await look(nowhere, redis_url=server.url))["redis"]
        assert codes(seen) == {"cache_full"}


async def send(port: int, commands: bytes) -> None:
    """Inline commands, and the reply of each read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(commands + b"ECHO the-end\r\n")
    async with asyncio.timeout(20):
        await reader.readuntil(b"the-end\r\n")
    writer.close()
    await writer.wait_closed()


class TestArchive:
    async def test_version_and_latency(self, nowhere: Path) -> None:
        seen = (await look(nowhere, mongodb_uri=require_service("mongodb")))["mongodb"]
        assert codes(seen) == set()
        assert seen.status == "reachable"
        assert seen.product is not None
        assert seen.product.startswith("MongoDB ")
        assert seen.latency_ms is not None


class TestQueues:
    @pytest.fixture
    async def broker(self, private_broker: RabbitMQServer) -> AsyncIterator[str]:
        yield private_broker.url
        await remove(private_broker.url, GUIDE_TOPOLOGY)

    @pytest.fixture
    async def publisher(self, broker: str) -> AsyncIterator[MessageQueueManager]:
        manager = MessageQueueManager(rabbitmq_url=broker)
        await manager.connect()
        yield manager
        await manager.close()

    async def test_queues_that_nobody_declared_are_not_declared(
        self, broker: str, nowhere: Path
    ) -> None:
        await remove(broker, GUIDE_TOPOLOGY)
        await look(nowhere, rabbitmq_url=broker)
        seen = (await look(nowhere, rabbitmq_url=broker))["message_queue"]
        assert codes(seen) == set()
        missing = {f.subject for f in seen.findings if f.code == "queue_missing"}
        assert missing == {queue.name for queue in GUIDE_TOPOLOGY.queues}
        assert seen.product is not None
        assert seen.product.startswith("RabbitMQ ")

    async def test_queues_that_are_empty_are_right(
        self, broker: str, publisher: MessageQueueManager, nowhere: Path
    ) -> None:
        seen = (await look(nowhere, rabbitmq_url=broker))["message_queue"]
        assert seen.findings == []
        assert seen.figures["webhook-queue"] == {"messages": 0, "consumers": 0, "grown": 0}
        assert seen.figures["webhook-queue.dead"] == {"messages": 0}

    async def test_messages_without_consumers_and_dead_letters(
        self, broker: str, publisher: MessageQueueManager, nowhere: Path
    ) -> None:
        await publisher.publish_message("transactions", "webhook.received", {"n": 1})
        await publisher.publish_message("", "jit-funding-queue.dead", {"n": 2})
        await until_depth(publisher, "webhook-queue", 1)
        await until_depth(publisher, "jit-funding-queue.dead", 1)
        seen = (await look(nowhere, rabbitmq_url=broker))["message_queue"]
        assert codes(seen) == {"queue_unconsumed", "dead_letters"}
        assert the(seen, "queue_unconsumed").subject == "webhook-queue"
        assert the(seen, "dead_letters").subject == "jit-funding-queue.dead"

    async def test_a_queue_that_grows_although_it_is_consumed(
        self,
        broker: str,
        publisher: MessageQueueManager,
        nowhere: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        release = asyncio.Event()

        async def stuck(_: dict[str, Any]) -> None:
            await release.wait()

        consumer = await publisher.consume_message("webhook-queue", stuck, prefetch=1)
        monkeypatch.setattr(queues_look, "DEPTH_MAX", 30)

        async def flood() -> None:
            while True:
                await publisher.publish_message("transactions", "webhook.received", {})

        flooding = asyncio.create_task(flood())
        try:

            async def is_seen() -> bool:
                seen = (await look(nowhere, rabbitmq_url=broker))["message_queue"]
                return codes(seen) == {"queue_growing", "queue_deep"}

            await eventually(is_seen, within_s=30)
        finally:
            flooding.cancel()
            await asyncio.gather(flooding, return_exceptions=True)
            release.set()
            await consumer.stop(grace_s=1)


class TestCommand:
    """The command as a process: exit codes, JSON, text."""

    @pytest.fixture
    def doctor(self, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
        def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "jitway", "doctor", *arguments],
                cwd=tmp_path,
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": str(tmp_path),
                    "JITWAY_DATA_DIR": str(tmp_path / "data"),
                    **environ,
                },
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )

        return run

    async def test_all_is_right(
        self, doctor: Callable[..., Any], database: str, tmp_path: Path
    ) -> None:
        (tmp_path / ".env").write_text("JITWAY_POOL_MAX=7\n")
        done = await asyncio.to_thread(doctor, DATABASE_URL=database)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert done.stdout.endswith("All is right.\n")
        assert "JITWAY_POOL_MAX = 7  [.env line 1]" in done.stdout
        assert "PostgreSQL 1" in done.stdout

    async def test_the_document(self, doctor: Callable[..., Any], empty_database: str) -> None:
        addresses = {"DATABASE_URL": empty_database, "REDIS_URL": "redis://:hunter2@127.0.0.1:1/0"}
        done = await asyncio.to_thread(doctor, "--json", **addresses)
        assert done.returncode == 1
        assert "hunter2" not in done.stdout
        document = json.loads(done.stdout)
        assert set(document) == {"ok", "settings", "services", "findings"}
        assert document["ok"] is False
        assert document["settings"]["REDIS_URL"] == {
            "value": "redis://:***@127.0.0.1:1/0",
            "source": "environment",
        }
        assert document["settings"]["JITWAY_POOL_MAX"] == {"value": "20", "source": "default"}
        assert {name: one["status"] for name, one in document["services"].items()} == {
            "postgres": "reachable",
            "mongodb": "disabled",
            "redis": "unreachable",
            "message_queue": "disabled",
        }
        assert {one["code"] for one in document["findings"]} == {"schema", "unreachable"}
        assert all(one["advice"] and one["detail"] for one in document["findings"])

    async def test_text_says_what_to_do(self, doctor: Callable[..., Any], tmp_path: Path) -> None:
        done = await asyncio.to_thread(doctor)
        assert done.returncode == 1
        assert "PROBLEM not_initialized: postgres" in done.stdout
        assert "-> run `jitway init`" in done.stdout
        assert done.stdout.endswith("Problems: 1.\n")

    async def test_settings_that_are_wrong_are_no_diagnosis(
        self, doctor: Callable[..., Any]
    ) -> None:
        done = await asyncio.to_thread(doctor, JITWAY_POOL_MAX="many")
        assert done.returncode == 2
        assert done.stdout == ""
        assert "JITWAY_POOL_MAX" in done.stderr
