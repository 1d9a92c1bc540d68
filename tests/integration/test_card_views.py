"""Card views of several gateways that share a Redis: who hears what, and whose values are used."""

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from jitway.adapters.redis import RedisAdapter
from jitway.cache.encoding import Sealer
from jitway.cache.views import UNSYNCHRONISED_TTL_S, CardViews
from tests.integration.http.gateway import Gateway, serving
from tests.integration.leaks import eventually
from tests.integration.private_redis import PrivateRedis, private_redis
from tests.service_skips import require_service

PATIENT_S = 15.0


@pytest.fixture(autouse=True)
def heard(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[str | None]]:
    """What every process was told, by the identity of its views."""
    told: dict[int, list[str | None]] = {}
    hear = CardViews.hear

    def listen(views: CardViews, keys: Sequence[str] | None) -> None:
        told.setdefault(id(views), []).extend([None] if keys is None else keys)
        hear(views, keys)

    monkeypatch.setattr(CardViews, "hear", listen)
    return told


class Fleet:
    """Two gateways on one ledger and one Redis, and a hand in that Redis."""

    def __init__(
        self, first: Gateway, second: Gateway, redis: RedisAdapter, heard: dict[int, Any]
    ) -> None:
        self.first = first
        self.second = second
        self.redis = redis
        self._heard = heard
        self.card: str = first.card["id"]

    async def silence(self) -> None:
        """Whatever was announced so far has arrived everywhere."""
        for gateway in (self.first, self.second):
            await gateway.services.views.settled()
        mark = f"crd_{secrets.token_hex(16)}"
        await self.redis.evict(f"card:{mark}", ttl_s=1)
        for gateway in (self.first, self.second):
            told = self._heard[id(gateway.services.views)]
            await eventually(lambda told=told: f"card:{mark}" in told, within_s=PATIENT_S)

    async def known(self) -> None:
        """Both know the card, and nothing that is on its way makes them forget it."""
        for gateway in (self.first, self.second):
            while not gateway.services.views.peek(self.card)[0]:
                await gateway.services.views.card(self.card)
                await self.silence()


def lookups(gateway: Gateway) -> Counter[str]:
    """What a gateway counted, as `l2 card hit`."""
    counted = gateway.services.profiler.counted().lookups
    return Counter({" ".join(label): number for label, number in counted.items()})


def state(gateway: Gateway, card: str) -> str | None:
    view = gateway.services.views.peek(card)[1]
    return view.card.state if view else None


async def synchronised(*gateways: Gateway) -> None:
    for gateway in gateways:
        redis = gateway.services.manager.redis
        assert redis is not None
        await eventually(
            lambda redis=redis: redis.is_feed_synchronised,
            within_s=PATIENT_S,
        )


@contextlib.asynccontextmanager
async def fleet_on(
    database: str, directory: Path, url: str, heard: dict[int, list[str | None]]
) -> AsyncIterator[Fleet]:
    redis = RedisAdapter({"REDIS_URL": url}, timeout_ms=5_000)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(redis.close)
        first = await stack.enter_async_context(serving(database, directory, REDIS_URL=url))
        second = await stack.enter_async_context(
            serving(database, directory, furnished=False, REDIS_URL=url)
        )
        second.card = first.card
        await synchronised(first, second)
        yield Fleet(first, second, redis, heard)


@pytest.fixture
async def fleet(
    database: str, tmp_path: Path, heard: dict[int, list[str | None]]
) -> AsyncIterator[Fleet]:
    async with fleet_on(database, tmp_path, require_service("redis"), heard) as fleet:
        yield fleet


async def test_a_freeze_at_one_gateway_is_forgotten_at_the_other(fleet: Fleet) -> None:
    await fleet.known()
    assert state(fleet.second, fleet.card) == "active"
    frozen = await fleet.first.post(f"/v1/cards/{fleet.card}/freeze", {})
    assert frozen.status == 200
    await fleet.silence()
    assert fleet.second.services.views.peek(fleet.card) == (False, None)
    declined = await fleet.second.authorize()
    assert declined.json["reason"] == "card_frozen"
    # What a slow reader writes back now, nobody takes: the mark of the eviction is newer.
    view = await fleet.second.services.views.card(fleet.card)
    assert view is not None
    assert view.card.version == frozen.json["version"]
    assert not await fleet.redis.set_if_newer(
        f"card:{fleet.card}", b"old", version=view.card.version - 1, ttl_s=60
    )


@pytest.mark.parametrize("above", ["cardholders", "programs"])
async def test_new_controls_above_a_card_are_heard_by_all(fleet: Fleet, above: str) -> None:
    await fleet.known()
    owner = fleet.first.cardholder if above == "cardholders" else fleet.first.program
    changed = await fleet.first.call(
        "PUT",
        f"/v1/{above}/{owner['id']}/controls",
        {"limits": [{"period": "transaction", "amount": 1}]},
    )
    assert changed.status == 200, changed.body
    await fleet.silence()
    assert fleet.second.services.views.peek(fleet.card) == (False, None)
    view = await fleet.second.services.views.card(fleet.card)
    assert view is not None
    level = view.cardholder if above == "cardholders" else view.program
    assert [limit.amount for limit in level.controls.limits] == [1]
    assert level.version == changed.json["version"]


