"""Controls of every level and period, over two gateways; they count once their answer returned.

Each docstring says which piece of code was taken out to see its test fail.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.domain.limits import COUNTED_PERIODS, Limit, Period, SpendControls
from jitway.domain.message import Merchant
from jitway.gateway import controls
from jitway.gateway.controls import OwnerKind
from jitway.ledger import idempotency
from tests.integration.stepped import Gateway, eventually, gateway_on
from tests.world import Document, World, body

pytestmark = [pytest.mark.timeout(60), pytest.mark.relaxed_durability]

LEVELS: tuple[OwnerKind, ...] = ("card", "cardholder", "program")
SHOP = Merchant("m-1", "Shop", "5942", "US")


@pytest.fixture
async def gateways(world: World, database: str) -> AsyncIterator[tuple[Gateway, Gateway]]:
    """Two gateways that know the card, each with a view of its own."""
    async with gateway_on(database) as one, gateway_on(database) as other:
        await one.know(world.card)
        await other.know(world.card)
        yield one, other


def owner_of(world: World, level: OwnerKind) -> Document:
    owners = {"card": world.card, "cardholder": world.cardholder, "program": world.program}
    return owners[level]


async def broken(world: World, decided: Document) -> Document:
    """The rule that a decline broke."""
    told = await world.authorization(decided)
    rule: Document = told["explanation"][-1]
    assert rule["outcome"] == "broken"
    return rule


# Limits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
async def test_every_period_of_every_level_counts_amounts_and_approvals(
    world: World, gateways: tuple[Gateway, Gateway], level: OwnerKind
) -> None:
    """Both gateways spend in turn. Without its column in `window_change`, each of them failed."""
    owner = owner_of(world, level)
    await world.deposit(1_000)
    for period in COUNTED_PERIODS:
        await world.limit(level, owner, SpendControls((Limit(period, amount=100, count=3),)))
        approvals = await spend_it_all(world, gateways, level, period)
        # Given back, so that the next period begins with nothing.
        for approval in approvals:
            assert (await world.reverse(approval)).status == 201
    await world.audited()


async def spend_it_all(
    world: World, gateways: tuple[Gateway, Gateway], level: OwnerKind, period: Period
) -> list[Document]:
    """Spends a limit of 100 and of three approvals, and looks at what it is declined for."""
    one, other = gateways
    approvals = [await one.decide(world.card, 60)]
    over = await other.decide(world.card, 41)
    assert over["reason"] == "spend_limit_exceeded"
    rule = await broken(world, over)
    assert (rule["level"], rule["period"]) == (level, period.label)
    assert (rule["fact"], rule["limit"], rule["headroom"]) == (60, 100, -1)
    approvals += [await other.decide(world.card, 10), await one.decide(world.card, 30)]
    assert (await other.decide(world.card, 1))["reason"] == "spend_limit_exceeded"
    assert (await world.reverse(approvals.pop())).status == 201
    approvals.append(await other.decide(world.card, 10))
    assert [one["approved_amount"] for one in approvals] == [60, 10, 10]
    counted = await one.decide(world.card, 1)
    assert counted["reason"] == "count_limit_exceeded"
    rule = await broken(world, counted)
    assert (rule["level"], rule["period"]) == (level, period.label)
    assert (rule["fact"], rule["limit"], rule["headroom"]) == (3, 3, -1)
    return approvals


@pytest.mark.parametrize("level", LEVELS)
async def test_a_window_of_every_level_begins_again_with_its_period(
    world: World, gateways: tuple[Gateway, Gateway], level: OwnerKind
) -> None:
    """With yesterday's, last week's, last month's and last year's windows full, all of them pass;
    a lifetime does not. Without the reset in `SpendWindow.add`, what was over stayed."""
    one, other = gateways
    owner = owner_of(world, level)
    await world.deposit(1_000)
    every = tuple(Limit(period, amount=100) for period in COUNTED_PERIODS[:-1])
    await world.limit(level, owner, SpendControls((*every, Limit(Period.LIFETIME, amount=150))))
    assert (await one.decide(world.card, 100))["decision"] == "approved"
    assert (await other.decide(world.card, 1))["reason"] == "spend_limit_exceeded"
    await world.rows(
        "UPDATE spend_window SET day_start = day_start - 1, week_start = week_start - 7, "
        "month_start = (month_start - interval '1 month')::date, "
        "year_start = (year_start - interval '1 year')::date WHERE owner_id = $1",
        owner,
    )
    over = await other.decide(world.card, 51)
    assert (await broken(world, over))["period"] == "lifetime"
    assert (await one.decide(world.card, 50))["decision"] == "approved"
    assert await world.window(owner) == (50, 1)


# Changes -----------------------------------------------------------------------------------------

CHANGES: list[tuple[SpendControls, str]] = [
    (SpendControls((Limit(Period.TRANSACTION, 5),)), "amount_over_limit"),
    (SpendControls((Limit(Period.DAY, 5),)), "spend_limit_exceeded"),
    (SpendControls((Limit(Period.LIFETIME, None, 1),)), "count_limit_exceeded"),
    (SpendControls(blocked_mccs=frozenset({"5942"})), "mcc_blocked"),
    (SpendControls(allowed_countries=frozenset({"CA"})), "country_not_allowed"),
    (SpendControls(blocked_entry_modes=frozenset({"chip"})), "entry_mode_blocked"),
]


@pytest.mark.parametrize("level", LEVELS)
async def test_a_control_counts_everywhere_from_the_moment_of_its_answer(
    world: World, gateways: tuple[Gateway, Gateway], level: OwnerKind
) -> None:
    """No view is told to be forgotten. Without versions in `refresh`, the old controls decided."""
    owner = owner_of(world, level)
    await world.deposit(1_000)
    for chosen, reason in CHANGES:
        for gateway in gateways:
            told = await gateway.decide(world.card, 10, merchant=SHOP, entry_mode="chip")
            assert told["decision"] == "approved"
        await world.limit(level, owner, chosen)
        for gateway in gateways:
            told = await gateway.decide(world.card, 10, merchant=SHOP, entry_mode="chip")
            assert told["reason"] == reason
            assert (await broken(world, told))["level"] == level
        await world.limit(level, owner, SpendControls())
    await world.audited()


@asynccontextmanager
async def controls_held(world: World, owner: Document) -> AsyncIterator[None]:
    """A row of controls that somebody else holds: whoever changes it waits within their act."""
    connection = await world.postgres.dedicated(
        lock_timeout_ms=1_000, statement_timeout_ms=1_000, idle_in_transaction_timeout_ms=30_000
    )
    await connection.begin()
    await connection.fetch(
        "SELECT FROM spend_control WHERE owner_id = $1 FOR UPDATE", owner["id"][4:]
    )
    try:
        yield
    finally:
        await connection.rollback()
        connection.terminate()


@pytest.mark.parametrize("level", ["cardholder", "program"])
async def test_a_batch_that_began_while_the_change_was_under_way_is_waited_for(
    world: World,
    gateways: tuple[Gateway, Gateway],
    level: OwnerKind,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rule 5. The batch's transaction has a greater number than the change, and read what was.

    With the end of a snapshot for the horizon, which is one above the latest that has *ended*, the
    change was answered before the batch had committed; a wide window was filled without it.
    """
    monkeypatch.setattr(idempotency, "LOCK_TIMEOUT_MS", 20_000)
    gateway, _ = gateways
    owner = owner_of(world, level)
    await world.deposit(1_000)
    await world.limit(level, owner, SpendControls((Limit(Period.TRANSACTION, 1_000),)))
    committing = gateway.steps.stop("before commit")
    async with controls_held(world, owner):
        limits = SpendControls((Limit(Period.DAY, amount=100),))
        change = asyncio.create_task(world.limit(level, owner, limits))

        async def waits() -> bool:
            rows = await world.rows(
                "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                "AND datname = current_database()"
            )
            return bool(rows)

        await eventually(waits)
        older = gateway.ask(world.card, 70)
        await committing.reached()

    async def stands() -> bool:
        rows = await world.rows("SELECT controls FROM spend_control WHERE owner_id = $1", owner)
        return '"day"' in rows[0]["controls"]

    await eventually(stands)
    # It asks every few milliseconds; as many rounds as another statement takes.
    await world.rows("SELECT pg_sleep(0.05)")
    assert not change.done()
    committing.open()
    assert body(await older)["decision"] == "approved"
    await change
    assert await world.window(owner) == (70, 1)
    assert (await gateway.decide(world.card, 31))["reason"] == "spend_limit_exceeded"
    assert (await gateway.decide(world.card, 30))["decision"] == "approved"
    await world.audited()


async def test_another_database_of_the_server_is_not_waited_for(
    world: World, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all of the server's transactions for older ones, the change was not answered in time."""
    monkeypatch.setattr(controls, "_OLDER_BATCHES_S", 0.2)
    path, _, query = database.partition("?")
    elsewhere = f"{path.rpartition('/')[0]}/postgres?{query}"
    other = PostgreSQLAdapter({"DATABASE_URL": elsewhere}, pool_size_min=1)
    try:
        connection = await other.dedicated(
            lock_timeout_ms=1_000, statement_timeout_ms=1_000, idle_in_transaction_timeout_ms=60_000
        )
        await connection.begin()
        await connection.fetch("SELECT pg_current_xact_id()")
        limits = SpendControls((Limit(Period.DAY, amount=100),))
        changed = await world.limit("program", world.program, limits)
        assert changed["controls"]["limits"] == [{"period": "day", "amount": 100}]
        connection.terminate()
    finally:
        await other.close()
