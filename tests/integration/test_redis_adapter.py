"""`RedisAdapter` on a real server: each promise of the guide and of the library's reference."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from redis.asyncio import Redis

from jitway.adapters.redis import RedisAdapter
from jitway.adapters.redis.values import Versioned
from jitway.errors import CacheFull, CacheUnavailable, Conflict, InvalidRequest, StatementRefused
from tests.integration.leaks import eventually
from tests.integration.private_redis import PrivateRedis, private_redis


@pytest.fixture(scope="session")
async def redis_url() -> AsyncIterator[str]:
    """The server of REDIS_URL, else one of our own."""
    if given := os.environ.get("REDIS_URL"):
        yield given
        return
    async with private_redis() as server:
        yield server.url


@pytest.fixture
async def adapter(redis_url: str) -> AsyncIterator[RedisAdapter]:
    # A second of patience: what is tested here is what the answer is, on a machine that is busy.
    adapter = RedisAdapter({"REDIS_URL": redis_url}, timeout_ms=1000)
    await adapter.connect()
    yield adapter
    await adapter.close()


@pytest.fixture
async def raw(redis_url: str) -> AsyncIterator[Redis]:
    """The driver itself, to look and meddle behind the adapter's back."""
    client = Redis.from_url(redis_url, protocol=2)
    yield client
    await client.aclose()


@pytest.fixture
async def own_server() -> AsyncIterator[PrivateRedis]:
    async with private_redis() as server:
        yield server


def fresh_id() -> str:
    return secrets.token_hex(8)


# Cached entries -------------------------------------------------------------------------------


async def test_the_guides_example_runs(adapter: RedisAdapter, raw: Redis) -> None:
    user_id = fresh_id()
    await adapter.cache_user(user_id, {"name": "Ada", "tier": 3}, 3600)
    assert 3595 <= await raw.ttl(f"user:{user_id}") <= 3600
    assert await adapter.get_from_cache(f"user:{user_id}") == {"name": "Ada", "tier": 3}
    await adapter.invalidate_user_cache(user_id)
    assert await adapter.get_from_cache(f"user:{user_id}") is None


@pytest.mark.parametrize(
    ("kind", "store", "forget", "ttl_s"),
    [
        ("user", "cache_user", "invalidate_user_cache", 3600),
        ("card", "cache_card", "invalidate_card_cache", 900),
        ("limits", "cache_spending_limits", "invalidate_limits_cache", 300),
        ("transaction", "cache_transaction", "invalidate_transaction_cache", 300),
    ],
)
async def test_each_type_has_its_key_and_its_ttl(
    adapter: RedisAdapter, raw: Redis, kind: str, store: str, forget: str, ttl_s: int
) -> None:
    an_id = fresh_id()
    key = f"{kind}:{an_id}"
    assert await getattr(adapter, store)(an_id, {"n": 1}) is True
    assert ttl_s - 5 <= await raw.ttl(key) <= ttl_s
    assert await adapter.get_from_cache(key) == {"n": 1}
    await getattr(adapter, store)(an_id, {"n": 2}, 60)
    assert 55 <= await raw.ttl(key) <= 60
    await getattr(adapter, forget)(an_id)
    assert await raw.exists(key) == 0


@pytest.mark.parametrize(
    "data",
    [
        {"a": [1, 2.5, None, True], "b": {"c": "ä€😀\n\x00"}},
        [],
        "text",
        0,
        -(2**80),
        False,
        {"": ""},
        "\ud800",
        {"large": "x" * 200_000},
    ],
)
async def test_the_same_data_comes_back(adapter: RedisAdapter, data: object) -> None:
    an_id = fresh_id()
    await adapter.cache_user(an_id, data, 60)
    found = await adapter.get_from_cache(f"user:{an_id}")
    assert found == data
    assert type(found) is type(data)


@pytest.mark.parametrize(
    "data",
    [
        {"at": datetime.now(UTC)},
        {"amount": Decimal("1.50")},
        {"pair": (1, 2)},
        {1: "number as a name"},
        {"x": float("nan")},
        {"x": b"bytes"},
        object(),
    ],
)
async def test_data_that_would_come_back_changed_is_refused(
    adapter: RedisAdapter, raw: Redis, data: object
) -> None:
    an_id = fresh_id()
    with pytest.raises(InvalidRequest) as refused:
        await adapter.cache_user(an_id, data)
    assert refused.value.code == "not_json"
    assert await raw.exists(f"user:{an_id}") == 0


