"""`mongo.py`: the archive in MongoDB.

Owns the collections' indexes and the form in which names and numbers of others are stored, so that
every server of that protocol keeps them. Uses only operations that all of those servers have.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from jitway.adapters.mongodb import MongoDBAdapter
from jitway.adapters.postgresql import TransactionClient
from jitway.archive.store import (
    AUTHORIZATIONS,
    COLLECTIONS,
    PAGE_DEFAULT,
    READ_MAX,
    TRANSACTIONS,
    WEBHOOKS,
    Collection,
    Document,
    Page,
    Question,
    bounds,
    check_page,
    id_at,
)
from jitway.domain.instant import instant_text

PURGED_AT_ONCE: Final = 5_000
# What an integer of MongoDB holds.
INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1

# Newest first, page by page: hence `_id` in each.
_INDEXED: Final = {
    AUTHORIZATIONS.name: (
        *("program", "cardholder", "card", "account", "decision", "reason", "merchant.id"),
        *("amount", "decided_at"),
    ),
    TRANSACTIONS.name: (
        *("program", "cardholder", "card", "account", "merchant.id", "amount", "created_at"),
    ),
    WEBHOOKS.name: ("program", "received_at"),
}
# No name of a document is stored like this: each `%` of theirs becomes `%25`.
_BIG: Final = "%integer"


class MongoArchive:
    """The archive in a database of MongoDB.

    Args:
        mongodb: the adapter.
    """

    def __init__(self, mongodb: MongoDBAdapter) -> None:
        self._mongodb = mongodb
        self._is_indexed = False

    async def ensure_indexes(self) -> None:
        """See `Archive.ensure_indexes`."""
        for name in COLLECTIONS:
            await self._mongodb.create_indexes(
                name, [[(field, 1), ("_id", -1)] for field in _INDEXED[name]]
            )
        self._is_indexed = True

    async def put_many(
        self,
        collection: Collection,
        documents: Sequence[Document],
        *,
        within: TransactionClient | None = None,
    ) -> int:
        """See `Archive.put_many`."""
        if not self._is_indexed:
            # MongoDB may have been away when this process started, or be another, empty one.
            await self.ensure_indexes()
        stored = [_storable(document) for document in documents]
        return await self._mongodb.replace_many(collection.name, stored, newer_by="revision")

    async def search(
        self,
        collection: Collection,
        question: Question,
        *,
        limit: int = PAGE_DEFAULT,
        cursor: str | None = None,
    ) -> Page:
        """See `Archive.search`."""
        check_page(limit)
        question.check(collection)
        low, high = bounds(collection, question, cursor)
        query = {"_id": {"$lt": high, "$gte": low}, **_query(collection, question)}
        rows = await self._mongodb.find(collection.name, query, sort=[("_id", -1)], limit=limit + 1)
        found = [_restored(row) for row in rows[:limit]]
        return Page(found, found[-1]["_id"] if len(rows) > limit else None)

    async def after(self, collection: Collection, id_: str, limit: int) -> list[Document]:
        """See `Archive.after`."""
        assert 1 <= limit <= READ_MAX
        rows = await self._mongodb.find(
            collection.name, {"_id": {"$gt": id_}}, sort=[("_id", 1)], limit=limit
        )
        return [_restored(row) for row in rows]

    async def remove(self, collection: Collection, documents: Sequence[Document]) -> int:
        """See `Archive.remove`."""
        removed = 0
        for document in documents:
            as_read = {"_id": document["_id"], "revision": document["revision"]}
            removed += await self._mongodb.delete_one(collection.name, as_read)
        return removed

    async def purge(self, collection: Collection, older_than: datetime) -> int:
        """See `Archive.purge`."""
        query = {"_id": {"$lt": id_at(collection, older_than)}}
        old = await self._mongodb.find(
            collection.name,
            query,
            projection=["_id"],
            sort=[("_id", 1)],
            limit=PURGED_AT_ONCE,
        )
        if not old:
            return 0
        return await self._mongodb.delete_many(collection.name, {"_id": {"$lte": old[-1]["_id"]}})

    async def health(self) -> None:
        """See `Archive.health`."""
        await self._mongodb.ping()


def _query(collection: Collection, question: Question) -> dict[str, Any]:
    """The question as MongoDB has it; instants are texts of equal length, and sort like them."""
    equal = {
        "program": question.program,
        "cardholder": question.cardholder,
        "card": question.card,
        "account": question.account,
        "decision": question.decision,
        "reason": question.reason,
        "merchant.id": question.merchant,
    }
    query: dict[str, Any] = {name: value for name, value in equal.items() if value is not None}
    within: dict[str, dict[str, Any]] = {
        "amount": {"$gte": question.amount_min, "$lte": question.amount_max},
        collection.instant: {
            "$gte": question.from_ and instant_text(question.from_),
            "$lt": question.to and instant_text(question.to),
        },
    }
    for name, limits in within.items():
        given = {operator: value for operator, value in limits.items() if value is not None}
        if given:
            query[name] = given
    return query


def _storable(value: Any) -> Any:
    """What every server can keep: names without `$`, `.` and NUL, integers of at most 64 bits."""
    if isinstance(value, Mapping):
        return {_safe_name(name): _storable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(inner) for inner in value]
    if isinstance(value, int) and not INT_MIN <= value <= INT_MAX:
        return {_BIG: str(value)}
    return value


def _restored(value: Any) -> Any:
    """What was stored, as it was given."""
    if isinstance(value, Mapping):
        if value.keys() == {_BIG}:
            return int(value[_BIG])
        return {_true_name(name): _restored(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_restored(inner) for inner in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)  # the driver's own kind of integer is of no use elsewhere
    return value


def _safe_name(name: str) -> str:
    safe = name.replace("%", "%25").replace(".", "%2E").replace("$", "%24").replace("\0", "%00")
    return safe or "%"


def _true_name(name: str) -> str:
    if name == "%":
        return ""
    return name.replace("%00", "\0").replace("%24", "$").replace("%2E", ".").replace("%25", "%")
