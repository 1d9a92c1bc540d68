"""`validity.py`: from when until when a card may spend, by its program's calendar; not a state."""

from datetime import datetime

from jitway.adapters.postgresql import TransactionClient
from jitway.domain.instant import instant_text, parse_instant
from jitway.domain.validity import Moment, end_instant, first_instant
from jitway.errors import InvalidRequest
from jitway.gateway import owned
from jitway.gateway.documents import Document


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
        raise InvalidRequest("the card would end before it begins", "/valid_until")
    return first, end


async def validity_after(
    client: TransactionClient,
    card: Document,
    changes: dict[str, Moment | None],
) -> Document:
    """What a change makes of a card's validity, as the API shows it.

    Args:
        client: in the transaction that holds the card.
        card: as it was.
        changes: `valid_from`, `valid_until` or both; what is absent stays.

    Raises:
        InvalidRequest: it would end before it begins, or is out of the calendar.
    """
    kept = {name: instant_of(card[name]) for name in ("valid_from", "valid_until")}
    wanted = kept | changes
    first, end = await validity_bounds(
        client, card["program"], wanted["valid_from"], wanted["valid_until"]
    )
    return {
        "valid_from": first and instant_text(first),
        "valid_until": end and instant_text(end),
    }


def instant_of(text: str | None) -> datetime | None:
    """An instant that a document shows."""
    return None if text is None else parse_instant(text)
