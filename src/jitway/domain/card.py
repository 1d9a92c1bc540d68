"""`card.py`: a card with everything above it, as a view, and what a decision may look at.

A `CardView` is read outside the lock and is only a hint: the batch compares its versions with
the rows under the lock, and reloads it when one differs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from jitway.domain.limits import LISTED, Period, SpendControls, SpendWindow, WindowStarts


@dataclass(frozen=True, slots=True)
class Level:
    """One owner of controls over a card: the program, the cardholder or the card itself.

    Args:
        name: `program`, `cardholder` or `card`.
        id: the owner's id.
        state: `active` or what keeps it from spending.
        version: grows with every change of the owner or of its controls.
        controls: its limits and lists.
    """

    name: str
    id: str
    state: str
    version: int
    controls: SpendControls


class Listed(NamedTuple):
    """One list of one level that is not empty.

    Args:
        rule: what it looks at, as `mcc` or `mcc_allowed`.
        level: whose it is.
        values: what it refuses, or all that it lets pass.
        allows: whether what is in it passes, and nothing else.
    """

    rule: str
    level: str
    values: frozenset[str]
    allows: bool


class Validity(NamedTuple):
    """When a card may spend: from the first instant until before the second; None has no end."""

    valid_from: datetime | None
    valid_until: datetime | None


class Bound(NamedTuple):
    """One figure of one level that a request must stay within.

    Args:
        rule: `amount_limit`, `spend_limit` or `count_limit`.
        level: whose it is.
        owner_id: whose window counts.
        period: of the window.
        label: of the period.
        bound: minor units, or approvals.
    """

    rule: str
    level: str
    owner_id: str
    period: Period
    label: str
    bound: int


@dataclass(frozen=True, slots=True)
class CardView:
    """A card, its cardholder and its program, as they were at their versions.

    What follows from them is worked out once, when the view is made: it serves many requests.

    Args:
        program: the widest level.
        cardholder: the person or entity.
        card: the narrowest level.
        account_id: where its money is.
        zone: the calendar of the program's windows.
        validity: of the card; None when it has none.
    """

    program: Level
    cardholder: Level
    card: Level
    account_id: str
    zone: ZoneInfo
    validity: Validity | None = None
    levels: tuple[Level, Level, Level] = field(init=False, repr=False, compare=False)
    """From the widest to the narrowest: the order in which controls are checked."""
    is_active: bool = field(init=False, repr=False, compare=False)
    """Whether every level is active, and the card has no validity to look at."""
    versions: tuple[int, int, int] = field(init=False, repr=False, compare=False)
    """What the lock must find unchanged."""
    wide_owners: tuple[str, ...] = field(init=False, repr=False, compare=False)
    """Owners of counted limits that several accounts spend against: locks of their own."""
    lists: tuple[Listed, ...] = field(init=False, repr=False, compare=False)
    """The lists of all levels, in the order in which they are checked."""
    bounds: tuple[Bound, ...] = field(init=False, repr=False, compare=False)
    """The limits of all levels, in the order in which they are checked."""

    def __post_init__(self) -> None:
        levels = (self.program, self.cardholder, self.card)
        wide = (level.id for level in levels[:2] if level.controls.counts)
        for name, value in (
            ("levels", levels),
            (
                "is_active",
                self.validity is None and all(level.state == "active" for level in levels),
            ),
            ("versions", tuple(level.version for level in levels)),
            ("wide_owners", tuple(wide)),
            ("lists", lists_of(levels)),
            ("bounds", bounds_of(levels)),
        ):
            object.__setattr__(self, name, value)


# The enum of reasons has the lists in this order, whatever level they stand on: what is blocked
# anywhere is blocked, also where another list allows it.
_LISTS = LISTED + tuple(f"{name}_allowed" for name in LISTED)


def lists_of(levels: Sequence[Level]) -> tuple[Listed, ...]:
    """The lists of some levels, the widest first, in the order in which they are checked."""
    return tuple(sorted(_lists(levels), key=_by_list))


def bounds_of(levels: Sequence[Level]) -> tuple[Bound, ...]:
    """The limits of some levels, the widest first, in the order in which they are checked."""
    return tuple(sorted(_bounds(levels), key=_by_rule))


def _lists(levels: Sequence[Level]) -> Iterator[Listed]:
    for level in levels:
        for name, values in level.controls.blocked:
            if values:
                yield Listed(name, level.name, values, allows=False)
        for name, values in level.controls.allowed:
            if values:
                yield Listed(f"{name}_allowed", level.name, values, allows=True)


def _by_list(listed: Listed) -> int:
    return _LISTS.index(listed.rule)


# Amounts per transaction come first, then amounts of windows, then counts.
_BOUND_RULES = ("amount_limit", "spend_limit", "count_limit")


def _by_rule(bound: Bound) -> int:
    """Within one rule the program stays before the cardholder, and that before the card."""
    return _BOUND_RULES.index(bound.rule)


def _bounds(levels: Sequence[Level]) -> Iterator[Bound]:
    amount_rule, spend_rule, count_rule = _BOUND_RULES
    for level in levels:
        for limit in level.controls.limits:
            period = limit.period
            is_counted = period is not Period.TRANSACTION
            whose = (level.name, level.id, period, period.label)
            if limit.amount is not None:
                yield Bound(spend_rule if is_counted else amount_rule, *whose, limit.amount)
            if limit.count is not None and is_counted:
                yield Bound(count_rule, *whose, limit.count)


@dataclass(slots=True)
class Account:
    """A funding account under its lock; earlier requests of the batch have changed it already."""

    id: str
    currency: str
    state: str
    posted: int
    held: int
    floor: int
    shortfall: int
    version: int

    @property
    def available(self) -> int:
        """What may still be spent, in minor units: posted, less held, less the floor."""
        return self.posted - self.held - self.floor

    def hold(self, amount: int) -> None:
        """Reserves an amount; the account's next version."""
        self.held += amount
        self.version += 1


@dataclass(slots=True)
class Standing:
    """All that a decision may look at, at one instant, under the lock.

    Args:
        view: the card with its levels, at the versions that the lock saw.
        account: its account.
        windows: by owner id; every level with a counted limit has one, and the card always.
        starts: the windows of this instant.
        at: the instant.
    """

    view: CardView
    account: Account
    windows: dict[str, SpendWindow]
    starts: WindowStarts
    at: datetime
