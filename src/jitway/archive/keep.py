"""`keep.py`: what the three queues do to the archive: a handler for each.

An event says that something changed; the document is made of the ledger's rows as they are when it
is handled. So events may come twice, late or in any order: the newest revision of each thing stays,
and it is the one that a rebuild makes.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

from jitway.adapters.postgresql import TransactionClient
from jitway.archive.assemble import Assembler
from jitway.archive.store import AUTHORIZATIONS, TRANSACTIONS, WEBHOOKS, Archive, Collection
from jitway.clock import id_digits
from jitway.errors import MalformedMessage

DECIDED: Final = frozenset({"jit-funding.approved", "jit-funding.declined"})


class Fact(Protocol):
    """What an event tells the archive."""

    @property
    def type(self) -> str:
        """Such as `transaction.captured`."""

    @property
    def digits(self) -> str:
        """Of the thing that happened."""

    @property
    def data(self) -> dict[str, Any]:
        """The thing itself."""


Handler = Callable[[Sequence[Fact], TransactionClient], Awaitable[None]]


def keep_decisions(archive: Archive, assembler: Assembler) -> Handler:
    """The handler of `jit-funding-queue`: authorizations with their explanation."""

    async def handler(events: Sequence[Fact], transaction: TransactionClient) -> None:
        for event in events:
            if event.type not in DECIDED:
                raise MalformedMessage(f"the archive knows no {event.type} with our envelope")
        digits = [event.digits for event in events]
        await _keep(archive, assembler, AUTHORIZATIONS, digits, transaction)

    return handler


def keep_transactions(archive: Archive, assembler: Assembler) -> Handler:
    """The handler of `transaction-processing-queue`.

    Keeps each transfer, the line of its account's statement, and what became of its authorization.
    """

    async def handler(events: Sequence[Fact], transaction: TransactionClient) -> None:
        transfers = [event.digits for event in events]
        await _keep(archive, assembler, TRANSACTIONS, transfers, transaction)
        authorizations = [found for event in events if (found := _authorization(event)) is not None]
        if authorizations:
            await _keep(archive, assembler, AUTHORIZATIONS, authorizations, transaction)

    return handler


def keep_webhooks(archive: Archive, assembler: Assembler) -> Handler:
    """The handler of `webhook-queue`: what processors told us, redacted."""

    async def handler(events: Sequence[Fact], transaction: TransactionClient) -> None:
        digits = [event.digits for event in events]
        await _keep(archive, assembler, WEBHOOKS, digits, transaction)

    return handler


def _authorization(event: Fact) -> str | None:
    named = event.data.get("authorization")
    if named is None:
        return None
    digits = id_digits(named, AUTHORIZATIONS.prefix) if isinstance(named, str) else None
    if digits is None:
        raise MalformedMessage("its authorization is no aut_ id")
    return digits


async def _keep(
    archive: Archive,
    assembler: Assembler,
    collection: Collection,
    digits: Sequence[str],
    transaction: TransactionClient,
) -> None:
    documents = await assembler.documents(transaction.query, collection, digits)
    missing = set(digits) - {document["_id"][4:] for document in documents}
    if missing:
        named = f"{collection.prefix}_{min(missing)}"
        raise MalformedMessage(f"the ledger has no {named}, which this event is about")
    await archive.put_many(collection, documents, within=transaction)
