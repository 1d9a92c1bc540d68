"""`changes.py`: what a program, a cardholder, an account or a card is called or may borrow changes.

Owns the fields that may change once a thing is made; everything else about it never does, or has
verbs of its own. What is above a card is answered for once older batches have ended, as elsewhere.
"""

from collections.abc import Callable, Mapping
from typing import Any

from jitway.adapters.postgresql import PostgreSQLAdapter, TransactionClient
from jitway.clock import Clock
from jitway.domain.money import AMOUNT_MINOR_MAX
from jitway.errors import Conflict, InvalidRequest, StatementRefused
from jitway.gateway import owned
from jitway.gateway.caller import Answer, Caller, Idempotency
from jitway.gateway.controls import wait_for_older_batches
from jitway.gateway.documents import Document, text_of
from jitway.gateway.keyed import keep, once
from jitway.gateway.trail import Act
from jitway.gateway.validity import instant_of, validity_after
from jitway.ledger.idempotency import claim
from jitway.sql import statements

_SQL = statements("administration")

# By kind: the statement, and its values beside the id from the thing as it shall be.
_WRITTEN: Mapping[str, tuple[str, Callable[[Document], list[object]]]] = {
    "program": ("rename_program", lambda new: [new["name"]]),
    "cardholder": ("change_cardholder", lambda new: [new["external_id"], new["name"]]),
    "account": ("account_floor", lambda new: [-new["credit_line"]]),
    "card": (
        "change_card",
        lambda new: [
            new["external_id"],
            new["last4"],
            instant_of(new["valid_from"]),
            instant_of(new["valid_until"]),
        ],
    ),
}


_VALIDITY = ("valid_from", "valid_until")


async def change(
    postgres: PostgreSQLAdapter,
    clock: Clock,
    caller: Caller,
    kind: str,
    id_: str,
    changes: Mapping[str, Any],
    *,
    idempotency: Idempotency | None = None,
    reason: str | None = None,
) -> Answer:
    """Changes some fields of one thing.

    A credit line that is cut below what was spent leaves the rest as `shortfall`: nothing more is
    approved until it is paid back.

    Args:
        postgres: the ledger.
        clock: for ids.
        caller: who asks.
        kind: `program`, `cardholder`, `account` or `card`.
        id_: with the prefix of its kind.
        changes: at least one field, with its new value; None takes a value away. A card's
            `valid_from` and `valid_until` are instants, or its first and last date.
        idempotency: their key and content, or None.
        reason: for the audit.

    Returns:
        200 and the thing; also when it was so before.

    Raises:
        InvalidRequest: nothing would change, a credit line is out of bounds, or a card would end
            before it begins.
        NotFound: there is no such thing for this caller.
        Conflict: the external id is taken, or the account is closed.
        IdempotencyConflict: the key was used with other content.
        LockTimeout: it stayed locked elsewhere, or older work did not end in time; then the change
            stands, and a repeat tells.
    """
    if not changes:
        raise InvalidRequest("say what to change")
    if not 0 <= changes.get("credit_line", 0) <= AMOUNT_MINOR_MAX:
        raise InvalidRequest(f"a credit line is from 0 to {AMOUNT_MINOR_MAX}", "/credit_line")

    async def act(client: TransactionClient) -> Answer:
        before = await owned.lock(client, caller, kind, id_)
        trail = Act.of(clock, caller, reason)
        at = await claim(client, caller.scope, idempotency, subject=trail.id[4:])
        if kind == "account" and before["status"] == "closed":
            raise Conflict("the account is closed", "account_not_active")
        after, version = before, None
        wanted = await _resolved(client, before, changes)
        if any(before[name] != value for name, value in wanted.items()):
            await _write(client, kind, before, wanted)
            after = owned.DOCUMENTS[kind](await owned.row(client, kind, id_))
            version = after["version"] if kind == "account" else None
            if kind == "card":
                await trail.announce(client, "card.changed", after, at=at)
        action = f"{kind}.changed"
        await trail.record(client, action, after, before=before, at=at, account_version=version)
        return await keep(client, caller, idempotency, Answer(200, text_of(after)), at=at)

    try:
        answer = await once(postgres, caller, idempotency, act)
    except StatementRefused as error:
        # Somebody took it between our looking and our writing.
        if error.constraint != f"{kind}_external_id_is_unique":
            raise
        raise owned.external_id_taken(kind, None) from None
    if kind in ("program", "cardholder"):
        await wait_for_older_batches(postgres)
    return answer


async def _resolved(
    client: TransactionClient, before: Document, changes: Mapping[str, Any]
) -> Document:
    """The changes in the form of a document: dates are instants of the program's calendar."""
    validity = {name: changes[name] for name in _VALIDITY if name in changes}
    if not validity:
        return dict(changes)
    return {**changes, **await validity_after(client, before, validity)}


async def _write(
    client: TransactionClient, kind: str, before: Document, changes: Mapping[str, Any]
) -> None:
    external_id = changes.get("external_id")
    if external_id is not None and external_id != before["external_id"]:
        taken = await owned.named(client, kind, before["program"], external_id)
        if taken is not None:
            raise owned.external_id_taken(kind, taken)
    statement, values = _WRITTEN[kind]
    await client.query(_SQL[statement], [before["id"][4:], *values(before | dict(changes))])
