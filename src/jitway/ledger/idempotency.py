"""`idempotency.py`: same key, same answer, for every route but the hot one.

The key is claimed in the transaction of the act, after its locks, and the answer is stored beside
it. Of two equal requests the second waits for the first, finds the key taken, rolls back, and is
answered what the first was. Refusals roll everything back, so they leave no key.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Protocol, TypeVar

from jitway.adapters.postgresql import PostgreSQLAdapter, TransactionClient
from jitway.errors import Conflict, IdempotencyConflict, TransactionConflict
from jitway.ledger.journal import KeyTaken
from jitway.sql import statements

_SQL = statements("postings")

LOCK_TIMEOUT_MS = 300
_ATTEMPTS_MAX = 4

Result = TypeVar("Result")


class Keyed(Protocol):
    """A request's key and content, as digests."""

    @property
    def key(self) -> bytes:
        """Of the key."""

    @property
    def content(self) -> bytes:
        """Of what is asked."""


class StoredAnswer(Protocol):
    """What an act answers."""

    @property
    def status(self) -> int:
        """Of HTTP."""

    @property
    def body(self) -> str:
        """Its text."""


async def recall(
    client: TransactionClient, scope: str, idempotency: Keyed
) -> tuple[int, str] | None:
    """The status and body that the first request with this key was answered, if there was one.

    Args:
        client: in a transaction that has done nothing yet.
        scope: the key space.
        idempotency: the request's.

    Raises:
        IdempotencyConflict: the key was used with other content.
        Conflict: it was used with this content, but its answer is no longer kept.
    """
    rows = await client.query(_SQL["recall"], [scope, idempotency.key])
    if not rows:
        return None
    known = rows[0]
    if known["content"] != idempotency.content:
        raise IdempotencyConflict
    if known["status"] is None:
        raise Conflict("this Idempotency-Key was used, and its answer is gone", "key_used")
    return known["status"], known["body"]


async def claim(
    client: TransactionClient, scope: str, idempotency: Keyed | None, *, subject: str
) -> datetime:
    """Takes the key, if there is one, for what is about to be made; the instant it is made.

    Args:
        client: in the transaction of the act, holding all its locks.
        scope: the key space.
        idempotency: the request's; None where a key is optional and none was sent.
        subject: digits of the id of what is made.

    Raises:
        KeyTaken: another request has it; roll back, and recall.
        LockTimeout: another request with this key is still under way.
    """
    if idempotency is None:
        rows = await client.query(_SQL["instant"])
    else:
        values = [scope, idempotency.key, idempotency.content, subject]
        rows = await client.query(_SQL["claim_key"], values)
    if not rows:
        raise KeyTaken
    now: datetime = rows[0]["now"]
    return now


async def store(
    client: TransactionClient,
    scope: str,
    idempotency: Keyed,
    answer: StoredAnswer,
    *,
    at: datetime,
) -> None:
    """Keeps an answer for repeats of its request, beside the key that was claimed."""
    values = [scope, idempotency.key, answer.status, answer.body, at]
    await client.query(_SQL["store_answer"], values)


async def in_transaction(
    postgres: PostgreSQLAdapter, act: Callable[[TransactionClient], Awaitable[Result]]
) -> Result:
    """Runs an act in one transaction, and again when it lost to another one and left no trace.

    Raises:
        TransactionConflict: it lost every time.
        LockTimeout: a row it needs stayed locked elsewhere.
        OutcomeUnknown: COMMIT was not confirmed; a repeat with the same key tells.
    """
    for _ in range(_ATTEMPTS_MAX - 1):
        try:
            return await postgres.execute_transaction(act, lock_timeout_ms=LOCK_TIMEOUT_MS)
        except TransactionConflict:
            continue
    return await postgres.execute_transaction(act, lock_timeout_ms=LOCK_TIMEOUT_MS)
