"""`MongoDBAdapter` on a real server: each promise of the guide and of the library's reference."""

import asyncio
import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from jitway.adapters.mongodb import MongoDBAdapter
from jitway.errors import ArchiveUnavailable, InvalidRequest, SettingsError, StatementRefused
from tests.integration.leaks import eventually
from tests.integration.private_mongodb import private_mongodb


@pytest.fixture(scope="module")
async def mongodb_uri() -> AsyncIterator[str]:
    """The server of MONGODB_URI, else one of our own."""
    if given := os.environ.get("MONGODB_URI"):
        yield given
        return
    async with private_mongodb() as server:
        yield server.url


@pytest.fixture(scope="module")
async def database(mongodb_uri: str) -> AsyncIterator[str]:
    name = f"jitway_test_{secrets.token_hex(6)}"
    yield name
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as client:
        await client.drop_database(name)


@pytest.fixture(scope="module")
async def adapter(mongodb_uri: str, database: str) -> AsyncIterator[MongoDBAdapter]:
    adapter = MongoDBAdapter(
        {"MONGODB_URI": mongodb_uri, "MONGODB_DB": database}, timeout_ms=20_000
    )
    await adapter.connect()
    yield adapter
    await adapter.close()


@pytest.fixture
def collection() -> str:
    """A collection that nobody else uses."""
    return f"c_{secrets.token_hex(6)}"


async def nothing_in_use(adapter: MongoDBAdapter) -> bool:
    stats = await adapter.get_connection_stats()
    return stats["in_use_connections"] == stats["waiting_requests"] == 0


# Finding and changing -------------------------------------------------------------------------


async def test_the_guides_operations(adapter: MongoDBAdapter, collection: str) -> None:
    one = {"_id": "aut_1", "card": "crd_1", "amount": 1250}
    assert await adapter.insert_one(collection, one) == "aut_1"
    others = [{"_id": f"aut_{n}", "card": "crd_2", "amount": n} for n in (2, 3, 4)]
    assert await adapter.insert_many(collection, others) == ["aut_2", "aut_3", "aut_4"]
    assert await adapter.find(collection, {"card": "crd_1"}) == [one]
    assert await adapter.count(collection) == 4
    assert await adapter.count(collection, {"card": "crd_2"}) == 3

    updated = await adapter.update_one(collection, {"_id": "aut_1"}, {"$set": {"state": "open"}})
    assert (updated.matched_count, updated.modified_count) == (1, 1)
    updated = await adapter.update_many(collection, {"card": "crd_2"}, {"$inc": {"amount": 10}})
    assert (updated.matched_count, updated.modified_count) == (3, 3)
    upserted = await adapter.update_one(
        collection, {"_id": "aut_9"}, {"$set": {"amount": 9}}, upsert=True
    )
    assert (upserted.matched_count, upserted.upserted_id) == (0, "aut_9")

    totals = await adapter.aggregate(
        collection,
        [
            {"$match": {"card": "crd_2"}},
            {"$group": {"_id": "$card", "total": {"$sum": "$amount"}}},
            {"$sort": {"_id": 1}},
        ],
    )
    assert totals == [{"_id": "crd_2", "total": 39}]
    assert await adapter.delete_one(collection, {"card": "crd_2"}) == 1
    assert await adapter.delete_many(collection, {}) == 4
    assert await adapter.find(collection) == []


async def test_ids_are_made_and_the_callers_document_is_left_alone(
    adapter: MongoDBAdapter, collection: str
) -> None:
    document = {"amount": 1}
    first, second = await adapter.insert_many(collection, [document, document])
    assert first != second
    assert document == {"amount": 1}
    assert {found["_id"] for found in await adapter.find(collection)} == {first, second}


async def test_nothing_to_insert_is_nothing(adapter: MongoDBAdapter, collection: str) -> None:
    assert await adapter.insert_many(collection, []) == []
    assert await adapter.replace_many(collection, []) == 0
    assert await adapter.create_indexes(collection, []) == []


async def test_find_sorts_projects_and_is_bounded(adapter: MongoDBAdapter, collection: str) -> None:
    await adapter.insert_many(
        collection, [{"_id": f"{n:04}", "even": n % 2 == 0} for n in range(1500)]
    )
    assert len(await adapter.find(collection)) == 1000, "the default limit"
    last = await adapter.find(collection, {"even": True}, sort=[("_id", -1)], limit=2)
    assert [found["_id"] for found in last] == ["1498", "1496"]
    assert await adapter.find(collection, {"_id": "0003"}, projection=["_id"]) == [{"_id": "0003"}]
    for limit in (0, -1, 100_001):
        with pytest.raises(InvalidRequest, match="limit"):
            await adapter.find(collection, limit=limit)


