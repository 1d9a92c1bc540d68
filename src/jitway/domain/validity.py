"""`validity.py`: when a card may spend, from what a caller says of it. Pure.

A caller names an instant, or a date of the program's calendar: valid from the first instant of one
date, and until the last of another.
"""

from datetime import UTC, date, datetime, timedelta
from typing import TypeAlias
from zoneinfo import ZoneInfo

from jitway.domain.instant import midnight

Moment: TypeAlias = datetime | date


def first_instant(moment: Moment | None, zone: ZoneInfo) -> datetime | None:
    """From when a card is valid, in UTC; None is since ever.

    Args:
        moment: an aware instant, or a date that the card is valid on.
        zone: the program's.

    Raises:
        OverflowError: it is out of the calendar.
    """
    if moment is None or isinstance(moment, datetime):
        return moment and moment.astimezone(UTC)
    return midnight(moment, zone)


def end_instant(moment: Moment | None, zone: ZoneInfo) -> datetime | None:
    """From when on a card is not valid any more, in UTC; None is never.

    Args:
        moment: an aware instant, or the last date that the card is valid on.
        zone: the program's.

    Raises:
        OverflowError: it is out of the calendar.
    """
    if moment is None or isinstance(moment, datetime):
        return moment and moment.astimezone(UTC)
    return midnight(moment + timedelta(days=1), zone)
