"""`capture.py`: money moves against a hold: wholly, partly, more than once."""

from jitway.adapters.postgresql import PostgreSQLAdapter, TransactionClient
from jitway.clock import Clock, id_digits
from jitway.domain.authorization import Hold, Message
from jitway.errors import Conflict, InvalidRequest, NotFound
from jitway.gateway.caller import Answer, Caller, Idempotency
from jitway.gateway.keyed import keep, once
from jitway.ledger.idempotency import claim
from jitway.ledger.posting import Authorized, authorized, lock_held, on_hold, post


async def capture(
    postgres: PostgreSQLAdapter,
    clock: Clock,
    caller: Caller,
    idempotency: Idempotency,
    authorization_id: str,
    *,
    amount: int,
    final: bool,
) -> Answer:
    """Moves money of an open authorization to the network.

    Args:
        postgres: the ledger.
        clock: for the transfer's id.
        caller: who asks.
        idempotency: their key and content.
        authorization_id: `aut_...`.
        amount: minor units, at most what remains of the hold.
        final: whether the rest of the hold is given back.

    Returns:
        201 and the transfer.

    Raises:
        NotFound: there is no such authorization for this caller.
        Conflict: the authorization is not open, or less than the amount remains of it.
        IdempotencyConflict: the key was used with other content.
        LockTimeout: the account stayed locked elsewhere.
    """
    if amount <= 0:
        raise InvalidRequest("the amount to capture must be above zero", "/amount")

    async def act(client: TransactionClient) -> Answer:
        authorization = await open_authorization(client, caller, authorization_id)
        held = await lock_held(client, authorization)
        transfer_id = clock.new_id("trf")
        await claim(client, caller.scope, idempotency, subject=transfer_id[4:])
        _demand_capturable(held.hold, amount)
        released = held.hold.remaining - amount if final else 0
        posting = on_hold(
            held, Message.CAPTURE, transfer_id=transfer_id, captured=amount, released=released
        )
        await post(client, posting)
        return await keep(client, caller, idempotency, Answer(201, posting.body), at=posting.at)

    return await once(postgres, caller, idempotency, act)


async def open_authorization(
    client: TransactionClient, caller: Caller, authorization_id: str
) -> Authorized:
    """What was approved; its hold may have ended since.

    Raises:
        NotFound: there is no such authorization for this caller.
        Conflict: it was declined, or is of a kind that reserves nothing.
    """
    if id_digits(authorization_id, "aut") is None:
        raise NotFound("there is no authorization with this id")
    authorization = await authorized(client, authorization_id)
    if authorization is None or not caller.may_see(authorization.program_id):
        raise NotFound("there is no authorization with this id")
    if not authorization.approved:
        raise Conflict("the authorization was declined", "authorization_not_open")
    if not authorization.reserves:
        raise Conflict("the authorization reserved nothing", "authorization_not_open")
    return authorization


def _demand_capturable(hold: Hold, amount: int) -> None:
    if not hold.takes(Message.CAPTURE):
        raise Conflict(f"the authorization is {hold.state}, not open", "authorization_not_open")
    if amount > hold.remaining:
        raise Conflict(
            f"{hold.remaining} remains of the authorization, less than {amount}",
            "capture_over_remaining",
        )
