"""Same key, same answer: for every verb that has a key."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from jitway.errors import Conflict, IdempotencyConflict
from jitway.gateway import administer
from jitway.gateway.caller import Answer, Caller, Idempotency
from jitway.gateway.fund import deposit, withdraw
from tests.world import OPERATOR, World, body, bound_to, same_key

Verb = Callable[[Idempotency], Awaitable[Answer]]


async def verbs(world: World) -> dict[str, Verb]:
    """Every keyed verb, ready to be called with a key."""
    await world.deposit(10_000)
    open_ = await world.approve(100)
    reversible = await world.approve(100)
    postgres, clock, account = world.postgres, world.clock, world.account["id"]
    return {
        "capture": lambda key: world.capture(open_, 10, final=False, key=key),
        "reverse": lambda key: world.reverse(reversible, 10, key=key),
        "deposit": lambda key: deposit(postgres, clock, OPERATOR, key, account, amount=7),
        "withdraw": lambda key: withdraw(postgres, clock, OPERATOR, key, account, amount=7),
        "program": lambda key: administer.create_program(
            postgres, clock, OPERATOR, key, name="P", currency="USD", time_zone="UTC"
        ),
        "cardholder": lambda key: administer.create_cardholder(
            postgres, clock, OPERATOR, key, program=world.program["id"]
        ),
        "account": lambda key: administer.create_account(
            postgres, clock, OPERATOR, key, program=world.program["id"], currency="USD"
        ),
        "card": lambda key: administer.create_card(
            postgres, clock, OPERATOR, key, cardholder=world.cardholder["id"], account=account
        ),
        "freeze": lambda key: administer.freeze_card(
            postgres, clock, OPERATOR, world.card["id"], idempotency=key
        ),
    }


async def changes(world: World) -> list[int]:
    """How many rows there are of all that a verb can make."""
    tables = "transfer", "outbox", "audit", "program", "cardholder", "account", "card"
    rows = await world.rows(
        "SELECT " + ", ".join(f"(SELECT count(*) FROM {table}) AS {table}" for table in tables)
    )
    return list(rows[0].values())


async def test_a_repeat_gets_the_first_answer_and_does_nothing(world: World) -> None:
    for name, verb in (await verbs(world)).items():
        first = await verb(same_key(name))
        after = await changes(world)

        again = await verb(same_key(name))

        assert (again.status, again.body) == (first.status, first.body), name
        assert (first.replayed, again.replayed) == (False, True), name
        assert await changes(world) == after, name
    await world.audited()


async def test_other_content_is_a_conflict(world: World) -> None:
    for name, verb in (await verbs(world)).items():
        await verb(same_key(name))
        after = await changes(world)

        with pytest.raises(IdempotencyConflict):
            await verb(same_key(name, "other content"))

        assert await changes(world) == after, name


async def test_racing_repeats_are_done_once(world: World) -> None:
    for name, verb in (await verbs(world)).items():
        before = await changes(world)
        answers = await asyncio.gather(*(verb(same_key(name)) for _ in range(6)))

        assert len({answer.body for answer in answers}) == 1, name
        assert sum(not answer.replayed for answer in answers) == 1, name
        assert max(b - a for a, b in zip(before, await changes(world), strict=True)) == 1 or (
            name == "program"
        ), name
    await world.audited()


async def test_racing_contents_of_one_key_are_one_answer_and_conflicts(world: World) -> None:
    await world.deposit(1000)
    other = await world.new_account()
    before = await changes(world)

    outcomes = await asyncio.gather(
        *(
            deposit(
                world.postgres,
                world.clock,
                OPERATOR,
                same_key("k", account["id"]),
                account["id"],
                amount=5,
            )
            for account in (world.account, other) * 4
        ),
        return_exceptions=True,
    )

    answers = [one for one in outcomes if isinstance(one, Answer)]
    conflicts = [one for one in outcomes if isinstance(one, IdempotencyConflict)]
    assert len(answers) == len(conflicts) == 4
    assert len({answer.body for answer in answers}) == 1
    assert (await changes(world))[0] == before[0] + 1
    await world.audited()


async def test_one_key_space_over_all_routes(world: World) -> None:
    await world.deposit(1000)
    approval = await world.approve(100, key=same_key("shared"))
    with pytest.raises(IdempotencyConflict):
        await world.capture(approval, 10, key=same_key("shared", "capture"))

    await world.capture(approval, 10, key=same_key("other", "capture"))
    with pytest.raises(IdempotencyConflict):
        await world.answer(10, key=same_key("other"))
    assert (await world.balances())[:2] == (990, 0)


async def test_each_program_has_a_key_space_of_its_own(world: World) -> None:
    mine = bound_to(world.program)

    async def put(caller: Caller) -> Answer:
        return await deposit(
            world.postgres, world.clock, caller, same_key("k"), world.account["id"], amount=5
        )

    by_program, by_operator = await put(mine), await put(OPERATOR)

    assert body(by_program)["id"] != body(by_operator)["id"]
    assert (await world.balances())[0] == 10
    assert (await put(mine)).body == by_program.body


async def test_a_refusal_leaves_the_key_free(world: World) -> None:
    key = same_key("refused")
    with pytest.raises(Conflict):
        await withdraw(world.postgres, world.clock, OPERATOR, key, world.account["id"], amount=5)
    await world.deposit(5)

    answer = await withdraw(
        world.postgres, world.clock, OPERATOR, key, world.account["id"], amount=5
    )

    assert answer.replayed is False
    assert (await world.balances())[0] == 0


async def test_a_key_whose_answer_is_gone_is_never_used_again(world: World) -> None:
    key = same_key("old")
    await deposit(world.postgres, world.clock, OPERATOR, key, world.account["id"], amount=5)
    await world.rows("DELETE FROM answer")

    with pytest.raises(Conflict):
        await deposit(world.postgres, world.clock, OPERATOR, key, world.account["id"], amount=5)

    assert (await world.balances())[0] == 5
