"""`PostgreSQLAdapter` while its server is killed, stopped, frozen, full or the wrong one."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from jitway.adapters.postgresql import PostgreSQLAdapter, TransactionClient
from jitway.embedded.postgresql import EmbeddedPostgreSQL
from jitway.errors import JitwayError, LedgerUnavailable, SettingsError, StatementRefused
from tests.conftest import PrivateServer, database_url, server_dir
from tests.integration.postgresql_bench import Cut, eventually, lane, wire_to

QUERY_TIMEOUT_S = 0.5
RECOVERY_S = 5.0


@pytest.fixture
async def pool(private_server: PrivateServer) -> AsyncIterator[PostgreSQLAdapter]:
    """Three connections with short limits to a server of its own."""
    adapter = PostgreSQLAdapter(
        {"DATABASE_URL": private_server.url},
        pool_size_min=3,
        pool_size_max=6,
        query_timeout_ms=int(QUERY_TIMEOUT_S * 1000),
        connect_timeout_ms=500,
        acquire_timeout_ms=1_000,
    )
    await adapter.initialize()
    yield adapter
    await adapter.close()


async def answers(adapter: PostgreSQLAdapter) -> bool:
    try:
        return await adapter.execute_query("SELECT 1 AS n") == [{"n": 1}]
    except LedgerUnavailable:
        return False


async def at_full_number(adapter: PostgreSQLAdapter) -> bool:
    # A caller may open one while the pool restores its floor.
    return bool((await adapter.get_pool_stats())["idle_connections"] in {3, 4})


async def fails_in_time(adapter: PostgreSQLAdapter, *, limit_s: float) -> None:
    """The error is one of ours, says which server, and comes within the limit and one second."""
    started = time.monotonic()
    with pytest.raises(LedgerUnavailable, match="PostgreSQL"):
        await adapter.execute_query("SELECT 1")
    assert time.monotonic() - started < limit_s + 1


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_a_server_that_dies_in_use_and_comes_back(
    private_server: PrivateServer, pool: PostgreSQLAdapter, how: str
) -> None:
    under_way = [asyncio.create_task(pool.execute_query("SELECT pg_sleep(0.4)")) for _ in range(3)]

    async def in_use() -> bool:
        return bool((await pool.get_pool_stats())["in_use"] == 3)

    await eventually(in_use)
    await (private_server.kill() if how == "kill" else private_server.stop())
    for outcome in await asyncio.gather(*under_way, return_exceptions=True):
        assert isinstance(outcome, LedgerUnavailable | list)
    await fails_in_time(pool, limit_s=QUERY_TIMEOUT_S)
    await private_server.start()
    await eventually(lambda: answers(pool), within_s=RECOVERY_S)
    await eventually(lambda: at_full_number(pool), within_s=RECOVERY_S)


async def test_a_frozen_server_and_its_return(
    private_server: PrivateServer, pool: PostgreSQLAdapter
) -> None:
    private_server.freeze()
    try:
        started = time.monotonic()
        outcomes = await asyncio.gather(
            *(pool.execute_query("SELECT 1") for _ in range(12)), return_exceptions=True
        )
        # The longest way: wait for a place, then for an answer or a connection that never comes.
        assert time.monotonic() - started < 1.0 + QUERY_TIMEOUT_S + 1
        assert all(isinstance(outcome, JitwayError) for outcome in outcomes)
        await fails_in_time(pool, limit_s=1.0)
    finally:
        private_server.thaw()
    await eventually(lambda: answers(pool), within_s=RECOVERY_S)
    await eventually(lambda: at_full_number(pool), within_s=RECOVERY_S)


async def test_a_lane_on_a_frozen_server_is_freed_by_terminate(
    private_server: PrivateServer, pool: PostgreSQLAdapter
) -> None:
    connection = await lane(pool)
    await connection.begin()
    private_server.freeze()
    try:
        asking = asyncio.create_task(connection.fetch("SELECT 1"))
        await asyncio.sleep(0)
        connection.terminate()
        with pytest.raises(LedgerUnavailable):
            await asyncio.wait_for(asking, 1)
        started = time.monotonic()
        with pytest.raises(LedgerUnavailable, match="did not answer within 500 ms"):
            await lane(pool)
        assert time.monotonic() - started < 1.5
    finally:
        private_server.thaw()


async def test_a_transaction_survives_a_connection_that_died_unseen_in_the_pool(
    private_server: PrivateServer,
) -> None:
    adapter = PostgreSQLAdapter({"DATABASE_URL": private_server.url}, pool_size_min=1)
    await adapter.initialize()
    calls = 0

    async def count(client: TransactionClient) -> int:
        nonlocal calls
        calls += 1
        (row,) = await client.query("SELECT pg_backend_pid() AS pid")
        return int(row["pid"])

    pid = await adapter.execute_transaction(count)
    end_unnoticed(pid, signal.SIGTERM)
    assert await adapter.execute_transaction(count) != pid
    assert calls == 2
    await adapter.close()


def end_unnoticed(pid: int, how: signal.Signals) -> None:
    """End a process while the loop stands still, so that nobody reads its closed sockets yet."""
    os.kill(pid, how)
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}/fd/0").exists() and time.monotonic() < deadline:
        time.sleep(0.01)


async def test_a_failed_replacement_leaves_the_pool_its_size(
    private_server: PrivateServer,
) -> None:
    adapter = PostgreSQLAdapter(
        {"DATABASE_URL": private_server.url},
        pool_size_min=0,
        pool_size_max=2,
        connect_patience_ms=0,
    )

    async def pid_of(client: TransactionClient) -> int:
        (row,) = await client.query("SELECT pg_backend_pid() AS pid")
        return int(row["pid"])

    # A killed server process takes the whole server with it: there is nothing to replace it by.
    end_unnoticed(await adapter.execute_transaction(pid_of), signal.SIGKILL)
    with contextlib.suppress(LedgerUnavailable):
        await adapter.execute_transaction(pid_of)
    assert (await adapter.get_pool_stats())["in_use"] == 0
    await eventually(lambda: answers(adapter), within_s=RECOVERY_S)
    sleepers = [
        asyncio.create_task(adapter.execute_query("SELECT pg_sleep(0.2)")) for _ in range(8)
    ]

    async def two_in_use() -> bool:
        return bool((await adapter.get_pool_stats())["in_use"] == 2)

    await eventually(two_in_use)
    assert (await adapter.get_pool_stats())["waiting_requests"] == 6
    await asyncio.gather(*sleepers)
    await adapter.close()


async def test_an_orderly_restart_between_two_calls_is_not_even_seen(
    private_server: PrivateServer, pool: PostgreSQLAdapter
) -> None:
    assert await answers(pool)
    await private_server.stop()
    await private_server.start()
    assert await pool.execute_query("SELECT 1 AS n") == [{"n": 1}]


async def test_callers_of_a_dead_server_share_few_attempts(database: str) -> None:
    async with wire_to(database) as wire:
        wire.cut = Cut.REFUSE
        adapter = PostgreSQLAdapter({"DATABASE_URL": wire.url}, pool_size_min=0)
        started = time.monotonic()
        outcomes = await asyncio.gather(
            *(adapter.execute_query("SELECT 1") for _ in range(200)), return_exceptions=True
        )
        took_s = time.monotonic() - started
        assert all(isinstance(outcome, LedgerUnavailable) for outcome in outcomes)
        # The first of each place in the pool knock together; from then on five times a second,
        # and who waited behind them shares their outcome.
        assert wire.connections_made <= 20 + took_s / 0.2 + 1
        assert took_s < 3
        wire.cut = Cut.NOTHING
        assert await adapter.execute_query("SELECT 1 AS n") == [{"n": 1}]
        await adapter.close()


# The wrong server, or the wrong words


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://u:hunter2@host/database", "begin with postgresql://"),
        ("postgresql+asyncpg://u:hunter2@host/db", "begin with postgresql://"),
        ("hunter2", "begin with postgresql://"),
        ("postgresql://u:hunter2/x@host:5432/db", "percent-encoded"),
        ("", "DATABASE_URL is missing"),
    ],
)
async def test_an_address_that_is_none(url: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as refused:
        PostgreSQLAdapter({"DATABASE_URL": url})
    assert "hunter2" not in str(refused.value)


async def test_an_option_the_driver_does_not_understand() -> None:
    adapter = PostgreSQLAdapter({"DATABASE_URL": "postgresql://u:hunter2@h/d?sslmode=perhaps"})
    with pytest.raises(SettingsError, match="sslmode") as refused:
        await adapter.initialize()
    assert "hunter2" not in str(refused.value)
    await adapter.close()


async def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        adapter = PostgreSQLAdapter({"DATABASE_URL": f"postgresql://u:hunter2@127.0.0.1:{port}/d"})
        started = time.monotonic()
        with pytest.raises(LedgerUnavailable) as refused:
            await adapter.execute_query("SELECT 1")
        assert time.monotonic() - started < 2
    assert f"postgresql://u:***@127.0.0.1:{port}/d refuses connections" in str(refused.value)
    assert "is it running" in str(refused.value)
    await adapter.close()


async def test_no_such_host() -> None:
    adapter = PostgreSQLAdapter({"DATABASE_URL": "postgresql://u:hunter2@nowhere.invalid/d"})
    with pytest.raises(LedgerUnavailable, match="host name has no address") as refused:
        await adapter.initialize()
    assert "hunter2" not in str(refused.value)
    await adapter.close()


async def test_no_such_socket(tmp_path: Path) -> None:
    adapter = PostgreSQLAdapter({"DATABASE_URL": f"postgresql://u@/d?host={tmp_path}"})
    with pytest.raises(LedgerUnavailable, match="refuses connections"):
        await adapter.initialize()
    await adapter.close()


async def test_no_such_database(server_url: str) -> None:
    adapter = PostgreSQLAdapter({"DATABASE_URL": database_url(server_url, "nowhere")})
    with pytest.raises(LedgerUnavailable, match="no such database; create it"):
        await adapter.execute_query("SELECT 1")
    await adapter.close()


async def test_the_wrong_password(private_server: PrivateServer, pool: PostgreSQLAdapter) -> None:
    await pool.execute_query("CREATE ROLE locked LOGIN PASSWORD 'right'")
    (row,) = await pool.execute_query("SHOW hba_file")
    hba = Path(row["hba_file"])
    before = hba.read_text()
    hba.write_text(f"local all locked scram-sha-256\n{before}")
    await pool.execute_query("SELECT pg_reload_conf()")
    try:
        wrong = private_server.url.replace("//jitway@", "//locked:hunter2@")
        adapter = PostgreSQLAdapter({"DATABASE_URL": wrong})

        async def refused() -> bool:
            return not await answers(adapter)

        # Until the server has read its file again, anybody may enter.
        await eventually(refused)
        with pytest.raises(
            LedgerUnavailable, match="the user name or password; check"
        ) as wrong_one:
            await lane(adapter)
        assert "hunter2" not in str(wrong_one.value)
        await adapter.close()
        right = PostgreSQLAdapter({"DATABASE_URL": wrong.replace("hunter2", "right")})
        assert await answers(right)
        await right.close()
    finally:
        hba.write_text(before)
        await pool.execute_query("SELECT pg_reload_conf()")
        await pool.execute_query("DROP ROLE locked")


async def test_a_server_without_a_connection_left(database: str, server: PostgreSQLAdapter) -> None:
    role = f"jitway_test_narrow_{os.getpid()}"
    create = f"CREATE ROLE {role} LOGIN PASSWORD 'narrow' CONNECTION LIMIT 2"
    await server.execute_query(create)
    try:
        parts = urlsplit(database)
        host = parts.netloc.rpartition("@")[2]
        url = f"postgresql://{role}:narrow@{host}{parts.path}?{parts.query}"
        adapter = PostgreSQLAdapter(
            {"DATABASE_URL": url}, pool_size_min=0, connect_patience_ms=0, search_path="public"
        )
        first, second = await lane(adapter), await lane(adapter)
        with pytest.raises(LedgerUnavailable, match="no connection left; raise max_connections"):
            await adapter.execute_query("SELECT 1")
        second.terminate()
        # What there is serves, and the rest comes when there is room.
        assert (await first.fetch("SELECT 1"))[0][0] == 1
        await eventually(lambda: answers(adapter))
        await adapter.close()
    finally:
        await server.execute_query(f"DROP ROLE {role}")


async def test_a_server_that_does_not_sync_is_refused() -> None:
    with server_dir() as directory:
        async with EmbeddedPostgreSQL(directory / "data", durable=False) as url:
            adapter = PostgreSQLAdapter({"DATABASE_URL": url})
            with pytest.raises(SettingsError, match="fsync is off, full_page_writes is off"):
                await adapter.check_durability()
            assert len(await adapter.check_durability(allow_unsafe=True)) == 3
            await adapter.close()


async def test_a_standby_is_refused(private_server: PrivateServer) -> None:
    adapter = PostgreSQLAdapter({"DATABASE_URL": private_server.url}, pool_size_min=0)
    (row,) = await adapter.execute_query("SHOW data_directory")
    signal_file = Path(row["data_directory"]) / "standby.signal"
    signal_file.touch()
    try:
        await private_server.stop()
        await private_server.start()
        with pytest.raises(LedgerUnavailable, match="is a standby"):
            await adapter.check_durability(allow_unsafe=True)
        with pytest.raises(LedgerUnavailable, match="writable primary"):
            await (await lane(adapter)).begin()
        with pytest.raises(LedgerUnavailable, match="read-only"):
            await adapter.execute_query("CREATE TABLE forbidden ()")
    finally:
        signal_file.unlink(missing_ok=True)
        await adapter.close()
        await private_server.stop()


# Leaks


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_two_hundred_cycles_leave_nothing_behind(
    database: str, server: PostgreSQLAdapter
) -> None:
    name = urlsplit(database).path.removeprefix("/")
    dead = "postgresql://u@127.0.0.1:1/d"

    async def cycle(number: int) -> None:
        url = dead if number % 4 == 3 else database
        adapter = PostgreSQLAdapter(
            {"DATABASE_URL": url}, pool_size_min=2, connect_patience_ms=0, query_timeout_ms=1_000
        )
        try:
            await adapter.initialize()
            connection = await lane(adapter)
            await connection.begin()
            with pytest.raises(StatementRefused):
                await adapter.execute_query("SELECT 1 / 0")
            sleeping = asyncio.create_task(adapter.execute_query("SELECT pg_sleep(5)"))
            await asyncio.sleep(0)
            sleeping.cancel()
            await asyncio.gather(sleeping, return_exceptions=True)
        except LedgerUnavailable:
            assert url == dead
        finally:
            await adapter.close()

    async def connections() -> int:
        (row,) = await server.execute_query(
            "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = $1", [name]
        )
        return int(row["n"])

    async def none_left() -> bool:
        return await connections() == 0

    await cycle(0)
    await asyncio.sleep(0)
    files, tasks = open_files(), len(asyncio.all_tasks())
    for number in range(200):
        await cycle(number)
    await asyncio.sleep(0)
    assert (open_files(), len(asyncio.all_tasks())) == (files, tasks)
    await eventually(none_left)


def test_the_address_of_a_socket_keeps_its_directory(server_url: str) -> None:
    """The clone of a test is on the same server as the template."""
    assert parse_qs(urlsplit(database_url(server_url, "x")).query) == parse_qs(
        urlsplit(server_url).query
    )
