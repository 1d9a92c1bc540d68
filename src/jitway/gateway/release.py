"""`release.py`: a hold ends without a capture: reversed, expired by our clock, or abandoned."""

from collections.abc import Iterable
from datetime import UTC, datetime

from jitway.adapters.postgresql import PostgreSQLAdapter, TransactionClient
from jitway.clock import Clock
from jitway.domain.authorization import HoldState, Message
from jitway.errors import Conflict, InvalidRequest, LockTimeout
from jitway.gateway.caller import Answer, Caller, Idempotency
from jitway.gateway.capture import open_authorization
from jitway.gateway.keyed import keep, once
from jitway.ledger.idempotency import claim, in_transaction
from jitway.ledger.posting import (
    Held,
    authorized,
    lock_account,
    lock_held,
    on_hold,
    post,
)
from jitway.sql import statements

_SQL = statements("postings")

_PAGE = 200
_FIRST = (datetime.min.replace(tzinfo=UTC), "0" * 32)


async def reverse(
    postgres: PostgreSQLAdapter,
    clock: Clock,
    caller: Caller,
    idempotency: Idempotency,
    authorization_id: str,
    *,
    amount: int | None,
) -> Answer:
    """Gives back what an open authorization reserves, or a part of it.

    Args:
        postgres: the ledger.
        clock: for the transfer's id.
        caller: who asks.
        idempotency: their key and content.
        authorization_id: `aut_...`.
        amount: minor units; more than remains means all that remains, and so does None.

    Returns:
        201 and the transfer.

    Raises:
        NotFound: there is no such authorization for this caller.
        Conflict: nothing remains of it, or it was declined.
        IdempotencyConflict: the key was used with other content.
        LockTimeout: the account stayed locked elsewhere.
    """
    if amount is not None and amount <= 0:
        raise InvalidRequest("the amount to reverse must be above zero", "/amount")

    async def act(client: TransactionClient) -> Answer:
        authorization = await open_authorization(client, caller, authorization_id)
        held = await lock_held(client, authorization)
        transfer_id = clock.new_id("trf")
        await claim(client, caller.scope, idempotency, subject=transfer_id[4:])
        if not held.hold.takes(Message.REVERSAL):
            raise Conflict(
                f"the authorization is {held.hold.state}, not open", "authorization_not_open"
            )
        released = held.hold.remaining if amount is None else min(amount, held.hold.remaining)
        posting = on_hold(held, Message.REVERSAL, transfer_id=transfer_id, released=released)
        await post(client, posting)
        return await keep(client, caller, idempotency, Answer(201, posting.body), at=posting.at)

    return await once(postgres, caller, idempotency, act)


async def abandon(
    postgres: PostgreSQLAdapter, clock: Clock, approvals: Iterable[tuple[str, str]]
) -> list[str]:
    """Voids approvals that are known never to have been answered.

    One that does not stand, was recalled since, or whose hold was touched is left as it is. May be
    repeated with the same approvals.

    Args:
        postgres: the ledger.
        clock: for the transfers' ids.
        approvals: ids of authorizations, each with its account's, since the commit that made it
            may still be under way: only the account's lock tells whether it stands.

    Returns:
        The ids of those that are void now.

    Raises:
        StoreUnavailable: one could not be settled; nor were those after it.
    """
    return [
        authorization_id
        for authorization_id, account_id in approvals
        if await _abandon_one(postgres, clock, authorization_id, account_id)
    ]


async def _abandon_one(
    postgres: PostgreSQLAdapter, clock: Clock, authorization_id: str, account_id: str
) -> bool:
    async def act(client: TransactionClient) -> bool:
        await lock_account(client, account_id)
        authorization = await authorized(client, authorization_id)
        if authorization is None or not authorization.reserves:
            return False
        held = await lock_held(client, authorization)
        if held.hold.state is HoldState.ABANDONED:
            return True
        untouched = held.hold.remaining == held.hold.amount
        if held.recalled or not untouched or not held.hold.takes(Message.ABANDONMENT):
            return False
        await _release_all(client, clock, held, Message.ABANDONMENT)
        return True

    return await in_transaction(postgres, act)


async def expire(postgres: PostgreSQLAdapter, clock: Clock, *, limit: int) -> int:
    """Ends holds whose time is over, each in a transaction of its own.

    Which are due is the database's clock to say, so that a gateway with a wrong clock cannot end
    the holds of all. Those of an account that is locked elsewhere are passed over; they are due
    again next time.

    Args:
        postgres: the ledger.
        clock: for the transfers' ids.
        limit: how many at most.

    Returns:
        How many ended.

    Raises:
        StoreUnavailable: the ledger is away.
    """
    expired = 0
    size = min(_PAGE, limit)
    after = _FIRST
    while expired < limit:
        due = [*after, size]
        page = await postgres.execute_query(_SQL["due_holds"], due, repeatable=True)
        for row in page:
            if expired < limit and await _expire_one(postgres, clock, f"aut_{row['id'].hex}"):
                expired += 1
        if len(page) < size:
            break
        after = (page[-1]["expires_at"], page[-1]["id"].hex)
    return expired


async def _expire_one(postgres: PostgreSQLAdapter, clock: Clock, authorization_id: str) -> bool:
    async def act(client: TransactionClient) -> bool:
        authorization = await authorized(client, authorization_id)
        if authorization is None:
            # Damage, which `verify` reports; it must not keep the sweep from all others.
            return False
        held = await lock_held(client, authorization)
        # Another sweep, a capture or a reversal may have been first.
        if not held.hold.takes(Message.EXPIRY) or held.expires_at > held.now:
            return False
        await _release_all(client, clock, held, Message.EXPIRY)
        return True

    try:
        return await in_transaction(postgres, act)
    except LockTimeout:
        return False


async def _release_all(
    client: TransactionClient, clock: Clock, held: Held, message: Message
) -> None:
    posting = on_hold(held, message, transfer_id=clock.new_id("trf"), released=held.hold.remaining)
    await post(client, posting)
