"""The feed of invalidations: every process hears what changed, and when it must trust nothing."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence

import pytest

from jitway.adapters.redis import RedisAdapter
from jitway.errors import StatementRefused
from tests.integration.leaks import eventually, holdings
from tests.integration.private_redis import PrivateRedis, private_redis


class Listener:
    """What one process was told: keys, and `None` for each "drop everything"."""

    def __init__(self, adapter: RedisAdapter, *, heartbeat_s: float = 1.0) -> None:
        self.adapter = adapter
        self.told: list[str | None] = []
        self.task = asyncio.create_task(
            adapter.listen_for_invalidations(self._hear, heartbeat_s=heartbeat_s)
        )

    def _hear(self, keys: Sequence[str] | None) -> None:
        self.told += [None] if keys is None else keys

    async def synchronised(self) -> None:
        await eventually(lambda: self.adapter.is_feed_synchronised)

    async def hears(self, key: str | None) -> None:
        await eventually(lambda: key in self.told)

    async def close(self) -> None:
        await self.adapter.close()
        async with asyncio.timeout(2):
            await self.task


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[PrivateRedis]:
    async with private_redis() as server:
        yield server


@pytest.fixture
async def broken_server() -> AsyncIterator[PrivateRedis]:
    async with private_redis() as server:
        yield server


@pytest.fixture
async def writer(server: PrivateRedis) -> AsyncIterator[RedisAdapter]:
    adapter = RedisAdapter({"REDIS_URL": server.url}, timeout_ms=1000)
    yield adapter
    await adapter.close()


@contextlib.asynccontextmanager
async def listening(
    server: PrivateRedis, *, key_prefix: str = "", heartbeat_s: float = 1.0
) -> AsyncIterator[Listener]:
    adapter = RedisAdapter(
        {"REDIS_URL": server.url}, timeout_ms=1000, key_prefix=key_prefix, client_name="listener"
    )
    listener = Listener(adapter, heartbeat_s=heartbeat_s)
    try:
        await listener.synchronised()
        yield listener
    finally:
        await listener.close()


def fresh_id() -> str:
    return secrets.token_hex(8)


async def test_it_begins_with_drop_everything(server: PrivateRedis) -> None:
    async with listening(server) as listener:
        assert listener.told == [None]


async def test_two_processes_hear_what_a_third_one_does(
    server: PrivateRedis, writer: RedisAdapter
) -> None:
    an_id = fresh_id()
    async with listening(server) as one, listening(server) as other:
        await writer.cache_card(an_id, {"state": "active"}, version=1)
        for listener in (one, other):
            await listener.hears(f"card:{an_id}")
            listener.told.clear()
        await writer.invalidate_card_cache(an_id, version=2)
        for listener in (one, other):
            await listener.hears(f"card:{an_id}")


@pytest.mark.parametrize("version", [None, 3])
async def test_a_key_that_redis_does_not_hold_is_announced_too(
    server: PrivateRedis, writer: RedisAdapter, version: int | None
) -> None:
    """Another process may hold in memory what Redis has forgotten."""
    an_id = fresh_id()
    async with listening(server) as listener:
        await writer.invalidate_limits_cache(an_id, version=version)
        await listener.hears(f"limits:{an_id}")


async def test_other_types_are_not_followed(server: PrivateRedis, writer: RedisAdapter) -> None:
    an_id = fresh_id()
    async with listening(server) as listener:
        await writer.cache_transaction(an_id, {})
        await writer.create_session(an_id, {})
        await writer.cache_user(an_id, {})
        await listener.hears(f"user:{an_id}")
        assert listener.told == [None, f"user:{an_id}"]


async def test_expiry_is_heard(server: PrivateRedis, writer: RedisAdapter) -> None:
    an_id = fresh_id()
    async with listening(server) as listener:
        await writer.cache_user(an_id, {}, 1)
        await listener.hears(f"user:{an_id}")
        listener.told.clear()
        await listener.hears(f"user:{an_id}")


async def test_flushall_means_drop_everything(server: PrivateRedis, writer: RedisAdapter) -> None:
    async with listening(server) as listener:
        await writer.cache_user(fresh_id(), {})
        await eventually(lambda: len(listener.told) == 2)
        listener.told.clear()
        await writer.call("FLUSHALL")
        await listener.hears(None)


async def test_the_prefix_is_taken_off_and_others_are_not_heard(
    server: PrivateRedis, writer: RedisAdapter
) -> None:
    an_id = fresh_id()
    live = RedisAdapter({"REDIS_URL": server.url}, timeout_ms=1000, key_prefix="live:")
    async with listening(server, key_prefix="live:") as listener:
        await writer.cache_user(an_id, "not live")
        await writer.invalidate_user_cache(an_id)
        await live.cache_user(an_id, "live")
        await live.invalidate_user_cache(an_id)
        await eventually(lambda: len(listener.told) == 4)
        assert listener.told == [None] + [f"user:{an_id}"] * 3
    await live.close()


async def test_a_lost_connection_is_a_gap_and_then_it_hears_again(
    server: PrivateRedis, writer: RedisAdapter
) -> None:
    an_id = fresh_id()
    async with listening(server) as listener:
        listener.told.clear()
        said = await writer.call("CLIENT", "LIST")
        assert isinstance(said, bytes)
        (line,) = [line for line in said.decode().splitlines() if "name=listener" in line]
        own_id = int(line.partition("id=")[2].split()[0])
        assert await writer.call("CLIENT", "KILL", "ID", own_id) == 1
        await eventually(lambda: listener.told == [None, None])
        await listener.synchronised()
        await writer.cache_user(an_id, {})
        await listener.hears(f"user:{an_id}")
        stats = await listener.adapter.get_cache_stats()
        assert stats["feed"] == {"synchronised": True, "messages": 1, "gaps": 1}


async def test_a_restarted_server_is_heard_within_five_seconds(
    broken_server: PrivateRedis,
) -> None:
    async with listening(broken_server) as listener:
        await broken_server.kill()
        await eventually(lambda: not listener.adapter.is_feed_synchronised)
        assert listener.told == [None, None], "what was cached is dropped when the feed breaks"
        await broken_server.start()
        await eventually(lambda: listener.adapter.is_feed_synchronised, within_s=5)
        assert listener.told == [None, None, None], "and again when it is back"
        await listener.adapter.evict("card:1")
        await listener.hears("card:1")


async def test_a_frozen_server_is_noticed_after_two_heartbeats(
    broken_server: PrivateRedis,
) -> None:
    async with listening(broken_server, heartbeat_s=0.1) as listener:
        broken_server.freeze()
        try:
            await eventually(lambda: not listener.adapter.is_feed_synchronised, within_s=2)
        finally:
            broken_server.thaw()
        await eventually(lambda: listener.adapter.is_feed_synchronised, within_s=5)


async def test_silence_alone_is_no_gap(server: PrivateRedis) -> None:
    async with listening(server, heartbeat_s=0.05) as listener:
        await asyncio.sleep(0.4)
        assert listener.told == [None]
        assert listener.adapter.is_feed_synchronised


async def test_a_server_that_forbids_tracking_says_so(server: PrivateRedis) -> None:
    operator = RedisAdapter({"REDIS_URL": server.url}, timeout_ms=1000)
    await operator.call(
        "ACL", "SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all", "-client|tracking"
    )
    limited = RedisAdapter({"REDIS_URL": server.url.replace("//", "//limited:secret@")})
    with pytest.raises(StatementRefused, match="REDIS_URL"):
        await limited.listen_for_invalidations(lambda keys: None)
    await limited.close()
    await operator.close()


async def test_cancelling_it_leaves_nothing(server: PrivateRedis) -> None:
    async with listening(server):
        before = holdings()
        adapter = RedisAdapter({"REDIS_URL": server.url})
        listener = Listener(adapter)
        await listener.synchronised()
        listener.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listener.task
        assert not adapter.is_feed_synchronised
        await adapter.close()
        await eventually(lambda: holdings() == before)


async def test_closing_ends_it_even_while_the_server_is_away(broken_server: PrivateRedis) -> None:
    async with listening(broken_server) as listener:
        await broken_server.stop()
        await eventually(lambda: not listener.adapter.is_feed_synchronised)
        await listener.close()
        assert listener.task.done()