@pytest.mark.parametrize("bad_id", ["", "a\nb", "a\x00"])
async def test_an_id_that_makes_no_key_is_refused(adapter: RedisAdapter, bad_id: str) -> None:
    with pytest.raises(InvalidRequest, match="printable"):
        await adapter.cache_user(bad_id, {})


@pytest.mark.parametrize("ttl_s", [0, -1, 10**10])
async def test_a_ttl_out_of_range_is_refused(adapter: RedisAdapter, ttl_s: int) -> None:
    with pytest.raises(InvalidRequest, match="seconds"):
        await adapter.cache_user("u", {}, ttl_s)


# Versions ---------------------------------------------------------------------------------------


async def test_an_older_version_never_replaces_a_newer_one(adapter: RedisAdapter) -> None:
    key = f"card:{fresh_id()}"
    assert await adapter.set_if_newer(key, b"five", version=5, ttl_s=60)
    assert not await adapter.set_if_newer(key, b"four", version=4, ttl_s=60)
    assert await adapter.get_versioned(key) == Versioned(b"five", 5)
    assert await adapter.set_if_newer(key, b"five again", version=5, ttl_s=60)
    assert await adapter.set_if_newer(key, b"six", version=6, ttl_s=60)
    assert await adapter.get_versioned(key) == Versioned(b"six", 6)


async def test_versions_beyond_floating_point_are_told_apart(adapter: RedisAdapter) -> None:
    key = f"card:{fresh_id()}"
    high = 2**63 - 1
    assert await adapter.set_if_newer(key, b"high", version=high, ttl_s=60)
    assert not await adapter.set_if_newer(key, b"low", version=high - 1, ttl_s=60)
    assert await adapter.get_versioned(key) == Versioned(b"high", high)
    with pytest.raises(InvalidRequest, match="version"):
        await adapter.set_if_newer(key, b"", version=high + 1, ttl_s=60)


async def test_r7_a_slow_reader_cannot_write_back_what_was_evicted(adapter: RedisAdapter) -> None:
    """A freeze made version 7; a reader that loaded version 6 before it stores it after it."""
    card_id = fresh_id()
    assert await adapter.cache_card(card_id, {"state": "active"}, version=6)
    await adapter.invalidate_card_cache(card_id, version=7)
    assert await adapter.get_from_cache(f"card:{card_id}") is None
    assert not await adapter.cache_card(card_id, {"state": "active"}, version=6)
    assert await adapter.get_from_cache(f"card:{card_id}") is None
    assert await adapter.cache_card(card_id, {"state": "frozen"}, version=7)
    assert await adapter.get_from_cache(f"card:{card_id}") == {"state": "frozen"}


async def test_an_eviction_that_comes_late_leaves_the_newer_value(adapter: RedisAdapter) -> None:
    card_id = fresh_id()
    assert await adapter.cache_card(card_id, {"state": "frozen"}, version=7)
    await adapter.invalidate_card_cache(card_id, version=7)
    assert await adapter.get_from_cache(f"card:{card_id}") == {"state": "frozen"}


async def test_of_many_concurrent_writers_the_newest_stands(redis_url: str) -> None:
    key = f"card:{fresh_id()}"
    adapters = [RedisAdapter({"REDIS_URL": redis_url}, timeout_ms=5000) for _ in range(2)]
    versions = list(range(1, 101))
    secrets.SystemRandom().shuffle(versions)
    stored = await asyncio.gather(
        *(
            adapters[version % 2].set_if_newer(key, b"%d" % version, version=version, ttl_s=60)
            for version in versions
        )
    )
    assert await adapters[0].get_versioned(key) == Versioned(b"100", 100)
    assert any(stored)
    for adapter in adapters:
        await adapter.close()


# What is not ours -------------------------------------------------------------------------------


async def stored(raw: Redis, key: str) -> bytes:
    value = await raw.get(key)
    assert isinstance(value, bytes)
    return value


