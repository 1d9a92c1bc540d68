"""Every archive: each question gets exactly its documents, newest first, in stable pages."""

import random
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.archive.store import (
    AUTHORIZATIONS,
    TRANSACTIONS,
    WEBHOOKS,
    Archive,
    Collection,
    Document,
    Question,
)
from jitway.errors import InvalidRequest
from tests.conformance.archives import (
    EPOCH,
    KINDS,
    a_transaction,
    a_webhook,
    an_authorization,
    archive_of,
    authorizations_of_a_month,
    id_of,
)

DAY_10, DAY_20 = EPOCH + timedelta(days=10), EPOCH + timedelta(days=20)


@pytest.fixture(params=KINDS)
async def archive(
    request: pytest.FixtureRequest, adapter: PostgreSQLAdapter
) -> AsyncIterator[Archive]:
    async with archive_of(request.param, adapter) as archive:
        yield archive


@pytest.fixture
async def month(archive: Archive) -> list[Document]:
    """What is in the archive, the newest first."""
    documents = authorizations_of_a_month(300, random.Random(9))
    await archive.put_many(AUTHORIZATIONS, documents)
    return documents[::-1]


async def paged(archive: Archive, question: Question, limit: int) -> list[Document]:
    """Every page, one after the other."""
    found: list[Document] = []
    cursor = None
    while True:
        page = await archive.search(AUTHORIZATIONS, question, limit=limit, cursor=cursor)
        found += page.documents
        assert len(page.documents) == limit or page.next_cursor is None
        if (cursor := page.next_cursor) is None:
            return found


Matches = Callable[[Document], bool]


@pytest.mark.parametrize(
    ("filters", "matches"),
    [
        ({}, lambda _: True),
        ({"decision": "declined"}, lambda one: one["decision"] == "declined"),
        ({"reason": "mcc_blocked"}, lambda one: one["reason"] == "mcc_blocked"),
        ({"merchant": "m-2"}, lambda one: (one["merchant"] or {}).get("id") == "m-2"),
        ({"amount_min": 500}, lambda one: one["amount"] >= 500),
        ({"amount_max": 500}, lambda one: one["amount"] <= 500),
        (
            {"amount_min": 200, "amount_max": 300, "decision": "approved"},
            lambda one: 200 <= one["amount"] <= 300 and one["decision"] == "approved",
        ),
        ({"from_": DAY_10}, lambda one: one["decided_at"] >= "2026-03-11T00:00:00.000000Z"),
        ({"to": DAY_10}, lambda one: one["decided_at"] < "2026-03-11T00:00:00.000000Z"),
        (
            {"from_": DAY_10, "to": DAY_20},
            lambda one: "2026-03-11" <= one["decided_at"][:10] < "2026-03-21",
        ),
        ({"merchant": "nobody"}, lambda _: False),
    ],
)
async def test_a_question_finds_exactly_its_documents(
    archive: Archive, month: list[Document], filters: dict[str, Any], matches: Matches
) -> None:
    wanted = [one for one in month if matches(one)]
    for limit in (7, 200):
        assert await paged(archive, Question(**filters), limit) == wanted


@pytest.mark.parametrize("member", ["card", "account", "cardholder", "program"])
async def test_by_whose_it_is(archive: Archive, month: list[Document], member: str) -> None:
    sought = month[123][member]
    wanted = [one for one in month if one[member] == sought]
    by_it: dict[str, Any] = {member: sought}
    assert await paged(archive, Question(**by_it), 200) == wanted
    by_it[member] = id_of(sought[:3])
    assert await paged(archive, Question(**by_it), 200) == []


async def test_pages_stay_put_while_documents_arrive_and_change(archive: Archive) -> None:
    documents = authorizations_of_a_month(60, random.Random(3))
    await archive.put_many(AUTHORIZATIONS, documents)
    seen: list[str] = []
    cursor = None
    for round_ in range(100):
        page = await archive.search(AUTHORIZATIONS, Question(), limit=7, cursor=cursor)
        seen += [one["_id"] for one in page.documents]
        newer = EPOCH + timedelta(days=31, seconds=round_)
        await archive.put_many(AUTHORIZATIONS, [an_authorization(newer)])
        await archive.put_many(AUTHORIZATIONS, [documents[round_ % 60] | {"revision": 2 + round_}])
        if (cursor := page.next_cursor) is None:
            break
    assert seen == [one["_id"] for one in reversed(documents)]


async def test_a_page_that_ends_with_the_last_document_is_the_last(archive: Archive) -> None:
    await archive.put_many(AUTHORIZATIONS, [an_authorization() for _ in range(4)])
    page = await archive.search(AUTHORIZATIONS, Question(), limit=4)
    assert (len(page.documents), page.next_cursor) == (4, None)
    page = await archive.search(AUTHORIZATIONS, Question(), limit=3)
    assert page.next_cursor == page.documents[-1]["_id"]


async def test_documents_of_unknown_cards_are_there_and_found_by_what_they_have(
    archive: Archive,
) -> None:
    document = an_authorization(
        card="whatever it was", account=None, cardholder=None, program=None, merchant=None
    )
    await archive.put_many(AUTHORIZATIONS, [document])
    found = await archive.search(AUTHORIZATIONS, Question(decision="approved"))
    assert found.documents == [document]


async def test_transactions_and_webhooks_are_searched_by_what_they_have(archive: Archive) -> None:
    early, late = a_transaction(), a_transaction(DAY_10, amount=7)
    await archive.put_many(TRANSACTIONS, [early, late])
    by_account = Question(account=early["account"])
    assert (await archive.search(TRANSACTIONS, by_account)).documents == [early]
    small = Question(amount_max=10, from_=EPOCH)
    assert (await archive.search(TRANSACTIONS, small)).documents == [late]
    ours, others = a_webhook(program=id_of("prg")), a_webhook(DAY_10)
    await archive.put_many(WEBHOOKS, [ours, others])
    assert (await archive.search(WEBHOOKS, Question(to=DAY_10))).documents == [ours]
    found = await archive.search(WEBHOOKS, Question(program=ours["program"]))
    assert found.documents == [ours]


@pytest.mark.parametrize(
    ("collection", "filters", "pointer"),
    [
        (AUTHORIZATIONS, {"card": "crd_1"}, "/card"),
        (AUTHORIZATIONS, {"account": id_of("crd")}, "/account"),
        (AUTHORIZATIONS, {"decision": "perhaps"}, "/decision"),
        (AUTHORIZATIONS, {"amount_min": -1}, "/amount_min"),
        (AUTHORIZATIONS, {"amount_max": 2**63}, "/amount_max"),
        (AUTHORIZATIONS, {"merchant": "m\0"}, "/merchant"),
        (TRANSACTIONS, {"reason": "card_frozen"}, "/reason"),
        (WEBHOOKS, {"card": id_of("crd")}, "/card"),
    ],
)
async def test_a_question_that_cannot_be_meant_is_refused(
    archive: Archive, collection: Collection, filters: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await archive.search(collection, Question(**filters))
    assert refused.value.pointer == pointer


@pytest.mark.parametrize(
    ("more", "pointer"),
    [
        ({"limit": 0}, "/limit"),
        ({"limit": 201}, "/limit"),
        ({"cursor": "aut_"}, "/cursor"),
        ({"cursor": id_of("trf")}, "/cursor"),
    ],
)
async def test_a_page_that_cannot_be_meant_is_refused(
    archive: Archive, more: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await archive.search(AUTHORIZATIONS, Question(), **more)
    assert refused.value.pointer == pointer
