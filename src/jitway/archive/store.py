"""`store.py`: what an archive keeps and how it is asked, whichever store is behind it.

Owns the collections, the questions and the contract of the two implementations: `jsonb.py` in
PostgreSQL, `mongo.py` in MongoDB. Knows no store.

A document is the object that HTTP answers for the thing, with two more members: `_id`, equal to its
`id`, and `revision`, which grows with every change of the thing. Of two revisions the greater one
stays, so late, repeated and reordered deliveries all end in the same archive.
"""

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import msgspec

from jitway.adapters.postgresql import TransactionClient
from jitway.clock import id_digits
from jitway.errors import InvalidRequest

Document = dict[str, Any]

PAGE_DEFAULT: Final = 50
PAGE_MAX: Final = 200
READ_MAX: Final = 500
AMOUNT_MAX: Final = 2**63 - 1

ID_FIRST: Final = "0" * 32
# How far the clock that makes ids may be from the database's. What lies between is read and thrown
# away: a day of it was 33,000 documents of a million, and 170 ms.
_CLOCKS_APART: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Collection:
    """One kind of document.

    Args:
        name: of the collection.
        prefix: of its ids.
        instant: the member that says when it happened.
        filters: what it can be searched by, beside program and time.
    """

    name: str
    prefix: str
    instant: str
    filters: frozenset[str]


AUTHORIZATIONS: Final = Collection(
    "authorizations",
    "aut",
    "decided_at",
    frozenset(
        {"cardholder", "card", "account", "decision", "reason", "merchant"}
        | {"amount_min", "amount_max"}
    ),
)
TRANSACTIONS: Final = Collection(
    "transactions",
    "trf",
    "created_at",
    frozenset({"cardholder", "card", "account", "merchant", "amount_min", "amount_max"}),
)
WEBHOOKS: Final = Collection("webhooks", "evt", "received_at", frozenset())
COLLECTIONS: Final = {one.name: one for one in (AUTHORIZATIONS, TRANSACTIONS, WEBHOOKS)}