async def test_invalidating_a_user_reaches_every_level_of_every_process(fleet: Fleet) -> None:
    await fleet.known()
    user = fleet.first.cardholder["id"]
    assert await fleet.redis.get_versioned(f"user:{user}") is not None
    await fleet.redis.invalidate_user_cache(user)
    await fleet.silence()
    assert await fleet.redis.get_versioned(f"user:{user}") is None
    for gateway in (fleet.first, fleet.second):
        assert gateway.services.views.peek(fleet.card) == (False, None)
        assert (await gateway.authorize(amount=100)).json["decision"] == "approved"


async def test_limits_are_invalidated_by_their_owner(fleet: Fleet) -> None:
    """Those of a card and of a cardholder are part of their entries."""
    for owner in (fleet.card, fleet.first.cardholder["id"], fleet.first.program["id"]):
        await fleet.known()
        await fleet.redis.invalidate_limits_cache(owner)
        await fleet.silence()
        assert fleet.second.services.views.peek(fleet.card) == (False, None)


async def test_the_second_process_finds_it_in_redis(fleet: Fleet) -> None:
    card = (await fleet.first.new_card())["id"]
    assert (await fleet.first.authorize(card=card)).json["decision"] == "approved"
    await fleet.silence()
    before = lookups(fleet.second)
    assert (await fleet.second.authorize(card=card)).json["decision"] == "approved"
    since = lookups(fleet.second) - before
    assert since["l1 card miss"] == 1
    assert since["l2 card hit"] + since["l3 card hit"] == 1
    metrics = (await fleet.second.get("/metrics")).body.decode()
    for level in ("l1", "l2"):
        line = f'jitway_cache_lookups_total{{kind="card",level="{level}",result="'
        assert line in metrics


async def test_values_of_another_ledger_are_not_used_and_left_alone(fleet: Fleet) -> None:
    """A copy of this ledger that shares its Redis: same ids, same versions, other controls."""
    await fleet.known()
    view = fleet.second.services.views.peek(fleet.card)[1]
    assert view is not None
    theirs = Sealer(b"a copy").card(view)
    key = f"card:{fleet.card}"
    assert await fleet.redis.set_if_newer(key, theirs, version=view.card.version, ttl_s=60)
    await fleet.silence()
    fleet.second.services.views.clear()
    before = lookups(fleet.second)
    assert await fleet.second.services.views.card(fleet.card) == view
    since = lookups(fleet.second) - before
    assert since["l2 card miss"] == 1
    assert since["l3 card hit"] == 1
    await fleet.silence()
    found = await fleet.redis.get_versioned(key)
    assert found is not None
    assert found.value == theirs


async def test_a_forged_value_is_not_used(fleet: Fleet) -> None:
    """Who can write to Redis and read what is there cannot make a looser one of it."""
    await fleet.known()
    view = fleet.second.services.views.peek(fleet.card)[1]
    assert view is not None
    key = f"card:{fleet.card}"
    sealed = await fleet.redis.get_versioned(key)
    assert sealed is not None
    forged = sealed.value.replace(b"active", b"frozen")
    assert forged != sealed.value
    assert await fleet.redis.set_if_newer(key, forged, version=view.card.version, ttl_s=60)
    await fleet.silence()
    fleet.second.services.views.clear()
    before = lookups(fleet.second)
    found = await fleet.second.services.views.card(fleet.card)
    assert found is not None
    assert found.card.state == "active"
    assert (lookups(fleet.second) - before)["l2 card miss"] == 1


async def test_a_feed_that_breaks_makes_entries_short_lived_until_it_is_back(
    database: str, tmp_path: Path, heard: dict[int, list[str | None]]
) -> None:
    def lives_s(gateway: Gateway) -> set[float]:
        return {cache.ttl_s for cache in gateway.services.views._caches.values()}

    async def authorized(fleet: Fleet) -> None:
        for gateway in (fleet.first, fleet.second):
            assert (await gateway.authorize(amount=1)).json["decision"] == "approved"

    async with private_redis() as server, fleet_on(database, tmp_path, server.url, heard) as fleet:
        await fleet.known()
        assert lives_s(fleet.second) == {900.0, 3600, 300}
        await server.kill()
        views: CardViews = fleet.second.services.views
        await eventually(lambda: heard[id(views)][-1] is None, within_s=PATIENT_S)
        assert lives_s(fleet.second) == {UNSYNCHRONISED_TTL_S}
        await authorized(fleet)
        await _again(server, fleet)
        assert lives_s(fleet.second) == {900.0, 3600, 300}
        await fleet.known()
        await authorized(fleet)


async def _again(server: PrivateRedis, fleet: Fleet) -> None:
    await server.start()
    await synchronised(fleet.first, fleet.second)


async def test_a_gateway_that_ends_leaves_no_task_behind(database: str, tmp_path: Path) -> None:
    def ours() -> list[str]:
        return [task.get_name() for task in asyncio.all_tasks() if "card-view" in task.get_name()]

    async with serving(database, tmp_path, REDIS_URL=require_service("redis")) as gateway:
        assert (await gateway.authorize()).status == 200
        assert ours()
    assert not ours()
