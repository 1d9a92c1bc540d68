"""A reference ledger, small enough to be believed. Shares no code with the product.

Everything is recomputed from the list of what happened: an approval, and what of it was captured
and released. Nothing is kept that could drift.
"""

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

# The program of the model lives five hours behind UTC, all year.
BEHIND_UTC = timedelta(hours=5)
ZONE = "Etc/GMT+5"

Limits = dict[str, tuple[int | None, int | None]]


@dataclass
class ModelAccount:
    """What was put in and taken out, and how far below zero it may go."""

    moved: int = 0
    credit_line: int = 0
    changes: int = 0


@dataclass
class Lists:
    """Countries that are blocked, and the only ones that are allowed."""

    blocked: frozenset[str] = frozenset()
    allowed: frozenset[str] = frozenset()


@dataclass
class ModelCard:
    """A card, its state, its validity and the controls of its own."""

    account: str
    state: str = "active"
    limits: Limits = field(default_factory=dict)
    lists: Lists = field(default_factory=Lists)
    valid_from: datetime | None = None
    valid_until: datetime | None = None


@dataclass(frozen=True)
class Request:
    """What is asked."""

    card: str
    amount: int
    kind: str = "purchase"
    partial: bool = False
    country: str | None = None


@dataclass
class Approval:
    """What was reserved, and what became of it."""

    id: str
    card: str
    account: str
    amount: int
    decided_at: datetime
    captured: int = 0
    released: int = 0
    ended: str | None = None
    recalled: bool = False

    @property
    def remaining(self) -> int:
        return 0 if self.ended else self.amount - self.captured - self.released

    @property
    def status(self) -> str:
        if self.ended is None:
            return "open"
        return "captured" if self.captured else self.ended

    def take(self, captured: int, released: int, end: str) -> None:
        """Books what happened; the last of it ends the approval."""
        self.captured += captured
        self.released += released
        if self.captured + self.released == self.amount:
            self.ended = end


@dataclass
class Model:
    """One program."""

    accounts: dict[str, ModelAccount] = field(default_factory=dict)
    cards: dict[str, ModelCard] = field(default_factory=dict)
    limits: Limits = field(default_factory=dict)
    lists: Lists = field(default_factory=Lists)
    approvals: dict[str, Approval] = field(default_factory=dict)

    def posted(self, account: str) -> int:
        captured = sum(one.captured for one in self._of(account))
        return self.accounts[account].moved - captured

    def held(self, account: str) -> int:
        return sum(one.remaining for one in self._of(account))

    def available(self, account: str) -> int:
        return self.posted(account) - self.held(account) + self.accounts[account].credit_line

    def version(self, account: str) -> int:
        return self.accounts[account].changes

    def decide(self, request: Request, now: datetime) -> tuple[str | None, int]:
        """Why a request is declined, or None, and how much of it is approved."""
        reason = self.barred(request, now)
        if reason or request.kind in ("account_verification", "balance_inquiry"):
            return reason, 0
        amount = request.amount
        if request.partial and request.kind == "purchase":
            room = self.room(request.card, now)
            if 0 < room < amount:
                amount = room
        reason = self.short(request.card, amount, now)
        return reason, 0 if reason else amount

    def barred(self, request: Request, now: datetime) -> str | None:
        """Why no amount at all would pass."""
        asked = self.cards[request.card]
        if asked.state == "closed":
            return "card_not_active"
        if asked.state == "frozen":
            return "card_frozen"
        if asked.valid_from and now < asked.valid_from:
            return "card_not_yet_valid"
        if asked.valid_until and now >= asked.valid_until:
            return "card_expired"
        both = (self.lists, asked.lists)
        if any(request.country in lists.blocked for lists in both):
            return "country_blocked"
        if any(lists.allowed and request.country not in lists.allowed for lists in both):
            return "country_not_allowed"
        return None

    def room(self, card: str, now: datetime) -> int:
        """The most that the balance and every limit by amount leave."""
        rooms = [self.available(self.cards[card].account)]
        for limits, mine in ((self.limits, None), (self.cards[card].limits, card)):
            for period, (amount_max, _) in limits.items():
                if amount_max is not None:
                    spent = 0 if period == "transaction" else self.spent(mine, period, now)[0]
                    rooms.append(amount_max - spent)
        return min(rooms)

    def short(self, card: str, amount: int, now: datetime) -> str | None:
        """Which limit an amount breaks, or that there is too little of it."""
        asked = self.cards[card]
        every = [
            (period, amount_max, count_max, spent, count)
            for limits, mine in ((self.limits, None), (asked.limits, card))
            for period, (amount_max, count_max) in limits.items()
            for spent, count in [self.spent(mine, period, now)]
        ]
        for period, amount_max, _, _, _ in every:
            if period == "transaction" and amount_max is not None and amount > amount_max:
                return "amount_over_limit"
        for period, amount_max, _, spent, _ in every:
            if period != "transaction" and amount_max is not None and spent + amount > amount_max:
                return "spend_limit_exceeded"
        for period, _, count_max, _, count in every:
            if period != "transaction" and count_max is not None and count + 1 > count_max:
                return "count_limit_exceeded"
        if amount > self.available(asked.account):
            return "insufficient_available_balance"
        return None

    def spent(self, card: str | None, period: str, now: datetime) -> tuple[int, int]:
        """Amount and count of the current window of a card, or of all cards."""
        counted = [
            one
            for one in self.approvals.values()
            if card in (None, one.card)
            and window(period, one.decided_at) == window(period, now)
            and one.released < one.amount
        ]
        return sum(one.amount - one.released for one in counted), len(counted)

    def approve(self, id_: str, card: str, amount: int, now: datetime) -> Approval:
        account = self.cards[card].account
        self.accounts[account].changes += 1
        approval = Approval(id_, card, account, amount, now)
        self.approvals[id_] = approval
        return approval

    def _of(self, account: str) -> list[Approval]:
        return [one for one in self.approvals.values() if one.account == account]


def window(period: str, instant: datetime) -> object:
    """What two instants of one window have in common."""
    local = (instant - BEHIND_UTC).replace(tzinfo=None)
    if period == "day":
        return local.date()
    if period == "week":
        return (local.date() - date(2001, 1, 1)).days // 7
    if period == "month":
        return local.year, local.month
    if period == "year":
        return local.year
    return None
