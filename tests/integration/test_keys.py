"""API keys: shown once, kept as digests, recognised, listed and revoked."""

from datetime import timedelta
from hashlib import sha256

import pytest

from jitway.domain.instant import instant_text
from jitway.errors import Conflict, InvalidRequest, NotFound, ScopeExceeded
from jitway.gateway.caller import Caller
from jitway.gateway.keys import (
    OVERLAP_MAX,
    SCOPES,
    authenticate,
    create_key,
    list_keys,
    revoke_key,
    rotate_key,
)
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
    ends = now + timedelta(hours=1)
    _, text = await create_key(
        world.postgres, world.clock, OPERATOR, scopes=["read"], expires_at=ends
    )
    assert await authenticate(world.postgres, text) is not None
    await world.rows("UPDATE api_key SET expires_at = now() - interval '1 second'")
    assert await authenticate(world.postgres, text) is None
    with pytest.raises(InvalidRequest) as refused:
        await create_key(
            world.postgres,
            world.clock,
            OPERATOR,
            scopes=["read"],
            expires_at=now - timedelta(hours=1),
        )
    assert refused.value.pointer == "/expires_at"


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
    with pytest.raises(NotFound):
        await create_key(
            world.postgres,
            world.clock,
            bound_to(world.program),
            scopes=["read"],
            program_id=theirs["id"],
        )
    unnamed, _ = await create_key(
        world.postgres, world.clock, bound_to(world.program), scopes=["read"]
    )
    assert unnamed["program"] == world.program["id"]


async def test_a_rotated_key_has_two_secrets_for_a_while(world: World) -> None:
    made, old = await create_key(world.postgres, world.clock, OPERATOR, scopes=["read"])
    until = world.clock.now() + timedelta(hours=1)

    rotated, new = await rotate_key(
        world.postgres, world.clock, OPERATOR, made["id"], until=until, reason="quarterly"
    )

    assert rotated["id"] == made["id"]
    assert rotated["previous_secret_until"] == instant_text(until)
    for text in (old, new):
        caller = await authenticate(world.postgres, text)
        assert caller is not None
        assert caller.key_id == made["id"]
    with pytest.raises(Conflict) as refused:
        await rotate_key(world.postgres, world.clock, OPERATOR, made["id"])
    assert refused.value.code == "rotation_under_way"
    await world.rows("UPDATE api_key SET before_until = now() - interval '1 millisecond'")
    assert await authenticate(world.postgres, old) is None
    assert await authenticate(world.postgres, new) is not None
    _, newest = await rotate_key(
        world.postgres, world.clock, OPERATOR, made["id"], until=world.clock.now()
    )
    assert await authenticate(world.postgres, new) is None, "at once, when the end has passed"
    await revoke_key(world.postgres, world.clock, OPERATOR, made["id"])
    assert await authenticate(world.postgres, newest) is None
    with pytest.raises(Conflict) as refused:
        await rotate_key(world.postgres, world.clock, OPERATOR, made["id"])
    assert refused.value.code == "key_not_active"
    for table in ("api_key", "audit"):
        everything = str(await world.rows(f"SELECT t::text FROM {table} AS t"))
        assert not [text for text in (old, new, newest) if text[3:] in everything]
    await world.audited()


async def test_a_revoked_key_has_no_secret_that_is_good(world: World) -> None:
    made, old = await create_key(world.postgres, world.clock, OPERATOR, scopes=["read"])
    _, new = await rotate_key(world.postgres, world.clock, OPERATOR, made["id"])
    await revoke_key(world.postgres, world.clock, OPERATOR, made["id"])
    for text in (old, new):
        assert await authenticate(world.postgres, text) is None


async def test_nobody_gives_more_than_they_have(world: World) -> None:
    admin = Caller("key_" + "2" * 32, world.program["id"], frozenset({"admin", "read"}))
    for scopes in (["operate"], ["authorize", "read"], list(SCOPES)):
        with pytest.raises(ScopeExceeded):
            await create_key(world.postgres, world.clock, admin, scopes=scopes)
    await create_key(world.postgres, world.clock, admin, scopes=["read", "admin"])
    strong, _ = await create_key(
        world.postgres,
        world.clock,
        bound_to(world.program),
        scopes=["operate"],
        program_id=world.program["id"],
    )
    with pytest.raises(ScopeExceeded):
        await rotate_key(world.postgres, world.clock, admin, strong["id"])
    operators, _ = await create_key(world.postgres, world.clock, OPERATOR, scopes=["read"])
    for act in (rotate_key, revoke_key):
        with pytest.raises(NotFound):
            await act(world.postgres, world.clock, admin, operators["id"])
    revoked = await revoke_key(world.postgres, world.clock, admin, strong["id"])
    assert revoked["revoked_at"] is not None


async def test_an_overlap_has_an_end(world: World) -> None:
    made, _ = await create_key(world.postgres, world.clock, OPERATOR, scopes=["read"])
    with pytest.raises(InvalidRequest) as refused:
        await rotate_key(
            world.postgres,
            world.clock,
            OPERATOR,
            made["id"],
            until=world.clock.now() + OVERLAP_MAX + timedelta(hours=1),
        )
    assert refused.value.pointer == "/until"


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
