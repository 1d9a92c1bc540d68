"""Both archives, each empty and of the test's own; and documents like the product's."""

import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.archive.jsonb import JsonbArchive
from jitway.archive.store import Archive, Collection, Document
from jitway.domain.instant import instant_text
from tests.service_skips import require_service

KINDS = ("jsonb", "mongodb")
EPOCH = datetime(2026, 3, 1, tzinfo=UTC)
_numbers = count(1)


@asynccontextmanager
async def archive_of(kind: str, postgres: PostgreSQLAdapter) -> AsyncIterator[Archive]:
    """An empty archive with its indexes."""
    if kind == "jsonb":
        yield JsonbArchive(postgres)
        return
    from jitway.adapters.mongodb import MongoDBAdapter
    from jitway.archive.mongo import MongoArchive

    config = {
        "MONGODB_URI": require_service("mongodb"),
        "MONGODB_DB": f"jitway_test_{secrets.token_hex(6)}",
    }
    adapter = MongoDBAdapter(config, timeout_ms=20_000)
    try:
        await adapter.connect()
        archive = MongoArchive(adapter)
        await archive.ensure_indexes()
        yield archive
        await adapter.run(
            lambda: adapter.collection("authorizations").database.client.drop_database(
                config["MONGODB_DB"]
            )
        )
    finally:
        await adapter.close()


def id_of(prefix: str, at: datetime | None = None) -> str:
    """A new id; `at` decides its order."""
    milliseconds = int((at or EPOCH).timestamp() * 1000)
    return f"{prefix}_{milliseconds:012x}7{next(_numbers):019x}"


def an_authorization(at: datetime = EPOCH, /, **members: Any) -> Document:
    """A document of the first collection."""
    id_ = id_of("aut", at)
    return {
        "_id": id_,
        "revision": 1,
        "id": id_,
        "decision": "approved",
        "reason": None,
        "card": id_of("crd"),
        "account": id_of("acc"),
        "amount": 1250,
        "approved_amount": 1250,
        "currency": "USD",
        "decided_at": instant_text(at),
        "status": "open",
        "program": id_of("prg"),
        "cardholder": id_of("chd"),
        "merchant": {"id": "m-17", "mcc": "5942"},
        "explanation": [{"rule": "card_active", "outcome": "passed"}],
    } | members


def a_transaction(at: datetime = EPOCH, /, **members: Any) -> Document:
    """A document of the second."""
    id_ = id_of("trf", at)
    return {
        "_id": id_,
        "revision": 1,
        "id": id_,
        "kind": "capture",
        "account": id_of("acc"),
        "amount": 1250,
        "created_at": instant_text(at),
        "program": id_of("prg"),
        "cardholder": None,
        "card": None,
        "merchant": None,
    } | members


def a_webhook(at: datetime = EPOCH, /, **members: Any) -> Document:
    """A document of the third."""
    id_ = id_of("evt", at)
    return {
        "_id": id_,
        "revision": 1,
        "id": id_,
        "source": "processor",
        "received_at": instant_text(at),
        "program": None,
        "payload": '{"a.b":{"$c":"\\u0000"}}',
    } | members


def authorizations_of_a_month(number: int, seed: random.Random) -> list[Document]:
    """Documents spread over thirty days, cards and merchants, some of them declined."""
    cards = [id_of("crd") for _ in range(5)]
    made = []
    for place in range(number):
        at = EPOCH + timedelta(days=30) * place / number
        declined = seed.random() < 0.3
        made.append(
            an_authorization(
                at,
                card=seed.choice(cards),
                amount=seed.randrange(1, 1_000),
                decision="declined" if declined else "approved",
                reason=seed.choice(["card_frozen", "mcc_blocked"]) if declined else None,
                merchant=seed.choice([None, {"id": "m-1"}, {"id": "m-2"}]),
            )
        )
    return made


async def all_of(archive: Archive, collection: Collection) -> dict[str, Document]:
    """Everything in a small collection, by its id."""
    first = f"{collection.prefix}_{'0' * 32}"
    return {one["_id"]: one for one in await archive.after(collection, first, 500)}