_OF_EVERY_COLLECTION = frozenset({"program", "from_", "to"})
_PREFIXES = {"program": "prg", "cardholder": "chd", "card": "crd", "account": "acc"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What to search for; what is None does not restrict.

    Args:
        program: `prg_...`.
        cardholder: `chd_...`.
        card: `crd_...`.
        account: `acc_...`.
        decision: `approved` or `declined`.
        reason: of a decline.
        merchant: the merchant's id.
        amount_min: minor units, or more.
        amount_max: minor units, or less.
        from_: at this instant or later.
        to: before this instant.
    """

    program: str | None = None
    cardholder: str | None = None
    card: str | None = None
    account: str | None = None
    decision: str | None = None
    reason: str | None = None
    merchant: str | None = None
    amount_min: int | None = None
    amount_max: int | None = None
    from_: datetime | None = None
    to: datetime | None = None

    def check(self, collection: Collection) -> None:
        """Refuses what cannot be meant.

        Raises:
            InvalidRequest: with the pointer to the filter.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            pointer = f"/{field.name.rstrip('_')}"
            if field.name not in collection.filters | _OF_EVERY_COLLECTION:
                raise InvalidRequest(f"{collection.name} have no {field.name}", pointer)
            prefix = _PREFIXES.get(field.name)
            if prefix is not None and id_digits(value, prefix) is None:
                raise InvalidRequest(f"this is no {prefix}_ id", pointer)
            if isinstance(value, str) and "\0" in value:
                raise InvalidRequest("a text has no NUL", pointer)
            if isinstance(value, int) and not 0 <= value <= AMOUNT_MAX:
                raise InvalidRequest(f"an amount is from 0 to {AMOUNT_MAX}", pointer)
        if self.decision not in (None, "approved", "declined"):
            raise InvalidRequest("decision is approved or declined", "/decision")


@dataclass(frozen=True, slots=True)
class Page:
    """Documents, the newest first, and where the next ones begin; None on the last page."""

    documents: list[Document]
    next_cursor: str | None


class Archive(Protocol):
    """Where documents are kept."""

    async def ensure_indexes(self) -> None:
        """Makes what is missing of the indexes.

        Raises:
            StoreUnavailable: the store is away.
        """

    async def put_many(
        self,
        collection: Collection,
        documents: Sequence[Document],
        *,
        within: TransactionClient | None = None,
    ) -> int:
        """Keeps each document, unless a revision at least as new is there; safe to repeat.

        Args:
            collection: of all of them.
            documents: each `_id` once.
            within: a transaction of PostgreSQL to be part of, where that is the store.

        Returns:
            How many were kept.

        Raises:
            StoreUnavailable: the store is away; some may have been kept.
            InvalidRequest, StatementRefused: a document cannot be kept.
        """

    async def search(
        self,
        collection: Collection,
        question: Question,
        *,
        limit: int = PAGE_DEFAULT,
        cursor: str | None = None,
    ) -> Page:
        """The newest documents that answer the question.

        The cursor is the last id of the page before: what is added meanwhile is newer, and moves
        nothing from one page to another.

        Args:
            collection: where.
            question: what for.
            limit: 1 to 200.
            cursor: `next_cursor` of the page before.

        Raises:
            InvalidRequest: the question cannot be meant.
            StoreUnavailable: the store is away.
        """

    async def after(self, collection: Collection, id_: str, limit: int) -> list[Document]:
        """The documents with greater ids, in the order of their ids.

        Args:
            collection: where.
            id_: one of its ids, or what stands before all of them.
            limit: 1 to 500.

        Raises:
            StoreUnavailable: the store is away.
        """

    async def remove(self, collection: Collection, documents: Sequence[Document]) -> int:
        """Removes documents, but those that have another revision by now; how many.

        Raises:
            StoreUnavailable: the store is away; some may be removed.
        """

    async def purge(self, collection: Collection, older_than: datetime) -> int:
        """Removes what happened earlier, some thousands at a time; how many; 0 when done.

        Raises:
            StoreUnavailable: the store is away; some may be removed.
        """

    async def health(self) -> None:
        """Returns when the store answers.

        Raises:
            StoreUnavailable: it does not.
        """


def id_at(collection: Collection, instant: datetime) -> str:
    """The least id that could have been made at an instant."""
    milliseconds = int(instant.timestamp() * 1000)
    # Forty-eight bits of milliseconds come first; instants before 1970 have none.
    return f"{collection.prefix}_{min(max(milliseconds, 0), (1 << 48) - 1):012x}" + "0" * 20


def bounds(collection: Collection, question: Question, cursor: str | None) -> tuple[str, str]:
    """The first id that may answer, and the first one that may not any more.

    Raises:
        InvalidRequest: the cursor is none of this collection.
    """
    low = f"{collection.prefix}_{ID_FIRST}"
    if question.from_ is not None:
        low = id_at(collection, _shifted(question.from_, -_CLOCKS_APART))
    if cursor is not None:
        if id_digits(cursor, collection.prefix) is None:
            raise InvalidRequest(f"this is no cursor of {collection.name}", "/cursor")
        return low, cursor
    if question.to is not None:
        return low, id_at(collection, _shifted(question.to, _CLOCKS_APART))
    return low, f"{collection.prefix}_{'f' * 32}"


def check_page(limit: int) -> None:
    """Refuses a page that is too long.

    Raises:
        InvalidRequest: with the pointer `/limit`.
    """
    if not 1 <= limit <= PAGE_MAX:
        raise InvalidRequest(f"limit is from 1 to {PAGE_MAX}", "/limit")


async def every(archive: Archive, collection: Collection) -> AsyncIterator[list[Document]]:
    """All documents in the order of their ids, some at a time."""
    last = f"{collection.prefix}_{ID_FIRST}"
    while some := await archive.after(collection, last, READ_MAX):
        last = some[-1]["_id"]
        yield some


async def content_hash(archive: Archive, collection: Collection) -> tuple[int, str]:
    """How many documents a collection has, and one hash of all that they say."""
    count, digest = 0, hashlib.sha256()
    async for some in every(archive, collection):
        count += len(some)
        for document in some:
            digest.update(msgspec.json.encode(document, order="deterministic"))
    return count, digest.hexdigest()


def _shifted(instant: datetime, by: timedelta) -> datetime:
    try:
        return instant + by
    except OverflowError:
        return instant
