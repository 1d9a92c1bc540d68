"""`states.py`: programs, cardholders and accounts are stopped, let go on, and closed for good.

Cards have verbs of their own (`administer.py`). An account changes under its lock, so before or
after any batch. A program or a cardholder changes beside batches that are under way, so the caller
is answered only once all of these have ended.
"""

from typing import Literal, NamedTuple

from jitway.adapters.postgresql import PostgreSQLAdapter, TransactionClient
from jitway.clock import Clock
from jitway.errors import Conflict
from jitway.gateway import owned
from jitway.gateway.caller import Answer, Caller, Idempotency
from jitway.gateway.controls import wait_for_older_batches
from jitway.gateway.documents import Document, text_of
from jitway.gateway.keyed import keep, once
from jitway.gateway.trail import Act
from jitway.ledger.idempotency import claim
from jitway.sql import statements

_SQL = statements("administration")

Kind = Literal["program", "cardholder", "account"]


class Turn(NamedTuple):
    """What one verb does to a state.

    Args:
        state: afterwards.
        action: as the audit names it.
    """

    state: str
    action: str


_WIDE = {
    "suspend": Turn("suspended", "suspended"),
    "resume": Turn("active", "resumed"),
    "close": Turn("closed", "closed"),
}
TURNS: dict[Kind, dict[str, Turn]] = {
    "program": _WIDE,
    "cardholder": _WIDE,
    "account": {
        "freeze": Turn("frozen", "frozen"),
        "unfreeze": Turn("active", "unfrozen"),
        "close": Turn("closed", "closed"),
    },
}


async def turn(
    postgres: PostgreSQLAdapter,
    clock: Clock,
    caller: Caller,
    kind: Kind,
    id_: str,
    verb: str,
    *,
    idempotency: Idempotency | None = None,
    reason: str | None = None,
) -> Answer:
    """Changes the state of a program, a cardholder or an account.

    Args:
        postgres: the ledger.
        clock: for ids.
        caller: who asks.
        kind: of the thing.
        id_: with the prefix of its kind.
        verb: one of `TURNS[kind]`.
        idempotency: their key and content, or None.
        reason: for the audit.

    Returns:
        200 and the thing; also when it was in that state before. No later authorization is decided
        by the state before.

    Raises:
        NotFound: there is no such thing for this caller.
        Conflict: it is closed, or an account to be closed still has money or holds.
        IdempotencyConflict: the key was used with other content.
        LockTimeout: it stayed locked elsewhere, or older work did not end in time; then the change
            stands, and a repeat tells.
    """
    new = TURNS[kind][verb]

    async def act(client: TransactionClient) -> Answer:
        before = await owned.lock(client, caller, kind, id_)
        trail = Act.of(clock, caller, reason)
        at = await claim(client, caller.scope, idempotency, subject=trail.id[4:])
        _demand_possible(kind, before, new)
        after, version = before, None
        if before["status"] != new.state:
            await client.query(_SQL[f"{kind}_state"], [id_[4:], new.state])
            after = owned.DOCUMENTS[kind](await owned.row(client, kind, id_))
            version = after["version"] if kind == "account" else None
        action = f"{kind}.{new.action}"
        await trail.record(client, action, after, before=before, at=at, account_version=version)
        return await keep(client, caller, idempotency, Answer(200, text_of(after)), at=at)

    answer = await once(postgres, caller, idempotency, act)
    if kind != "account":
        await wait_for_older_batches(postgres)
    return answer


def _demand_possible(kind: Kind, before: Document, new: Turn) -> None:
    if before["status"] == "closed" != new.state:
        raise Conflict(f"the {kind} is closed, for good", f"{kind}_not_active")
    if kind == "account" and new.state == "closed" != before["status"]:
        if before["held"]:
            raise Conflict(f"{before['held']} is still held", "account_not_empty")
        if before["posted"]:
            raise Conflict(f"{before['posted']} is still posted", "account_not_empty")
