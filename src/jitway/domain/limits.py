"""`limits.py`: spend controls against their windows, by the program's calendar.

A window is a calendar period that begins at a local date: a day of 23 or 25 hours is one day.
Holds count at once, in the window of their decision; a capture stays there; what is given back
is taken from it, unless it is over. An approval counts as one until all of it was given back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo


class Period(IntEnum):
    """The periods a limit can have, in the order in which they are checked."""

    TRANSACTION = -1
    DAY = 0
    WEEK = 1
    MONTH = 2
    YEAR = 3
    LIFETIME = 4

    @property
    def label(self) -> str:
        """The period as the API writes it."""
        return self.name.lower()


COUNTED_PERIODS = (Period.DAY, Period.WEEK, Period.MONTH, Period.YEAR, Period.LIFETIME)
LIFETIME_START = date.min

WindowStarts: TypeAlias = tuple[date, date, date, date, date]


def window_starts(instant: datetime, zone: ZoneInfo) -> WindowStarts:
    """The local dates at which the windows of an instant began.

    Args:
        instant: aware, any zone.
        zone: the program's.

    Returns:
        The first dates of the day, the ISO week (Monday), the month, the year and the lifetime.
    """
    today = instant.astimezone(UTC).astimezone(zone).date()
    return (
        today,
        today - timedelta(days=today.weekday()),
        today.replace(day=1),
        today.replace(month=1, day=1),
        LIFETIME_START,
    )


@dataclass(slots=True)
class SpendWindow:
    """What one owner of limits has spent in each of its current windows.

    Args:
        owner_id: a card, a cardholder or a program.
        version: as read; the write asks for it again.
        starts: when each window began.
        amounts: minor units, held or captured, by period.
        counts: approvals not wholly given back, by period.
    """

    owner_id: str
    version: int = 0
    starts: list[date] = field(default_factory=lambda: [date.min] * 5)
    amounts: list[int] = field(default_factory=lambda: [0] * 5)
    counts: list[int] = field(default_factory=lambda: [0] * 5)

    def spent(self, period: Period, starts: WindowStarts) -> tuple[int, int]:
        """Amount and count in the window that began at `starts[period]`; zero when it is new."""
        if starts[period] > self.starts[period]:
            return 0, 0
        return self.amounts[period], self.counts[period]

    def add(self, amount: int, starts: WindowStarts) -> None:
        """Counts one approval; a window that rolled over begins again with it."""
        for period in COUNTED_PERIODS:
            # A clock that stepped back counts into the later window: never forget what was spent.
            if starts[period] > self.starts[period]:
                self.starts[period] = starts[period]
                self.amounts[period] = 0
                self.counts[period] = 0
            self.amounts[period] += amount
            self.counts[period] += 1

    def give_back(self, amount: int, starts: WindowStarts, *, whole: bool) -> None:
        """Takes back what a reversal or an expiry released.

        Args:
            amount: minor units.
            starts: the windows of the decision that had counted it.
            whole: whether nothing of that approval is left, held or captured.
        """
        for period in COUNTED_PERIODS:
            if starts[period] == self.starts[period]:
                self.amounts[period] -= amount
                self.counts[period] -= whole


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound on what may be spent in one period.

    Args:
        period: of the program's calendar.
        amount: minor units at most, or None.
        count: approvals at most, or None; a transaction has none.
    """

    period: Period
    amount: int | None = None
    count: int | None = None


@dataclass(frozen=True, slots=True)
class SpendControls:
    """What one owner allows. A list that is empty says nothing.

    Args:
        limits: in the order of their periods.
        blocked_mccs: merchant category codes that are refused.
        blocked_merchants: merchant ids that are refused.
        blocked_countries: ISO 3166 alpha-2 codes that are refused.
        blocked_entry_modes: ways of reading the card that are refused.
        blocked_card_presences: `present` or `not_present`, refused.
        allowed_mccs: the only merchant category codes that pass, if there are any; so do the rest.
        allowed_merchants: the only merchant ids.
        allowed_countries: the only countries.
        allowed_entry_modes: the only ways of reading the card.
        allowed_card_presences: the only presence.
    """

    limits: tuple[Limit, ...] = ()
    blocked_mccs: frozenset[str] = frozenset()
    blocked_merchants: frozenset[str] = frozenset()
    blocked_countries: frozenset[str] = frozenset()
    blocked_entry_modes: frozenset[str] = frozenset()
    blocked_card_presences: frozenset[str] = frozenset()
    allowed_mccs: frozenset[str] = frozenset()
    allowed_merchants: frozenset[str] = frozenset()
    allowed_countries: frozenset[str] = frozenset()
    allowed_entry_modes: frozenset[str] = frozenset()
    allowed_card_presences: frozenset[str] = frozenset()

    @property
    def blocked(self) -> tuple[tuple[str, frozenset[str]], ...]:
        """The block lists in the order in which they are checked, by what they look at."""
        return (
            ("mcc", self.blocked_mccs),
            ("merchant", self.blocked_merchants),
            ("country", self.blocked_countries),
            ("entry_mode", self.blocked_entry_modes),
            ("card_presence", self.blocked_card_presences),
        )

    @property
    def allowed(self) -> tuple[tuple[str, frozenset[str]], ...]:
        """The allow lists likewise; all of them come after all block lists."""
        return (
            ("mcc", self.allowed_mccs),
            ("merchant", self.allowed_merchants),
            ("country", self.allowed_countries),
            ("entry_mode", self.allowed_entry_modes),
            ("card_presence", self.allowed_card_presences),
        )

    @property
    def counts(self) -> bool:
        """Whether a limit needs a window."""
        return any(limit.period is not Period.TRANSACTION for limit in self.limits)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "SpendControls":
        """The controls in a stored document of the API's form, which was checked when stored.

        Args:
            document: `{"limits": [{"period", "amount"?, "count"?}], "allow": {"mcc": [], ...},
                "block": {"mcc": [], ...}}`.
        """
        limits = [
            Limit(Period[limit["period"].upper()], limit.get("amount"), limit.get("count"))
            for limit in document.get("limits", ())
        ]
        return cls(
            tuple(sorted(limits, key=lambda limit: limit.period)),
            *_listed(document.get("block", {})),
            *_listed(document.get("allow", {})),
        )


# What lists can look at, in the order in which they are checked.
LISTED = ("mcc", "merchant", "country", "entry_mode", "card_presence")


def _listed(lists: Mapping[str, Any]) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(lists.get(name, ())) for name in LISTED)


NO_CONTROLS = SpendControls()