async def meddle(raw: Redis, key: str, how: str, good: bytes) -> None:
    await raw.delete(key)
    if how == "a list":
        await raw.rpush(key, "x")
        return
    values = {
        "plain JSON of another program": b'{"name": "Ada"}',
        "nothing": b"",
        "bytes": os.urandom(300),
        "a header alone": good.partition(b"\n")[0],
        "a truncated value": good[:-1],
        "a longer value": good + b"x",
        "another schema": b"jw9" + good[3:],
        "another version": good.replace(b" 00000000000000000000 ", b" 00000000000000000001 ", 1),
        "a header that ends early": good[:10],
    }
    await raw.set(key, values[how], ex=60)


@pytest.mark.parametrize(
    "how",
    [
        "plain JSON of another program",
        "nothing",
        "bytes",
        "a header alone",
        "a truncated value",
        "a longer value",
        "another schema",
        "another version",
        "a header that ends early",
        "a list",
    ],
)
async def test_r3_what_is_not_ours_is_a_counted_miss(
    adapter: RedisAdapter, raw: Redis, how: str
) -> None:
    an_id = fresh_id()
    key = f"user:{an_id}"
    await adapter.cache_user(an_id, {"name": "Ada"})
    await meddle(raw, key, how, await stored(raw, key))
    assert await adapter.get_from_cache(key) is None
    assert await adapter.get_versioned(key) is None
    assert adapter.lookups.malformed["user"] == 2
    assert adapter.lookups.misses["user"] == 2
    assert adapter.lookups.hits["user"] == 0
    assert await adapter.set_if_newer(key, b'"new"', version=1, ttl_s=60), "it can be replaced"
    assert await adapter.get_from_cache(key) == "new"


async def test_r3_the_value_of_another_key_is_a_miss(adapter: RedisAdapter, raw: Redis) -> None:
    one, other = fresh_id(), fresh_id()
    await adapter.cache_user(one, {"name": "Ada"})
    await raw.set(f"user:{other}", await stored(raw, f"user:{one}"))
    assert await adapter.get_from_cache(f"user:{other}") is None
    assert adapter.lookups.malformed["user"] == 1


async def test_bytes_that_are_no_json_are_a_miss_to_who_wants_json(adapter: RedisAdapter) -> None:
    key = f"user:{fresh_id()}"
    await adapter.set_if_newer(key, b"\xff", version=1, ttl_s=60)
    assert await adapter.get_from_cache(key) is None
    assert (adapter.lookups.malformed["user"], adapter.lookups.misses["user"]) == (1, 1)
    assert await adapter.get_versioned(key) == Versioned(b"\xff", 1)


async def test_r10_another_tenants_values_are_misses(redis_url: str) -> None:
    key = f"card:{fresh_id()}"
    ours = RedisAdapter({"REDIS_URL": redis_url}, signing_key=b"ours", timeout_ms=1000)
    theirs = RedisAdapter({"REDIS_URL": redis_url}, signing_key=b"theirs", timeout_ms=1000)
    unsigned = RedisAdapter({"REDIS_URL": redis_url}, timeout_ms=1000)
    for forger in (theirs, unsigned):
        await forger.set_if_newer(key, b"limitless", version=9, ttl_s=60)
        assert await ours.get_versioned(key) is None
    assert await ours.set_if_newer(key, b"true", version=10, ttl_s=60)
    assert await ours.get_versioned(key) == Versioned(b"true", 10)
    for adapter in (ours, theirs, unsigned):
        await adapter.close()


async def test_a_prefix_keeps_deployments_apart(redis_url: str, raw: Redis) -> None:
    an_id = fresh_id()
    staging = RedisAdapter({"REDIS_URL": redis_url}, key_prefix="staging:", timeout_ms=1000)
    live = RedisAdapter({"REDIS_URL": redis_url}, key_prefix="live:", timeout_ms=1000)
    await staging.cache_user(an_id, 1)
    await staging.increment_counter(an_id)
    assert await live.get_from_cache(f"user:{an_id}") is None
    assert await live.get_counter(an_id) == 0
    assert await staging.get_from_cache(f"user:{an_id}") == 1
    assert await raw.exists(f"staging:user:{an_id}", f"staging:counter:{an_id}") == 2
    for adapter in (staging, live):
        await adapter.close()


