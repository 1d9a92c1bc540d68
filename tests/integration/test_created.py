"""An authorization by message: a decision like any other, once for each id."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from jitway.clock import SystemClock
from jitway.events.broker import Message
from jitway.events.envelope import Event, encode
from tests.conformance.brokers import eventually
from tests.integration.http.gateway import Gateway, serving

CLOCK = SystemClock()


@pytest.fixture
async def gateway(database: str, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with serving(database, tmp_path) as gateway:
        yield gateway


async def hand_in(gateway: Gateway, *bodies: Any, id_: str = "msg-1") -> None:
    messages = [
        Message(
            "jit-funding.created",
            id_,
            body if isinstance(body, bytes) else json.dumps(body).encode(),
        )
        for body in bodies
    ]
    assert not any(await gateway.services.work.broker.publish_many(messages))


async def decisions(gateway: Gateway) -> list[dict[str, Any]]:
    rows = await gateway.services.postgres.execute_query("SELECT body FROM decision ORDER BY id")
    return [json.loads(row["body"]) for row in rows]


async def until_decided(gateway: Gateway, number: int) -> list[dict[str, Any]]:
    async def decided() -> bool:
        return len(await decisions(gateway)) == number and not await under_way(gateway)

    await eventually(decided)
    return await decisions(gateway)


async def under_way(gateway: Gateway) -> int:
    rows = await gateway.services.postgres.execute_query(
        "SELECT (SELECT count(*) FROM delivery)"
        " + (SELECT count(*) FROM outbox WHERE published_at IS NULL) AS n"
    )
    return int(rows[0]["n"])


async def dead(gateway: Gateway) -> list[str]:
    rows = await gateway.services.postgres.execute_query("SELECT cause FROM dead_letter")
    return [row["cause"] for row in rows]


def guide(gateway: Gateway, **more: Any) -> dict[str, Any]:
    return {
        "transaction_id": "123",
        "user_id": "user-456",
        "card_id": gateway.card["id"],
        "amount": 100,
    } | more


async def test_the_guides_message_becomes_an_authorization(gateway: Gateway) -> None:
    await hand_in(gateway, guide(gateway))
    (decided,) = await until_decided(gateway, 1)
    assert (decided["decision"], decided["amount"], decided["currency"]) == ("approved", 100, "USD")
    shown = (await gateway.get(f"/v1/authorizations/{decided['id']}")).json
    assert (shown["status"], shown["remaining"]) == ("open", 100)
    assert shown["explanation"]
    types = await gateway.services.postgres.execute_query(
        "SELECT type FROM outbox WHERE id = $1", [decided["id"][4:]]
    )
    assert [row["type"] for row in types] == ["jit-funding.approved"]
    assert await dead(gateway) == []


async def test_the_same_id_is_the_same_authorization(gateway: Gateway) -> None:
    """However often it comes, and under whichever message id."""
    await hand_in(gateway, guide(gateway), guide(gateway))
    await hand_in(gateway, guide(gateway), id_="msg-2")
    await until_decided(gateway, 1)
    account = (await gateway.get(f"/v1/accounts/{gateway.account['id']}")).json
    assert account["held"] == 100
    assert await dead(gateway) == []


async def test_the_same_id_with_other_content_is_buried(gateway: Gateway) -> None:
    """N4."""
    await hand_in(gateway, guide(gateway))
    await until_decided(gateway, 1)
    await hand_in(gateway, guide(gateway, amount=200))

    async def buried() -> bool:
        return len(await dead(gateway)) == 1

    await eventually(buried)
    assert "other content" in (await dead(gateway))[0]
    assert len(await decisions(gateway)) == 1


async def test_it_may_come_in_our_envelope(gateway: Gateway) -> None:
    data = {"card_id": gateway.card["id"], "amount": 300, "merchant": {"mcc": "5942"}}
    event = Event(
        CLOCK.new_id("evt"), "jit-funding.created", CLOCK.now(), None, None, None, json.dumps(data)
    )
    await hand_in(gateway, encode(event), encode(event), id_=event.id)
    (decided,) = await until_decided(gateway, 1)
    assert (decided["decision"], decided["amount"]) == ("approved", 300)


async def test_a_decline_is_a_decision_too(gateway: Gateway) -> None:
    await hand_in(gateway, guide(gateway, amount=99_999_999))
    unknown = guide(gateway, transaction_id="4", card_id=CLOCK.new_id("crd"), currency="USD")
    await hand_in(gateway, unknown)
    reasons = {one["reason"] for one in await until_decided(gateway, 2)}
    assert reasons == {"insufficient_available_balance", "card_not_found"}


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"card_id": None}, "card_id is missing"),
        ({"amount": 0}, "amount"),
        ({"amount": 1.5}, "amount"),
        ({"amount": "100"}, "amount"),
        ({"card_id": "4111111111111111"}, "card number"),
        ({"currency": "usd"}, "currency"),
        ({"currency": "ZZZ"}, "currency"),
        ({"card_id": "crd_" + "0" * 32}, "no card of this card_id"),
        ({"kind": "gift"}, "kind"),
        ({"merchant": {"mcc": "59"}}, "mcc"),
    ],
)
async def test_what_cannot_be_decided_is_buried_with_its_cause(
    gateway: Gateway, change: dict[str, Any], cause: str
) -> None:
    await hand_in(gateway, guide(gateway, **change))

    async def buried() -> bool:
        return len(await dead(gateway)) == 1

    await eventually(buried)
    assert cause in (await dead(gateway))[0]
    assert await decisions(gateway) == []