async def test_stream_yields_everything_in_batches(
    adapter: MongoDBAdapter, collection: str
) -> None:
    await adapter.insert_many(collection, [{"_id": f"{n:04}"} for n in range(1234)])
    found = [
        document["_id"]
        async for document in adapter.stream(collection, sort=[("_id", 1)], batch_size=100)
    ]
    assert found == [f"{n:04}" for n in range(1234)]


async def test_leaving_a_stream_early_gives_its_connection_back(
    adapter: MongoDBAdapter, collection: str
) -> None:
    await adapter.insert_many(collection, [{"_id": n} for n in range(500)])
    async with contextlib.aclosing(adapter.stream(collection, batch_size=10)) as documents:
        async for _ in documents:
            break
    await eventually(lambda: nothing_in_use(adapter))


async def test_values_come_back_the_same(adapter: MongoDBAdapter, collection: str) -> None:
    document: dict[str, Any] = {
        "_id": "x",
        "highest": 2**63 - 1,
        "lowest": -(2**63),
        "text": "ä€😀",
        "bytes": b"\x00\xff",
        "deep": {"list": [1, None, True, {"x": 1.5}]},
        "at": datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC),
    }
    await adapter.insert_one(collection, document)
    (found,) = await adapter.find(collection)
    assert found == document
    assert found["at"].tzinfo is not None


async def test_instants_of_other_zones_are_the_same_instants(
    adapter: MongoDBAdapter, collection: str
) -> None:
    at = datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=5)))
    await adapter.insert_one(collection, {"at": at})
    assert (await adapter.find(collection))[0]["at"] == at


# Refusals -------------------------------------------------------------------------------------


def nested(depth: int) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for _ in range(depth):
        document = {"a": document}
    return document


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({"$set": 1}, ""),
        ({"a": {"b.c": 1}}, "/a"),
        ({"a": [{"x\0y": 1}]}, "/a/0"),
        ({"": 1}, ""),
        ({1: 1}, ""),
        ({"a": {"n": 2**63}}, "/a/n"),
        ({"n": -(2**63) - 1}, "/n"),
        ({"at": datetime(2026, 1, 1)}, "/at"),  # noqa: DTZ001 - what is refused
        (nested(150), "/" + "/".join("a" * 100)),
        ({"amount": Decimal("1.50")}, None),
        ({"large": "x" * (16 * 1024 * 1024)}, None),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_m7_what_cannot_be_kept_faithfully_is_refused_before_anything_is_sent(
    adapter: MongoDBAdapter, collection: str, document: dict[str, Any], pointer: str | None
) -> None:
    for promise in (
        adapter.insert_many(collection, [{"_id": 1}, document]),
        adapter.replace_many(collection, [{"_id": 1}, {"_id": 2, **document}]),
    ):
        with pytest.raises(InvalidRequest) as refused:
            await promise
        assert refused.value.pointer == pointer
    assert await adapter.count(collection) == 0, "the good ones before it were not stored either"


async def test_m7_what_only_the_driver_finds_is_an_invalid_request_too(
    adapter: MongoDBAdapter, collection: str
) -> None:
    for promise in (
        adapter.update_one(collection, {}, {"$set": {"n": 2**70}}),
        adapter.find(collection, {"n": 2**70}),
        adapter.find("a\0b"),
        adapter.update_one(collection, {}, {"n": 1}),
    ):
        with pytest.raises(InvalidRequest, match="MongoDB cannot take this"):
            await promise


async def test_m3_a_duplicate_names_its_index_and_no_value(
    adapter: MongoDBAdapter, collection: str
) -> None:
    await adapter.create_indexes(collection, [{"keys": "token", "unique": True}])
    await adapter.insert_one(collection, {"_id": 1, "token": "s3cret-token"})
    with pytest.raises(StatementRefused) as refused:
        await adapter.insert_one(collection, {"_id": 1})
    assert (refused.value.sqlstate, refused.value.constraint) == ("23505", "_id_")
    with pytest.raises(StatementRefused) as refused:
        await adapter.insert_one(collection, {"_id": 2, "token": "s3cret-token"})
    assert refused.value.sqlstate == "23505"
    assert "token" in str(refused.value.constraint)
    assert "s3cret" not in str(refused.value)
    assert await adapter.count(collection) == 1


