"""Holds that end without a capture: reversals, expiry, approvals that nobody was answered."""

import asyncio
from typing import Any

import pytest

from jitway.clock import SystemClock
from jitway.domain.limits import Limit, Period, SpendControls
from jitway.errors import (
    Conflict,
    InvalidRequest,
    LedgerUnavailable,
    LockTimeout,
    NotFound,
    StatementRefused,
    TransactionConflict,
)
from jitway.gateway.caller import Answer
from jitway.gateway.release import abandon, expire
from jitway.gateway.sweep import ExpirySweep
from tests.world import World, body, bound_to, same_key

# hold | what happens: capture c, reverse r | posted, held of 100 | status | captured, released
SCENARIOS = [
    (50, "r", (100, 0), "released", (0, 50)),
    (50, "r20", (100, 30), "open", (0, 20)),
    (50, "r20 r", (100, 0), "released", (0, 50)),
    (50, "r20 r99", (100, 0), "released", (0, 50)),
    (50, "r99", (100, 0), "released", (0, 50)),
    (50, "c20 r", (80, 0), "captured", (20, 30)),
    (50, "r20 c30", (70, 0), "captured", (30, 20)),
    (50, "r20 c10!", (90, 0), "captured", (10, 40)),
    (50, "r10 c10 r10", (90, 20), "open", (10, 20)),
]


async def test_what_reversals_leave(world: World) -> None:
    for hold, happens, balances, status, parts in SCENARIOS:
        account, card = await world.funded_card(100)
        approval = await world.approve(hold, card=card)
        for word in happens.split():
            amount = int(word[1:].strip("!")) if len(word) > 1 else None
            if word[0] == "r":
                await world.reverse(approval, amount)
            else:
                assert amount is not None
                await world.capture(approval, amount, final=word.endswith("!"))

        scenario = (hold, happens)
        assert (*(await world.balances(account))[:2],) == balances, scenario
        found = await world.authorization(approval)
        assert found["status"] == status, scenario
        assert (found["captured"], found["released"]) == parts, scenario
        assert found["remaining"] == hold - sum(parts), scenario
    await world.audited()


async def test_a_reversal_answers_what_it_really_gave_back(world: World) -> None:
    await world.deposit(100)
    approval = await world.approve(50)

    transfer = body(await world.reverse(approval, 80))

    assert transfer["kind"] == "reversal"
    assert transfer["amount"] == 50
    assert transfer["authorization"] == approval["id"]
    events = await world.rows("SELECT type FROM outbox WHERE id = $1", transfer)
    assert [event["type"] for event in events] == ["transaction.reversed"]


async def test_nothing_remains_nothing_is_reversed(world: World) -> None:
    for end in ("captured", "released", "declined"):
        account, card = await world.funded_card(100)
        decided = await world.authorize(500 if end == "declined" else 50, card=card)
        if end == "captured":
            await world.capture(decided, 20)
        elif end == "released":
            await world.reverse(decided)
        before = await world.balances(account)

        with pytest.raises(Conflict) as refused:
            await world.reverse(decided)

        assert refused.value.code == "authorization_not_open"
        assert await world.balances(account) == before


async def test_whose_it_is_and_what_an_amount_is(world: World) -> None:
    await world.deposit(100)
    approval = await world.approve(50)
    other = bound_to(await world.new_program())
    with pytest.raises(NotFound):
        await world.reverse(approval, caller=other)
    with pytest.raises(InvalidRequest):
        await world.reverse(approval, 0)


async def test_racing_reversals_give_back_once(world: World) -> None:
    await world.deposit(100)
    approval = await world.approve(50)

    outcomes = await asyncio.gather(
        *(world.reverse(approval) for _ in range(6)), return_exceptions=True
    )

    assert sum(isinstance(one, Answer) for one in outcomes) == 1
    assert await world.balances() == (100, 0, 100, 3)
    await world.audited()


async def test_windows_get_back_what_is_released(world: World) -> None:
    await world.deposit(1000)
    controls = SpendControls((Limit(Period.DAY, 100, 2), Limit(Period.LIFETIME, 1000)))
    await world.limit("card", world.card, controls)
    await world.limit("cardholder", world.cardholder, controls)
    first = await world.approve(60)
    second = await world.approve(40)

    await world.reverse(first, 10)
    for owner in (world.card, world.cardholder):
        assert await world.window(owner) == (90, 2)
    await world.reverse(first)
    for owner in (world.card, world.cardholder):
        assert await world.window(owner) == (40, 1)
    await world.approve(60)
    await world.reverse(second)
    for owner in (world.card, world.cardholder):
        assert await world.window(owner) == (60, 1)
    await world.audited()


