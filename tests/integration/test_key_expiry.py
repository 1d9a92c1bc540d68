"""Idempotency keys end by age, with their answers; decisions and everybody else's keys stay."""

import asyncio
from datetime import timedelta

from jitway.gateway.key_expiry import KeyExpiry
from tests.world import World, same_key

KEPT = timedelta(days=7)


def expiry(world: World, kept: timedelta = KEPT) -> KeyExpiry:
    return KeyExpiry(
        world.postgres, world.clock, kept, first_s=0.0, interval_s=3_600.0, pause_s=0.0
    )


async def grow_old(world: World, days: int) -> None:
    """Lets everything that has a key be made some days earlier."""
    shift = days * 86_400_000
    sql = (
        "UPDATE {table} SET {column} = (lpad(to_hex(("
        "'x' || left(replace({column}::text, '-', ''), 12))::bit(48)::bigint - {shift}), 12, '0')"
        " || right(replace({column}::text, '-', ''), 20))::uuid"
    )
    for table, column in (
        ("idempotency_key", "subject"),
        *((table, "id") for table in ("decision", "hold", "transfer", "audit", "outbox")),
        ("transfer", "authorization_id"),
    ):
        await world.rows(sql.format(table=table, column=column, shift=shift))


async def keys(world: World) -> tuple[int, int]:
    (row,) = await world.rows(
        "SELECT (SELECT count(*) FROM idempotency_key) AS keys,"
        " (SELECT count(*) FROM answer) AS answers"
    )
    return row["keys"], row["answers"]


async def test_old_keys_end_with_their_answers_and_decisions_stay(world: World) -> None:
    await world.deposit(100)
    key = same_key("first")
    first = await world.answer(10, key=key)
    assert await keys(world) == (2, 1)
    await grow_old(world, 9)
    await world.deposit(100)
    await world.answer(10, key=same_key("young"))

    assert await expiry(world).round() == 2

    assert await keys(world) == (2, 1)
    (row,) = await world.rows("SELECT count(*) AS number FROM decision")
    assert row["number"] == 2
    await world.audited()
    again = await world.answer(10, key=key)
    assert not again.replayed, "what is older than a key's life is another request"
    assert again.body != first.body
    assert await expiry(world).round() == 0
    await world.audited()


async def test_a_key_is_kept_as_long_as_was_said_and_a_day(world: World) -> None:
    await world.deposit(100)
    await grow_old(world, 7)
    assert await expiry(world).round() == 0, "clocks may be a day apart"
    await grow_old(world, 2)
    assert await expiry(world, timedelta(days=30)).round() == 0
    assert await expiry(world).round() == 1


async def test_one_gateway_at_a_time_walks_every_page(world: World) -> None:
    await world.rows(
        "INSERT INTO idempotency_key (scope, key, content, subject)"
        " SELECT '00000000-0000-0000-0000-000000000000', decode(md5(n::text), 'hex'),"
        " decode(md5(n::text), 'hex'), '01000000-0000-7000-8000-000000000000'"
        " FROM generate_series(1, 20000) AS n"
    )
    first, second = expiry(world), expiry(world)
    ended = await asyncio.gather(first.round(), second.round())
    assert sorted(ended) == [0, 20_000]
    assert await keys(world) == (0, 0)


async def test_it_starts_stops_and_starts_again(world: World) -> None:
    await world.deposit(100)
    await grow_old(world, 9)
    running = expiry(world)
    await running.stop()
    running.start()
    running.start()
    async with asyncio.timeout(20):
        while await keys(world) != (0, 0):
            await asyncio.sleep(0.02)
    await running.stop()
    await running.stop()
    leases = await world.rows("SELECT until <= clock_timestamp() AS free FROM lease")
    assert all(row["free"] for row in leases)
