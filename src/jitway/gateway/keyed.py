"""`keyed.py`: runs a verb once for each idempotency key. Authorize has its own way."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from jitway.adapters.postgresql import PostgreSQLAdapter, TransactionClient
from jitway.gateway.caller import Answer, Caller, Idempotency
from jitway.ledger.idempotency import in_transaction, recall, store


async def once(
    postgres: PostgreSQLAdapter,
    caller: Caller,
    idempotency: Idempotency | None,
    act: Callable[[TransactionClient], Awaitable[Answer]],
) -> Answer:
    """The answer of the first request with this key: recalled, or made now in one transaction.

    Args:
        postgres: the ledger.
        caller: whose key space it is.
        idempotency: the request's; None where a key is optional and none was sent.
        act: takes its locks, claims the key, changes everything and stores its answer.

    Raises:
        IdempotencyConflict: the key was used with other content.
        LockTimeout: a row it needs stayed locked elsewhere; nothing was changed.
        OutcomeUnknown: COMMIT was not confirmed; a repeat with the same key tells.
    """

    async def recall_or_act(client: TransactionClient) -> Answer:
        if idempotency is not None:
            known = await recall(client, caller.scope, idempotency)
            if known is not None:
                return Answer(*known, replayed=True)
        return await act(client)

    return await in_transaction(postgres, recall_or_act)


async def keep(
    client: TransactionClient,
    caller: Caller,
    idempotency: Idempotency | None,
    answer: Answer,
    *,
    at: datetime,
) -> Answer:
    """Stores an answer beside its key, where there is one, and gives it back."""
    if idempotency is not None:
        await store(client, caller.scope, idempotency, answer, at=at)
    return answer
