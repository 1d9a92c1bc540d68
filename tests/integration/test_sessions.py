"""Logins of the live page: found while they live, ended for good, with and without Redis."""

from collections.abc import AsyncIterator
from hashlib import sha256

import pytest

from jitway.adapters.redis import RedisAdapter
from jitway.errors import InvalidRequest, NotFound
from jitway.gateway.caller import Caller
from jitway.gateway.keys import create_key, revoke_key
from jitway.gateway.sessions import (
    SESSIONS_OF_A_KEY_MAX,
    Sessions,
    caller_of,
    make_login_link,
    take_login_link,
)
from tests.integration.private_redis import PrivateRedis, private_redis
from tests.world import OPERATOR, World

ADMIN = Caller("key_" + "0" * 32, None, frozenset({"operate", "authorize", "admin"}))


@pytest.fixture
async def own_server() -> AsyncIterator[PrivateRedis]:
    async with private_redis() as server:
        yield server


async def key(world: World, *scopes: str, program: str | None = None) -> str:
    made, _ = await create_key(
        world.postgres, world.clock, ADMIN, scopes=scopes or ("read",), program_id=program
    )
    return str(made["id"])


async def test_a_session_is_found_until_it_is_ended(world: World) -> None:
    sessions = Sessions(world.postgres, None, world.clock)
    key_id = await key(world)
    token, session = await sessions.begin(key_id)
    assert session.key_id == key_id
    assert session.expires_at > world.clock.now()
    assert await sessions.find(token) == session

    await sessions.end(session)
    await sessions.end(session)
    assert await sessions.find(token) is None


async def test_only_digests_are_kept(world: World) -> None:
    sessions = Sessions(world.postgres, None, world.clock)
    token, _ = await sessions.begin(await key(world))
    link, _ = await make_login_link(world.postgres)
    rows = await world.rows("SELECT id FROM session UNION SELECT digest FROM login_link")
    assert {row["id"] for row in rows} == {
        sha256(token.encode()).digest(),
        sha256(link.encode()).digest(),
    }


async def test_nothing_else_opens_one(world: World) -> None:
    sessions = Sessions(world.postgres, None, world.clock)
    token, _ = await sessions.begin(await key(world))
    for wrong in ("", token[:-1], token + "A", "\0" * 43, "\u00e9" * 43, token.swapcase()):
        assert await sessions.find(wrong) is None
        assert await take_login_link(world.postgres, wrong) is None


async def test_a_session_ends_for_good_and_when_nobody_uses_it(world: World) -> None:
    key_id = await key(world)
    sessions = Sessions(world.postgres, None, world.clock, ttl_s=100, idle_s=20)
    token, _ = await sessions.begin(key_id)
    await world.rows("UPDATE session SET used_at = used_at - interval '15 s' RETURNING 1")
    assert await sessions.find(token) is not None, "it was used in time"
    idle = await world.rows("SELECT statement_timestamp() - used_at < '9 s' AS fresh FROM session")
    assert idle == [{"fresh": True}], "and that is what the row says now"
    await world.rows("UPDATE session SET used_at = used_at - interval '21 s' RETURNING 1")
    assert await sessions.find(token) is None

    token, _ = await sessions.begin(key_id)
    await world.rows("UPDATE session SET expires_at = expires_at - interval '101 s' RETURNING 1")
    assert await sessions.find(token) is None
    await sessions.begin(key_id)
    assert len(await world.rows("SELECT 1 FROM session")) == 1, "what is over is swept"


async def test_a_key_has_so_many_sessions(world: World) -> None:
    sessions = Sessions(world.postgres, None, world.clock)
    key_id, other = await key(world), await key(world)
    others, _ = await sessions.begin(other)
    first, _ = await sessions.begin(key_id)
    last = first
    for _ in range(SESSIONS_OF_A_KEY_MAX):
        last, _ = await sessions.begin(key_id)
    assert await sessions.find(first) is None
    assert await sessions.find(last) is not None
    assert await sessions.find(others) is not None


async def test_who_a_key_is_now(world: World) -> None:
    key_id = await key(world, "read", "operate", program=world.program["id"])
    caller = await caller_of(world.postgres, key_id)
    assert caller is not None
    assert (caller.key_id, caller.program_id) == (key_id, world.program["id"])
    assert caller.scopes == {"read", "operate"}
    await revoke_key(world.postgres, world.clock, OPERATOR, key_id)
    assert await caller_of(world.postgres, key_id) is None


async def test_a_login_link_is_good_once_and_not_for_long(world: World) -> None:
    with pytest.raises(NotFound):
        await make_login_link(world.postgres)
    await key(world, "operate", program=world.program["id"])
    operators = await key(world, "read", "operate")
    await key(world, "admin")
    await key(world, "read")

    link, caller = await make_login_link(world.postgres)
    assert caller.key_id == operators, "of those that may act the operator's newest"
    assert await take_login_link(world.postgres, link) == caller
    assert await take_login_link(world.postgres, link) is None

    link, _ = await make_login_link(world.postgres)
    await world.rows("UPDATE login_link SET expires_at = expires_at - interval '1 h' RETURNING 1")
    assert await take_login_link(world.postgres, link) is None
    assert await world.rows("SELECT 1 FROM login_link") == []

    link, _ = await make_login_link(world.postgres, operators)
    await revoke_key(world.postgres, world.clock, OPERATOR, operators)
    assert await take_login_link(world.postgres, link) is None
    with pytest.raises(NotFound):
        await make_login_link(world.postgres, operators)
    with pytest.raises(InvalidRequest):
        await make_login_link(world.postgres, ttl_s=100_000)


async def test_with_redis_pages_cost_postgres_nothing_and_its_death_logs_nobody_out(
    world: World, own_server: PrivateRedis
) -> None:
    redis = RedisAdapter({"REDIS_URL": own_server.url}, timeout_ms=1000)
    try:
        sessions = Sessions(world.postgres, redis, world.clock)
        token, session = await sessions.begin(await key(world))
        assert await redis.get_session(session.id) is not None
        before = (await world.postgres.get_pool_stats())["queries"]
        for _ in range(5):
            assert await sessions.find(token) == session
        assert (await world.postgres.get_pool_stats())["queries"] == before

        await redis.delete_session(session.id)
        assert await sessions.find(token) == session
        assert await redis.get_session(session.id) is not None, "kept again"

        await redis.delete_session(session.id)
        await redis.create_session(session.id, {"key": "somebody else's"}, 60)
        assert await sessions.find(token) == session

        await own_server.kill()
        assert await sessions.find(token) == session
        later, other = await sessions.begin(session.key_id)
        assert await sessions.find(later) == other
        await sessions.end(session)
        assert await sessions.find(token) is None
    finally:
        await redis.close()


async def test_who_logs_out_is_out_of_redis_too(world: World, own_server: PrivateRedis) -> None:
    redis = RedisAdapter({"REDIS_URL": own_server.url}, timeout_ms=1000)
    try:
        sessions = Sessions(world.postgres, redis, world.clock)
        token, session = await sessions.begin(await key(world))
        await sessions.end(session)
        assert await redis.get_session(session.id) is None
        assert await sessions.find(token) is None
    finally:
        await redis.close()
