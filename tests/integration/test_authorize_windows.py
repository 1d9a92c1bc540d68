"""Day and month windows by the program's calendar: zones, DST, rollover; PostgreSQL's time.

Each docstring says which piece of code was taken out to see its test fail.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from jitway.domain.limits import Limit, Period, SpendControls, SpendWindow, window_starts
from tests.integration.stepped import Gateway, gateway_on
from tests.world import Document, World, body, fresh_key

pytestmark = [pytest.mark.timeout(60), pytest.mark.relaxed_durability]


@pytest.fixture
async def gateway(world: World, database: str) -> AsyncIterator[Gateway]:
    async with gateway_on(database) as gateway:
        yield gateway


# The calendar, pure ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "first", "hours"),
    [
        ("Europe/Warsaw", date(2026, 3, 29), 23),
        ("Europe/Warsaw", date(2026, 10, 25), 25),
        ("America/New_York", date(2026, 3, 8), 23),
        ("America/New_York", date(2026, 11, 1), 25),
        # Half an hour, and at midnight: the day begins at 01:00.
        ("Australia/Lord_Howe", date(2026, 4, 5), 24.5),
        ("America/Santiago", date(2026, 9, 6), 23),
        ("Pacific/Kiritimati", date(2026, 1, 1), 24),
        ("Etc/GMT+12", date(2026, 1, 1), 24),
        ("Asia/Kathmandu", date(2028, 2, 29), 24),
        ("UTC", date(2026, 12, 31), 24),
    ],
)
def test_a_day_is_as_long_as_the_calendar_says(zone: str, first: date, hours: float) -> None:
    """With a day of 24 hours from its first instant, days of DST changes began wrongly."""
    calendar = ZoneInfo(zone)
    minutes = [
        datetime(first.year, first.month, first.day, tzinfo=UTC)
        + timedelta(days=offset, minutes=minute)
        for offset in (-1, 0, 1)
        for minute in range(0, 24 * 60, 30)
    ]
    of_the_day = [one for one in minutes if window_starts(one, calendar)[Period.DAY] == first]
    assert len(of_the_day) * 30 == hours * 60


def test_windows_begin_at_local_dates() -> None:
    """Five minutes to midnight in New York is the next month in Warsaw, and the next year."""
    instant = datetime(2027, 1, 1, 4, 55, tzinfo=UTC)
    new_york = window_starts(instant, ZoneInfo("America/New_York"))
    warsaw = window_starts(instant, ZoneInfo("Europe/Warsaw"))
    assert new_york[:4] == (
        date(2026, 12, 31),
        date(2026, 12, 28),
        date(2026, 12, 1),
        date(2026, 1, 1),
    )
    assert warsaw[:4] == (date(2027, 1, 1), date(2026, 12, 28), date(2027, 1, 1), date(2027, 1, 1))


def test_a_month_of_dst_has_every_instant_once() -> None:
    """October in Warsaw has 745 hours; with an offset fixed at its start it had 744."""
    hours = [
        datetime(2026, 9, 30, 12, tzinfo=UTC) + timedelta(hours=hour) for hour in range(33 * 24)
    ]
    starts = [window_starts(hour, ZoneInfo("Europe/Warsaw"))[Period.MONTH] for hour in hours]
    assert starts.count(date(2026, 10, 1)) == 745
    assert starts == sorted(starts)


def test_a_clock_that_steps_back_forgets_nothing() -> None:
    """With `!=` in place of `>` in SpendWindow, a step back opened an empty window."""
    window = SpendWindow("crd_1")
    today = window_starts(datetime(2026, 5, 2, tzinfo=UTC), ZoneInfo("UTC"))
    yesterday = window_starts(datetime(2026, 5, 1, 23, 59, tzinfo=UTC), ZoneInfo("UTC"))
    window.add(70, today)
    assert window.spent(Period.DAY, yesterday) == (70, 1)
    window.add(20, yesterday)
    assert window.spent(Period.DAY, today) == (90, 2)


# The batch ---------------------------------------------------------------------------------------

ZONES = ["America/New_York", "Pacific/Kiritimati"]


async def card_in(world: World, zone: str, *limits: Limit) -> Document:
    """A funded card of a program in this zone, with these limits."""
    program = await world.new_program(time_zone=zone)
    cardholder = await world.new_cardholder(program)
    account = await world.new_account(cardholder)
    await world.deposit(10_000, account)
    card = await world.new_card(account, cardholder)
    await world.limit("card", card, SpendControls(limits))
    return card


async def stored(world: World, card: Document) -> Document:
    rows = await world.rows("SELECT * FROM spend_window WHERE owner_id = $1", card)
    return rows[0]


@pytest.mark.parametrize("zone", ZONES)
async def test_windows_of_a_batch_are_those_of_the_programs_zone_at_postgresqls_time(
    world: World, gateway: Gateway, zone: str
) -> None:
    """With UTC in place of the view's zone, windows of the outer zones began on other dates."""
    card = await card_in(world, zone, Limit(Period.DAY, amount=100))
    decided = await gateway.decide(card, 60)
    instant = datetime.fromisoformat(decided["decided_at"])
    starts = window_starts(instant, ZoneInfo(zone))
    window = await stored(world, card)
    assert tuple(window[f"{name}_start"] for name in ("day", "week", "month", "year")) == starts[:4]
    assert (await gateway.decide(card, 60))["reason"] == "spend_limit_exceeded"
    assert (await gateway.decide(card, 40))["decision"] == "approved"
    await world.audited()