async def test_a_query_that_is_none_is_refused(adapter: MongoDBAdapter, collection: str) -> None:
    await adapter.insert_one(collection, {"n": 1})
    for promise in (
        adapter.find(collection, {"n": {"$nonsense": 1}}),
        adapter.aggregate(collection, [{"$nonsense": {}}]),
    ):
        with pytest.raises(StatementRefused):
            await promise


@pytest.mark.parametrize("option", ["w=0", "w=1", "w=2", "journal=false", "j=false", "W=1"])
def test_m8_an_address_that_asks_for_unsafe_writes_is_refused(option: str) -> None:
    with pytest.raises(SettingsError, match="would lose what was archived"):
        MongoDBAdapter({"MONGODB_URI": f"mongodb://user:s3cret@localhost/?{option}"})


@pytest.mark.parametrize("options", ["", "?w=majority", "?w=majority&journal=true"])
def test_m8_writes_ask_for_majority_and_journal(options: str) -> None:
    adapter = MongoDBAdapter({"MONGODB_URI": f"mongodb://localhost/{options}"})
    assert adapter.collection("x").write_concern.document == {"w": "majority", "j": True}


# Indexes --------------------------------------------------------------------------------------


async def test_indexes_are_created_once(
    adapter: MongoDBAdapter, collection: str, mongodb_uri: str, database: str
) -> None:
    wanted: list[Any] = [
        "card",
        [("account", 1), ("decided_at", -1)],
        {"keys": "key", "unique": True},
    ]
    names = ["card_1", "account_1_decided_at_-1", "key_1"]
    for _ in range(2):
        assert await adapter.create_indexes(collection, wanted) == names
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as client:
        found = await client[database][collection].index_information()
    keys = [[field for field, _ in index["key"]] for index in found.values()]
    assert sorted(keys) == [["_id"], ["account", "decided_at"], ["card"], ["key"]]


@pytest.mark.parametrize("index", [{}, {"keys": "a", "expireAfterSeconds": 5}])
async def test_an_index_that_not_every_server_has_is_refused(
    adapter: MongoDBAdapter, collection: str, index: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest, match="index"):
        await adapter.create_indexes(collection, [index])


# Replacing ------------------------------------------------------------------------------------


async def test_m2_replacing_twice_is_replacing_once(
    adapter: MongoDBAdapter, collection: str
) -> None:
    documents = [{"_id": f"{n:04}", "amount": n} for n in range(1100)]
    for _ in range(2):
        assert await adapter.replace_many(collection, documents) == 1100
    assert await adapter.find(collection, sort=[("_id", 1)], limit=2000) == documents


async def test_integers_are_stored_with_64_bits_whatever_their_size(
    adapter: MongoDBAdapter, collection: str
) -> None:
    amounts = [1, 2**31 + 1, 2**53 + 1, 2**63 - 1]
    documents = [{"_id": number, "of": {"amount": one}} for number, one in enumerate(amounts)]
    await adapter.replace_many(collection, documents)
    found = await adapter.find(collection, {"of.amount": {"$type": "long"}}, sort=[("_id", 1)])
    assert [one["of"]["amount"] for one in found] == amounts


async def test_a_late_delivery_never_replaces_a_newer_document(
    adapter: MongoDBAdapter, collection: str
) -> None:
    async def deliver(*versions: int) -> int:
        documents = [{"_id": n, "version": version} for n, version in enumerate(versions)]
        return await adapter.replace_many(collection, documents, newer_by="version")

    assert await deliver(5, 5, 5) == 3
    assert await deliver(4, 5, 6) == 1
    found = await adapter.find(collection, sort=[("_id", 1)])
    assert [document["version"] for document in found] == [5, 5, 6]


async def test_of_many_concurrent_replacements_the_newest_stands(
    adapter: MongoDBAdapter, collection: str
) -> None:
    versions = list(range(1, 41))
    secrets.SystemRandom().shuffle(versions)
    await asyncio.gather(
        *(
            adapter.replace_many(
                collection,
                [{"_id": n, "version": version} for n in range(3)],
                newer_by="version",
            )
            for version in versions
        )
    )
    found = await adapter.find(collection, sort=[("_id", 1)])
    assert [document["version"] for document in found] == [40, 40, 40]


