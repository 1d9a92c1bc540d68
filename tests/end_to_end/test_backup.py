"""`jitway backup` while authorizations are decided, and `jitway restore` into an empty place."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.gateway import Gateway, GatewayFailed
from jitway.embedded import stop_left_behind
from tests.end_to_end.asking import Asking
from tests.end_to_end.conftest import House
from tests.end_to_end.test_survives import serving

CALLERS = 4


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the server's user may pass through."""
    path = Path(tempfile.mkdtemp(prefix="jitway-backup-"))
    path.chmod(0o711)
    yield path
    asyncio.run(stop_left_behind(path / "restored"))
    shutil.rmtree(path, ignore_errors=True)


async def decided(asking: Asking, count: int) -> list[dict[str, Any]]:
    """So many authorizations, decided one after the other."""
    answers = []
    for _ in range(count):
        reply = await asking.authorize()
        assert reply.status == 200
        answers.append(json.loads(reply.body))
    return answers


async def test_what_was_answered_before_a_backup_is_in_it(house: House, place: Path) -> None:
    async with serving(house) as (gateway, asking):
        before = await decided(asking, 3)
        copying = True
        callers = [
            asyncio.create_task(asking.keep_asking(number, lambda: copying, pause_s=0.01))
            for number in range(CALLERS)
        ]
        code, made = await gateway.command("backup", str(place / "backup"))
        copying = False
        await asyncio.gather(*callers)
        assert code == 0
        assert made["verify"]["ok"]
        assert made["bytes"] == sum(part.stat().st_size for part in (place / "backup").iterdir())
        assert list(asking.failures()) == []
        after = await decided(asking, 1)

    elsewhere = Gateway(place / "restored", place / "restored.log")
    code, restored = await elsewhere.command("restore", str(place / "backup"))
    assert code == 0
    assert restored["verify"]["ok"]
    # There is a ledger now, and it stays.
    with pytest.raises(GatewayFailed, match=r"there is a ledger in .* already"):
        await elsewhere.command("restore", str(place / "backup"))
    await elsewhere.start()
    try:
        there = Asking(elsewhere.port, house.key, asking.openings)
        for answer in before:
            reply = await there.look(f"/v1/authorizations/{answer['id']}")
            assert (reply.status, json.loads(reply.body)["decision"]) == (200, "approved")
        assert (await there.look(f"/v1/authorizations/{after[0]['id']}")).status == 404
        await decided(there, 1)
    finally:
        await elsewhere.terminate()
    code, verified = await elsewhere.command("verify")
    assert (code, verified["violations"]) == (0, [])


async def test_a_damaged_backup_is_refused_and_leaves_nothing(house: House, place: Path) -> None:
    gateway = house.gateway()
    code, _ = await gateway.command("backup", str(place / "backup"), "--no-prove")
    assert code == 0
    with pytest.raises(GatewayFailed, match="is there already"):
        await gateway.command("backup", str(place / "backup"))
    base = place / "backup" / "base.tar"
    with base.open("r+b") as file:
        file.seek(base.stat().st_size // 2)
        file.write(b"damage" * 1000)
    elsewhere = Gateway(place / "restored", place / "restored.log")
    with pytest.raises(GatewayFailed, match="damaged"):
        await elsewhere.command("restore", str(place / "backup"))
    assert not (place / "restored" / "postgresql").exists()
    base.unlink()
    with pytest.raises(GatewayFailed, match=r"it lacks base\.tar"):
        await elsewhere.command("restore", str(place / "backup"))


async def test_the_tools_of_another_postgresql_are_its_own(place: Path) -> None:
    gateway = Gateway(place / "data", place / "log", {"DATABASE_URL": "postgresql://a@b/c"})
    with pytest.raises(GatewayFailed, match="DATABASE_URL is set"):
        await gateway.command("backup", str(place / "backup"))
