"""`message.py`: what a caller can say, as the domain understands it. Knows no wire format."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class AuthorizationKind(StrEnum):
    """What is asked for."""

    PURCHASE = "purchase"
    CASH_WITHDRAWAL = "cash_withdrawal"
    ACCOUNT_VERIFICATION = "account_verification"
    BALANCE_INQUIRY = "balance_inquiry"


# Plain texts, as a request carries them: a member of an enum has another hash than its text.
PURCHASE = AuthorizationKind.PURCHASE.value
RESERVES_NOTHING = (
    AuthorizationKind.ACCOUNT_VERIFICATION.value,
    AuthorizationKind.BALANCE_INQUIRY.value,
)


class EntryMode(StrEnum):
    """How the card came to be read."""

    CHIP = "chip"
    CONTACTLESS = "contactless"
    MAGSTRIPE = "magstripe"
    # A card with a chip, read by its stripe.
    FALLBACK = "fallback"
    MANUAL = "manual"
    ECOMMERCE = "ecommerce"
    STORED = "stored"
    RECURRING = "recurring"
    OTHER = "other"


class CardPresence(StrEnum):
    """Whether the card was there."""

    PRESENT = "present"
    NOT_PRESENT = "not_present"


# What a way of reading says of the card's presence; a card that is typed in may be there or not.
PRESENCE_OF: dict[str, str] = {
    EntryMode.CHIP.value: CardPresence.PRESENT.value,
    EntryMode.CONTACTLESS.value: CardPresence.PRESENT.value,
    EntryMode.MAGSTRIPE.value: CardPresence.PRESENT.value,
    EntryMode.FALLBACK.value: CardPresence.PRESENT.value,
    EntryMode.ECOMMERCE.value: CardPresence.NOT_PRESENT.value,
    EntryMode.STORED.value: CardPresence.NOT_PRESENT.value,
    EntryMode.RECURRING.value: CardPresence.NOT_PRESENT.value,
}


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
        amount: minor units; more than zero unless the kind reserves nothing.
        currency: ISO 4217.
        merchant: where.
        kind: what for.
        partial_approval: whether the merchant takes less than the amount; only for a purchase.
        entry_mode: one of `EntryMode`, or None when it is not known.
        card_presence: one of `CardPresence`, or None when it is not known.
    """

    card: str
    amount: int
    currency: str
    merchant: Merchant = NO_MERCHANT
    kind: str = PURCHASE
    partial_approval: bool = False
    entry_mode: str | None = None
    card_presence: str | None = None
