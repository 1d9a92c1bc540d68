"""Programs, cardholders, accounts, cards, their states and controls, and the trail they leave."""

import asyncio
import json

import pytest

from jitway.domain.limits import Limit, Period, SpendControls
from jitway.domain.message import Merchant
from jitway.errors import Conflict, InvalidRequest, LockTimeout, NotFound
from jitway.gateway import administer, controls
from jitway.gateway.controls import finish_filling, set_controls
from tests.world import OPERATOR, Document, World, body, bound_to

DAY_100 = SpendControls((Limit(Period.DAY, 100),))


async def audit_rows(world: World, subject: Document) -> list[Document]:
    """What was done to one thing, the oldest first."""
    return await world.postgres.execute_query(
        "SELECT * FROM audit WHERE subject = $1 ORDER BY id", [subject["id"]]
    )


async def test_what_is_made_looks_like_its_body(world: World) -> None:
    assert world.program["currency"] == "USD"
    assert world.program["status"] == "active"
    assert world.cardholder["program"] == world.program["id"]
    assert world.account["cardholder"] == world.cardholder["id"]
    for member in ("posted", "held", "available", "version", "credit_line"):
        assert world.account[member] == 0
    assert world.card["status"] == "active"
    assert world.card["account"] == world.account["id"]
    nothing: dict[str, list[str]] = {
        "mcc": [],
        "merchant": [],
        "country": [],
        "entry_mode": [],
        "card_presence": [],
    }
    assert world.card["controls"] == {"limits": [], "allow": nothing, "block": nothing}
    account = await world.new_account(credit_line=500)
    assert (account["available"], account["credit_line"], account["posted"]) == (500, 500, 0)


async def test_every_act_leaves_who_what_and_why(world: World) -> None:
    caller = bound_to(world.program)
    await administer.freeze_card(
        world.postgres, world.clock, caller, world.card["id"], reason="reported lost"
    )
    made, frozen = await audit_rows(world, world.card)
    assert (made["action"], made["before"]) == ("card.created", None)
    assert json.loads(made["after"]) == world.card
    assert (frozen["action"], frozen["actor"]) == ("card.frozen", caller.key_id)
    assert frozen["reason"] == "reported lost"
    assert json.loads(frozen["before"])["status"] == "active"
    assert json.loads(frozen["after"])["status"] == "frozen"
    for thing in (world.program, world.cardholder, world.account):
        assert [row["action"].split(".")[1] for row in await audit_rows(world, thing)] == [
            "created"
        ]
        assert (await audit_rows(world, thing))[0]["program_id"].hex == world.program["id"][4:]


async def test_changes_of_cards_are_announced_with_the_card(world: World) -> None:
    await world.freeze()
    await administer.unfreeze_card(world.postgres, world.clock, OPERATOR, world.card["id"])
    await world.limit("card", world.card, DAY_100)
    await administer.close_card(world.postgres, world.clock, OPERATOR, world.card["id"])

    events = await world.rows("SELECT type, body, account_id FROM outbox ORDER BY id")

    assert [event["type"] for event in events] == [
        "card.created",
        "card.frozen",
        "card.unfrozen",
        "card.controls_changed",
        "card.closed",
    ]
    assert json.loads(events[1]["body"])["status"] == "frozen"
    assert {event["account_id"].hex for event in events} == {world.account["id"][4:]}
    await world.audited()


async def test_no_approval_after_a_freeze_has_returned(world: World) -> None:
    await world.deposit(100)
    await world.approve(1)
    await world.freeze()
    assert (await world.authorize(1))["reason"] == "card_frozen"
    await administer.unfreeze_card(world.postgres, world.clock, OPERATOR, world.card["id"])
    await world.approve(1)
    await administer.close_card(world.postgres, world.clock, OPERATOR, world.card["id"])
    assert (await world.authorize(1))["reason"] == "card_not_active"


async def test_a_freeze_that_races_authorizations_ends_them(world: World) -> None:
    await world.deposit(10_000)
    frozen = asyncio.Event()

    async def spend() -> list[tuple[bool, str]]:
        seen = []
        while True:
            after = frozen.is_set()
            seen.append((after, (await world.authorize(1))["decision"]))
            if after:
                return seen

    async def freeze() -> None:
        while (await world.balances())[3] < 30:
            await asyncio.sleep(0)
        await world.freeze()
        frozen.set()

    *seen, _ = await asyncio.gather(*(spend() for _ in range(8)), freeze())
    for one in seen:
        assert one is not None
        assert {decision for after, decision in one if after} == {"declined"}
    await world.audited()


