"""Every archive: what is put stays, the newest of it, exactly as it was given."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.archive.store import (
    AUTHORIZATIONS,
    COLLECTIONS,
    TRANSACTIONS,
    WEBHOOKS,
    Archive,
    Question,
    content_hash,
)
from tests.conformance.archives import (
    EPOCH,
    KINDS,
    a_transaction,
    a_webhook,
    all_of,
    an_authorization,
    archive_of,
    authorizations_of_a_month,
)


@pytest.fixture(params=KINDS)
async def archive(
    request: pytest.FixtureRequest, adapter: PostgreSQLAdapter
) -> AsyncIterator[Archive]:
    async with archive_of(request.param, adapter) as archive:
        yield archive


async def test_what_is_put_comes_back_equal(archive: Archive) -> None:
    wanted = {
        AUTHORIZATIONS: an_authorization(),
        TRANSACTIONS: a_transaction(),
        WEBHOOKS: a_webhook(),
    }
    for collection, document in wanted.items():
        assert await archive.put_many(collection, [document]) == 1
        assert await all_of(archive, collection) == {document["_id"]: document}
    assert await archive.put_many(AUTHORIZATIONS, []) == 0
    await archive.health()
    await archive.ensure_indexes()


@pytest.mark.parametrize(
    "metadata",
    [
        {"a.b": "1", "$where": "2", "%2E": "3", "%": "4", "%integer": "5", "": "6", "%00": "7"},
        {"%integer": "12"},
        {"nested": {"$set": [{"x.y": None}, [True, False]]}},
        {"big": 2**63, "small": -(2**63) - 1, "edge": 2**63 - 1, "huge": 10**30},
        {"text": 'Ünï"\\ \u2028 \U0001f4b3', "empty": {}, "none": [], "number": 1.5},
    ],
)
async def test_names_and_numbers_of_others_come_back_as_they_were(
    archive: Archive, metadata: dict[str, object]
) -> None:
    document = an_authorization(metadata=metadata)
    await archive.put_many(AUTHORIZATIONS, [document])
    assert await all_of(archive, AUTHORIZATIONS) == {document["_id"]: document}


@pytest.mark.parametrize(
    "explanation",
    [
        [],
        None,
        [{"rule": "a", "fact": 1}, {"rule": "b", "fact": None}],
        [{"rule": "a", "fact": 1}, {"rule": "b"}],
        [{"rule": "a"}, "text"],
        ["text", {"rule": "a"}],
        [{}, {}],
    ],
)
async def test_explanations_of_any_form_come_back(archive: Archive, explanation: object) -> None:
    document = an_authorization(explanation=explanation)
    await archive.put_many(AUTHORIZATIONS, [document])
    assert await all_of(archive, AUTHORIZATIONS) == {document["_id"]: document}


async def test_the_newest_revision_wins_in_any_order_and_however_often(archive: Archive) -> None:
    seed = random.Random(5)
    things = [an_authorization(revision=0) for _ in range(20)]
    versions = [
        thing | {"revision": revision, "status": f"at {revision}"}
        for thing in things
        for revision in range(1, 6)
    ]
    deliveries = versions + seed.sample(versions, 40)
    seed.shuffle(deliveries)
    for start in range(0, len(deliveries), 7):
        some = {one["_id"]: one for one in deliveries[start : start + 7]}
        await archive.put_many(AUTHORIZATIONS, list(some.values()))
        # What the dictionary above left out of this round comes in the next ones.
        for one in deliveries[start : start + 7]:
            if some[one["_id"]] is not one:
                await archive.put_many(AUTHORIZATIONS, [one])
    kept = await all_of(archive, AUTHORIZATIONS)
    assert kept == {thing["_id"]: thing | {"revision": 5, "status": "at 5"} for thing in things}


async def test_an_equal_or_older_revision_changes_nothing(archive: Archive) -> None:
    document = an_authorization(revision=3)
    assert await archive.put_many(AUTHORIZATIONS, [document]) == 1
    assert await archive.put_many(AUTHORIZATIONS, [document | {"status": "other"}]) == 0
    older = document | {"status": "other", "revision": 2}
    assert await archive.put_many(AUTHORIZATIONS, [older]) == 0
    assert await all_of(archive, AUTHORIZATIONS) == {document["_id"]: document}


async def test_writers_of_the_same_documents_end_with_the_newest(archive: Archive) -> None:
    things = [an_authorization() for _ in range(30)]

    async def write(revision: int) -> None:
        shuffled = random.Random(revision).sample(things, len(things))
        await archive.put_many(
            AUTHORIZATIONS, [thing | {"revision": revision} for thing in shuffled]
        )

    await asyncio.gather(*(write(revision) for revision in range(1, 9)))
    kept = await all_of(archive, AUTHORIZATIONS)
    assert {document["revision"] for document in kept.values()} == {8}


async def test_the_searched_members_follow_the_newest_revision(archive: Archive) -> None:
    from jitway.archive.store import Question

    document = an_authorization(decision="approved", reason=None)
    await archive.put_many(AUTHORIZATIONS, [document])
    abandoned = document | {"decision": "declined", "reason": "abandoned", "revision": 2}
    await archive.put_many(AUTHORIZATIONS, [abandoned])
    found = await archive.search(AUTHORIZATIONS, Question(reason="abandoned"))
    assert found.documents == [abandoned]
    assert (await archive.search(AUTHORIZATIONS, Question(decision="approved"))).documents == []


async def test_only_what_is_as_it_was_read_is_removed(archive: Archive) -> None:
    gone, stays = an_authorization(), an_authorization()
    await archive.put_many(AUTHORIZATIONS, [gone, stays])
    await archive.put_many(AUTHORIZATIONS, [stays | {"revision": 2}])
    assert await archive.remove(AUTHORIZATIONS, [gone, stays]) == 1
    assert list(await all_of(archive, AUTHORIZATIONS)) == [stays["_id"]]


async def test_what_is_older_is_purged_from_its_collection_only(archive: Archive) -> None:
    days = [EPOCH + timedelta(days=day) for day in range(4)]
    await archive.put_many(AUTHORIZATIONS, [an_authorization(day) for day in days])
    await archive.put_many(TRANSACTIONS, [a_transaction(day) for day in days])
    removed = 0
    while some := await archive.purge(AUTHORIZATIONS, days[2]):
        removed += some
    assert removed == 2
    left = (await all_of(archive, AUTHORIZATIONS)).values()
    assert {document["decided_at"][:10] for document in left} == {"2026-03-03", "2026-03-04"}
    assert len(await all_of(archive, TRANSACTIONS)) == 4


async def test_equal_contents_have_equal_hashes_whatever_way_they_came(archive: Archive) -> None:
    documents = authorizations_of_a_month(40, random.Random(1))
    await archive.put_many(AUTHORIZATIONS, documents)
    counted, before = await content_hash(archive, AUTHORIZATIONS)
    assert counted == 40
    assert await archive.remove(AUTHORIZATIONS, documents) == 40
    for document in reversed(documents):
        await archive.put_many(AUTHORIZATIONS, [document])
    assert await content_hash(archive, AUTHORIZATIONS) == (40, before)
    changed = documents[7] | {"amount": documents[7]["amount"] + 1, "revision": 2}
    await archive.put_many(AUTHORIZATIONS, [changed])
    assert (await content_hash(archive, AUTHORIZATIONS))[1] != before


async def test_amounts_are_whole_numbers_of_64_bits(archive: Archive) -> None:
    """Above 2^31, and one that no double can hold: 2^53 + 1 is not found as 2^53."""
    amounts = [0, 1, 2**31 - 1, 2**31, 2**53, 2**53 + 1, 2**63 - 1]
    documents = [an_authorization(amount=amount) for amount in amounts]
    await archive.put_many(AUTHORIZATIONS, documents)
    assert [one["amount"] for one in (await all_of(archive, AUTHORIZATIONS)).values()] == amounts
    for document in documents:
        amount = document["amount"]
        exactly = Question(amount_min=amount, amount_max=amount)
        page = await archive.search(AUTHORIZATIONS, exactly)
        assert page.documents == [document]
        assert type(page.documents[0]["amount"]) is int


async def test_collections_do_not_share_documents(archive: Archive) -> None:
    await archive.put_many(TRANSACTIONS, [a_transaction()])
    hashes = {name: await content_hash(archive, one) for name, one in COLLECTIONS.items()}
    assert {name: count for name, (count, _) in hashes.items()} == {
        "authorizations": 0,
        "transactions": 1,
        "webhooks": 0,
    }
