"""Authorizations while Redis is flushed, hung, killed, full or lying: every one is decided.

R1 to R6. One gateway meets all of it, through a relay that can lie, and is healed before each test.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.adapters.redis import RedisAdapter
from jitway.errors import JitwayError
from tests.conftest import database_url
from tests.integration.http.gateway import Gateway, serving
from tests.integration.leaks import eventually
from tests.integration.private_redis import PrivateRedis, private_redis
from tests.integration.tcp_front import TcpFront

CARDS = 8
CALLERS = 4
ROUNDS = 4
PATIENT_S = 20.0


@dataclass
class Place:
    """A gateway, its Redis, the relay between them, and a patient hand in that Redis."""

    gateway: Gateway
    server: PrivateRedis
    front: TcpFront
    hand: RedisAdapter


@pytest.fixture(scope="module")
async def place(
    server: PostgreSQLAdapter,
    server_url: str,
    template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Place]:
    name = f"{template}_faults"
    await server.execute_query(f"CREATE DATABASE {name} TEMPLATE {template}")
    await server.execute_query(f"ALTER DATABASE {name} SET synchronous_commit = off")
    try:
        async with (
            private_redis() as redis,
            TcpFront(redis.port) as front,
            serving(
                database_url(server_url, name),
                tmp_path_factory.mktemp("faults"),
                REDIS_URL=f"redis://127.0.0.1:{front.port}/0",
                # A crowded machine must not be mistaken for a slow cache.
                JITWAY_DECISION_BUDGET_MS="15000",
                JITWAY_UNSAFE_DURABILITY="true",
            ) as gateway,
        ):
            hand = RedisAdapter({"REDIS_URL": redis.url}, timeout_ms=5_000)
            yield Place(gateway, redis, front, hand)
            await hand.close()
    finally:
        await server.execute_query(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def redis_server(place: Place) -> PrivateRedis:
    return place.server


@pytest.fixture
def hand(place: Place) -> RedisAdapter:
    return place.hand


@pytest.fixture
async def gateway(place: Place) -> AsyncIterator[Gateway]:
    """The gateway on a Redis that works; whatever a test did to it is undone."""
    redis = redis_of(place.gateway)

    async def works() -> bool:
        try:
            await redis.call("FLUSHALL")
        except JitwayError:
            return False
        return redis.is_feed_synchronised

    await eventually(works, within_s=PATIENT_S)
    yield place.gateway
    place.front.on_reply = lambda reply: reply


def redis_of(gateway: Gateway) -> RedisAdapter:
    redis = gateway.services.manager.redis
    assert redis is not None
    return redis


def lookups(gateway: Gateway) -> Counter[str]:
    counted = gateway.services.profiler.counted().lookups
    return Counter({" ".join(label): number for label, number in counted.items()})


async def decided(gateway: Gateway, meanwhile: Callable[[], Awaitable[None]]) -> Counter[str]:
    """What callers were answered while something was done to Redis, and for some rounds after.

    This process forgets again and again, so that Redis is asked all the time.
    """
    cards = [(await gateway.new_card())["id"] for _ in range(CARDS)]
    over = asyncio.Event()
    answers: Counter[str] = Counter()

    async def caller(number: int) -> None:
        rounds_left = ROUNDS
        at = number
        while rounds_left:
            rounds_left -= over.is_set()
            at += 1
            gateway.services.views.clear()
            response = await gateway.authorize(card=cards[at % CARDS], amount=1)
            said = response.json.get("decision", "none") if response.status == 200 else "none"
            answers[f"{response.status} {said}"] += 1

    async with asyncio.TaskGroup() as group:
        for number in range(CALLERS):
            group.create_task(caller(number))
        await eventually(lambda: answers.total() >= CALLERS, within_s=PATIENT_S)
        await meanwhile()
        over.set()
    return answers


async def test_flushed(gateway: Gateway, hand: RedisAdapter) -> None:
    async def flush() -> None:
        for _ in range(3):
            await hand.call("FLUSHALL")
            await asyncio.sleep(0)

    assert set(await decided(gateway, flush)) == {"200 approved"}
    assert lookups(gateway)["l2 card miss"] > 0


async def test_hung_and_back(gateway: Gateway, redis_server: PrivateRedis) -> None:
    async def hang() -> None:
        redis_server.freeze()
        await eventually(lambda: not redis_of(gateway).is_available, within_s=PATIENT_S)

    try:
        assert set(await decided(gateway, hang)) == {"200 approved"}
        # With the breaker open nobody is even asked.
        asked = redis_of(gateway).error_count
        assert (await gateway.authorize(amount=1)).status == 200
        assert redis_of(gateway).error_count == asked
    finally:
        redis_server.thaw()

    async def is_used_again() -> bool:
        hits = lookups(gateway)["l2 card hit"]
        for _ in range(2):
            gateway.services.views.clear()
            assert (await gateway.authorize(amount=1)).status == 200
            await gateway.services.views.settled()
        return lookups(gateway)["l2 card hit"] > hits

    await eventually(is_used_again, within_s=PATIENT_S)


async def test_killed_and_empty_again(gateway: Gateway, redis_server: PrivateRedis) -> None:
    async def kill() -> None:
        await redis_server.kill()
        await eventually(lambda: not redis_of(gateway).is_available, within_s=PATIENT_S)
        await redis_server.start()

    assert set(await decided(gateway, kill)) == {"200 approved"}


async def test_full(gateway: Gateway, hand: RedisAdapter) -> None:
    async def fill() -> None:
        await hand.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
        await hand.call("CONFIG", "SET", "maxmemory", "1")
        # Evictions find room even then.
        gateway.services.views.evict(gateway.card["id"], version=99)
        await gateway.services.views.settled()

    assert set(await decided(gateway, fill)) == {"200 approved"}
    await hand.call("CONFIG", "SET", "maxmemory", "0")


async def test_entries_of_the_wrong_type_or_nobody_s_making(
    gateway: Gateway, hand: RedisAdapter
) -> None:
    async def spoil() -> None:
        for key in await _keys(hand):
            await hand.call("DEL", key)
            if hash(key) % 2:
                await hand.call("SET", key, b"jw1 not what it seems")
            else:
                await hand.call("RPUSH", key, b"a list")

    assert set(await decided(gateway, spoil)) == {"200 approved"}


async def _keys(redis: RedisAdapter) -> list[bytes]:
    """What lies there, once there is something."""
    keys: list[bytes] = []

    async def are_there() -> bool:
        found = await redis.call("KEYS", "*")
        assert isinstance(found, list)
        keys[:] = [key for key in found if isinstance(key, bytes)]
        return bool(keys)

    await eventually(are_there, within_s=PATIENT_S)
    return keys


async def test_entries_that_lie_under_each_other_s_keys(
    gateway: Gateway, hand: RedisAdapter
) -> None:
    """Each is well made, and of another card: its limits would be somebody else's."""

    async def swap() -> None:
        keys = sorted(key for key in await _keys(hand) if key.startswith(b"card:"))
        values = [await hand.call("GET", key) for key in keys]
        for key, value in zip(keys, values[1:] + values[:1], strict=True):
            if isinstance(value, bytes):
                await hand.call("SET", key, value)

    assert set(await decided(gateway, swap)) == {"200 approved"}


LIES: dict[str, Callable[[bytes], bytes | None]] = {
    "garbage": lambda reply: b"\x16\x03\x01 no such protocol\r\n",
    "nothing": lambda reply: None,
    "half": lambda reply: reply[: len(reply) // 2],
    "errors": lambda reply: b"-ERR something is wrong\r\n",
    "numbers": lambda reply: b":7\r\n",
    "lists": lambda reply: b"*1\r\n$1\r\nx\r\n",
    "one too many": lambda reply: b"$-1\r\n" + reply,
}


@pytest.mark.parametrize("lie", LIES)
async def test_lying(gateway: Gateway, place: Place, lie: str) -> None:
    async def begin_to_lie() -> None:
        place.front.on_reply = LIES[lie]

    assert set(await decided(gateway, begin_to_lie)) == {"200 approved"}
