"""The relay: marks only what was confirmed, keeps each account's order, rests when told to."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.events.broker import Message
from jitway.events.envelope import decode
from jitway.events.relay import Relay
from tests.integration.events_scenes import ObedientBroker, eventually, outbox_of
from tests.world import World

pytestmark = pytest.mark.relaxed_durability


@pytest.fixture
async def world(adapter: PostgreSQLAdapter) -> AsyncIterator[World]:
    async with World(adapter) as world:
        await world.rows("UPDATE outbox SET published_at = now()")
        yield world


@pytest.fixture
def broker() -> ObedientBroker:
    return ObedientBroker()


@pytest.fixture
async def relay(adapter: PostgreSQLAdapter, broker: ObedientBroker) -> AsyncIterator[Relay]:
    relay = Relay(outbox_of(adapter), broker, holder="test")  # type: ignore[arg-type]
    yield relay
    await relay.stop()


async def waiting(world: World) -> int:
    rows = await world.rows("SELECT count(*) AS n FROM outbox WHERE published_at IS NULL")
    return int(rows[0]["n"])


async def drained(world: World) -> None:
    async def is_drained() -> bool:
        return await waiting(world) == 0

    await eventually(is_drained)


async def test_it_publishes_what_is_committed(
    world: World, relay: Relay, broker: ObedientBroker
) -> None:
    relay.start()
    relay.start()
    await world.deposit(1_000)
    approved = await world.approve(10)
    await drained(world)
    assert [message.routing_key for message in broker.taken] == [
        "transaction.deposited",
        "jit-funding.approved",
    ]
    assert decode(broker.taken[1].body).data == approved
    assert broker.taken[1].id == "evt_" + approved["id"][4:]

    async def has_let_go() -> bool:
        # What was published is marked first; then the claim ends.
        return await world.rows("SELECT FROM outbox_claim") == []

    await eventually(has_let_go)
    assert relay.counts["published"] == 2


async def test_what_was_not_confirmed_is_published_again(
    world: World, relay: Relay, broker: ObedientBroker
) -> None:
    broker.refuses = lambda _: True
    relay.start()
    await world.deposit(1_000)

    async def tried_twice() -> bool:
        return broker.rounds >= 2

    await eventually(tried_twice)
    assert await waiting(world) == 1
    assert relay.is_refused
    broker.refuses = lambda _: False
    await drained(world)
    assert [message.routing_key for message in broker.taken] == ["transaction.deposited"]

    async def is_content_again() -> bool:
        # Said at the end of the round that marked the row.
        return not relay.is_refused

    await eventually(is_content_again)


async def test_a_refused_event_keeps_only_its_account_back(
    world: World, relay: Relay, broker: ObedientBroker
) -> None:
    account, _ = await world.funded_card(1_000)
    await world.deposit(10)
    await world.deposit(20)
    await world.deposit(30)

    def is_second(message: Message) -> bool:
        event = decode(message.body)
        return event.account == world.account["id"] and event.account_version == 2

    broker.refuses = is_second
    await relay.round()
    seen = [
        (decode(message.body).account, decode(message.body).account_version)
        for message in broker.taken
    ]
    assert sorted(seen, key=str) == sorted(
        [(account["id"], 1), (account["id"], None), (world.account["id"], 1)], key=str
    )
    assert await waiting(world) == 2
    broker.refuses = lambda _: False
    relay.start()
    await drained(world)
    assert [decode(message.body).account_version for message in broker.taken[3:]] == [2, 3]


async def test_events_behind_a_sick_queue_get_through(
    world: World, relay: Relay, broker: ObedientBroker
) -> None:
    """Q5: hundreds of events that one full queue refuses do not hold up the rest."""
    broker.refuses = lambda message: message.routing_key == "transaction.deposited"
    await world.rows(
        "INSERT INTO outbox (slot, id, type, occurred_at, body)"
        " SELECT 0, gen_random_uuid(), 'transaction.deposited', now(), '{}'"
        " FROM generate_series(1, 450)"
    )
    await world.freeze()
    relay.start()

    async def got_through() -> bool:
        return [message.routing_key for message in broker.taken] == ["card.frozen"]

    await eventually(got_through)
    broker.refuses = lambda _: False
    await eventually(lambda: _none_waiting(world), within_s=20)


async def _none_waiting(world: World) -> bool:
    return await waiting(world) == 0


async def test_a_death_between_confirm_and_mark_only_repeats(
    world: World, relay: Relay, broker: ObedientBroker, adapter: PostgreSQLAdapter
) -> None:
    """K10: confirmed, not marked."""
    await world.deposit(1_000)
    dying = outbox_of(adapter)
    claim = await dying.claim(100, "dying", lease_s=0.3)
    assert claim is not None
    await dying.close()
    relay.start()
    await drained(world)
    assert [message.id for message in broker.taken] == [claim.waiting[0].event.id]


async def test_the_ledger_may_be_away(world: World, relay: Relay, broker: ObedientBroker) -> None:
    relay.start()
    for _ in range(3):
        await world.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
            " AND query LIKE '%FROM outbox WHERE published_at IS NULL%'"
        )
        await world.deposit(1)
    await drained(world)
    assert len(broker.taken) >= 3


async def test_it_stops_twice_or_before_it_began(relay: Relay) -> None:
    await relay.stop()
    relay.start()
    await relay.stop()
    await relay.stop()


async def test_order_survives_every_refusal(
    world: World, relay: Relay, broker: ObedientBroker
) -> None:
    """First arrivals of each account come in the order of its versions, whatever is refused."""
    chance = random.Random(11)
    accounts = [await world.funded_card(10_000) for _ in range(3)]
    broker.refuses = lambda _: chance.random() < 0.15
    relay.start()
    for _ in range(6):
        await asyncio.gather(*(world.approve(1, card=card) for _, card in accounts * 4))
    await eventually(lambda: _none_waiting(world), within_s=60)
    for account, _ in accounts:
        events = [decode(message.body) for message in broker.taken]
        versions = [
            event.account_version
            for event in events
            if event.account == account["id"] and event.account_version is not None
        ]
        assert versions == list(range(1, 26))


async def test_what_waits_is_measured(world: World, relay: Relay, broker: ObedientBroker) -> None:
    broker.refuses = lambda _: True
    await world.deposit(1)
    relay.start()

    async def measured() -> bool:
        return relay.depth == 1 and relay.lag_s > 0

    await eventually(measured)
