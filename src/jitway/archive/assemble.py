"""`assemble.py`: documents from the ledger's rows, as they are now.

Owns what a document has beyond the object that HTTP answers: what operators search by. An event and
a rebuild both come here, so both make the same document of the same thing.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from jitway.archive.store import (
    AUTHORIZATIONS,
    READ_MAX,
    TRANSACTIONS,
    WEBHOOKS,
    Collection,
    Document,
)
from jitway.domain.instant import instant_text
from jitway.domain.transfer import Layer, transfer_body
from jitway.sql import statements

_SQL = statements("archive")

Row = Mapping[str, Any]
Query = Callable[[str, Sequence[object]], Awaitable[Sequence[Row]]]
"""Reads rows: of a pool, or of a transaction."""

AuthorizationShape = Callable[[Row], Document]
"""An authorization as HTTP answers it, with its explanation, from its row."""


class Assembler(Protocol):
    """Reads documents of the ledger."""

    async def documents(
        self, query: Query, collection: Collection, digits: Iterable[str]
    ) -> list[Document]:
        """Those of the things that exist, in the order of their ids."""


class LedgerAssembler:
    """Makes documents of rows of this ledger.

    Args:
        shape: of an authorization; the one that HTTP uses.
    """

    def __init__(self, shape: AuthorizationShape) -> None:
        self._shape = shape

    async def documents(
        self, query: Query, collection: Collection, digits: Iterable[str]
    ) -> list[Document]:
        """Those of the things that exist, in the order of their ids.

        Args:
            query: reads; each statement has a snapshot of its own.
            collection: what kind of things.
            digits: their ids without prefix.

        Raises:
            StoreUnavailable: the ledger is away.
        """
        made: dict[str, Callable[[Row], Document]] = {
            AUTHORIZATIONS.name: self._authorization,
            TRANSACTIONS.name: _transaction,
            WEBHOOKS.name: _webhook,
        }
        wanted = sorted(set(digits))
        found: list[Document] = []
        for start in range(0, len(wanted), READ_MAX):
            some = wanted[start : start + READ_MAX]
            rows = await query(_SQL[f"ledger_{collection.name}"], [some])
            found += [made[collection.name](row) for row in rows]
        return sorted(found, key=lambda document: str(document["_id"]))

    def _authorization(self, row: Row) -> Document:
        shown = self._shape(row)
        request = msgspec.json.decode(row["request"])
        return {
            "_id": shown["id"],
            "revision": row["revision"],
            **shown,
            "program": _id("prg", row["program_id"]),
            "cardholder": _id("chd", row["cardholder_id"]),
            "kind": row["kind"],
            "merchant": request.get("merchant"),
            "network_reference": request.get("network_reference"),
            "metadata": request.get("metadata"),
        }


def _transaction(row: Row) -> Document:
    """A transfer, which is also one line of its account's statement."""
    shown: Document = msgspec.json.decode(
        transfer_body(
            id=f"trf_{row['id'].hex}",
            kind=row["kind"],
            authorization=_id("aut", row["authorization_id"]),
            account=f"acc_{row['account_id'].hex}",
            amount=row["amount"],
            currency=row["currency"],
            account_version=row["account_version"],
            created_at=row["recorded_at"],
            description=row["description"],
        )
    )
    request = msgspec.json.decode(row["request"]) if row["request"] else {}
    moved = row["amount"] if row["layer"] == Layer.POSTED else 0
    return {
        "_id": shown["id"],
        "revision": row["account_version"],
        **shown,
        "program": _id("prg", row["program_id"]),
        "cardholder": _id("chd", row["cardholder_id"]),
        "card": _id("crd", row["card_id"]),
        "merchant": request.get("merchant"),
        "posted_change": moved if row["is_credit"] else -moved,
        "held_change": row["held_change"],
    }


def _webhook(row: Row) -> Document:
    id_ = f"{WEBHOOKS.prefix}_{row['id'].hex}"
    return {
        "_id": id_,
        "revision": 1,
        "id": id_,
        "program": _id("prg", row["program_id"]),
        "source": row["source"],
        "message_id": row["message_id"],
        # Text, whatever is in it: names and depths of others concern no index.
        "payload": row["payload"],
        "received_at": instant_text(row["received_at"]),
    }


def _id(prefix: str, value: Any) -> str | None:
    return None if value is None else f"{prefix}_{value.hex}"