async def test_nothing_is_given_back_to_a_window_that_is_over(world: World) -> None:
    await world.deposit(1000)
    await world.limit("card", world.card, SpendControls((Limit(Period.DAY, 100),)))
    old = await world.approve(60)
    # As if the approval, and the window that counted it, were of the day before.
    await world.rows(
        "UPDATE decision SET decided_at = decided_at - interval '1 day' WHERE id = $1", old
    )
    await world.rows(
        "UPDATE spend_window SET day_start = day_start - 1 WHERE owner_id = $1", world.card
    )
    await world.approve(50)
    assert await world.window(world.card) == (50, 1)

    await world.reverse(old)

    assert await world.window(world.card) == (50, 1)


async def test_expiry_ends_what_is_over_and_nothing_else(world: World) -> None:
    await world.deposit(1000)
    over = await world.approve(100)
    partly = await world.approve(50)
    await world.capture(partly, 20, final=False)
    open_ = await world.approve(30)
    for approval in (over, partly):
        await world.overdue(approval)

    assert await expire(world.postgres, world.clock, limit=100) == 2

    assert (await world.authorization(over))["status"] == "expired"
    assert (await world.authorization(over))["released"] == 100
    assert (await world.authorization(partly))["status"] == "captured"
    assert (await world.authorization(partly))["released"] == 30
    assert (await world.authorization(open_))["status"] == "open"
    assert (await world.balances())[:2] == (980, 30)
    assert await expire(world.postgres, world.clock, limit=100) == 0
    await world.audited()


async def test_expiry_keeps_to_its_limit(world: World) -> None:
    await world.deposit(1000)
    for _ in range(5):
        await world.overdue(await world.approve(10))
    assert await expire(world.postgres, world.clock, limit=3) == 3
    assert await expire(world.postgres, world.clock, limit=3) == 2
    await world.audited()


async def test_two_sweeps_at_once_end_each_hold_once(world: World) -> None:
    await world.deposit(1000)
    for _ in range(10):
        await world.overdue(await world.approve(10))

    ended = await asyncio.gather(
        *(expire(world.postgres, world.clock, limit=100) for _ in range(4))
    )

    assert sum(ended) == 10
    assert await world.balances() == (1000, 0, 1000, 21)
    await world.audited()


async def test_a_locked_account_is_passed_over(world: World) -> None:
    await world.deposit(100)
    other = await world.new_account()
    card = await world.new_card(other)
    await world.deposit(100, other)
    locked = await world.approve(10)
    free = await world.approve(10, card=card)
    for approval in (locked, free):
        await world.overdue(approval)

    async with world.locked(world.account):
        assert await expire(world.postgres, world.clock, limit=100) == 1

    assert (await world.authorization(free))["status"] == "expired"
    assert (await world.authorization(locked))["status"] == "open"
    assert await expire(world.postgres, world.clock, limit=100) == 1


async def test_the_sweep_runs_for_one_gateway_at_a_time(world: World) -> None:
    await world.deposit(100)
    first = ExpirySweep(world.postgres, world.clock)
    second = ExpirySweep(world.postgres, world.clock)
    await world.overdue(await world.approve(10))
    assert await first.round() == 1
    await world.overdue(await world.approve(10))

    assert await second.round() == 0
    await world.rows("UPDATE lease SET until = now()")
    assert await second.round() == 1

    tokens = await world.rows("SELECT token FROM lease")
    assert [row["token"] for row in tokens] == [2]


async def test_the_sweep_may_be_started_and_stopped_at_any_time(world: World) -> None:
    await world.deposit(100)
    approval = await world.approve(10)
    await world.overdue(approval)
    sweep = ExpirySweep(world.postgres, world.clock, interval_s=0.01)
    await sweep.stop()
    sweep.start()
    sweep.start()
    async with asyncio.timeout(10):
        while (await world.authorization(approval))["status"] != "expired":
            await asyncio.sleep(0.01)
    await sweep.stop()
    await sweep.stop()
    # Its lease was left, so another gateway need not wait for it to run out.
    await world.overdue(await world.approve(10))
    assert await ExpirySweep(world.postgres, SystemClock()).round() == 1


async def test_abandon_voids_what_nobody_was_answered(world: World) -> None:
    await world.deposit(100)
    key = same_key("late")
    approval = await world.approve(40, key=key)
    pair = (approval["id"], approval["account"])

    assert await abandon(world.postgres, world.clock, [pair]) == [approval["id"]]
    # Again: it is void, and voided only once.
    assert await abandon(world.postgres, world.clock, [pair]) == [approval["id"]]

    assert await world.balances() == (100, 0, 100, 3)
    found = await world.authorization(approval)
    assert (found["status"], found["decision"], found["reason"]) == (
        "abandoned",
        "declined",
        "abandoned",
    )
    assert (found["approved_amount"], found["released"]) == (0, 40)
    repeated = body(await world.answer(40, key=key))
    assert (repeated["decision"], repeated["reason"]) == ("declined", "abandoned")
    with pytest.raises(Conflict):
        await world.capture(approval, 1)
    await world.audited()


