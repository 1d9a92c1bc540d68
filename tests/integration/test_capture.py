"""Captures: money moves against a hold, and never more than it holds."""

import asyncio

import pytest

from jitway.domain.limits import Limit, Period, SpendControls
from jitway.errors import Conflict, InvalidRequest, JitwayError, NotFound
from jitway.gateway.caller import Answer
from tests.world import World, body, bound_to, fresh_key

# deposit | hold | captures, ! = final | posted, held, available | status
SCENARIOS = [
    (100, 50, "50!", (50, 0, 50), "captured"),
    (100, 50, "30!", (70, 0, 70), "captured"),
    (100, 50, "30", (70, 20, 50), "open"),
    (100, 50, "30 20", (50, 0, 50), "captured"),
    (100, 50, "30 20!", (50, 0, 50), "captured"),
    (100, 50, "10 10 10", (70, 20, 50), "open"),
    (100, 50, "10 10 10!", (70, 0, 70), "captured"),
    (100, 100, "1!", (99, 0, 99), "captured"),
    (100, 1, "1", (99, 0, 99), "captured"),
]


async def test_what_captures_leave(world: World) -> None:
    for funds, hold, captures, balances, status in SCENARIOS:
        account, card = await world.funded_card(funds)
        approval = await world.approve(hold, card=card)
        for word in captures.split():
            await world.capture(approval, int(word.strip("!")), final=word.endswith("!"))

        scenario = (funds, hold, captures)
        assert (*(await world.balances(account))[:3],) == balances, scenario
        found = await world.authorization(approval)
        captured = funds - balances[0]
        assert found["status"] == status, scenario
        assert found["captured"] == captured, scenario
        assert found["remaining"] == balances[1], scenario
        assert found["released"] == hold - captured - balances[1], scenario
    await world.audited()


async def test_a_capture_answers_its_transfer(world: World) -> None:
    await world.deposit(100)
    approval = await world.approve(60)

    answer = await world.capture(approval, 25)

    assert answer.status == 201
    transfer = body(answer)
    assert list(transfer) == [
        "id",
        "kind",
        "authorization",
        "account",
        "amount",
        "currency",
        "account_version",
        "created_at",
        "description",
    ]
    assert transfer["id"].startswith("trf_")
    assert transfer["kind"] == "capture"
    assert transfer["authorization"] == approval["id"]
    assert transfer["account"] == world.account["id"]
    assert (transfer["amount"], transfer["currency"]) == (25, "USD")
    assert transfer["account_version"] == approval["account_version"] + 1
    assert transfer["created_at"].endswith("Z")
    events = await world.rows("SELECT * FROM outbox WHERE id = $1", transfer)
    assert [event["type"] for event in events] == ["transaction.captured"]
    assert events[0]["account_version"] == transfer["account_version"]


async def test_above_what_remains_books_nothing(world: World) -> None:
    await world.deposit(100)
    approval = await world.approve(50)
    await world.capture(approval, 30, final=False)
    key = fresh_key()

    with pytest.raises(Conflict) as refused:
        await world.capture(approval, 21, key=key)

    assert refused.value.code == "capture_over_remaining"
    assert await world.balances() == (70, 20, 50, 3)
    # Nothing was kept under the key, so it is free for what can be done.
    assert (await world.capture(approval, 20, key=key)).replayed is False
    await world.audited()


async def test_only_open_authorizations_are_captured(world: World) -> None:
    for end in ("captured", "released", "expired", "declined"):
        account, card = await world.funded_card(100)
        decided = await world.authorize(500 if end == "declined" else 50, card=card)
        if end == "captured":
            await world.capture(decided, 50)
        elif end == "released":
            await world.reverse(decided)
        elif end == "expired":
            await world.overdue(decided)
            await world.sweep()
        before = await world.balances(account)

        with pytest.raises(Conflict) as refused:
            await world.capture(decided, 1)

        assert refused.value.code == "authorization_not_open"
        assert await world.balances(account) == before
        assert (await world.authorization(decided))["status"] == end
    await world.audited()


async def test_overdue_but_not_yet_swept_is_still_open(world: World) -> None:
    await world.deposit(100)
    approval = await world.approve(50)
    await world.overdue(approval)

    await world.capture(approval, 50)

    assert await world.sweep() == 0
    assert await world.balances() == (50, 0, 50, 3)


async def test_an_amount_of_nothing_is_refused(world: World) -> None:
    await world.deposit(100)
    approval = await world.approve(50)
    for amount in (0, -1):
        with pytest.raises(InvalidRequest) as refused:
            await world.capture(approval, amount)
        assert refused.value.pointer == "/amount"


async def test_what_is_not_the_callers_is_not_there(world: World) -> None:
    await world.deposit(100)
    approval = await world.approve(50)
    other = bound_to(await world.new_program())
    mine = bound_to(world.program)

    with pytest.raises(NotFound):
        await world.capture(approval, 1, caller=other)
    for id_ in ("aut_" + "0" * 32, "aut_x", "", "crd_" + "0" * 32):
        with pytest.raises(NotFound):
            await world.capture({"id": id_}, 1)
    assert (await world.capture(approval, 1, caller=mine)).status == 201


async def test_racing_captures_never_take_more_than_is_held(world: World) -> None:
    await world.deposit(1000)
    approval = await world.approve(100)

    outcomes = await asyncio.gather(
        *(world.capture(approval, 30, final=False) for _ in range(8)), return_exceptions=True
    )

    done = [one for one in outcomes if isinstance(one, Answer)]
    refused = [one for one in outcomes if isinstance(one, JitwayError)]
    assert len(done) == 3
    assert len(done) + len(refused) == 8
    assert (await world.balances())[:2] == (910, 10)
    await world.audited()


async def test_a_final_capture_gives_the_rest_back_to_the_windows(world: World) -> None:
    await world.deposit(1000)
    await world.limit("card", world.card, SpendControls((Limit(Period.DAY, 100),)))
    await world.limit("program", world.program, SpendControls((Limit(Period.DAY, 100),)))
    approval = await world.approve(100)
    assert (await world.authorize(1))["reason"] == "spend_limit_exceeded"

    await world.capture(approval, 40)

    for owner in (world.card, world.program):
        assert await world.window(owner) == (40, 1)
    await world.approve(60)
    assert (await world.authorize(1))["reason"] == "spend_limit_exceeded"
    await world.audited()


async def test_a_frozen_card_is_still_captured(world: World) -> None:
    await world.deposit(100)
    approval = await world.approve(50)
    await world.freeze()

    assert (await world.capture(approval, 50)).status == 201