async def test_states_of_a_card(world: World) -> None:
    card = world.card["id"]
    for verb, status, version in (
        (administer.freeze_card, "frozen", 2),
        (administer.freeze_card, "frozen", 2),
        (administer.unfreeze_card, "active", 3),
        (administer.unfreeze_card, "active", 3),
        (administer.close_card, "closed", 4),
        (administer.close_card, "closed", 4),
    ):
        answer = await verb(world.postgres, world.clock, OPERATOR, card)
        assert answer.status == 200
        assert (body(answer)["status"], body(answer)["version"]) == (status, version)
    for verb in (administer.freeze_card, administer.unfreeze_card):
        with pytest.raises(Conflict) as refused:
            await verb(world.postgres, world.clock, OPERATOR, card)
        assert refused.value.code == "card_closed"


async def test_a_freeze_waits_for_the_batch_that_holds_the_account(world: World) -> None:
    async with world.locked(world.account):
        with pytest.raises(LockTimeout):
            await world.freeze()
    assert (await world.freeze())["status"] == "frozen"


async def test_external_ids_are_unique_in_a_program(world: World) -> None:
    async def cardholder(program: Document) -> Document:
        return body(
            await administer.create_cardholder(
                world.postgres,
                world.clock,
                OPERATOR,
                None,
                program=program["id"],
                external_id="user-456",
            )
        )

    async def card() -> Document:
        return body(
            await administer.create_card(
                world.postgres,
                world.clock,
                OPERATOR,
                None,
                cardholder=world.cardholder["id"],
                account=world.account["id"],
                external_id="card-1",
                last4="4242",
            )
        )

    assert (await cardholder(world.program))["external_id"] == "user-456"
    assert (await card())["last4"] == "4242"
    for again in (cardholder(world.program), card()):
        with pytest.raises(Conflict) as refused:
            await again
        assert refused.value.code == "external_id_taken"
    await cardholder(await world.new_program())
    await world.audited()


async def test_an_account_has_one_owner(world: World) -> None:
    for owner in (
        {},
        {"cardholder": world.cardholder["id"], "program": world.program["id"]},
    ):
        with pytest.raises(InvalidRequest):
            await administer.create_account(
                world.postgres, world.clock, OPERATOR, None, currency="USD", **owner
            )
    shared = body(
        await administer.create_account(
            world.postgres,
            world.clock,
            OPERATOR,
            None,
            currency="USD",
            program=world.program["id"],
        )
    )
    assert shared["cardholder"] is None
    card = await world.new_card(shared)
    await world.deposit(100, shared)
    await world.approve(100, card=card)
    await world.audited()


async def test_what_cannot_be_meant_is_refused(world: World) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await world.new_program(currency="XXX")
    assert refused.value.pointer == "/currency"
    with pytest.raises(InvalidRequest):
        await world.new_account(currency="usd")
    with pytest.raises(InvalidRequest) as refused:
        await world.new_account(credit_line=-1)
    assert refused.value.pointer == "/credit_line"


async def test_nobody_reaches_into_another_program(world: World) -> None:
    theirs = await world.new_program()
    holder = await world.new_cardholder(theirs)
    account = await world.new_account(holder)
    other = bound_to(theirs)
    postgres, clock = world.postgres, world.clock
    for reach in (
        administer.create_program(
            postgres, clock, other, None, name="x", currency="USD", time_zone="UTC"
        ),
        administer.create_cardholder(postgres, clock, other, None, program=world.program["id"]),
        administer.create_account(
            postgres, clock, other, None, cardholder=world.cardholder["id"], currency="USD"
        ),
        administer.create_account(
            postgres, clock, other, None, program=world.program["id"], currency="USD"
        ),
        administer.create_card(
            postgres,
            clock,
            other,
            None,
            cardholder=world.cardholder["id"],
            account=world.account["id"],
        ),
        administer.create_card(
            postgres, clock, other, None, cardholder=holder["id"], account=world.account["id"]
        ),
        administer.freeze_card(postgres, clock, other, world.card["id"]),
        set_controls(postgres, clock, other, "card", world.card["id"], DAY_100),
        set_controls(postgres, clock, other, "cardholder", world.cardholder["id"], DAY_100),
        set_controls(postgres, clock, other, "program", world.program["id"], DAY_100),
    ):
        with pytest.raises(NotFound):
            await reach
    # Not even the operator gives a card the account of somebody else.
    for theirs_or_mine in (account, await world.new_account(await world.new_cardholder())):
        with pytest.raises(Conflict) as refused:
            await world.new_card(theirs_or_mine)
        assert refused.value.code == "account_of_another"