# Sessions ---------------------------------------------------------------------------------------


async def test_a_session_lives_as_long_as_it_is_touched(adapter: RedisAdapter, raw: Redis) -> None:
    session_id = fresh_id()
    await adapter.create_session(session_id, {"operator": "ada"})
    assert 86_395 <= await raw.ttl(f"session:{session_id}") <= 86_400
    assert await adapter.get_session(session_id) == {"operator": "ada"}
    await raw.expire(f"session:{session_id}", 10)
    assert await adapter.touch_session(session_id, 600)
    assert 595 <= await raw.ttl(f"session:{session_id}") <= 600
    assert await adapter.delete_session(session_id)
    assert await adapter.get_session(session_id) is None
    assert not await adapter.delete_session(session_id)
    assert not await adapter.touch_session(session_id)


async def test_a_session_ends_by_itself(adapter: RedisAdapter) -> None:
    session_id = fresh_id()
    await adapter.create_session(session_id, {}, 1)

    async def is_over() -> bool:
        return await adapter.get_session(session_id) is None

    assert await eventually(is_over) >= 0.5


async def test_a_session_is_never_taken_over(adapter: RedisAdapter) -> None:
    session_id = fresh_id()
    await adapter.create_session(session_id, {"operator": "ada"})
    with pytest.raises(Conflict):
        await adapter.create_session(session_id, {"operator": "eve"})
    assert await adapter.get_session(session_id) == {"operator": "ada"}


# Counters ---------------------------------------------------------------------------------------


async def test_increments_are_atomic_over_processes(redis_url: str) -> None:
    name = fresh_id()
    adapters = [RedisAdapter({"REDIS_URL": redis_url}, timeout_ms=5000) for _ in range(2)]
    figures = await asyncio.gather(
        *(adapters[turn % 2].increment_counter(name) for turn in range(200))
    )
    assert sorted(figures) == list(range(1, 201))
    assert await adapters[0].get_counter(name) == 200
    for adapter in adapters:
        await adapter.close()


async def test_a_window_begins_with_the_first_increment(adapter: RedisAdapter, raw: Redis) -> None:
    name = fresh_id()
    assert await adapter.increment_counter(name, 2, 60) == 2
    await raw.expire(f"counter:{name}", 30)
    assert await adapter.increment_counter(name, 3, 60) == 5
    assert await raw.ttl(f"counter:{name}") <= 30, "a later increment must not stretch the window"
    await raw.pexpire(f"counter:{name}", 1)

    async def is_over() -> bool:
        return await adapter.get_counter(name) == 0

    await eventually(is_over)
    assert await adapter.increment_counter(name, 1, 60) == 1


async def test_a_counter_without_window_stays(adapter: RedisAdapter, raw: Redis) -> None:
    name = fresh_id()
    assert await adapter.increment_counter(name, 10) == 10
    assert await adapter.increment_counter(name, -4) == 6
    assert await raw.ttl(f"counter:{name}") == -1
    await adapter.reset_counter(name)
    assert await adapter.get_counter(name) == 0


async def test_a_unique_key_counts_once(adapter: RedisAdapter, raw: Redis) -> None:
    name = fresh_id()
    for _ in range(3):
        assert await adapter.increment_counter(name, 5, 60, unique_key="attempt-1") == 5
    assert await adapter.increment_counter(name, 5, 60, unique_key="attempt-2") == 10
    (mark,) = await raw.keys(f"counted:*{name}:attempt-1")
    assert 0 < await raw.pttl(mark) <= 60_000


async def test_a_repeat_by_many_at_once_counts_once(adapter: RedisAdapter) -> None:
    name = fresh_id()
    figures = await asyncio.gather(
        *(adapter.increment_counter(name, unique_key="same") for _ in range(50))
    )
    assert set(figures) == {1}


async def test_counters_are_exact_beyond_floating_point(adapter: RedisAdapter) -> None:
    name = fresh_id()
    assert await adapter.increment_counter(name, 2**53) == 2**53
    assert await adapter.increment_counter(name, 1) == 2**53 + 1
    assert await adapter.get_counter(name) == 2**53 + 1


