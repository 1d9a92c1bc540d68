"""`documents.py`: what a gateway answers, typed. Members that are not known are ignored."""

from typing import Any, Generic, TypeVar

from msgspec import Struct, field

Item = TypeVar("Item")


class Document(Struct, frozen=True, kw_only=True):
    """An answer; amounts in minor units, instants RFC 3339 in UTC, ids prefixed."""


class Finding(Document, frozen=True, kw_only=True):
    """One rule of a decision: the fact it saw, its limit, and by how much it passed or failed."""

    rule: str
    outcome: str
    level: str | None = None
    period: str | None = None
    fact: str | int | None = None
    limit: str | int | None = None
    headroom: int | None = None
    text: str | None = None


class Transfer(Document, frozen=True, kw_only=True):
    """A capture, a reversal, an expiry, a deposit or a withdrawal."""

    id: str
    kind: str
    account: str
    amount: int
    currency: str
    account_version: int
    created_at: str
    authorization: str | None = None
    description: str | None = None


class Balance(Document, frozen=True, kw_only=True):
    """What was available before and after a decision."""

    before: int
    after: int


class Authorization(Document, frozen=True, kw_only=True):
    """A decision, and what became of it.

    `reason` says why it was declined. What stands below `expires_at` is there when the
    authorization is read, not when it is decided.
    """

    id: str
    decision: str
    card: str
    amount: int
    approved_amount: int
    currency: str
    decided_at: str
    status: str
    reason: str | None = None
    account: str | None = None
    available: int | None = None
    account_version: int | None = None
    expires_at: str | None = None
    captured: int | None = None
    released: int | None = None
    remaining: int | None = None
    explanation: list[Finding] | None = None
    summary: str | None = None
    balance: Balance | None = None
    transfers: list[Transfer] | None = None

    @property
    def approved(self) -> bool:
        """Whether it was approved, wholly or in part."""
        return self.decision == "approved"


class Controls(Document, frozen=True, kw_only=True):
    """Limits and lists of one owner."""

    limits: list[dict[str, Any]] = field(default_factory=list)
    allow: dict[str, list[str]] = field(default_factory=dict)
    block: dict[str, list[str]] = field(default_factory=dict)


class Program(Document, frozen=True, kw_only=True):
    """A card program."""

    id: str
    name: str
    currency: str
    time_zone: str
    status: str
    controls: Controls
    version: int
    created_at: str


class Cardholder(Document, frozen=True, kw_only=True):
    """Who carries cards."""

    id: str
    program: str
    status: str
    controls: Controls
    version: int
    created_at: str
    external_id: str | None = None
    name: str | None = None


class Account(Document, frozen=True, kw_only=True):
    """Where money is: `available` is what may be spent."""

    id: str
    program: str
    currency: str
    status: str
    posted: int
    held: int
    available: int
    credit_line: int
    shortfall: int
    version: int
    created_at: str
    cardholder: str | None = None


class Card(Document, frozen=True, kw_only=True):
    """A card: `active`, `frozen` or `closed`."""

    id: str
    program: str
    cardholder: str
    account: str
    status: str
    controls: Controls
    version: int
    created_at: str
    external_id: str | None = None
    last4: str | None = None
    valid_from: str | None = None
    valid_until: str | None = None


class Owner(Document, frozen=True, kw_only=True):
    """A card, a cardholder or a program, with its controls."""

    id: str
    status: str
    controls: Controls
    version: int


class Page(Document, Generic[Item], frozen=True, kw_only=True):
    """Some of many; `next_cursor` is None on the last."""

    data: list[Item]
    next_cursor: str | None = None