async def test_abandon_and_recall_exclude_each_other(world: World) -> None:
    await world.deposit(100)
    key = same_key("recalled")
    approval = await world.approve(40, key=key)
    assert (await world.answer(40, key=key)).replayed

    assert await abandon(world.postgres, world.clock, [(approval["id"], approval["account"])]) == []

    assert (await world.balances())[:2] == (100, 40)
    await world.audited()


async def test_what_was_touched_is_not_abandoned(world: World) -> None:
    for touched in ("captured", "reversed", "expired"):
        account, card = await world.funded_card(100)
        approval = await world.approve(40, card=card)
        if touched == "captured":
            await world.capture(approval, 10, final=False)
        elif touched == "reversed":
            await world.reverse(approval, 10)
        else:
            await world.overdue(approval)
            await world.sweep()
        before = await world.balances(account)

        pair = (approval["id"], approval["account"])
        assert await abandon(world.postgres, world.clock, [pair]) == []
        assert await world.balances(account) == before


async def test_abandon_waits_for_a_commit_of_unknown_outcome(world: World) -> None:
    """A bare look-up would find nothing, and the approval would then stand for good."""
    await world.deposit(100)
    decision = world.clock.new_id("aut")
    pair = (decision, world.account["id"])
    async with world.locked(world.account):
        with pytest.raises(LockTimeout):
            await abandon(world.postgres, world.clock, [pair])
    assert await abandon(world.postgres, world.clock, [pair]) == []


async def test_the_sweep_outlives_its_failures(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.deposit(100)
    approval = await world.approve(10)
    await world.overdue(approval)
    failures: list[Exception] = [LedgerUnavailable("away"), ZeroDivisionError(), ValueError()]

    async def failing(*arguments: Any, **options: Any) -> int:
        if failures:
            raise failures.pop()
        return await expire(*arguments, **options)

    monkeypatch.setattr("jitway.gateway.sweep.expire", failing)
    sweep = ExpirySweep(world.postgres, world.clock, interval_s=0.01)
    sweep.start()
    async with asyncio.timeout(10):
        while (await world.authorization(approval))["status"] != "expired":
            await asyncio.sleep(0.01)
    await sweep.stop()
    assert not failures


async def test_a_sweep_that_hangs_is_left(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = asyncio.Event()

    async def hang(*_arguments: object, **_options: object) -> int:
        hanging.set()
        await asyncio.sleep(60)
        return 0

    monkeypatch.setattr("jitway.gateway.sweep.expire", hang)
    monkeypatch.setattr("jitway.gateway.sweep._STOP_S", 0.05)
    sweep = ExpirySweep(world.postgres, world.clock)
    sweep.start()
    await hanging.wait()
    async with asyncio.timeout(10):
        await sweep.stop()


async def test_a_hold_without_its_decision_keeps_no_other_from_ending(world: World) -> None:
    await world.deposit(100)
    approval = await world.approve(10)
    await world.rows(
        "INSERT INTO hold (id, account_id, amount, expires_at) "
        "VALUES (gen_random_uuid(), $1, 5, now() - interval '1 hour')",
        world.account,
    )
    await world.overdue(approval)
    assert await world.sweep() == 1


async def test_rows_that_do_not_go_where_they_must_undo_everything(world: World) -> None:
    """The database says how many rows it wrote, whatever keeps it from writing one."""
    await world.deposit(100)
    approval = await world.approve(10)
    await world.rows(
        "CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
    )
    for table, error in (
        ("account", StatementRefused),
        ("hold", StatementRefused),
        ("transfer", StatementRefused),
        ("outbox", StatementRefused),
        ("spend_window", TransactionConflict),
    ):
        event = "INSERT" if table in ("transfer", "outbox") else "UPDATE"
        await world.rows(
            f"CREATE TRIGGER skip BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION skip()"
        )
        with pytest.raises(error):
            await world.reverse(approval)
        await world.rows(f"DROP TRIGGER skip ON {table}")
        assert await world.balances() == (100, 10, 90, 2)
        await world.audited()
    await world.reverse(approval)
    await world.audited()


async def test_an_approval_without_a_hold_is_damage(world: World) -> None:
    await world.deposit(100)
    approval = await world.approve(10)
    await world.rows("DELETE FROM hold")
    with pytest.raises(StatementRefused):
        await world.reverse(approval)
