"""The outbox: claims in order, fenced, one at a time for each account; slots are emptied."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.clock import SystemClock
from jitway.events.envelope import Event
from jitway.events.outbox import Claim, Outbox
from tests.integration.events_scenes import eventually, outbox_of
from tests.world import World, body

pytestmark = pytest.mark.relaxed_durability


@pytest.fixture
async def world(adapter: PostgreSQLAdapter) -> AsyncIterator[World]:
    async with World(adapter) as world:
        await world.rows("UPDATE outbox SET published_at = now()")
        yield world


@pytest.fixture
async def outbox(adapter: PostgreSQLAdapter) -> AsyncIterator[Outbox]:
    outbox = outbox_of(adapter)
    yield outbox
    await outbox.close()


@pytest.fixture
async def other(adapter: PostgreSQLAdapter) -> AsyncIterator[Outbox]:
    outbox = outbox_of(adapter)
    yield outbox
    await outbox.close()


def events(claim: Claim | None) -> list[Event]:
    assert claim is not None
    return [waiting.event for waiting in claim.waiting]


async def test_an_event_carries_what_http_answered(world: World, outbox: Outbox) -> None:
    deposited = await world.deposit(1_000)
    approved = await world.approve(400)
    declined = await world.authorize(5_000)
    captured = body(await world.capture(approved, 300, final=False))
    reversed_ = body(await world.reverse(approved))
    claimed = events(await outbox.claim(100, "test"))
    assert [(event.type, event.account_version) for event in claimed] == [
        ("transaction.deposited", 1),
        ("jit-funding.approved", 2),
        ("jit-funding.declined", 2),
        ("transaction.captured", 3),
        ("transaction.reversed", 4),
    ]
    told = [deposited, approved, declined, captured, reversed_]
    assert [event.data for event in claimed] == told
    assert [event.digits for event in claimed] == [thing["id"][4:] for thing in told]
    assert {event.program for event in claimed} == {world.program["id"]}
    assert {event.account for event in claimed} == {world.account["id"]}
    assert captured["authorization"] == approved["id"]


async def test_a_card_carries_itself(world: World, outbox: Outbox) -> None:
    frozen = await world.freeze()
    (event,) = events(await outbox.claim(100, "test"))
    assert (event.type, event.data, event.account) == ("card.frozen", frozen, frozen["account"])
    assert not event.needs_reader


async def test_a_card_of_nobody_is_announced_without_an_account(
    world: World, outbox: Outbox
) -> None:
    declined = await world.authorize(100, card={"id": SystemClock().new_id("crd")})
    (event,) = events(await outbox.claim(100, "test"))
    assert event.data == declined
    assert (event.program, event.account, event.account_version) == (None, None, None)


async def test_what_is_claimed_is_nobody_elses(world: World, outbox: Outbox, other: Outbox) -> None:
    account, card = await world.funded_card(1_000)
    await world.deposit(1_000)
    first = await outbox.claim(1, "first")
    assert first is not None
    assert [event.account for event in events(first)] == [account["id"]]
    await world.approve(10, card=card)
    # The account's next event waits for the first; the other account's does not.
    second = await other.claim(100, "second")
    assert second is not None
    assert {event.account for event in events(second)} == {world.account["id"]}
    assert await other.claim(100, "second") is None
    assert await outbox.mark_published(first.token, first.waiting) == 1
    await outbox.release(first.token)
    third = events(await other.claim(100, "second"))
    assert [(event.account, event.type) for event in third] == [
        (account["id"], "card.created"),
        (account["id"], "jit-funding.approved"),
    ]


async def test_a_claim_that_ended_marks_nothing(
    world: World, outbox: Outbox, other: Outbox
) -> None:
    """Q14: a frozen relay wakes up after somebody else has taken over."""
    await world.deposit(1_000)
    frozen = await outbox.claim(100, "frozen", lease_s=0.0)
    assert frozen is not None
    taken_over = await other.claim(100, "other")
    assert taken_over is not None
    assert events(taken_over) == events(frozen)
    assert taken_over.token > frozen.token
    assert await outbox.mark_published(frozen.token, frozen.waiting) == 0
    await outbox.release(frozen.token)
    assert await other.mark_published(taken_over.token, taken_over.waiting) == 1


async def test_the_claim_of_a_dead_relay_ends_with_its_connection(
    world: World, outbox: Outbox, other: Outbox
) -> None:
    """K8: nobody waits for a lease that nobody holds."""
    await world.deposit(1_000)
    dead = await outbox.claim(100, "dying")
    assert dead is not None
    assert await other.claim(100, "other") is None
    await outbox.close()

    async def taken_over() -> bool:
        claim = await other.claim(100, "other")
        return claim is not None and events(claim) == events(dead)

    await eventually(taken_over)
    # What was put off stays so, whoever lives.
    await other.close()
    await world.rows("DELETE FROM outbox_claim")
    claim = await outbox.claim(100, "third")
    assert claim is not None
    await outbox.release(claim.token, events(claim), backoff_s=60)
    await outbox.close()
    assert await other.claim(100, "other") is None


async def test_a_lease_that_ran_out_still_marks_when_nobody_wanted_it(
    world: World, outbox: Outbox
) -> None:
    await world.deposit(1_000)
    claim = await outbox.claim(100, "slow", lease_s=0.0)
    assert claim is not None
    assert await outbox.mark_published(claim.token, claim.waiting) == 1
    assert await outbox.claim(100, "slow") is None


async def test_marking_and_taking_over_exclude_each_other(
    world: World, outbox: Outbox, other: Outbox
) -> None:
    """However they fall: what was marked is not claimed again, what is claimed was not marked."""
    for _ in range(20):
        await world.deposit(10)
        claim = await outbox.claim(100, "first", lease_s=0.0)
        assert claim is not None
        marked, again = await asyncio.gather(
            outbox.mark_published(claim.token, claim.waiting), other.claim(100, "second")
        )
        assert (marked == 1) == (again is None)
        if again is not None:
            assert await other.mark_published(again.token, again.waiting) == 1
            await other.release(again.token)


async def test_what_was_put_off_keeps_its_account_back(
    world: World, outbox: Outbox, other: Outbox
) -> None:
    """Q5: a refused event waits, and what stands behind it waits too; the rest goes on."""
    account, _ = await world.funded_card(1_000)
    await world.deposit(1_000)
    claim = await outbox.claim(100, "test")
    assert claim is not None
    mine = [one.event for one in claim.waiting if one.event.account == world.account["id"]]
    published = [one for one in claim.waiting if one.event not in mine]
    await outbox.mark_published(claim.token, published)
    await outbox.release(claim.token, mine, backoff_s=60.0)
    await world.deposit(5)
    await world.deposit(7, account)
    assert {event.account for event in events(await other.claim(100, "other"))} == {account["id"]}
    await world.rows("UPDATE outbox_claim SET until = now() WHERE token = $1", claim.token)
    late = events(await other.claim(100, "other"))
    assert [(event.account, event.account_version) for event in late] == [
        (world.account["id"], 1),
        (world.account["id"], 2),
    ]


async def test_an_event_without_its_fact_is_not_published(world: World, outbox: Outbox) -> None:
    await world.deposit(1_000)
    await world.rows("DELETE FROM transfer")
    claim = await outbox.claim(100, "test")
    assert claim is not None
    assert claim.waiting == []
    assert [event.type for _, event in claim.unreadable] == ["transaction.deposited"]


async def test_each_account_is_claimed_in_the_order_of_its_versions(world: World) -> None:
    """Several relays, small claims, deaths and writers at once: never a version before its turn."""
    accounts = [await world.funded_card(1_000_000) for _ in range(4)]
    published: dict[str, list[int]] = {account["id"]: [] for account, _ in accounts}
    writing = True
    chance = random.Random(7)

    async def write() -> None:
        nonlocal writing
        for _ in range(15):
            await asyncio.gather(*(world.approve(1, card=card) for _, card in accounts * 3))
        writing = False

    async def publish(outbox: Outbox) -> None:
        while True:
            was_writing = writing
            claim = await outbox.claim(chance.randint(1, 9), "test", lease_s=0.2)
            if claim is None:
                if not was_writing and await drained(world):
                    return
                await asyncio.sleep(0.005)
                continue
            if chance.random() < 0.1:
                continue  # died: the claim ends by its lease
            if await outbox.mark_published(claim.token, claim.waiting) == len(claim.waiting):
                for event in events(claim):
                    if event.account_version is not None:  # a card's own event has none
                        published[str(event.account)].append(event.account_version)
            await outbox.release(claim.token)

    relays = [outbox_of(world.postgres) for _ in range(3)]
    try:
        async with asyncio.timeout(60):
            await asyncio.gather(write(), *map(publish, relays))
    finally:
        await asyncio.gather(*(relay.close() for relay in relays))
    for versions in published.values():
        assert versions == list(range(1, 47))


async def drained(world: World) -> bool:
    rows = await world.rows("SELECT count(*) AS n FROM outbox WHERE published_at IS NULL")
    return bool(rows[0]["n"] == 0)


async def test_positions_follow_versions_however_late_an_id_is_used(world: World) -> None:
    """Ids are made before the lock, positions after it."""
    await world.deposit(1_000)
    await asyncio.gather(*(world.approve(1) for _ in range(100)))
    rows = await world.rows("SELECT account_version FROM outbox ORDER BY position DESC LIMIT 101")
    assert [row["account_version"] for row in rows] == list(range(101, 0, -1))


async def test_depth_and_lag(world: World, outbox: Outbox) -> None:
    assert await outbox.depth_and_lag() == (0, 0.0)
    await world.deposit(10)
    await world.deposit(10)
    await world.rows("UPDATE outbox SET occurred_at = occurred_at - interval '5 seconds'")
    depth, lag_s = await outbox.depth_and_lag()
    assert depth == 2
    assert 5.0 <= lag_s < 60.0


async def make_old(world: World, *, published: bool) -> int:
    """Moves everything into the slot and hour of two hours ago."""
    await world.rows("UPDATE transfer SET recorded_at = recorded_at - interval '2 hours'")
    rows = await world.rows(
        "UPDATE outbox SET slot = (floor(extract(epoch FROM now()) / 3600)::bigint + 2) % 4,"
        " occurred_at = occurred_at - interval '2 hours',"
        " published_at = CASE WHEN $1 THEN now() END RETURNING slot",
        published,
    )
    return int(rows[0]["slot"])


async def test_a_drained_slot_is_emptied(world: World, outbox: Outbox) -> None:
    await world.deposit(10)
    slot = await make_old(world, published=True)
    await world.deposit(10)
    assert await outbox.truncate_drained_slots() == slot
    assert await world.rows("SELECT FROM outbox WHERE slot = $1", slot) == []
    assert len(await world.rows("SELECT FROM outbox")) == 1
    assert await outbox.truncate_drained_slots() is None
    await world.audited()


async def test_a_slot_with_something_waiting_stays(world: World, outbox: Outbox) -> None:
    await world.deposit(10)
    await make_old(world, published=False)
    assert await outbox.truncate_drained_slots() is None
    assert await world.rows("SELECT FROM outbox") != []


async def test_the_current_hour_stays(world: World, outbox: Outbox) -> None:
    await world.deposit(10)
    await world.rows("UPDATE outbox SET published_at = now()")
    assert await outbox.truncate_drained_slots() is None


async def test_a_slot_that_somebody_reads_is_left_for_later(
    world: World, outbox: Outbox, adapter: PostgreSQLAdapter
) -> None:
    await world.deposit(10)
    slot = await make_old(world, published=True)
    reader = await adapter.dedicated(
        lock_timeout_ms=1_000, statement_timeout_ms=1_000, idle_in_transaction_timeout_ms=30_000
    )
    try:
        await reader.begin()
        await reader.fetch("SELECT count(*) FROM outbox WHERE slot = $1", slot)
        assert await outbox.truncate_drained_slots() is None
        await reader.rollback()
    finally:
        reader.terminate()
    assert await outbox.truncate_drained_slots() == slot
