"""`instant.py`: how an instant is written: RFC 3339 in UTC, microseconds always, `Z` at the end."""

import re
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

_RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
).fullmatch


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
    # `fromisoformat` also takes week dates, bare days and local times, which are no instants.
    if _RFC_3339(text) is None:
        raise ValueError("not an RFC 3339 instant with an offset, such as Z")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except OverflowError:
        raise ValueError("the instant is out of the calendar") from None


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """The first instant of a local date in UTC, also where a clock change skips its midnight.

    Raises:
        OverflowError: it is out of the calendar.
    """
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