async def test_a_window_that_rolled_over_begins_again(world: World, gateway: Gateway) -> None:
    """Yesterday's spending does not count today, but it does in the month, and for ever.

    Without the reset in `SpendWindow.add`, the day went on; without the question for a later start
    in `spent`, today's first request was declined.
    """
    card = await card_in(
        world,
        "Europe/Warsaw",
        Limit(Period.DAY, amount=100, count=2),
        Limit(Period.MONTH, amount=150),
        Limit(Period.LIFETIME, count=4),
    )
    assert (await gateway.decide(card, 100))["decision"] == "approved"
    assert (await gateway.decide(card, 1))["reason"] == "spend_limit_exceeded"
    await world.rows("UPDATE spend_window SET day_start = day_start - 1 WHERE owner_id = $1", card)
    assert (await gateway.decide(card, 51))["reason"] == "spend_limit_exceeded"
    assert (await gateway.decide(card, 50))["decision"] == "approved"
    window = await stored(world, card)
    assert (window["day_amount"], window["month_amount"], window["lifetime_amount"]) == (
        50,
        150,
        150,
    )
    await world.rows(
        "UPDATE spend_window SET month_start = month_start - 40 WHERE owner_id = $1", card
    )
    assert (await gateway.decide(card, 10))["decision"] == "approved"
    assert (await gateway.decide(card, 10))["reason"] == "count_limit_exceeded"
    window = await stored(world, card)
    assert (window["day_count"], window["month_count"], window["lifetime_count"]) == (2, 1, 3)


async def test_a_window_of_tomorrow_is_not_forgotten(world: World, gateway: Gateway) -> None:
    """A server whose clock stepped back, or another zone's server: it counts on, never anew.

    Seen to fail with `!=` in place of `>` in SpendWindow.
    """
    card = await card_in(world, "UTC", Limit(Period.DAY, amount=100))
    assert (await gateway.decide(card, 70))["decision"] == "approved"
    await world.rows("UPDATE spend_window SET day_start = day_start + 1 WHERE owner_id = $1", card)
    assert (await gateway.decide(card, 70))["reason"] == "spend_limit_exceeded"
    assert (await gateway.decide(card, 30))["decision"] == "approved"
    assert (await stored(world, card))["day_amount"] == 100


async def test_the_hour_before_midnight_of_two_zones_is_two_days(
    world: World, gateway: Gateway
) -> None:
    """Cards of programs fourteen and minus twelve hours from Greenwich, in one batch.

    With the starts kept for all programs of a batch in `_starts_in`, the second had the first's.
    """
    far_east = await card_in(world, "Pacific/Kiritimati", Limit(Period.DAY, count=5))
    far_west = await card_in(world, "Etc/GMT+12", Limit(Period.DAY, count=5))
    await gateway.know(far_east, far_west)
    await asyncio.gather(*(gateway.ask(card, 1) for card in (far_east, far_west)))
    assert gateway.steps.sent.count("write_batch") == 1
    east, west = await stored(world, far_east), await stored(world, far_west)
    assert (east["day_start"] - west["day_start"]) in (timedelta(days=1), timedelta(days=2))


async def test_what_is_given_back_to_a_window_that_is_over_changes_nothing(
    world: World, gateway: Gateway
) -> None:
    """Rule 26. Without the comparison of starts in `give_back`, the new day went below zero."""
    card = await card_in(world, "Europe/Warsaw", Limit(Period.DAY, amount=100))
    approval = await gateway.decide(card, 80)
    await world.rows(
        "UPDATE spend_window SET day_start = day_start + 1, day_amount = 5, day_count = 1 "
        "WHERE owner_id = $1",
        card,
    )
    assert (await world.reverse(approval)).status == 201
    window = await stored(world, card)
    assert (window["day_amount"], window["day_count"]) == (5, 1)
    assert (window["month_amount"], window["month_count"]) == (0, 0)


async def test_repeats_spend_nothing(world: World, gateway: Gateway) -> None:
    """Seen to fail with `known` left out of `refresh`."""
    card = await card_in(world, "UTC", Limit(Period.DAY, count=1))
    key = fresh_key()
    answers = await asyncio.gather(*(gateway.ask(card, 10, key=key) for _ in range(5)))
    assert {body(answer)["decision"] for answer in answers} == {"approved"}
    assert (await stored(world, card))["day_count"] == 1
    await world.audited()
