"""`documents.py`: what a gateway answers, typed. Members that are not known are ignored."""

from typing import Any, Generic, TypeVar

from msgspec import Struct, field

Item = TypeVar("Item")


class Document(Struct, frozen=True, kw_only=True):
    """An answer; amounts in minor units, instants RFC 3339 in UTC, ids prefixed."""


class Authorization(Document, frozen=True, kw_only=True):
    """A decision, and what became of it.

    `reason` says why it was declined. `captured`, `released`, `remaining` and `explanation` are
    there when it is read, not when it is decided.
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
    explanation: list[dict[str, Any]] | None = None

    @property
    def approved(self) -> bool:
        """Whether money is reserved for it, wholly or in part."""
        return self.decision == "approved"


class Transfer(Document, frozen=True, kw_only=True):
    """A capture, a reversal, a deposit or a withdrawal."""

    id: str
    kind: str
    account: str
    amount: int
    currency: str
    account_version: int
    created_at: str
    authorization: str | None = None
    description: str | None = None


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
    controls: Controls = Controls()


class Cardholder(Document, frozen=True, kw_only=True):
    """Who carries cards."""

    id: str
    program: str
    status: str
    controls: Controls = Controls()
    external_id: str | None = None
    name: str | None = None


class Account(Document, frozen=True, kw_only=True):
    """Where money is: `available` is what may be spent."""

    id: str
    currency: str
    posted: int
    held: int
    available: int
    version: int
    status: str
    program: str | None = None
    cardholder: str | None = None
    credit_line: int = 0


class Card(Document, frozen=True, kw_only=True):
    """A card: `active`, `frozen` or closed."""

    id: str
    cardholder: str
    account: str
    status: str
    controls: Controls = Controls()
    external_id: str | None = None
    last4: str | None = None


class Owner(Document, frozen=True, kw_only=True):
    """A card, a cardholder or a program, with its controls."""

    id: str
    status: str
    controls: Controls


class Page(Document, Generic[Item], frozen=True, kw_only=True):
    """Some of many; `next_cursor` is None on the last."""

    data: list[Item]
    next_cursor: str | None = None
