"""`message.py`: what a caller can say, as the domain understands it. Knows no wire format."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class AuthorizationKind(StrEnum):
    """What is asked for."""

    PURCHASE = "purchase"
    CASH_WITHDRAWAL = "cash_withdrawal"


class Merchant(NamedTuple):
    """Where the card is used; any part may be unknown.

    Args:
        id: the card acceptor's id.
        name: as the network says it.
        mcc: merchant category code, four digits.
        country: ISO 3166 alpha-2.
    """

    id: str | None = None
    name: str | None = None
    mcc: str | None = None
    country: str | None = None


NO_MERCHANT = Merchant()


@dataclass(slots=True)
class Authorization:
    """A request to reserve funds.

    Args:
        card: the card's id as the caller wrote it.
        amount: minor units, more than zero.
        currency: ISO 4217.
        merchant: where.
        kind: what for.
    """

    card: str
    amount: int
    currency: str
    merchant: Merchant = NO_MERCHANT
    kind: str = AuthorizationKind.PURCHASE
