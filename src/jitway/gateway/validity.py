"""`validity.py`: from when until when a card may spend is set; no state of the card changes by it.

Changes under the account's lock, like everything about a card: what was asked before is decided by
the old validity, and everything after the answer by the new one.
"""

from datetime import datetime
from enum import Enum

from jitway.adapters.postgresql import PostgreSQLAdapter, TransactionClient
from jitway.clock import Clock
from jitway.domain.instant import parse_instant
from jitway.domain.validity import Moment, end_instant, first_instant
from jitway.errors import Conflict, InvalidRequest
from jitway.gateway import owned
from jitway.gateway.caller import Answer, Caller, Idempotency
from jitway.gateway.documents import Document, card_document, text_of
from jitway.gateway.keyed import keep, once
from jitway.gateway.trail import Act
from jitway.ledger.idempotency import claim
from jitway.sql import statements

_SQL = statements("cards")


class Kept(Enum):
    """Says that one end of a validity stays as it is."""

    KEPT = "kept"


KEPT = Kept.KEPT


async def change_card_validity(
    postgres: PostgreSQLAdapter,
    clock: Clock,
    caller: Caller,
    card_id: str,
    *,
    valid_from: Moment | Kept | None = KEPT,
    valid_until: Moment | Kept | None = KEPT,
    idempotency: Idempotency | None = None,
    reason: str | None = None,
) -> Answer:
    """Sets when a card may spend.

    Args:
        postgres: the ledger.
        clock: for ids.
        caller: who asks.
        card_id: `crd_...`.
        valid_from: an instant, or the first date of the program's calendar; None is since ever.
        valid_until: an instant, or the last date; None is for ever.
        idempotency: their key and content, or None.
        reason: for the audit.

    Returns:
        200 and the card; no later authorization is decided by the old validity.

    Raises:
        NotFound: there is no such card for this caller.
        Conflict: the card is closed.
        InvalidRequest: it would end before it begins.
        LockTimeout: its account stayed locked elsewhere.
    """

    async def act(client: TransactionClient) -> Answer:
        before = await owned.lock_card(client, caller, card_id)
        trail = Act.of(clock, caller, reason)
        at = await claim(client, caller.scope, idempotency, subject=trail.id[4:])
        if before["status"] == "closed":
            raise Conflict("the card is closed, for good", "card_closed")
        bounds = await validity_bounds(
            client,
            before["program"],
            _instant(before, "valid_from") if isinstance(valid_from, Kept) else valid_from,
            _instant(before, "valid_until") if isinstance(valid_until, Kept) else valid_until,
        )
        await client.query(_SQL["change_card_validity"], [card_id[4:], *bounds])
        after = card_document(await owned.row(client, "card", card_id))
        await trail.announce(client, "card.validity_changed", after, at=at)
        await trail.record(client, "card.validity_changed", after, before=before, at=at)
        return await keep(client, caller, idempotency, Answer(200, text_of(after)), at=at)

    return await once(postgres, caller, idempotency, act)


async def validity_bounds(
    client: TransactionClient,
    program_id: str,
    valid_from: Moment | None,
    valid_until: Moment | None,
) -> tuple[datetime | None, datetime | None]:
    """From when, and from when on not any more, by the program's calendar; in UTC.

    Args:
        client: in a transaction.
        program_id: `prg_...`.
        valid_from: an instant, or the first date; None is since ever.
        valid_until: an instant, or the last date; None is for ever.

    Raises:
        InvalidRequest: it would end before it begins, or is out of the calendar.
    """
    if valid_from is None and valid_until is None:
        return None, None
    zone = await owned.zone(client, program_id)
    try:
        first, end = first_instant(valid_from, zone), end_instant(valid_until, zone)
    except OverflowError:
        raise InvalidRequest("the date is out of the calendar", "/valid_until") from None
    if first is not None and end is not None and first >= end:
        raise InvalidRequest("a card is valid from before until after", "/valid_until")
    return first, end


def _instant(card: Document, name: str) -> datetime | None:
    return None if card[name] is None else parse_instant(card[name])
