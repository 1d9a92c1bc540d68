"""Partial approvals, verifications, inquiries and validity, from the answer to the books.

Each docstring says which piece of code was taken out to see its test fail.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from jitway.domain.limits import Limit, Period, SpendControls
from jitway.domain.message import RESERVES_NOTHING, Merchant
from jitway.errors import Conflict, InvalidRequest, NotFound
from jitway.gateway.changes import change
from jitway.gateway.explain import explained
from jitway.gateway.headroom import controls_now
from jitway.gateway.release import abandon
from tests.integration.stepped import Gateway, gateway_on
from tests.world import OPERATOR, Document, World, body, bound_to, fresh_key

pytestmark = [pytest.mark.timeout(60), pytest.mark.relaxed_durability]


@pytest.fixture
async def gateway(world: World, database: str) -> AsyncIterator[Gateway]:
    async with gateway_on(database) as gateway:
        await gateway.know(world.card)
        yield gateway


# Partial approval --------------------------------------------------------------------------------


async def test_what_fits_is_held_and_no_more(world: World) -> None:
    """With the amount asked in place of the amount approved in `_apply`, the account overdrew."""
    await world.deposit(60)
    whole = await world.authorize(100)
    assert whole["reason"] == "insufficient_available_balance"
    part = await world.approve(100, partial_approval=True)
    assert (part["amount"], part["approved_amount"], part["available"]) == (100, 60, 0)
    assert await world.balances() == (60, 60, 0, 2)
    assert await world.window(world.card) == (60, 1)
    now = await world.authorization(part)
    assert (now["remaining"], now["status"]) == (60, "open")

    with pytest.raises(Conflict) as refused:
        await world.capture(part, 61)
    assert refused.value.code == "capture_over_remaining"
    await world.capture(part, 40, final=False)
    await world.reverse(part)
    assert await world.balances() == (20, 0, 20, 4)
    assert await world.window(world.card) == (40, 1)
    ended = await world.authorization(part)
    assert (ended["captured"], ended["released"], ended["status"]) == (40, 20, "captured")
    await world.audited()


async def test_the_explanation_names_the_limit_that_cut(world: World) -> None:
    await world.deposit(10_000)
    await world.limit("program", world.program, SpendControls((Limit(Period.MONTH, 5_000),)))
    await world.limit("card", world.card, SpendControls((Limit(Period.TRANSACTION, 4_000),)))
    await world.approve(1_750)
    told = await explained(
        world.postgres, OPERATOR, (await world.approve(9_000, partial_approval=True))["id"]
    )
    assert told["approved_amount"] == 3_250
    (cut,) = [one for one in told["explanation"] if one["rule"] == "partial_approval"]
    assert (cut["level"], cut["period"], cut["fact"], cut["limit"]) == (
        "program",
        "month",
        9_000,
        3_250,
    )
    assert cut["text"] == (
        "the merchant takes a part: 32.50 USD of the 90.00 asked fits, "
        "by the monthly limit of the program"
    )
    assert told["summary"].startswith("Approved 32.50 USD of 90.00 USD, since the merchant takes")
    spend = [one for one in told["explanation"] if one["rule"] == "spend_limit"]
    assert [(one["headroom"], one["outcome"]) for one in spend] == [(0, "passed")]
    await world.audited()


async def test_parts_of_one_batch_see_each_other(world: World, gateway: Gateway) -> None:
    """Five ask for 40 of 100: two get it, one a part, and there is no part of nothing.

    With the balance not carried from one decision to the next in `_apply`, all were approved.
    """
    await world.deposit(100)
    asked = [gateway.ask(world.card, 40, partial_approval=True) for _ in range(5)]
    answers = [body(answer) for answer in await asyncio.gather(*asked)]
    assert gateway.steps.sent.count("write_batch") == 1
    assert [one["approved_amount"] for one in answers] == [40, 40, 20, 0, 0]
    assert answers[-1]["reason"] == "insufficient_available_balance"
    await world.audited()


async def test_a_wide_limit_is_parted_among_two_gateways(
    world: World, database: str, gateway: Gateway
) -> None:
    """Two accounts and two gateways against one program's limit; never more than it."""
    account, card = await world.funded_card(1_000)
    await world.deposit(1_000)
    await world.limit("program", world.program, SpendControls((Limit(Period.DAY, 150),)))
    async with gateway_on(database) as other:
        asked = [
            one.ask(which, 40, partial_approval=True)
            for which in (world.card, card)
            for one in (gateway, other)
            for _ in range(2)
        ]
        answers = [body(answer) for answer in await asyncio.gather(*asked)]
    assert sorted(one["approved_amount"] for one in answers) == [0, 0, 0, 0, 30, 40, 40, 40]
    assert await world.window(world.program) == (150, 4)
    assert (await world.balances())[1] + (await world.balances(account))[1] == 150
    await world.audited()