async def test_an_overflow_is_refused_and_not_marked_as_counted(adapter: RedisAdapter) -> None:
    name = fresh_id()
    await adapter.increment_counter(name, 2**63 - 1)
    with pytest.raises(StatementRefused):
        await adapter.increment_counter(name, 1, unique_key="once")
    assert await adapter.get_counter(name) == 2**63 - 1
    await adapter.reset_counter(name)
    assert await adapter.increment_counter(name, 1, unique_key="once") == 1


async def test_a_key_that_holds_no_number_is_refused(adapter: RedisAdapter, raw: Redis) -> None:
    name = fresh_id()
    await raw.set(f"counter:{name}", "many", ex=60)
    with pytest.raises(StatementRefused):
        await adapter.increment_counter(name)
    with pytest.raises(StatementRefused):
        await adapter.get_counter(name)


# Server and pool --------------------------------------------------------------------------------


async def test_scripts_survive_a_server_that_forgot_them(adapter: RedisAdapter, raw: Redis) -> None:
    name = fresh_id()
    await adapter.increment_counter(name)
    await raw.script_flush()
    assert await adapter.increment_counter(name) == 2


async def test_r5_full_reads_and_removals_go_on(own_server: PrivateRedis) -> None:
    adapter = RedisAdapter({"REDIS_URL": own_server.url}, timeout_ms=1000)
    await adapter.cache_user("1", {"name": "Ada"})
    await adapter.cache_card("1", {"state": "active"}, version=1)
    await adapter.call("CONFIG", "SET", "maxmemory", 1)
    assert await adapter.cache_user("2", {}) is False
    assert await adapter.cache_card("2", {}, version=1) is False
    assert await adapter.get_from_cache("user:1") == {"name": "Ada"}
    await adapter.invalidate_user_cache("1")
    await adapter.invalidate_card_cache("1", version=2)
    assert await adapter.get_from_cache("user:1") is None
    assert await adapter.get_from_cache("card:1") is None
    for promise in (adapter.create_session("s", {}), adapter.increment_counter("c")):
        with pytest.raises(CacheFull, match="maxmemory"):
            await promise
    assert adapter.is_available, "a full server answers: no breaker opens"
    await adapter.close()


async def test_keys_are_never_listed(own_server: PrivateRedis) -> None:
    adapter = RedisAdapter({"REDIS_URL": own_server.url}, timeout_ms=1000)
    await adapter.cache_user("1", {})
    await adapter.invalidate_user_cache("1")
    await adapter.invalidate_card_cache("1", version=1)
    await adapter.create_session("1", {})
    await adapter.delete_session("1")
    await adapter.increment_counter("1", unique_key="u")
    await adapter.reset_counter("1")
    await adapter.get_cache_stats()
    said = await adapter.call("INFO", "commandstats")
    assert isinstance(said, bytes)
    assert b"cmdstat_unlink" in said
    assert b"cmdstat_keys" not in said
    assert b"cmdstat_scan" not in said
    await adapter.close()


async def test_statistics_count_lookups_by_type(adapter: RedisAdapter) -> None:
    an_id = fresh_id()
    await adapter.cache_user(an_id, {})
    await adapter.get_from_cache(f"user:{an_id}")
    await adapter.get_from_cache(f"user:{an_id}")
    await adapter.get_from_cache(f"card:{an_id}")
    await adapter.get_session(an_id)
    await adapter.get_from_cache(f"foreign:{an_id}")
    stats = await adapter.get_cache_stats()
    assert stats["hits"] == {
        "user": 2, "card": 0, "limits": 0, "transaction": 0, "session": 0, "other": 0
    }  # fmt: skip
    assert stats["misses"] == {
        "user": 0, "card": 1, "limits": 0, "transaction": 0, "session": 1, "other": 1
    }  # fmt: skip
    assert stats["hit_rate"] == 0.4
    assert stats["errors"] == 0
    assert stats["breaker"] == {"state": "closed", "opened": 0, "rejected": 0}
    assert stats["pool"]["total_connections"] == 1
    assert stats["pool"]["idle_connections"] == 1
    assert stats["server"]["used_memory_bytes"] > 100_000
    product, version = stats["server"]["version"].split()
    assert product in {"redis", "valkey"}
    assert int(version.partition(".")[0]) >= 6


