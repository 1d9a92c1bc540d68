"""Authorizations whose card no level of the cache can give: the batch reads it under its lock."""

import asyncio
from collections.abc import Iterable

from jitway.cache.views import CardViews
from jitway.domain.card import CardView
from jitway.gateway.authorize import AuthorizeOptions, Authorizer
from tests.world import World

PATIENT = AuthorizeOptions(budget_ms=20_000)


async def _hang(_card_ids: Iterable[str]) -> dict[str, CardView]:
    await asyncio.Event().wait()
    return {}


def _gateway(world: World, load_limit_s: float) -> Authorizer:
    views = CardViews(_hang, monotonic_ns=world.clock.monotonic_ns, load_limit_s=load_limit_s)
    return Authorizer(world.postgres, views, world.clock, PATIENT)


async def test_a_read_that_hangs_costs_time_and_no_decision(world: World) -> None:
    await world.deposit(1_000)
    gateway = _gateway(world, 0.05)
    await gateway.start()
    try:
        first = await world.authorize(100, gateway=gateway)
        assert first["decision"] == "approved"
        # What the batch read is remembered: nobody waits a second time.
        second = await world.authorize(5_000, gateway=gateway)
        assert second["reason"] == "insufficient_available_balance"
        unknown = "crd_" + "0" * 32
        third = await world.authorize(100, card={"id": unknown}, gateway=gateway)
        assert third["reason"] == "card_not_found"
    finally:
        await gateway.close()
    assert (await world.audited()).ok


async def test_many_reads_that_hang_are_bounded(world: World) -> None:
    """More cards than may be read at once: the rest go to the batch without waiting."""
    account = world.account
    await world.deposit(1_000)
    cards = [await world.new_card(account) for _ in range(4)]
    views = CardViews(_hang, monotonic_ns=world.clock.monotonic_ns, load_limit_s=0.2)
    views._cards._loading_max = 2
    gateway = Authorizer(world.postgres, views, world.clock, PATIENT)
    await gateway.start()
    try:
        answers = await asyncio.gather(
            *(world.authorize(10, card=card, gateway=gateway) for card in cards)
        )
        assert [one["decision"] for one in answers] == ["approved"] * 4
        assert views._cards.loading <= 2
    finally:
        await gateway.close()
        await views.close()