# Verification and inquiry ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", RESERVES_NOTHING)
async def test_what_reserves_nothing_writes_a_decision_and_no_more(world: World, kind: str) -> None:
    """Rule 15. With `decision.approved` in place of its amount in the batch, a version was made."""
    await world.deposit(500)
    await world.limit("card", world.card, SpendControls((Limit(Period.DAY, 1, 1),)))
    await world.approve(1)
    before = await world.rows("SELECT xmin, * FROM account WHERE id = $1", world.account)
    counted = await world.rows("SELECT xmin, * FROM spend_window WHERE owner_id = $1", world.card)

    told = await world.approve(0, kind=kind)

    assert (told["approved_amount"], told["available"], told["status"]) == (0, 499, "released")
    assert (told["account_version"], told["expires_at"], told["reason"]) == (2, None, None)
    assert await world.rows("SELECT xmin, * FROM account WHERE id = $1", world.account) == before
    assert counted == await world.rows(
        "SELECT xmin, * FROM spend_window WHERE owner_id = $1", world.card
    )
    assert not await world.rows("SELECT FROM hold WHERE id = $1", told)
    now = await explained(world.postgres, OPERATOR, told["id"])
    assert (now["status"], now["captured"], now["released"], now["remaining"]) == (
        "released",
        0,
        0,
        0,
    )
    assert now["summary"].endswith("Of this kind nothing is reserved.")
    for movement in (world.capture(told, 1), world.reverse(told)):
        with pytest.raises(Conflict) as refused:
            await movement
        assert refused.value.code == "authorization_not_open"
    # Nothing stands that could be voided.
    pair = (told["id"], told["account"])
    assert await abandon(world.postgres, world.clock, [pair]) == []
    await world.audited()


@pytest.mark.parametrize("kind", RESERVES_NOTHING)
async def test_what_reserves_nothing_is_still_checked(world: World, kind: str) -> None:
    """An account without money verifies; a blocked merchant and a frozen card do not."""
    assert (await world.authorize(0, kind=kind))["decision"] == "approved"
    await world.limit("program", world.program, SpendControls(blocked_mccs=frozenset({"7995"})))
    told = await world.authorize(0, kind=kind, merchant=Merchant(mcc="7995"))
    assert told["reason"] == "mcc_blocked"
    assert (await world.authorize(0, kind=kind, currency="EUR"))["reason"] == "currency_mismatch"
    await world.freeze()
    assert (await world.authorize(0, kind=kind))["reason"] == "card_frozen"
    await world.audited()


async def test_a_verification_is_repeated_byte_for_byte(world: World, gateway: Gateway) -> None:
    """Without `reserves` in `_recall_one`, its hold, which is none, was marked as recalled."""
    key = fresh_key()
    first = await gateway.ask(world.card, 0, key=key, kind="account_verification")
    again = await gateway.ask(world.card, 0, key=key, kind="account_verification")
    assert (again.body, again.replayed) == (first.body, True)
    assert "mark_recalled" not in gateway.steps.sent


async def test_a_batch_of_all_kinds_has_the_statements_of_any_batch(
    world: World, gateway: Gateway
) -> None:
    """Constant, as `test_statements_of_a_batch_do_not_depend_on_its_size` counts them."""
    await world.deposit(100)
    gateway.steps.forget()
    kinds = ("purchase", "balance_inquiry", "account_verification", "cash_withdrawal")
    asked = [
        gateway.ask(world.card, 0 if kind in RESERVES_NOTHING else 30, kind=kind)
        for kind in (*kinds, *kinds)
    ]
    answers = [body(answer) for answer in await asyncio.gather(*asked)]
    assert gateway.steps.sent == ["begin", "lock_accounts", "refresh", "write_batch", "commit"]
    # An inquiry sees what stands before it in the batch.
    assert [one["available"] for one in answers] == [70, 70, 70, 40, 10, 10, 10, 10]
    assert [one["account_version"] for one in answers] == [2, 2, 2, 3, 4, 4, 4, 4]
    assert answers[-1]["reason"] == "insufficient_available_balance"
    await world.audited()


# Validity ----------------------------------------------------------------------------------------


async def valid(world: World, card: Document, **changes: object) -> Document:
    answer = await change(world.postgres, world.clock, OPERATOR, "card", card["id"], changes)
    return body(answer)