async def clients_named(raw: Redis, name: str) -> int:
    clients: list[dict[str, Any]] = await raw.client_list()
    return sum(client["name"] == name for client in clients)


async def test_the_pool_is_bounded(redis_url: str, raw: Redis) -> None:
    name = f"jitway_{fresh_id()}"
    adapter = RedisAdapter(
        {"REDIS_URL": redis_url}, pool_size_max=3, client_name=name, timeout_ms=5000
    )
    await asyncio.gather(*(adapter.increment_counter(name) for _ in range(200)))
    assert await adapter.get_counter(name) == 200
    assert await clients_named(raw, name) <= 3
    assert (await adapter.get_cache_stats())["pool"]["connections_opened"] <= 3
    await adapter.close()

    async def is_empty() -> bool:
        return await clients_named(raw, name) == 0

    await eventually(is_empty)


async def test_a_caller_does_not_wait_for_a_connection_for_ever(redis_url: str) -> None:
    adapter = RedisAdapter({"REDIS_URL": redis_url}, pool_size_max=1, waiting_max=3, timeout_ms=300)
    await adapter.connect()
    blocking = asyncio.create_task(adapter.call("BLPOP", fresh_id(), 0))
    waiting = [asyncio.create_task(adapter.get_counter("c")) for _ in range(3)]
    await eventually(lambda: adapter._pool.stats()["waiting_requests"] == 3)
    with pytest.raises(CacheUnavailable, match="more than 3 callers"):
        await adapter.get_counter("c")
    for outcome in await asyncio.gather(blocking, *waiting, return_exceptions=True):
        assert isinstance(outcome, CacheUnavailable)
        assert "within 300 ms" in str(outcome)
    assert adapter._pool.stats()["waiting_requests"] == 0
    await adapter.close()


async def test_cancelled_callers_neither_mix_up_replies_nor_lose_places(redis_url: str) -> None:
    adapter = RedisAdapter({"REDIS_URL": redis_url}, pool_size_max=4, timeout_ms=5000)
    tag = fresh_id()
    for number in range(20):
        await adapter.cache_user(f"{tag}-{number}", number, 60)
    wrong: list[tuple[int, object]] = []

    async def ask(number: int) -> None:
        found = await adapter.get_from_cache(f"user:{tag}-{number}")
        if found != number:
            wrong.append((number, found))

    chance = secrets.SystemRandom()
    for _ in range(40):
        tasks = [asyncio.create_task(ask(number)) for number in range(20)]
        for _ in range(chance.randrange(6)):
            await asyncio.sleep(0)
        for task in chance.sample(tasks, 10):
            task.cancel()
            # A second cancellation lands while the first is being cleaned up.
            asyncio.get_running_loop().call_soon(task.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
    assert wrong == []
    stats = await adapter.get_cache_stats()
    assert stats["pool"]["in_use_connections"] == 0
    assert stats["pool"]["waiting_requests"] == 0
    assert 1 <= stats["pool"]["total_connections"] <= 4
    await asyncio.gather(*(ask(number) for number in range(20)))
    assert wrong == []
    await adapter.close()


async def test_the_connection_of_a_cancelled_call_is_never_lent_again(
    redis_url: str, raw: Redis
) -> None:
    adapter = RedisAdapter({"REDIS_URL": redis_url}, pool_size_max=1, timeout_ms=5000)
    first_id = await adapter.call("CLIENT", "ID")
    call = asyncio.create_task(adapter.call("BLPOP", fresh_id(), 0))
    await eventually(lambda: adapter._pool.stats()["in_use_connections"] == 1)
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await adapter.call("CLIENT", "ID") != first_id
    await adapter.close()


async def test_close_and_connect_may_be_repeated(redis_url: str) -> None:
    adapter = RedisAdapter({"REDIS_URL": redis_url}, timeout_ms=1000)
    await adapter.close()
    with pytest.raises(CacheUnavailable, match="closed"):
        await adapter.get_counter("c")
    await adapter.initialize()
    await adapter.initialize()
    assert await adapter.ping() > 0
    await adapter.close()
    await adapter.close()
    with pytest.raises(CacheUnavailable, match="closed"):
        await adapter.ping()
