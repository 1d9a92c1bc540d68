"""The embedded PostgreSQL's life, on real servers: start, share, survive, stop."""

import asyncio
import os
import signal
from pathlib import Path

import asyncpg

from jitway.embedded import EmbeddedPostgreSQL, LeftBehind, running_url, stop_left_behind
from jitway.embedded.places import find_cluster
from tests.integration.embedded.users import (
    SOON_S,
    another,
    another_process,
    ask,
    is_running,
    until,
)


async def test_a_started_server_is_a_durable_ledger_on_a_private_socket(place: Path) -> None:
    server = another(place, durable=True)
    url = await server.start()
    assert await server.start() == url == running_url(place / "data")
    assert url.startswith("postgresql://jitway@/jitway?host=%2F")
    connection = await asyncpg.connect(url)
    try:
        for name, value in {
            "fsync": "on",
            "full_page_writes": "on",
            "synchronous_commit": "on",
            "data_checksums": "on",
            "listen_addresses": "",
            "server_encoding": "UTF8",
            "TimeZone": "UTC",
            "track_commit_timestamp": "on",
        }.items():
            assert await connection.fetchval("SELECT current_setting($1)", name) == value
        assert await connection.fetchval("SELECT current_database()") == "jitway"
        # Bytes in order: neither a libc nor an ICU update can break an index.
        assert await connection.fetchval("SELECT 'Z' < 'a' AND upper('\u00e9') IS NOT NULL")
        socket_dir = await connection.fetchval("SHOW unix_socket_directories")
    finally:
        await connection.close()
        await server.stop()
    cluster = find_cluster(place / "data")
    assert cluster is not None
    assert socket_dir == f'"{cluster}"'
    assert cluster.stat().st_mode & 0o777 == 0o700


async def test_alter_system_cannot_weaken_a_ledger(place: Path) -> None:
    async with another(place, durable=True) as url:
        connection = await asyncpg.connect(url)
        await connection.execute("ALTER SYSTEM SET fsync = off")
        await connection.execute("ALTER SYSTEM SET full_page_writes = off")
        await connection.close()
    async with another(place, durable=True) as url:
        assert (
            await ask(url, "SELECT current_setting('fsync') || current_setting('full_page_writes')")
            == "onon"
        )


async def test_stop_may_be_called_at_any_time(server: EmbeddedPostgreSQL) -> None:
    await server.stop()
    await server.start()
    pid = server.pid
    await server.stop()
    await server.stop()
    assert not is_running(pid)
    assert server.pid is None


async def test_rows_outlive_a_restart(server: EmbeddedPostgreSQL) -> None:
    url = await server.start()
    await ask(url, "CREATE TABLE kept AS SELECT 42 AS value")
    await server.stop()
    assert await server.start() == url
    assert await ask(url, "SELECT value FROM kept") == 42
    await server.stop()


async def test_the_last_user_stops_it(place: Path, server: EmbeddedPostgreSQL) -> None:
    second = another(place)
    assert await server.start() == await second.start()
    assert (server.is_attached, second.pid) == (server.is_attached, server.pid)
    pid = server.pid
    await server.stop()
    assert is_running(pid)
    await second.stop()
    assert not is_running(pid)


async def test_two_starters_at_once_get_one_server(place: Path) -> None:
    commands = [another_process(place) for _ in range(3)]
    opened = await asyncio.gather(*(command.__aenter__() for command in commands))
    said = [answer for _, answer in opened]
    assert len({answer["pid"] for answer in said}) == 1
    assert sorted(answer["attached"] for answer in said) == [False, True, True]
    await asyncio.gather(*(command.__aexit__(None, None, None) for command in commands))
    assert not is_running(said[0]["pid"])


async def test_users_in_one_process_share_it_too(place: Path) -> None:
    servers = [another(place) for _ in range(4)]
    urls = await asyncio.gather(*(server.start() for server in servers))
    assert len(set(urls)) == 1
    assert len({server.pid for server in servers}) == 1
    pid = servers[0].pid
    await asyncio.gather(*(server.stop() for server in servers))
    assert not is_running(pid)


async def test_a_killed_starter_leaves_a_server_that_the_next_attaches_to(place: Path) -> None:
    async with another_process(place) as (child, said):
        child.kill()
        await child.wait()
        assert is_running(said["pid"])
        server = another(place)
        assert await server.start() == said["url"]
        assert server.is_attached
        assert server.pid == said["pid"]
        assert await ask(said["url"], "SELECT 1") == 1
        await server.stop()
        assert not is_running(said["pid"])


async def test_what_was_left_behind_is_stopped_and_what_is_in_use_is_not(place: Path) -> None:
    assert await stop_left_behind(place / "data") is LeftBehind.NOTHING
    assert not (place / "data").exists()
    async with another_process(place) as (child, said):
        assert await stop_left_behind(place / "data") is LeftBehind.IN_USE
        child.kill()
        await child.wait()
        assert await stop_left_behind(place / "data") is LeftBehind.STOPPED
        assert not is_running(said["pid"])
        assert await stop_left_behind(place / "data") is LeftBehind.NOTHING
        assert running_url(place / "data") is None


async def test_a_terminals_interrupt_passes_it_by(server: EmbeddedPostgreSQL) -> None:
    await server.start()
    assert server.pid is not None
    assert os.getsid(server.pid) == server.pid != os.getsid(0)
    await server.stop()


async def test_a_killed_server_is_started_again_on_the_same_address(
    server: EmbeddedPostgreSQL,
) -> None:
    url = await server.start()
    await ask(url, "CREATE TABLE kept AS SELECT 42 AS value")
    await ask(url, "CHECKPOINT")
    keeping = asyncio.create_task(server.keep_running())
    try:
        killed: set[int] = set()
        for _ in range(2):
            assert server.pid is not None
            killed.add(server.pid)
            os.kill(server.pid, signal.SIGKILL)
            await until(lambda: server.pid not in killed)
            assert await ask(url, "SELECT value FROM kept") == 42
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await server.stop()


async def test_orphans_of_a_killed_server_do_not_hinder_the_next(place: Path) -> None:
    async with another_process(place) as (child, said):
        # A backend at work does not notice that its postmaster died.
        busy = await asyncpg.connect(said["url"])
        backend = await busy.fetchval("SELECT pg_backend_pid()")
        working = asyncio.create_task(busy.execute("DO $$ BEGIN LOOP PERFORM 1; END LOOP; END $$"))
        activity = f"SELECT state FROM pg_stat_activity WHERE pid = {backend}"
        async with asyncio.timeout(SOON_S):
            while await ask(said["url"], activity) != "active":
                await asyncio.sleep(0.01)
        child.kill()
        os.kill(said["pid"], signal.SIGKILL)
        await until(lambda: not is_running(said["pid"]))
        assert is_running(backend)
        async with another(place) as url:
            assert url == said["url"]
            assert not is_running(backend)
        [ended] = await asyncio.gather(working, return_exceptions=True)
        assert isinstance(ended, OSError | asyncpg.PostgresConnectionError)
