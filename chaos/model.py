"""`model.py`: an account as it must be: every change in the order of versions, by simple rules.

Shares no code with the product. Knows amounts, holds and a card's limit over its lifetime; does no
I/O. A change that may not have been made raises `Impossible`.
"""

from collections import Counter
from dataclasses import dataclass, field


class Impossible(Exception):
    """What stands in the ledger cannot have been decided; the text says why."""


@dataclass(slots=True)
class Hold:
    """Funds of one approval.

    Args:
        card: that spends.
        amount: approved.
        captured: of it.
        released: of it.
    """

    card: str
    amount: int
    captured: int = 0
    released: int = 0

    @property
    def rest(self) -> int:
        """What is still reserved."""
        return self.amount - self.captured - self.released


@dataclass(slots=True)
class Model:
    """One account.

    Args:
        floor: the least that may be available.
        limits: of each card over its lifetime; None where there is none.
    """

    floor: int
    limits: dict[str, int | None]
    posted: int = 0
    held: int = 0
    version: int = 0
    holds: dict[str, Hold] = field(default_factory=dict)
    spent: Counter[str] = field(default_factory=Counter)
    """What each card holds or has captured."""

    @property
    def available(self) -> int:
        """What may be spent."""
        return self.posted - self.held - self.floor

    def refusal(self, card: str, amount: int) -> str | None:
        """The rule that an authorization breaks now, or None."""
        limit = self.limits[card]
        if limit is not None and self.spent[card] + amount > limit:
            return "spend_limit_exceeded"
        if amount > self.available:
            return "insufficient_available_balance"
        return None

    def approve(self, authorization: str, card: str, amount: int) -> None:
        """An authorization is approved."""
        refusal = self.refusal(card, amount)
        if refusal is not None:
            raise Impossible(f"{amount} was approved, and {refusal}: {self.available} available")
        if authorization in self.holds:
            raise Impossible("it was approved before")
        self.holds[authorization] = Hold(card, amount)
        self.held += amount
        self.spent[card] += amount
        self.version += 1

    def deposit(self, amount: int) -> None:
        """Money comes."""
        self.posted += amount
        self.version += 1

    def withdraw(self, amount: int) -> None:
        """Money goes, if it is there."""
        if amount > self.available:
            raise Impossible(f"{amount} was withdrawn, and {self.available} was available")
        self.posted -= amount
        self.version += 1

    def capture(self, authorization: str, amount: int, *, final: bool) -> int:
        """A part of a hold is taken; returns how much of the hold ends."""
        hold = self._open(authorization)
        if amount > hold.rest:
            raise Impossible(f"{amount} was captured, and {hold.rest} remained")
        hold.captured += amount
        self.held -= amount
        self.posted -= amount
        self.version += 1
        return amount + (self._release(hold, hold.rest) if final else 0)

    def reverse(self, authorization: str, amount: int | None) -> int:
        """A part of a hold, or all that remains, is given back; returns how much."""
        hold = self._open(authorization)
        self.version += 1
        return self._release(hold, hold.rest if amount is None else min(amount, hold.rest))

    def abandon(self, authorization: str) -> int:
        """An approval that nobody was answered is void; returns what it had reserved."""
        hold = self._open(authorization)
        if hold.rest != hold.amount:
            raise Impossible("it was abandoned after a part of it had been used")
        self.version += 1
        return self._release(hold, hold.amount)

    def _release(self, hold: Hold, amount: int) -> int:
        hold.released += amount
        self.held -= amount
        self.spent[hold.card] -= amount
        return amount

    def _open(self, authorization: str) -> Hold:
        hold = self.holds.get(authorization)
        if hold is None or not hold.rest:
            raise Impossible(f"{authorization} has no open hold")
        return hold
