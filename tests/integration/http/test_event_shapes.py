"""One thing has one form: in the HTTP answer, in its event, and in the archive; key by key.

What the archive and the route add is named here, and in docs/events.md and docs/archive.md.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.archive.rebuild import rebuild
from jitway.archive.store import AUTHORIZATIONS, COLLECTIONS, TRANSACTIONS, WEBHOOKS, Archive
from jitway.compose import archive_assembler
from jitway.events.envelope import Event
from tests.conformance.archives import KINDS, all_of, archive_of
from tests.integration.events_scenes import outbox_of
from tests.integration.http.gateway import Gateway, serving

Document = dict[str, Any]

# Beyond the thing itself: what operators search by, and what orders two copies of it.
OF_EVERY_DOCUMENT = {"_id", "revision"}
ARCHIVE_ADDS = {
    "authorizations": OF_EVERY_DOCUMENT
    | {"program", "cardholder", "kind", "merchant", "network_reference", "metadata"},
    "transactions": OF_EVERY_DOCUMENT
    | {"program", "cardholder", "card", "merchant", "posted_change", "held_change"},
    "webhooks": OF_EVERY_DOCUMENT,
}
# Words about facts that the archive has, and copies of what its other collection has.
ROUTE_ADDS = {"summary", "balance", "transfers"}


@pytest.fixture
async def gateway(database: str, tmp_path: Path) -> AsyncIterator[Gateway]:
    """Whose events wait until the test takes them."""
    async with serving(database, tmp_path, JITWAY_WORK="none") as gateway:
        yield gateway


async def events_of(postgres: PostgreSQLAdapter) -> dict[str, Event]:
    """Every event, by the digits of what happened."""
    outbox, found = outbox_of(postgres), {}
    try:
        while (claim := await outbox.claim(100, "test")) is not None:
            found.update({one.event.digits: one.event for one in claim.waiting})
            await outbox.mark_published(claim.token, claim.waiting)
            await outbox.release(claim.token)
    finally:
        await outbox.close()
    return found


async def said(gateway: Gateway, method: str, path: str, body: Any = None) -> Document:
    response = await gateway.call(method, path, body)
    assert response.status in (200, 201), response.body
    answer: Document = response.json
    return answer


async def an_account_s_life(gateway: Gateway) -> list[Document]:
    """Every verb that is announced with its own answer, and those answers."""
    post = [
        (f"/v1/accounts/{gateway.account['id']}/deposits", {"amount": 500, "description": "pay"}),
        (f"/v1/accounts/{gateway.account['id']}/withdrawals", {"amount": 20}),
        ("/v1/webhooks/processor", {"kind": "settled", "cvv": "123"}),
    ]
    answers = [await said(gateway, "POST", path, body) for path, body in post]
    merchant = {"id": "m-1", "name": "Books", "mcc": "5942", "country": "US"}
    decided = [
        (await gateway.authorize(amount=100, merchant=merchant, metadata={"a.b": "1"})).json,
        (await gateway.authorize(amount=60)).json,
        (await gateway.authorize(amount=10_000_000)).json,
        (await gateway.authorize(card="nobody's")).json,
    ]
    taken = f"/v1/authorizations/{decided[0]['id']}/captures"
    given_back = f"/v1/authorizations/{decided[1]['id']}/reversals"
    answers.append(await said(gateway, "POST", taken, {"amount": 70, "final": False}))
    answers.append(await said(gateway, "POST", given_back, {"amount": 10}))
    return answers + decided


async def test_data_is_what_http_answered(gateway: Gateway) -> None:
    answers = await an_account_s_life(gateway)
    events = await events_of(gateway.services.postgres)
    for answer in answers:
        event = events[answer["id"].partition("_")[2]]
        assert event.data == answer
        assert list(event.data) == list(answer), "in the same order too"
        assert event.account == answer.get("account")
        assert event.account_version == answer.get("account_version")
    kinds = [events[answer["id"].partition("_")[2]].type for answer in answers]
    assert kinds == [
        *("transaction.deposited", "transaction.withdrawn", "webhook.received"),
        *("transaction.captured", "transaction.reversed"),
        *("jit-funding.approved", "jit-funding.approved"),
        *("jit-funding.declined", "jit-funding.declined"),
    ]


async def test_a_change_of_a_card_is_announced_as_the_card(gateway: Gateway) -> None:
    card = gateway.card["id"]
    answers = [
        await said(gateway, "POST", f"/v1/cards/{card}/freeze", {}),
        await said(gateway, "POST", f"/v1/cards/{card}/unfreeze", {}),
        await said(gateway, "PUT", f"/v1/cards/{card}/controls", {"block": {"mcc": ["7995"]}}),
        await said(gateway, "POST", f"/v1/cards/{card}/close", {}),
    ]
    events = (await events_of(gateway.services.postgres)).values()
    of_card = [one for one in events if one.type.startswith("card.")]
    assert [one.data for one in of_card] == [gateway.card, *answers]
    assert [one.type.partition(".")[2] for one in of_card] == [
        *("created", "frozen", "unfrozen", "controls_changed", "closed")
    ]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_document_is_what_http_answers_and_what_operators_search_by(
    gateway: Gateway, kind: str
) -> None:
    answers = await an_account_s_life(gateway)
    postgres = gateway.services.postgres
    async with archive_of(kind, postgres) as archive:
        await rebuild(
            postgres,
            archive,
            archive_assembler(),
            keeps_from=dict.fromkeys(COLLECTIONS),
            progress=lambda _: None,
        )
        for id_, document in (await all_of(archive, AUTHORIZATIONS)).items():
            shown = await said(gateway, "GET", f"/v1/authorizations/{id_}")
            assert the_thing(document, "authorizations") == facts(shown)
        await compared(archive, [one for one in answers if one["id"].startswith("trf_")])
        await compared(archive, [one for one in answers if one["id"].startswith("evt_")])


async def compared(archive: Archive, answers: list[Document]) -> None:
    """Each answer beside its document."""
    collection = TRANSACTIONS if answers[0]["id"].startswith("trf_") else WEBHOOKS
    documents = await all_of(archive, collection)
    for answer in answers:
        assert the_thing(documents[answer["id"]], collection.name) == answer


def the_thing(document: Document, collection: str) -> Document:
    """A document without what the archive adds to it, all of which is there."""
    assert document["_id"] == document["id"]
    added = ARCHIVE_ADDS[collection]
    assert document.keys() >= added
    return {name: value for name, value in document.items() if name not in added}


def facts(shown: Document) -> Document:
    """What the route answers without the words about it, all of which are there."""
    assert shown.keys() >= ROUTE_ADDS
    explanation = [
        {name: value for name, value in finding.items() if name != "text"}
        for finding in shown["explanation"]
    ]
    kept = {name: value for name, value in shown.items() if name not in ROUTE_ADDS}
    return kept | {"explanation": explanation}