async def test_controls_replace_each_other_as_a_whole(world: World) -> None:
    chosen = SpendControls(
        (Limit(Period.TRANSACTION, 50), Limit(Period.DAY, 100, 3)),
        blocked_mccs=frozenset({"7995", "5942"}),
        blocked_merchants=frozenset({"m-1"}),
        blocked_countries=frozenset({"KP"}),
        blocked_entry_modes=frozenset({"fallback"}),
        allowed_countries=frozenset({"US"}),
        allowed_card_presences=frozenset({"present"}),
    )
    for kind, owner in (
        ("card", world.card),
        ("cardholder", world.cardholder),
        ("program", world.program),
    ):
        after = await world.limit(kind, owner, chosen)  # type: ignore[arg-type]
        assert after["controls"] == {
            "limits": [
                {"period": "transaction", "amount": 50},
                {"period": "day", "amount": 100, "count": 3},
            ],
            "allow": {
                "mcc": [],
                "merchant": [],
                "country": ["US"],
                "entry_mode": [],
                "card_presence": ["present"],
            },
            "block": {
                "mcc": ["5942", "7995"],
                "merchant": ["m-1"],
                "country": ["KP"],
                "entry_mode": ["fallback"],
                "card_presence": [],
            },
        }
        assert after["version"] == owner["version"] + 1
        after = await world.limit(kind, owner, SpendControls())  # type: ignore[arg-type]
        assert after["controls"] == world.card["controls"]
        actions = [row["action"] for row in await audit_rows(world, owner)]
        assert actions == [f"{kind}.created", *[f"{kind}.controls_changed"] * 2]
    await world.audited()


async def test_controls_of_every_level_decide(world: World) -> None:
    await world.deposit(10_000)
    blocked = Merchant(mcc="7995")
    await world.approve(1, merchant=blocked)
    for kind, owner in (
        ("card", world.card),
        ("cardholder", world.cardholder),
        ("program", world.program),
    ):
        await world.limit(
            kind,  # type: ignore[arg-type]
            owner,
            SpendControls((Limit(Period.TRANSACTION, 10),), blocked_mccs=frozenset({"7995"})),
        )
        assert (await world.authorize(1, merchant=blocked))["reason"] == "mcc_blocked"
        assert (await world.authorize(11))["reason"] == "amount_over_limit"
        await world.approve(10)
        await world.limit(kind, owner, SpendControls())  # type: ignore[arg-type]
        await world.approve(11, merchant=blocked)
    await world.audited()


@pytest.mark.parametrize("kind", ["cardholder", "program"])
async def test_a_wide_limit_counts_what_was_spent_before_it_was_set(
    world: World, kind: str
) -> None:
    await world.deposit(1000)
    _, second_card = await world.funded_card(1000)
    owner = world.cardholder if kind == "cardholder" else world.program
    await world.approve(30)
    given_back = await world.approve(500)
    await world.approve(20, card=second_card)
    await world.reverse(given_back)

    await world.limit(kind, owner, DAY_100)  # type: ignore[arg-type]

    assert await world.window(owner) == (50, 2)
    assert (await world.authorize(51))["reason"] == "spend_limit_exceeded"
    await world.approve(50, card=second_card)
    assert (await world.authorize(1))["reason"] == "spend_limit_exceeded"
    await world.audited()


async def test_a_wide_limit_that_was_away_is_filled_again(world: World) -> None:
    await world.deposit(1000)
    await world.limit("program", world.program, DAY_100)
    first = await world.approve(60)
    await world.limit("program", world.program, SpendControls())
    await world.approve(30)
    # Nobody counts now: what is given back must not make a window that rests negative.
    await world.reverse(first)
    await world.audited()

    await world.limit("program", world.program, DAY_100)

    assert await world.window(world.program) == (30, 1)
    await world.approve(70)
    assert (await world.authorize(1))["reason"] == "spend_limit_exceeded"
    await world.audited()


async def test_a_wide_limit_set_under_traffic_is_exact(world: World) -> None:
    cards = [(await world.funded_card(10_000))[1] for _ in range(4)]
    done = asyncio.Event()

    async def spend(card: Document) -> int:
        approved = 0
        while not done.is_set():
            approved += (await world.authorize(1, card=card))["approved_amount"]
        return approved

    async def change() -> int:
        while (await world.balances(await account_of(cards[0])))[3] < 10:
            await asyncio.sleep(0)
        for amount in (None, 100_000, None, 100_000):
            limits = () if amount is None else (Limit(Period.DAY, amount),)
            await world.limit("program", world.program, SpendControls(limits))
        done.set()
        return 0

    async def account_of(card: Document) -> Document:
        return {"id": card["account"]}

    spent = await asyncio.gather(*(spend(card) for card in cards), change())

    assert (await world.window(world.program))[0] == sum(spent)
    await world.audited()


