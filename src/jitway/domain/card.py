"""`card.py`: a card with everything above it, as a view, and what a decision may look at.

A `CardView` is read outside the lock and is only a hint: the batch compares its versions with
the rows under the lock, and reloads it when one differs.
"""

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from jitway.domain.limits import SpendControls, SpendWindow, WindowStarts


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


@dataclass(frozen=True, slots=True)
class CardView:
    """A card, its cardholder and its program, as they were at their versions.

    Args:
        program: the widest level.
        cardholder: the person or entity.
        card: the narrowest level.
        account_id: where its money is.
        zone: the calendar of the program's windows.
    """

    program: Level
    cardholder: Level
    card: Level
    account_id: str
    zone: ZoneInfo

    @property
    def levels(self) -> tuple[Level, Level, Level]:
        """From the widest to the narrowest: the order in which controls are checked."""
        return (self.program, self.cardholder, self.card)

    @property
    def versions(self) -> tuple[int, int, int]:
        """What the lock must find unchanged."""
        return (self.program.version, self.cardholder.version, self.card.version)

    @property
    def wide_owners(self) -> tuple[str, ...]:
        """Owners of counted limits that several accounts spend against: locks of their own."""
        return tuple(level.id for level in (self.program, self.cardholder) if level.controls.counts)


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
    """

    view: CardView
    account: Account
    windows: dict[str, SpendWindow]
    starts: WindowStarts
