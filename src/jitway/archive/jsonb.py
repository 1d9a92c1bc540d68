"""`jsonb.py`: the archive in PostgreSQL, when MongoDB is not configured.

Owns one table with a partition for each collection. The parts of a document that operators search
by stand in columns of their own, since an index over them is smaller than one into the document.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from jitway.adapters.postgresql import PostgreSQLAdapter, TransactionClient
from jitway.archive.store import (
    PAGE_DEFAULT,
    READ_MAX,
    Collection,
    Document,
    Page,
    Question,
    bounds,
    check_page,
    id_at,
)
from jitway.clock import id_digits
from jitway.domain.instant import parse_instant
from jitway.errors import LedgerUnavailable
from jitway.sql import statements

_SQL = statements("archive")

PUT_AT_ONCE: Final = 500
PURGED_AT_ONCE: Final = 5_000
_SEARCH_TIMEOUT_MS: Final = 10_000
_APART: Final = frozenset({"_id", "revision"})
# Its findings have the same members: their names, written once, save a third of the disk.
_TABLE: Final = "explanation"


class JsonbArchive:
    """The archive in a table of the ledger's PostgreSQL.

    Args:
        postgres: a pool that the decisions do not need.
    """

    def __init__(self, postgres: PostgreSQLAdapter) -> None:
        self._postgres = postgres

    async def ensure_indexes(self) -> None:
        """Nothing to do: they came with the schema."""

    async def put_many(
        self,
        collection: Collection,
        documents: Sequence[Document],
        *,
        within: TransactionClient | None = None,
    ) -> int:
        """See `Archive.put_many`."""
        query = self._postgres.execute_query if within is None else within.query
        kept = 0
        # In one order for all writers, also beyond one statement.
        ordered = sorted(documents, key=lambda document: str(document["_id"]))
        for start in range(0, len(ordered), PUT_AT_ONCE):
            rows = [_row(collection, one) for one in ordered[start : start + PUT_AT_ONCE]]
            columns = list(zip(*rows, strict=True))
            kept += len(await query(_SQL["put_many"], [collection.name, *columns]))
        return kept

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
        values = [
            collection.name,
            high[4:],
            low[4:],
            question.program and question.program[4:],
            question.cardholder and question.cardholder[4:],
            question.card and question.card[4:],
            question.account and question.account[4:],
            question.decision,
            question.reason,
            question.merchant,
            question.amount_min,
            question.amount_max,
            question.from_,
            question.to,
            limit + 1,
        ]

        async def read(transaction: TransactionClient) -> list[dict[str, Any]]:
            await transaction.query(_SQL["plan_for_these_values"], [])
            return list(await transaction.query(_SQL["search"], values))

        rows = await self._postgres.execute_transaction(
            read, read_only=True, statement_timeout_ms=_SEARCH_TIMEOUT_MS
        )
        found = [_document(collection, row) for row in rows[:limit]]
        return Page(found, found[-1]["_id"] if len(rows) > limit else None)

    async def after(self, collection: Collection, id_: str, limit: int) -> list[Document]:
        """See `Archive.after`."""
        assert 1 <= limit <= READ_MAX
        rows = await self._postgres.execute_query(
            _SQL["after"], [collection.name, id_[4:], limit], repeatable=True
        )
        return [_document(collection, row) for row in rows]

    async def remove(self, collection: Collection, documents: Sequence[Document]) -> int:
        """See `Archive.remove`."""
        ids = [document["_id"][4:] for document in documents]
        revisions = [document["revision"] for document in documents]
        values = [collection.name, ids, revisions]
        return len(await self._postgres.execute_query(_SQL["remove"], values))

    async def purge(self, collection: Collection, older_than: datetime) -> int:
        """See `Archive.purge`."""
        values = [collection.name, id_at(collection, older_than)[4:], PURGED_AT_ONCE]
        return len(await self._postgres.execute_query(_SQL["purge"], values))

    async def health(self) -> None:
        """See `Archive.health`."""
        rows = await self._postgres.execute_query(_SQL["is_there"], repeatable=True)
        if not rows[0]["is_there"]:
            raise LedgerUnavailable("the archive's table is missing: run `jitway migrate`")


def _row(collection: Collection, document: Document) -> tuple[Any, ...]:
    """The columns of a document, in the order of the statement's parameters."""
    kept = {
        name: _packed(value) if name == _TABLE else value
        for name, value in document.items()
        if name not in _APART
    }
    return (
        document["_id"][4:],
        document["revision"],
        parse_instant(document[collection.instant]),
        _digits(document, "program", "prg"),
        _digits(document, "cardholder", "chd"),
        _digits(document, "card", "crd"),
        _digits(document, "account", "acc"),
        document.get("decision"),
        document.get("reason"),
        (document.get("merchant") or {}).get("id"),
        document.get("amount"),
        msgspec.json.encode(kept).decode(),
    )


def _digits(document: Document, name: str, prefix: str) -> str | None:
    """Of a declined authorization the card is whatever its caller wrote."""
    value = document.get(name)
    return None if value is None else id_digits(value, prefix)


def _document(collection: Collection, row: dict[str, Any]) -> Document:
    document: Document = msgspec.json.decode(row["document"])
    if _TABLE in document:
        document[_TABLE] = _unpacked(document[_TABLE])
    return {"_id": f"{collection.prefix}_{row['id'].hex}", "revision": row["revision"], **document}


def _packed(findings: Any) -> Any:
    """Objects of the same members as one object: the names, and a row of values for each."""
    if not isinstance(findings, list) or not findings or not isinstance(findings[0], dict):
        return findings
    names = list(findings[0])
    if any(not isinstance(one, dict) or list(one) != names for one in findings):
        return findings
    return {"names": names, "rows": [list(one.values()) for one in findings]}


def _unpacked(stored: Any) -> Any:
    if not isinstance(stored, dict):
        return stored
    return [dict(zip(stored["names"], row, strict=True)) for row in stored["rows"]]
