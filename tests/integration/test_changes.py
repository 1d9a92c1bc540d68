"""States, changes, lists and the trail of programs, cardholders, accounts and cards."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jitway.adapters.postgresql import TransactionClient
from jitway.errors import Conflict, IdempotencyConflict, InvalidRequest, LockTimeout, NotFound
from jitway.gateway import administer, fund
from jitway.gateway.caller import Answer
from jitway.gateway.changes import change
from jitway.gateway.lists import LISTS, Page, list_things
from jitway.gateway.states import TURNS, Kind, turn
from jitway.gateway.trail import ActsAsked, list_acts
from jitway.sql import statements
from tests.world import OPERATOR, Document, World, body, bound_to, fresh_key, same_key

THINGS = ("program", "cardholder", "account", "card")


async def turned(world: World, kind: Kind, verb: str, **more: Any) -> Document:
    thing = getattr(world, kind)
    return body(await turn(world.postgres, world.clock, OPERATOR, kind, thing["id"], verb, **more))


async def changed(world: World, kind: str, **fields: Any) -> Document:
    thing = getattr(world, kind)
    return body(await change(world.postgres, world.clock, OPERATOR, kind, thing["id"], fields))


@pytest.mark.parametrize(
    ("kind", "stop", "go", "reason"),
    [
        ("program", "suspend", "resume", "program_not_active"),
        ("cardholder", "suspend", "resume", "cardholder_not_active"),
        ("account", "freeze", "unfreeze", "account_not_active"),
    ],
)
async def test_what_is_stopped_spends_nothing_until_it_goes_on(
    world: World, kind: Kind, stop: str, go: str, reason: str
) -> None:
    await world.deposit(100)
    before = getattr(world, kind)["version"]
    stopped = await turned(world, kind, stop)
    assert (await world.authorize(1))["reason"] == reason
    assert stopped["status"] == TURNS[kind][stop].state
    assert (await turned(world, kind, stop))["version"] == stopped["version"] > before
    assert (await turned(world, kind, go))["status"] == "active"
    await world.approve(1)
    await world.audited()


@pytest.mark.parametrize("kind", ["program", "cardholder", "account"])
async def test_what_is_closed_stays_closed(world: World, kind: Kind) -> None:
    closed = await turned(world, kind, "close", reason="over")
    assert closed["status"] == "closed"
    assert await turned(world, kind, "close") == closed
    for verb in TURNS[kind].keys() - {"close"}:
        with pytest.raises(Conflict) as refused:
            await turned(world, kind, verb)
        assert refused.value.code == f"{kind}_not_active"
    assert (await world.authorize(1))["decision"] == "declined"
    await world.audited()


async def take_out(world: World, amount: int) -> Answer:
    account = world.account["id"]
    return await fund.withdraw(
        world.postgres, world.clock, OPERATOR, fresh_key(), account, amount=amount
    )


async def test_an_account_with_money_or_holds_is_not_closed(world: World) -> None:
    await world.deposit(10)
    authorization = await world.approve(10)
    empties: list[tuple[str, Callable[[], Awaitable[object]]]] = [
        ("held", lambda: world.capture(authorization, 4, final=False)),
        ("held", lambda: world.reverse(authorization)),
        ("posted", lambda: take_out(world, 6)),
    ]
    for left, empty in empties:
        with pytest.raises(Conflict, match=left) as refused:
            await turned(world, "account", "close")
        assert refused.value.code == "account_not_empty"
        await empty()
    assert (await turned(world, "account", "close"))["status"] == "closed"
    await world.audited()


@pytest.mark.parametrize(("kind", "verb"), [("program", "suspend"), ("cardholder", "suspend")])
async def test_a_change_above_the_card_waits_for_batches_under_way(
    world: World, kind: Kind, verb: str
) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def batch(client: TransactionClient) -> None:
        # A number of its own, as whoever writes has one.
        await client.query("SELECT pg_current_xact_id()")
        began.set()
        await go_on.wait()

    older = asyncio.create_task(world.postgres.execute_transaction(batch))
    await began.wait()
    task = asyncio.create_task(turned(world, kind, verb))
    sql = f"SELECT state FROM {kind} WHERE id = $1"
    while (await world.rows(sql, getattr(world, kind)))[0]["state"] == "active":
        await asyncio.sleep(0.01)
    done, _ = await asyncio.wait([task], timeout=0.1)
    assert not done, "answered while an older batch could still approve"
    go_on.set()
    await older
    assert (await task)["status"] == "suspended"


async def test_the_same_key_turns_once(world: World) -> None:
    async def freeze(content: str, verb: str = "freeze") -> Answer:
        return await turn(
            world.postgres,
            world.clock,
            OPERATOR,
            "account",
            world.account["id"],
            verb,
            idempotency=same_key("turn", content),
        )

    first = await freeze("{}")
    await turned(world, "account", "unfreeze")
    again = await freeze("{}")
    assert (again.body, again.replayed) == (first.body, True)
    assert (await world.rows("SELECT state FROM account"))[0]["state"] == "active"
    with pytest.raises(IdempotencyConflict):
        await freeze('{"reason":"x"}')
    await world.audited()


async def test_fields_that_may_change(world: World) -> None:
    program = await changed(world, "program", name="Other")
    assert (program["name"], program["version"]) == ("Other", world.program["version"] + 1)
    holder = await changed(world, "cardholder", external_id="e-1", name="Ada")
    assert (holder["external_id"], holder["name"]) == ("e-1", "Ada")
    assert (await changed(world, "cardholder", name=None))["external_id"] == "e-1"
    card = await changed(world, "card", external_id="c-1", last4="4242")
    assert (card["external_id"], card["last4"], card["version"]) == ("c-1", "4242", 2)
    assert await changed(world, "card", last4="4242") == card, "nothing new, no version"
    events = await world.rows("SELECT type FROM outbox ORDER BY id")
    assert [event["type"] for event in events] == ["card.created", "card.changed"]
    with pytest.raises(InvalidRequest):
        await changed(world, "card")
    await world.audited()


async def create_another(world: World, kind: str, external_id: str) -> Answer:
    if kind == "cardholder":
        return await administer.create_cardholder(
            *(world.postgres, world.clock, OPERATOR, None),
            program=world.program["id"],
            external_id=external_id,
        )
    return await administer.create_card(
        *(world.postgres, world.clock, OPERATOR, None),
        cardholder=world.cardholder["id"],
        account=world.account["id"],
        external_id=external_id,
    )


async def test_external_ids_are_unique_in_a_program_and_say_whose_they_are(world: World) -> None:
    other_program = await world.new_program()
    held = {"external_id": "e-1"}
    for kind in ("cardholder", "card"):
        await changed(world, kind, **held)
        existing = getattr(world, kind)["id"]
        with pytest.raises(Conflict) as refused:
            await create_another(world, kind, "e-1")
        assert (refused.value.code, refused.value.existing) == ("external_id_taken", existing)
    for second in (await world.new_card(), await world.new_cardholder()):
        kind = "card" if "account" in second else "cardholder"
        with pytest.raises(Conflict) as refused:
            await change(world.postgres, world.clock, OPERATOR, kind, second["id"], held)
        assert refused.value.existing == getattr(world, kind)["id"]
    elsewhere = await world.new_cardholder(other_program)
    await change(world.postgres, world.clock, OPERATOR, "cardholder", elsewhere["id"], held)


async def test_a_credit_line_that_is_cut_leaves_a_shortfall(world: World) -> None:
    await changed(world, "account", credit_line=100)
    authorization = await world.approve(80)
    cut = await changed(world, "account", credit_line=30)
    assert (cut["credit_line"], cut["shortfall"], cut["available"]) == (30, 50, -50)
    assert (await world.authorize(1))["reason"] == "insufficient_available_balance"
    await world.capture(authorization, 80)
    await world.deposit(20)
    assert (await changed(world, "account", credit_line=30))["shortfall"] == 30
    raised = await changed(world, "account", credit_line=61)
    assert (raised["shortfall"], raised["available"]) == (0, 1)
    await world.approve(1)
    for wrong in (-1, 10**19):
        with pytest.raises(InvalidRequest) as refused:
            await changed(world, "account", credit_line=wrong)
        assert refused.value.pointer == "/credit_line"
    await world.audited()


async def test_a_closed_account_borrows_nothing(world: World) -> None:
    await turned(world, "account", "close")
    with pytest.raises(Conflict) as refused:
        await changed(world, "account", credit_line=1)
    assert refused.value.code == "account_not_active"


async def test_a_change_waits_for_the_account_no_longer_than_it_may(world: World) -> None:
    async def hold(client: TransactionClient) -> None:
        sql = "SELECT FROM account WHERE id = $1 FOR NO KEY UPDATE"
        await client.query(sql, [world.account["id"][4:]])
        with pytest.raises(LockTimeout):
            await changed(world, "account", credit_line=1)

    await world.postgres.execute_transaction(hold)


async def test_every_write_is_found_in_the_trail(world: World) -> None:
    await fund.deposit(
        *(world.postgres, world.clock, OPERATOR, fresh_key(), world.account["id"]),
        amount=50,
        reason="payday",
    )
    await fund.withdraw(
        *(world.postgres, world.clock, OPERATOR, fresh_key(), world.account["id"]), amount=20
    )
    await turned(world, "account", "freeze", reason="look at it")
    await changed(world, "account", credit_line=5)

    acts = (await trail(world, subject=world.account["id"]))["data"]

    assert [act["action"] for act in reversed(acts)] == [
        "account.created",
        "account.deposited",
        "account.withdrawn",
        "account.frozen",
        "account.changed",
    ]
    deposited = acts[3]
    assert deposited["reason"] == "payday"
    assert (deposited["before"]["posted"], deposited["after"]["posted"]) == (0, 50)
    assert deposited["after"]["transfer"].startswith("trf_")
    assert (acts[0]["before"]["credit_line"], acts[0]["after"]["credit_line"]) == (0, 5)
    assert {act["actor"] for act in acts} == {OPERATOR.key_id}
    assert {act["program"] for act in acts} == {world.program["id"]}
    await world.audited()


async def trail(world: World, **asked: Any) -> Document:
    return await list_acts(world.postgres, OPERATOR, ActsAsked(**asked))


async def test_the_trail_is_searched(world: World) -> None:
    mine = bound_to(world.program)
    await administer.freeze_card(world.postgres, world.clock, mine, world.card["id"])
    theirs = await world.new_program()
    frozen = (await trail(world, action="card.frozen"))["data"]
    assert [act["subject"] for act in frozen] == [world.card["id"]]
    assert (await trail(world, actor=mine.key_id))["data"] == frozen
    assert (await trail(world, actor=mine.key_id, action="card.closed"))["data"] == []
    seen = (await list_acts(world.postgres, mine, ActsAsked()))["data"]
    assert {act["program"] for act in seen} == {world.program["id"]}
    assert (await trail(world, program=theirs["id"]))["data"][0]["action"] == "program.created"
    rows = await world.rows("SELECT recorded_at FROM audit ORDER BY id DESC LIMIT 2")
    at = rows[1]["recorded_at"]
    assert (await trail(world, from_=at, to=rows[0]["recorded_at"]))["data"] == frozen
    walked, cursor = [], None
    while True:
        page = await trail(world, limit=2, cursor=cursor)
        walked += [act["id"] for act in page["data"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert walked == [act["id"] for act in (await trail(world))["data"]]
    for wrong in ({"cursor": "x"}, {"program": "x"}, {"limit": 0}, {"limit": 201}):
        with pytest.raises(InvalidRequest):
            await trail(world, **wrong)


async def listed(world: World, kind: str, **filters: str) -> list[str]:
    page = await list_things(world.postgres, OPERATOR, kind, filters)
    return [thing["id"] for thing in page["data"]]


async def test_lists_show_things_as_they_are(world: World) -> None:
    for name in THINGS:
        page = await list_things(world.postgres, OPERATOR, f"{name}s", {})
        assert page == {"data": [getattr(world, name)], "next_cursor": None}


async def test_a_walk_over_a_list_is_stable_under_writes(world: World) -> None:
    cards = [world.card["id"], *[(await world.new_card())["id"] for _ in range(6)]]
    walked: list[str] = []
    cursor = None
    while True:
        page = await list_things(world.postgres, OPERATOR, "cards", {}, Page(2, cursor))
        walked += [card["id"] for card in page["data"]]
        await world.new_card()
        if (cursor := page["next_cursor"]) is None:
            break
    assert walked == cards[::-1]


async def test_lists_are_filtered(world: World) -> None:
    other = await world.new_program()
    stranger = await world.new_cardholder(other)
    await changed(world, "cardholder", external_id="e-1")
    second = await world.new_account(currency="EUR")
    card = await world.new_card(second)
    await changed(world, "card", external_id="e-1")
    await world.freeze()
    program, holder, account = (thing["id"] for thing in world_things(world)[:3])
    assert await listed(world, "programs") == [other["id"], program]
    assert await listed(world, "programs", status="suspended") == []
    assert await listed(world, "programs", program=program) == [program]
    assert await listed(world, "cardholders") == [stranger["id"], holder]
    assert await listed(world, "cardholders", external_id="e-1") == [holder]
    assert await listed(world, "cardholders", external_id="e-1", program=other["id"]) == []
    assert await listed(world, "cardholders", program=other["id"]) == [stranger["id"]]
    assert await listed(world, "accounts", currency="EUR") == [second["id"]]
    assert await listed(world, "accounts", cardholder=holder) == [second["id"], account]
    assert await listed(world, "accounts", cardholder=holder, program=other["id"]) == []
    assert await listed(world, "accounts", program=other["id"]) == []
    assert await listed(world, "cards", status="frozen") == [world.card["id"]]
    assert await listed(world, "cards", account=second["id"]) == [card["id"]]
    assert await listed(world, "cards", cardholder=holder) == [card["id"], world.card["id"]]
    assert await listed(world, "cards", external_id="e-1", program=program) == [world.card["id"]]
    assert await listed(world, "cards", external_id="e-1") == [world.card["id"]]
    assert await listed(world, "cards", program=program, status="active") == [card["id"]]
    for kind, name, wrong in (
        ("cards", "account", "acc_1"),
        ("cards", "status", "suspended"),
        ("accounts", "currency", "XXX"),
        ("programs", "program", "crd_" + "0" * 32),
    ):
        with pytest.raises(InvalidRequest) as refused:
            await listed(world, kind, **{name: wrong})
        assert refused.value.pointer == f"/{name}"


def world_things(world: World) -> list[Document]:
    return [getattr(world, name) for name in THINGS]


async def test_each_caller_sees_its_own(world: World) -> None:
    other = await world.new_program()
    for name in LISTS:
        page = await list_things(world.postgres, bound_to(other), name, {})
        assert [thing["id"] for thing in page["data"]] == (
            [other["id"]] if name == "programs" else []
        )
        asked = {"program": world.program["id"]}
        page = await list_things(world.postgres, bound_to(other), name, asked)
        assert page == {"data": [], "next_cursor": None}
    for kind in TURNS:
        thing = getattr(world, kind)
        with pytest.raises(NotFound):
            await turn(world.postgres, world.clock, bound_to(other), kind, thing["id"], "close")
        with pytest.raises(NotFound):
            await change(
                *(world.postgres, world.clock, bound_to(other), kind, thing["id"]), {"name": "x"}
            )


async def test_lists_use_an_index_whatever_is_asked(world: World) -> None:
    """A generic plan has every branch in it, and executes one."""
    sql = "PREPARE list (uuid, uuid, uuid, text, text, uuid, int) AS "
    sql += statements("administration")["cards"]

    async def look(client: TransactionClient) -> list[str]:
        await client.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        await client.execute("SET LOCAL enable_seqscan = off")
        await client.execute(sql)
        asked = f"NULL, NULL, '{world.account['id'][4:]}', NULL, NULL, '{'f' * 32}', 10"
        rows = await client.query(f"EXPLAIN (ANALYZE, TIMING OFF) EXECUTE list ({asked})")
        await client.execute("DEALLOCATE list")
        return [row["QUERY PLAN"] for row in rows]

    plan = await world.postgres.execute_transaction(look)
    scans = [line for line in plan if "Scan" in line]
    executed = [line for line in scans if "never executed" not in line]
    assert len(scans) >= 5
    assert len(executed) <= 2, plan
