"""As root: the server runs as an ordinary user, and nobody's permissions are widened."""

import os
import shutil
from pathlib import Path

import pytest

from jitway.embedded import Binaries, EmbeddedPostgreSQL, find_binaries, reachable_data_dir
from jitway.embedded.places import find_cluster
from jitway.errors import EmbeddedServerError
from tests.integration.embedded.users import another, ask


async def test_the_server_is_not_root(server: EmbeddedPostgreSQL) -> None:
    await server.start()
    assert Path(f"/proc/{server.pid}").stat().st_uid != 0
    groups = Path(f"/proc/{server.pid}/status").read_text().partition("Groups:")[2].split("\n")[0]
    assert "0" not in groups.split()
    await server.stop()


async def test_what_its_user_cannot_enter_is_left_alone_and_linked_from(place: Path) -> None:
    private = place / "private"
    private.mkdir(mode=0o700)
    server = EmbeddedPostgreSQL(private / "data", durable=False, state_dir=place / "state")
    url = await server.start()
    await ask(url, "CREATE TABLE kept AS SELECT 42 AS value")
    await server.stop()
    assert private.stat().st_mode & 0o777 == 0o700
    cluster = find_cluster(private / "data")
    assert cluster is not None
    assert cluster.is_relative_to(place / "state")
    assert await server.start() == url
    assert await ask(url, "SELECT value FROM kept") == 42
    await server.stop()
    # Who removes the data directory has removed the ledger.
    shutil.rmtree(private / "data")
    url = await server.start()
    assert await ask(url, "SELECT to_regclass('kept') IS NULL")
    await server.stop()


async def test_binaries_its_user_cannot_reach_are_copied_whole(place: Path) -> None:
    found = find_binaries()
    assert found.wheel_site is not None
    site = place / "site"
    site.mkdir(mode=0o700)
    for part in found.wheel_parts:
        shutil.copytree(found.wheel_site / part, site / part, symlinks=True)
    # As installed under a strict umask.
    for path in site.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
    bin_dir = site / found.bin_dir.relative_to(found.wheel_site)
    hidden = Binaries(found.provider, bin_dir, found.major, site, found.wheel_parts)
    server = another(place, binaries=hidden)
    for _ in range(2):
        url = await server.start()
        program = Path(f"/proc/{server.pid}/exe").readlink()
        assert program.is_relative_to(place / "state" / "binaries")
        assert await ask(url, "SELECT gen_random_uuid() IS NOT NULL")
        await server.stop()
        # A copy that does not run, such as one a full disk cut short, is made again.
        program.write_bytes(b"")
    assert site.stat().st_mode & 0o777 == 0o700


async def test_another_users_cluster_is_run_as_that_user(place: Path) -> None:
    async with another(place):
        pass
    cluster = find_cluster(place / "data")
    assert cluster is not None
    for path in (cluster, *cluster.rglob("*")):
        os.chown(path, 54321, 54321, follow_symlinks=False)
    server = another(place)
    await server.start()
    assert Path(f"/proc/{server.pid}").stat().st_uid == 54321
    await server.stop()
    os.chown(cluster, 0, 0)
    with pytest.raises(EmbeddedServerError, match="belongs to root"):
        await server.start()


def test_a_demo_finds_a_directory_its_server_can_enter(place: Path) -> None:
    assert reachable_data_dir(place / "demo", "demo") == place / "demo"
    (place / "closed").mkdir(mode=0o700)
    one, two = (
        reachable_data_dir(place / "closed" / name, "demo", state_dir=place) for name in "ab"
    )
    assert one != two
    assert one.parent == two.parent == place
