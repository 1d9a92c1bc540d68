"""Deposits and withdrawals."""

import asyncio

import pytest

from jitway.domain.money import AMOUNT_MINOR_MAX
from jitway.domain.transfer import BALANCE_MINOR_MAX
from jitway.errors import Conflict, InvalidRequest, JitwayError, LockTimeout, NotFound
from jitway.gateway.caller import Answer, Caller
from jitway.gateway.fund import deposit, withdraw
from tests.world import OPERATOR, Document, World, body, bound_to, fresh_key


async def put(world: World, amount: int, **more: str) -> Answer:
    id_ = more.pop("account", world.account["id"])
    return await deposit(
        world.postgres, world.clock, OPERATOR, fresh_key(), id_, amount=amount, **more
    )


async def take(
    world: World, amount: int, account: Document | None = None, caller: Caller = OPERATOR
) -> Answer:
    id_ = (account or world.account)["id"]
    return await withdraw(world.postgres, world.clock, caller, fresh_key(), id_, amount=amount)


async def test_money_comes_and_goes(world: World) -> None:
    answer = await put(world, 1000, description='Salary \u00e9"')
    assert answer.status == 201
    transfer = body(answer)
    assert transfer["kind"] == "deposit"
    assert transfer["authorization"] is None
    assert transfer["description"] == 'Salary \u00e9"'
    assert (transfer["amount"], transfer["account_version"]) == (1000, 1)

    back = body(await take(world, 400))
    assert (back["kind"], back["account_version"], back["description"]) == ("withdrawal", 2, None)
    assert await world.balances() == (600, 0, 600, 2)
    sides = await world.rows(
        "SELECT kind, debit_account_id, credit_account_id, code FROM transfer "
        "JOIN system_account ON system_account.id IN (debit_account_id, credit_account_id) "
        "ORDER BY account_version"
    )
    account = world.account["id"][4:]
    assert [row["code"] for row in sides] == ["program_funding"] * 2
    assert sides[0]["credit_account_id"].hex == sides[1]["debit_account_id"].hex == account
    events = await world.rows("SELECT type FROM outbox WHERE account_id = $1 ORDER BY id", account)
    assert [row["type"] for row in events][1:] == [
        "transaction.deposited",
        "transaction.withdrawn",
    ]
    await world.audited()


async def test_what_is_held_cannot_be_withdrawn(world: World) -> None:
    await world.deposit(100)
    await world.approve(60)

    with pytest.raises(Conflict) as refused:
        await take(world, 41)
    assert refused.value.code == "insufficient_available_balance"
    assert await world.balances() == (100, 60, 40, 2)

    await take(world, 40)
    assert await world.balances() == (60, 60, 0, 3)


async def test_a_credit_line_can_be_withdrawn(world: World) -> None:
    account = await world.new_account(credit_line=50)
    with pytest.raises(Conflict):
        await take(world, 51, account)
    await take(world, 50, account)
    assert await world.balances(account) == (-50, 0, 0, 1)
    await world.audited()


async def test_racing_withdrawals_take_what_is_there_once(world: World) -> None:
    await world.deposit(100)
    outcomes = await asyncio.gather(*(take(world, 30) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(one, Answer) for one in outcomes) == 3
    assert all(isinstance(one, Answer | JitwayError) for one in outcomes)
    assert (await world.balances())[0] == 10
    await world.audited()


@pytest.mark.parametrize("amount", [0, -1, AMOUNT_MINOR_MAX + 1])
async def test_amounts_have_bounds(world: World, amount: int) -> None:
    for verb in (put, take):
        with pytest.raises(InvalidRequest) as refused:
            await verb(world, amount)
        assert refused.value.pointer == "/amount"


async def test_balances_have_bounds(world: World) -> None:
    await world.rows(
        "UPDATE account SET posted = $2 WHERE id = $1", world.account, BALANCE_MINOR_MAX - 10
    )
    with pytest.raises(Conflict) as refused:
        await put(world, 11)
    assert refused.value.code == "balance_out_of_bounds"
    await put(world, 10)
    assert (await world.balances())[0] == BALANCE_MINOR_MAX


async def test_states_of_accounts(world: World) -> None:
    await world.deposit(100)
    await world.rows("UPDATE account SET state = 'frozen' WHERE id = $1", world.account)
    await put(world, 1)
    with pytest.raises(Conflict) as refused:
        await take(world, 1)
    assert refused.value.code == "account_not_active"
    await world.rows("UPDATE account SET state = 'closed' WHERE id = $1", world.account)
    for verb in (put, take):
        with pytest.raises(Conflict) as refused:
            await verb(world, 1)
        assert refused.value.code == "account_not_active"


async def test_whose_it_is(world: World) -> None:
    await world.deposit(100)
    other = bound_to(await world.new_program())
    with pytest.raises(NotFound):
        await take(world, 1, caller=other)
    for id_ in ("acc_" + "0" * 32, "acc_", world.card["id"]):
        with pytest.raises(NotFound):
            await put(world, 1, account=id_)
    await take(world, 1, caller=bound_to(world.program))


async def test_a_busy_account_is_said_to_be_busy(world: World) -> None:
    async with world.locked(world.account):
        with pytest.raises(LockTimeout):
            await put(world, 1)
    assert await world.balances() == (0, 0, 0, 0)


async def test_a_deposit_pays_back_a_shortfall(world: World) -> None:
    """What facts from the network took below the floor, until credits have made up for it."""
    await world.rows(
        "UPDATE account SET posted = -100, shortfall = 100 WHERE id = $1", world.account
    )
    for amount, posted, shortfall in ((30, -70, 70), (70, 0, 0), (5, 5, 0)):
        await put(world, amount)
        rows = await world.rows(
            "SELECT posted, shortfall FROM account WHERE id = $1", world.account
        )
        assert (rows[0]["posted"], rows[0]["shortfall"]) == (posted, shortfall)