@pytest.mark.parametrize("document", [{"version": 1}, {"_id": 1}])
async def test_a_document_without_id_or_version_is_not_replaced(
    adapter: MongoDBAdapter, collection: str, document: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest, match="has no"):
        await adapter.replace_many(collection, [document], newer_by="version")


async def test_replacing_against_another_unique_index_is_refused(
    adapter: MongoDBAdapter, collection: str
) -> None:
    await adapter.create_indexes(collection, [{"keys": "token", "unique": True}])
    await adapter.replace_many(collection, [{"_id": 1, "token": "t", "version": 1}])
    with pytest.raises(StatementRefused) as refused:
        await adapter.replace_many(
            collection, [{"_id": 2, "token": "t", "version": 1}], newer_by="version"
        )
    assert refused.value.sqlstate == "23505"


# Pool -------------------------------------------------------------------------------------------


async def test_the_pool_keeps_two_and_opens_ten_at_most(mongodb_uri: str, database: str) -> None:
    adapter = MongoDBAdapter(
        {"MONGODB_URI": mongodb_uri, "MONGODB_DB": database}, timeout_ms=20_000
    )
    await adapter.initialize()
    work = asyncio.gather(*(adapter.count("empty") for _ in range(60)))
    most_waiting = most_open = 0
    while not work.done():
        stats = await adapter.get_connection_stats()
        most_waiting = max(most_waiting, stats["waiting_requests"])
        most_open = max(most_open, stats["total_connections"])
        await asyncio.sleep(0)
    await work
    assert most_waiting > 0
    assert most_open <= 10

    async def keeps_two() -> bool:
        return (await adapter.get_connection_stats())["idle_connections"] >= 2

    await eventually(keeps_two)
    stats = await adapter.get_connection_stats()
    assert stats["in_use_connections"] == stats["waiting_requests"] == 0
    assert (stats["connections_min"], stats["connections_max"]) == (2, 10)
    assert stats["checkouts"] >= 61
    assert stats["checkout_failures"] == stats["retries"] == 0
    await adapter.close()
    assert (await adapter.get_connection_stats())["total_connections"] == 0


async def test_cancelled_callers_neither_mix_up_replies_nor_lose_connections(
    adapter: MongoDBAdapter, collection: str
) -> None:
    await adapter.insert_many(collection, [{"_id": n} for n in range(20)])
    wrong: list[object] = []

    async def ask(number: int) -> None:
        found = await adapter.find(collection, {"_id": number})
        if found != [{"_id": number}]:
            wrong.append((number, found))

    chance = secrets.SystemRandom()
    for _ in range(10):
        tasks = [asyncio.create_task(ask(number)) for number in range(20)]
        for _ in range(chance.randrange(20)):
            await asyncio.sleep(0)
        for task in chance.sample(tasks, 10):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.gather(*(ask(number) for number in range(20)))
    assert wrong == []
    await eventually(lambda: nothing_in_use(adapter))


async def test_close_and_connect_may_be_repeated(mongodb_uri: str, database: str) -> None:
    adapter = MongoDBAdapter({"MONGODB_URI": mongodb_uri, "MONGODB_DB": database})
    await adapter.close()
    with pytest.raises(ArchiveUnavailable, match="closed"):
        await adapter.find("empty")
    await adapter.connect()
    await adapter.initialize()
    assert await adapter.ping() > 0
    await adapter.close()
    await adapter.close()
    with pytest.raises(ArchiveUnavailable, match="closed"):
        await adapter.ping()


def test_the_database_is_the_given_one_else_that_of_the_address() -> None:
    def name(uri: str, **config: str) -> str:
        adapter = MongoDBAdapter({"MONGODB_URI": uri, **config})
        return str(adapter.collection("x").database.name)

    assert name("mongodb://host/one", MONGODB_DB="two") == "two"
    assert name("mongodb://host/one") == "one"
    assert name("mongodb://host") == "jitway"
    with pytest.raises(SettingsError, match="MONGODB_DB"):
        name("mongodb://host", MONGODB_DB="a/b")


def test_without_the_client_the_error_names_the_extra() -> None:
    code = "import sys; sys.modules['bson'] = None; import jitway.adapters.mongodb"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert b"pip install 'jitway[mongodb]'" in done.stderr.splitlines()[-1]
