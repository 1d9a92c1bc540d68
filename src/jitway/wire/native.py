"""`native.py`: an authorization in our own JSON, the reference for every other dialect.

Owns its members, their forms and the one canonical text of each request. An unknown member is an
error that names it. Decides nothing and asks nobody: a card's id is looked at, never looked up.
"""

from typing import Annotated, Literal, NamedTuple

from msgspec import UNSET, Meta, Struct, UnsetType

from jitway.domain.message import (
    NO_MERCHANT,
    PRESENCE_OF,
    PURCHASE,
    Authorization,
    CardPresence,
    Merchant,
)
from jitway.wire.forms import (
    AmountOrZero,
    Country,
    Currency,
    EntryModeName,
    Id,
    Mcc,
    Metadata,
    ShortText,
    Text,
    check_amount,
    check_currency,
    refuse_card_number,
)
from jitway.wire.strict import StrictDecoder, canonical, refuse_duplicates

DEADLINE_MS_MAX = 600_000


class MerchantBody(Struct, forbid_unknown_fields=True):
    """Where a card is used; a part that is null is as good as absent."""

    id: ShortText | UnsetType | None = UNSET
    name: Text | UnsetType | None = UNSET
    mcc: Mcc | UnsetType | None = UNSET
    country: Country | UnsetType | None = UNSET


class AuthorizationBody(Struct, forbid_unknown_fields=True):
    """`POST /v1/authorizations`; what is absent is UNSET, so that members can be counted."""

    card: Id
    amount: AmountOrZero
    currency: Currency
    merchant: MerchantBody | UnsetType | None = UNSET
    kind: (
        Literal["purchase", "cash_withdrawal", "account_verification", "balance_inquiry"]
        | UnsetType
    ) = UNSET
    partial_approval: bool | UnsetType = UNSET
    entry_mode: EntryModeName | UnsetType | None = UNSET
    card_present: bool | UnsetType | None = UNSET
    network_reference: ShortText | UnsetType | None = UNSET
    deadline_ms: Annotated[int, Meta(ge=1, le=DEADLINE_MS_MAX)] | UnsetType | None = UNSET
    metadata: Metadata | UnsetType | None = UNSET


class Decoded(NamedTuple):
    """An authorization request as it was read.

    Args:
        request: what is asked, in domain words.
        canonical: the body as canonical JSON, without `deadline_ms` and stated defaults.
        deadline_ms: the caller's own limit in milliseconds, or None.
    """

    request: Authorization
    canonical: bytes
    deadline_ms: int | None


_DECODER = StrictDecoder(AuthorizationBody)


def decode(raw: bytes) -> Decoded:
    """Reads the body of `POST /v1/authorizations`.

    Raises:
        MalformedMessage: the bytes are no JSON, or a member stands twice.
        InvalidRequest: a value is wrong; with its pointer.
    """
    body: AuthorizationBody = _DECODER.decode_once(raw)
    deadline_ms = body.deadline_ms or None
    kind = body.kind or PURCHASE
    if not body.amount or body.kind is not UNSET:
        check_amount(body.amount, kind)
    dropped = _drop_defaults(body)
    content = canonical(body)
    # A member that stood twice is gone from the canonical text, and its colon with it. Without a
    # backslash the texts, and the colons in them, are the same in both.
    if b"\\" in raw or raw.count(b":") != content.count(b":") + dropped:
        refuse_duplicates(raw)
    check_currency(body.currency)
    refuse_card_number(body.card, "/card")
    request = Authorization(
        body.card,
        body.amount,
        body.currency,
        _merchant(body.merchant) if body.merchant else NO_MERCHANT,
        kind,
        body.partial_approval is True,
    )
    if body.entry_mode is not UNSET or body.card_present is not UNSET:
        request.entry_mode = body.entry_mode or None
        request.card_presence = presence(request.entry_mode, card_present=body.card_present)
    return Decoded(request, content, deadline_ms)


def presence(entry_mode: str | None, *, card_present: bool | UnsetType | None) -> str | None:
    """Whether the card was there: as it was said, else as the way of reading it implies.

    Args:
        entry_mode: one of `EntryMode`, or None.
        card_present: what the caller says; None or UNSET when they do not.

    Returns:
        One of `CardPresence`, or None when nobody knows.
    """
    if card_present is True:
        return CardPresence.PRESENT.value
    if card_present is False:
        return CardPresence.NOT_PRESENT.value
    return None if entry_mode is None else PRESENCE_OF.get(entry_mode)


def _drop_defaults(body: AuthorizationBody) -> int:
    """Unsets what says no more than its absence would, and the deadline; how many members."""
    dropped = 0
    if body.deadline_ms is not UNSET:
        body.deadline_ms = UNSET
        dropped += 1
    if body.kind == "purchase":
        body.kind = UNSET
        dropped += 1
    if body.partial_approval is False:
        body.partial_approval = UNSET
        dropped += 1
    if body.entry_mode is None:
        body.entry_mode = UNSET
        dropped += 1
    if body.card_present is None:
        body.card_present = UNSET
        dropped += 1
    if body.network_reference is None:
        body.network_reference = UNSET
        dropped += 1
    if body.merchant is None:
        body.merchant = UNSET
        dropped += 1
    if body.metadata is None or body.metadata == {}:
        body.metadata = UNSET
        dropped += 1
    return dropped


def _merchant(body: MerchantBody) -> Merchant:
    return Merchant(body.id or None, body.name or None, body.mcc or None, body.country or None)
