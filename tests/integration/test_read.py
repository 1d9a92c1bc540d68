"""Things as they are now, lists and their pages, and whose they are."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from jitway.domain.instant import parse_instant
from jitway.domain.limits import Limit, Period, SpendControls
from jitway.domain.message import Merchant
from jitway.errors import InvalidRequest, NotFound
from jitway.gateway import read
from jitway.gateway.caller import Caller
from tests.world import OPERATOR, Document, World, bound_to


async def listed(world: World, *, caller: Caller = OPERATOR, **filters: Any) -> Document:
    asked = read.AuthorizationsAsked(**filters)
    return await read.list_authorizations(world.postgres, caller, asked)


async def ids(world: World, **filters: Any) -> list[str]:
    return [one["id"] for one in (await listed(world, **filters))["data"]]


async def test_things_as_made_as_they_are_now(world: World) -> None:
    for kind, thing in (
        (read.program, world.program),
        (read.cardholder, world.cardholder),
        (read.account, world.account),
        (read.card, world.card),
    ):
        assert await kind(world.postgres, OPERATOR, thing["id"]) == thing
        assert await kind(world.postgres, bound_to(world.program), thing["id"]) == thing
        with pytest.raises(NotFound):
            await kind(world.postgres, bound_to(await world.new_program()), thing["id"])
        for id_ in (thing["id"][:-1], thing["id"][:4] + "0" * 32, "", "x" * 300, "aut_" + "0" * 32):
            with pytest.raises(NotFound):
                await kind(world.postgres, OPERATOR, id_)
    await world.deposit(100)
    await world.approve(40)
    account = await read.account(world.postgres, OPERATOR, world.account["id"])
    assert (account["posted"], account["held"], account["available"]) == (100, 40, 60)
    assert account["version"] == 2


async def test_an_authorization_is_its_answer_and_what_became_of_it(world: World) -> None:
    await world.deposit(100)
    approval = await world.approve(40)

    found = await world.authorization(approval)

    explanation = found.pop("explanation")
    assert found == approval | {"captured": 0, "released": 0, "remaining": 40}
    assert list(found)[: len(approval)] == list(approval)
    assert [rule["outcome"] for rule in explanation] == ["passed"] * len(explanation)
    assert explanation[-1] == {
        "rule": "available_balance",
        "level": None,
        "period": None,
        "fact": 100,
        "limit": 40,
        "headroom": 60,
        "outcome": "passed",
    }


async def test_why_it_was_declined(world: World) -> None:
    await world.deposit(100)
    await world.limit("card", world.card, SpendControls((Limit(Period.DAY, 50),)))
    await world.approve(30)

    found = await world.authorization(await world.authorize(21))

    assert (found["decision"], found["status"]) == ("declined", "declined")
    assert (found["captured"], found["released"], found["remaining"]) == (0, 0, 0)
    assert found["explanation"][-1] == {
        "rule": "spend_limit",
        "level": "card",
        "period": "day",
        "fact": 30,
        "limit": 50,
        "headroom": -1,
        "outcome": "broken",
    }


async def test_whose_an_authorization_is(world: World) -> None:
    await world.deposit(100)
    approval = await world.approve(40)
    await read.authorization(world.postgres, bound_to(world.program), approval["id"])
    other = bound_to(await world.new_program())
    for caller, id_ in ((other, approval["id"]), (OPERATOR, "aut_" + "0" * 32), (OPERATOR, "x")):
        with pytest.raises(NotFound):
            await read.authorization(world.postgres, caller, id_)


async def test_a_request_for_nobodys_card_belongs_to_who_sent_it(world: World) -> None:
    other = bound_to(await world.new_program())
    decided = await world.authorize(1, caller=other)
    assert decided["reason"] == "card_not_found"
    assert decided["account"] is None
    await read.authorization(world.postgres, other, decided["id"])
    await read.authorization(world.postgres, OPERATOR, decided["id"])
    with pytest.raises(NotFound):
        await read.authorization(world.postgres, bound_to(world.program), decided["id"])
    assert await ids(world, caller=other) == [decided["id"]]
    assert await ids(world, caller=bound_to(world.program)) == []
    unknown = await world.authorize(1, card={"id": 'crd_no"body'})
    assert (await world.authorization(unknown))["card"] == 'crd_no"body'


async def test_pages_show_each_once_the_newest_first(world: World) -> None:
    await world.deposit(100)
    made = [(await world.authorize(1))["id"] for _ in range(7)]
    seen: list[str] = []
    cursor = None
    for size in (3, 3, 1):
        page = await listed(world, limit=3, cursor=cursor)
        seen += [one["id"] for one in page["data"]]
        assert len(page["data"]) == size
        cursor = page["next_cursor"]
        assert (cursor is None) == (size == 1)
    assert seen == made[::-1]
    assert (await listed(world, limit=7))["next_cursor"] is None
    assert "explanation" not in (await listed(world))["data"][0]


async def test_filters(world: World) -> None:
    await world.deposit(100)
    account, card = await world.funded_card(100)
    first = (await world.approve(10))["id"]
    declined = (await world.authorize(1000))["id"]
    other = (await world.approve(10, card=card))["id"]

    assert await ids(world) == [other, declined, first]
    assert await ids(world, card=world.card["id"]) == [declined, first]
    assert await ids(world, card=card["id"]) == [other]
    assert await ids(world, account=account["id"]) == [other]
    assert await ids(world, account=account["id"], card=world.card["id"]) == []
    assert await ids(world, decision="approved") == [other, first]
    assert await ids(world, decision="declined") == [declined]
    assert await ids(world, reason="insufficient_available_balance") == [declined]
    assert await ids(world, reason="card_frozen") == []
    assert await ids(world, caller=bound_to(world.program)) == [other, declined, first]
    assert await ids(world, caller=bound_to(await world.new_program())) == []


async def test_filters_by_instant(world: World) -> None:
    await world.deposit(100)
    made = [await world.approve(1) for _ in range(3)]
    at = [parse_instant(one["decided_at"]) for one in made]

    assert await ids(world, from_=at[1]) == [made[2]["id"], made[1]["id"]]
    assert await ids(world, to=at[1]) == [made[0]["id"]]
    assert await ids(world, from_=at[1], to=at[2]) == [made[1]["id"]]
    for long_ago in (datetime.min.replace(tzinfo=at[0].tzinfo), at[0] - timedelta(days=40_000)):
        assert len(await ids(world, from_=long_ago)) == 3
        assert await ids(world, to=long_ago) == []
    far = datetime.max.replace(tzinfo=at[0].tzinfo)
    assert await ids(world, from_=far) == []
    assert len(await ids(world, to=far)) == 3


async def test_an_instant_is_told_exactly_however_far_the_clocks_are_apart(world: World) -> None:
    """Ids of a clock that is nine minutes slow, or fast, do not hide a decision."""
    await world.deposit(100)
    first, second = [await world.approve(1) for _ in range(2)]
    at = parse_instant(second["decided_at"])
    for apart in (timedelta(minutes=-9), timedelta(minutes=9)):
        await world.rows(
            "UPDATE decision SET decided_at = $1 WHERE id = $2", at + apart, first["id"][4:]
        )
        moment = timedelta(microseconds=1)
        assert await ids(world, from_=at + apart, to=at + apart + moment) == [first["id"]]
        assert first["id"] not in await ids(world, from_=at + apart + moment)
        assert first["id"] not in await ids(world, to=at + apart)


async def test_filters_that_cannot_be_meant(world: World) -> None:
    for filters, pointer in (
        ({"limit": 0}, "/limit"),
        ({"limit": 201}, "/limit"),
        ({"decision": "maybe"}, "/decision"),
        ({"card": "card-1"}, "/card"),
        ({"account": world.card["id"]}, "/account"),
        ({"cursor": "aut_"}, "/cursor"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            await listed(world, **filters)
        assert refused.value.pointer == pointer


async def test_an_abandoned_approval_is_listed_as_the_decline_it_became(world: World) -> None:
    await world.deposit(100)
    approval = await world.approve(10)
    await world.abandon(approval)
    assert await ids(world, decision="approved") == []
    assert await ids(world, decision="declined") == [approval["id"]]
    assert await ids(world, reason="abandoned") == [approval["id"]]


async def test_merchants_reach_the_explanation(world: World) -> None:
    await world.limit("card", world.card, SpendControls(blocked_countries=frozenset({"KP"})))
    decided = await world.authorize(1, merchant=Merchant(country="KP"))
    found = await world.authorization(decided)
    assert found["explanation"][-1]["fact"] == "KP"