async def test_a_change_above_card_level_waits_for_older_batches(world: World) -> None:
    """One that read the old controls may still commit; the answer comes after it."""
    async with world.locked(world.account):
        change = asyncio.ensure_future(world.limit("program", world.program, DAY_100))
        async with asyncio.timeout(5):
            while not await world.rows("SELECT FROM spend_control"):
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert not change.done()
    assert (await change)["controls"]["limits"]


async def test_a_filling_that_a_crash_interrupted_is_finished(world: World) -> None:
    await world.deposit(1000)
    await world.approve(40)
    async with world.locked(world.account):
        change = asyncio.ensure_future(world.limit("program", world.program, DAY_100))
        async with asyncio.timeout(5):
            while not await world.rows("SELECT FROM spend_control"):
                await asyncio.sleep(0.01)
        change.cancel()
        await asyncio.wait([change])
    approval = await world.approve(30)
    await world.reverse(approval, 10)

    assert await finish_filling(world.postgres) == 1
    assert await finish_filling(world.postgres) == 0

    assert await world.window(world.program) == (60, 2)
    assert (await world.authorize(41))["reason"] == "spend_limit_exceeded"
    await world.audited()


async def test_a_program_may_have_accounts_of_other_currencies(world: World) -> None:
    euros = await world.new_account(currency="EUR")
    card = await world.new_card(euros)
    await world.deposit(100, euros)
    assert (await world.authorize(1, card=card))["reason"] == "currency_mismatch"
    approval = await world.approve(60, card=card, currency="EUR")
    await world.capture(approval, 60)
    await world.audited()


async def test_amounts_of_two_currencies_are_never_added_up(world: World) -> None:
    for kind, owner in (("cardholder", world.cardholder), ("program", world.program)):
        await world.limit(kind, owner, DAY_100)  # type: ignore[arg-type]
        with pytest.raises(Conflict) as refused:
            await world.new_account(currency="EUR")
        assert refused.value.code == "currency_mismatch"
        await world.limit(kind, owner, SpendControls())  # type: ignore[arg-type]
    await world.new_account(currency="EUR")
    for kind, owner in (("cardholder", world.cardholder), ("program", world.program)):
        with pytest.raises(Conflict) as refused:
            await world.limit(kind, owner, DAY_100)  # type: ignore[arg-type]
        assert refused.value.code == "currency_mismatch"
        count = SpendControls((Limit(Period.DAY, None, 5),))
        await world.limit(kind, owner, count)  # type: ignore[arg-type]
    await world.audited()


async def test_closed_owners_take_nothing_new(world: World) -> None:
    await world.rows("UPDATE account SET state = 'closed' WHERE id = $1", world.account)
    with pytest.raises(Conflict) as refused:
        await world.new_card()
    assert refused.value.code == "account_not_active"
    await world.rows("UPDATE cardholder SET state = 'closed' WHERE id = $1", world.cardholder)
    with pytest.raises(Conflict) as refused:
        await world.new_account()
    assert refused.value.code == "cardholder_not_active"
    await world.rows("UPDATE program SET state = 'closed' WHERE id = $1", world.program)
    with pytest.raises(Conflict) as refused:
        await world.new_cardholder()
    assert refused.value.code == "program_not_active"


async def test_older_work_that_does_not_end_is_said_to_be_under_way(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controls, "_OLDER_BATCHES_S", 0.05)
    async with world.locked(world.account):
        with pytest.raises(LockTimeout, match="the new controls stand"):
            await world.limit("program", world.program, DAY_100)
    # A repeat is told when it has ended, and fills what was left open.
    monkeypatch.undo()
    await world.limit("program", world.program, DAY_100)
    assert await world.window(world.program) == (0, 0)
    assert await finish_filling(world.postgres) == 0


async def test_ids_of_nothing(world: World) -> None:
    for cardholder, account in (
        ("chd_" + "0" * 32, world.account["id"]),
        (world.cardholder["id"], "acc_" + "0" * 32),
        ("x", world.account["id"]),
        (world.cardholder["id"], world.cardholder["id"]),
    ):
        with pytest.raises(NotFound):
            await world.new_card({"id": account}, {"id": cardholder})
