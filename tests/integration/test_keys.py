"""API keys: shown once, kept as digests, recognised, listed and revoked."""

from datetime import timedelta
from hashlib import sha256

import pytest

from jitway.errors import Conflict, InvalidRequest, NotFound
from jitway.gateway.keys import authenticate, create_key, list_keys, revoke_key
from tests.world import OPERATOR, World, bound_to


async def test_a_key_is_recognised_as_what_it_was_made_for(world: World) -> None:
    made, text = await create_key(
        world.postgres,
        world.clock,
        OPERATOR,
        scopes=["operate", "authorize", "operate"],
        program_id=world.program["id"],
    )
    caller = await authenticate(world.postgres, text)
    assert caller is not None
    assert caller.key_id == made["id"]
    assert caller.program_id == world.program["id"]
    assert caller.scopes == {"authorize", "operate"}
    assert made["scopes"] == ["authorize", "operate"]

    _, operators = await create_key(world.postgres, world.clock, OPERATOR, scopes=["operate"])
    caller = await authenticate(world.postgres, operators)
    assert caller is not None
    assert caller.program_id is None


async def test_only_a_digest_is_kept(world: World) -> None:
    made, text = await create_key(world.postgres, world.clock, OPERATOR, scopes=["read"])
    assert text.startswith("jw_")
    assert len(text) == 46
    rows = await world.rows("SELECT digest FROM api_key")
    assert rows[0]["digest"] == sha256(text.encode()).digest()
    for table in ("api_key", "audit", "outbox"):
        everything = str(await world.rows(f"SELECT t::text FROM {table} AS t"))
        assert text not in everything
        assert text[3:] not in everything
    assert text not in str(made)


async def test_nobody_else_is_recognised(world: World) -> None:
    _, text = await create_key(world.postgres, world.clock, OPERATOR, scopes=["read"])
    changed = text[:-1] + ("A" if text[-1] != "A" else "B")
    for wrong in ("", "jw_", text[:-1], text + "A", changed, "\u00e9" * 46, "jw_" + "\0" * 43):
        assert await authenticate(world.postgres, wrong) is None


async def test_a_revoked_key_is_nobodys_for_good(world: World) -> None:
    made, text = await create_key(world.postgres, world.clock, OPERATOR, scopes=["read"])

    revoked = await revoke_key(world.postgres, world.clock, OPERATOR, made["id"], reason="leaked")

    assert revoked["revoked_at"] is not None
    assert await authenticate(world.postgres, text) is None
    assert await revoke_key(world.postgres, world.clock, OPERATOR, made["id"]) == revoked
    trail = await world.rows("SELECT action, reason FROM audit WHERE action LIKE 'key.%'")
    assert [(row["action"], row["reason"]) for row in trail] == [
        ("key.created", None),
        ("key.revoked", "leaked"),
    ]
    await world.audited()


async def test_a_key_may_end_by_itself(world: World) -> None:
    now = world.clock.now()
    for hours, known in ((1, True), (-1, False)):
        _, text = await create_key(
            world.postgres,
            world.clock,
            OPERATOR,
            scopes=["read"],
            expires_at=now + timedelta(hours=hours),
        )
        assert (await authenticate(world.postgres, text) is not None) is known


async def test_each_program_sees_its_own_keys(world: World) -> None:
    theirs = await world.new_program()
    mine, _ = await create_key(
        world.postgres,
        world.clock,
        bound_to(world.program),
        scopes=["read"],
        program_id=world.program["id"],
    )
    operators, _ = await create_key(world.postgres, world.clock, OPERATOR, scopes=["read"])

    assert await list_keys(world.postgres, bound_to(world.program)) == [mine]
    assert await list_keys(world.postgres, bound_to(theirs)) == []
    assert await list_keys(world.postgres, OPERATOR) == [mine, operators]
    for key in (mine, operators):
        with pytest.raises(NotFound):
            await revoke_key(world.postgres, world.clock, bound_to(theirs), key["id"])
    for program_id in (None, theirs["id"]):
        with pytest.raises(NotFound):
            await create_key(
                world.postgres,
                world.clock,
                bound_to(world.program),
                scopes=["read"],
                program_id=program_id,
            )


async def test_what_cannot_be_meant(world: World) -> None:
    for scopes in ([], ["write"], ["read", "root"]):
        with pytest.raises(InvalidRequest) as refused:
            await create_key(world.postgres, world.clock, OPERATOR, scopes=scopes)
        assert refused.value.pointer == "/scopes"
    for key_id in ("key_" + "0" * 32, "key_1", ""):
        with pytest.raises(NotFound):
            await revoke_key(world.postgres, world.clock, OPERATOR, key_id)
    await world.rows("UPDATE program SET state = 'closed' WHERE id = $1", world.program)
    with pytest.raises(Conflict):
        await create_key(
            world.postgres,
            world.clock,
            OPERATOR,
            scopes=["read"],
            program_id=world.program["id"],
        )
