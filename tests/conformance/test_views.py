"""Card views with and without Redis: the same promises, on a real ledger."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.domain.limits import Limit, Period, SpendControls
from jitway.ledger.record import load_views
from tests.conformance.views import KINDS, Place, Process
from tests.conftest import database_url
from tests.world import World

NOBODY = "crd_" + "0" * 32
CARDS = 20


@pytest.fixture(scope="module")
async def ledger(
    server: PostgreSQLAdapter, server_url: str, template: str
) -> AsyncIterator[PostgreSQLAdapter]:
    """One ledger for all tests of this file; each has a program of its own on it."""
    name = f"{template}_views"
    await server.execute_query(f"CREATE DATABASE {name} TEMPLATE {template}")
    await server.execute_query(f"ALTER DATABASE {name} SET synchronous_commit = off")
    adapter = PostgreSQLAdapter(
        {"DATABASE_URL": database_url(server_url, name)}, pool_size_min=1, slow_query_ms=60_000
    )
    try:
        yield adapter
    finally:
        await adapter.close()
        await server.execute_query(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def world(ledger: PostgreSQLAdapter) -> AsyncIterator[World]:
    """A program with one card."""
    async with World(ledger) as world:
        yield world


@pytest.fixture(params=KINDS)
async def place(request: pytest.FixtureRequest, world: World) -> Place:
    return Place(request.param, world)


@pytest.fixture
async def process(place: Place) -> AsyncIterator[Process]:
    async with place.process() as process:
        yield process


async def test_it_is_what_the_ledger_says(process: Process, world: World) -> None:
    blocked = SpendControls((Limit(Period.DAY, 500),), frozenset({"7995"}))
    await world.limit("card", world.card, blocked)
    await world.limit("cardholder", world.cardholder, SpendControls((Limit(Period.WEEK, 900),)))
    view = await process.view(world.card["id"])
    assert view is not None
    assert view.card.controls == blocked
    connection = await world.postgres.dedicated(
        lock_timeout_ms=1000, statement_timeout_ms=1000, idle_in_transaction_timeout_ms=1000
    )
    assert {view.card.id: view} == await load_views(connection, [view.card.id])
    connection.terminate()


async def test_it_is_read_once(process: Process, world: World) -> None:
    first = await process.view(world.card["id"])
    assert await process.view(world.card["id"]) is first
    assert process.asked.total() == 1


async def test_who_asks_together_asks_once(process: Process, world: World) -> None:
    views = await asyncio.gather(*(process.view(world.card["id"]) for _ in range(50)))
    assert len({id(view) for view in views}) == 1
    assert process.asked.total() == 1


async def test_absence_is_remembered_for_a_moment(process: Process) -> None:
    for _ in range(3):
        assert await process.view(NOBODY) is None
    assert process.asked.total() == 1
    process.clock.pass_s(1.2)
    assert await process.view(NOBODY) is None
    assert process.asked.total() == 2


async def test_what_changed_is_read_again_after_its_eviction(
    process: Process, world: World
) -> None:
    before = await process.view(world.card["id"])
    frozen = await world.freeze()
    process.views.evict(world.card["id"], version=frozen["version"])
    await process.views.settled()
    view = await process.view(world.card["id"])
    assert before is not None
    assert view is not None
    assert (before.card.state, view.card.state) == ("active", "frozen")
    # The slow reader who had seen it before the freeze brings nothing back, at any level.
    process.views.store(before)
    await process.views.settled()
    assert await process.view(world.card["id"]) is view
    process.views.clear()
    assert await process.view(world.card["id"]) == view


async def test_what_is_above_a_card_is_evicted_for_all_its_cards(
    process: Process, world: World
) -> None:
    cards = [world.card, *[await world.new_card() for _ in range(3)]]
    for card in cards:
        await process.view(card["id"])
    await world.limit("cardholder", world.cardholder, SpendControls((Limit(Period.DAY, 1),)))
    await world.limit("program", world.program, SpendControls((Limit(Period.DAY, 2),)))
    process.asked.clear()
    process.views.evict(world.cardholder["id"])
    process.views.evict(world.program["id"])
    await process.views.settled()
    views = await asyncio.gather(*(process.view(card["id"]) for card in cards))
    for view in views:
        assert view is not None
        assert view.cardholder.controls.limits == (Limit(Period.DAY, 1),)
        assert view.program.controls.limits == (Limit(Period.DAY, 2),)
    # Four cards wait for one cardholder: the ledger is asked once, not four times.
    assert process.asked.total() == 1


async def test_what_was_evicted_while_it_was_read_is_not_kept(
    process: Process, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = process._read

    async def freeze_meanwhile(ids: object) -> object:
        found = await read(ids)  # type: ignore[arg-type]  # passed on as it came
        monkeypatch.undo()
        frozen = await world.freeze()
        process.views.evict(world.card["id"], version=frozen["version"])
        await process.views.settled()
        return found

    monkeypatch.setattr(process, "_read", freeze_meanwhile)
    late = await process.view(world.card["id"])
    assert late is not None
    assert late.card.state == "active"
    await process.views.settled()
    later = await process.view(world.card["id"])
    assert later is not None
    assert later.card.state == "frozen"


async def test_entries_end_by_their_own_lives(process: Process, world: World) -> None:
    first = await process.view(world.card["id"])
    process.lookups.clear()
    if process.shared is not None:
        # Nobody hears of evictions here, so everything lives half a minute.
        process.clock.pass_s(34)
        assert await process.view(world.card["id"]) == first
        assert process.lookups["l1 card miss"] == 1
        assert process.lookups["l2 card hit"] == process.lookups["l2 user hit"] == 1
        return
    # The program's entry ends first. It is read with the card, which so lives again.
    process.clock.pass_s(340)
    assert await process.view(world.card["id"]) == first
    assert process.lookups == {
        "l1 card hit": 1,
        "l1 user hit": 1,
        "l1 limits miss": 1,
        "l3 limits hit": 1,
    }
    process.lookups.clear()
    process.clock.pass_s(1_000)
    assert await process.view(world.card["id"]) == first
    assert process.lookups == {"l1 card miss": 1, "l3 card hit": 1}


async def test_lookups_are_counted_by_level_and_type(process: Process, world: World) -> None:
    for _ in range(3):
        await process.view(world.card["id"])
    shared = {"l2 card miss": 1} if process.shared else {}
    assert process.lookups == {
        "l1 card miss": 1,
        **shared,
        "l3 card hit": 1,
        "l1 card hit": 2,
        "l1 user hit": 2,
        "l1 limits hit": 2,
    }


async def test_a_cold_start_asks_once_for_each_card_and_process(place: Place, world: World) -> None:
    """R4: many callers, two processes, nothing known anywhere."""
    cards = [await world.new_card() for _ in range(CARDS)]
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(place.process()) for _ in range(2)]

        async def crowd() -> None:
            await asyncio.gather(
                *(
                    process.view(card["id"])
                    for _ in range(10)
                    for process in processes
                    for card in cards
                )
            )

        await crowd()
        for process in processes:
            assert process.asked.total() <= CARDS
            assert max(process.asked.values()) == 1
            process.asked.clear()
        # Everything of this process ends in one moment; Redis, where it is, still knows.
        for process in processes:
            await process.views.settled()
            process.clock.pass_s(5_000)
        await crowd()
        for process in processes:
            assert process.asked.total() == 0 if place.has_redis else process.asked.total() <= CARDS


async def test_after_a_flush_everywhere_the_ledger_is_asked_once_again(
    place: Place, world: World
) -> None:
    cards = [await world.new_card() for _ in range(CARDS)]
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(place.process()) for _ in range(2)]
        for process in processes:
            await asyncio.gather(*(process.view(card["id"]) for card in cards))
            await process.views.settled()
        for card in cards:
            processes[0].views.evict(card["id"])
        await processes[0].views.settled()
        for process in processes:
            # What FLUSHALL is to who listens.
            process.views.hear(None)
            process.asked.clear()
        await asyncio.gather(
            *(
                process.view(card["id"])
                for _ in range(10)
                for process in processes
                for card in cards
            )
        )
        for process in processes:
            assert process.asked.total() <= CARDS


async def test_a_ledger_that_is_slow_is_waited_for_no_longer_than_a_load_may_take(
    place: Place, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nothing is known, and nothing said to be absent: the batch finds out by itself."""

    async def hang(_ids: object) -> dict[str, object]:
        await asyncio.Event().wait()
        return {}

    async with place.process(load_limit_s=0.05) as process:
        monkeypatch.setattr(process, "_read", hang)
        assert await process.view(world.card["id"]) is None
        assert process.views.peek(world.card["id"]) == (False, None)
