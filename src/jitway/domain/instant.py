"""`instant.py`: how an instant is written: RFC 3339 in UTC, microseconds always, `Z` at the end."""

from datetime import UTC, datetime


def instant_text(instant: datetime) -> str:
    """The instant as the API writes it.

    Args:
        instant: aware and in UTC, as the clock and the database give it.
    """
    # Six fraction digits even when they are zero: texts of equal length sort like the instants.
    return instant.isoformat(timespec="microseconds")[:26] + "Z"


def parse_instant(text: str) -> datetime:
    """The instant that a caller wrote, in UTC.

    Args:
        text: RFC 3339 with an offset.

    Raises:
        ValueError: it is none, or names no offset.
    """
    # `fromisoformat` also takes week dates and bare days, which RFC 3339 does not know.
    if len(text) < 20 or text[10] not in "Tt ":
        raise ValueError("not an RFC 3339 instant")
    instant = datetime.fromisoformat(text.replace("t", "T").replace("z", "Z"))
    if instant.tzinfo is None:
        raise ValueError("an instant needs an offset, such as Z")
    return instant.astimezone(UTC)