async def test_a_card_is_valid_when_it_says_so(world: World, gateway: Gateway) -> None:
    """Without `validity` in the view, or its version in the change, it was approved all along."""
    await world.deposit(100)
    now = datetime.now(UTC)
    hour = timedelta(hours=1)
    later = await valid(world, world.card, valid_from=now + hour)
    assert later["status"] == "active"
    told = await gateway.decide(world.card, 1)
    assert told["reason"] == "card_not_yet_valid"
    why = await explained(world.postgres, OPERATOR, told["id"])
    assert why["explanation"][-1]["rule"] == "card_valid_from"
    assert why["explanation"][-1]["limit"] == later["valid_from"]
    over = await valid(world, world.card, valid_from=None, valid_until=now - hour)
    assert (over["valid_from"], over["version"]) == (None, world.card["version"] + 2)
    assert (await gateway.decide(world.card, 1))["reason"] == "card_expired"
    await valid(world, world.card, valid_until=now + hour)
    assert (await gateway.decide(world.card, 1))["decision"] == "approved"
    # What is absent stays.
    both = await valid(world, world.card, valid_from=now - hour)
    assert both["valid_until"] is not None
    with pytest.raises(InvalidRequest) as refused:
        await valid(world, world.card, valid_until=now - 2 * hour)
    assert refused.value.pointer == "/valid_until"
    await world.audited()


async def test_dates_are_the_programs(world: World) -> None:
    """The last day is one of 23 hours; with a day of 24, it ended an hour into the next."""
    program = await world.new_program(time_zone="America/New_York")
    cardholder = await world.new_cardholder(program)
    account = await world.new_account(cardholder)
    zone = ZoneInfo("America/New_York")
    first, last = datetime(2026, 1, 1, tzinfo=zone), datetime(2026, 3, 8, tzinfo=zone)
    card = await world.new_card(
        account, cardholder, valid_from=first.date(), valid_until=last.date()
    )
    assert card["valid_from"] == "2026-01-01T05:00:00.000000Z"
    assert card["valid_until"] == "2026-03-09T04:00:00.000000Z"
    with pytest.raises(InvalidRequest):
        await world.new_card(account, cardholder, valid_from=last.date(), valid_until=first.date())


# What remains ------------------------------------------------------------------------------------


async def test_controls_tell_what_remains_on_every_level(world: World) -> None:
    await world.deposit(1_000)
    _, second = await world.funded_card(1_000)
    await world.limit(
        "program",
        world.program,
        SpendControls((Limit(Period.DAY, 100),), blocked_mccs=frozenset({"7995"})),
    )
    own = SpendControls(
        (Limit(Period.TRANSACTION, 70), Limit(Period.LIFETIME, 40, 9)),
        allowed_countries=frozenset({"US"}),
    )
    at_home = Merchant(country="US")
    await world.limit("card", world.card, own)
    await world.approve(30, merchant=at_home)
    await world.approve(25, card=second)

    told = await controls_now(world.postgres, OPERATOR, "card", world.card["id"])

    assert (told["owner"], told["level"], told["currency"]) == (world.card["id"], "card", "USD")
    assert told["own"]["allow"]["country"] == ["US"]
    limits = told["effective"]["limits"]
    assert [
        (one["rule"], one["level"], one["period"], one["limit"], one["used"], one["remaining"])
        for one in limits
    ] == [
        ("amount_limit", "card", "transaction", 70, None, 70),
        ("spend_limit", "program", "day", 100, 55, 45),
        ("spend_limit", "card", "lifetime", 40, 30, 10),
        ("count_limit", "card", "lifetime", 9, 1, 8),
    ]
    assert [(one["rule"], one["level"], one["values"]) for one in told["effective"]["lists"]] == [
        ("mcc", "program", ["7995"]),
        ("country_allowed", "card", ["US"]),
    ]
    assert [(one["period"], one["amount"], one["count"]) for one in told["windows"]] == [
        (period, 30, 1) for period in ("day", "week", "month", "year", "lifetime")
    ]
    # What is left is what can be spent.
    assert (await world.authorize(11, merchant=at_home))["reason"] == "spend_limit_exceeded"
    await world.limit("program", world.program, SpendControls((Limit(Period.DAY, 50),)))
    above = await controls_now(world.postgres, OPERATOR, "program", world.program["id"])
    assert [(one["used"], one["remaining"]) for one in above["effective"]["limits"]] == [(55, 0)]
    between = await controls_now(world.postgres, OPERATOR, "cardholder", world.cardholder["id"])
    assert between["windows"] == []
    assert [one["level"] for one in between["effective"]["limits"]] == ["program"]


async def test_nobody_reads_the_controls_of_another_program(world: World) -> None:
    other = bound_to(await world.new_program())
    for kind, owner in (
        ("card", world.card),
        ("cardholder", world.cardholder),
        ("program", world.program),
    ):
        with pytest.raises(NotFound):
            await controls_now(world.postgres, other, kind, owner["id"])  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        await controls_now(world.postgres, OPERATOR, "card", world.program["id"])
