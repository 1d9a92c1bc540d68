"""`native.py`: an authorization in our own JSON, the reference for every other dialect.

Owns its members, their forms and the one canonical text of each request. An unknown member is an
error that names it. Decides nothing and asks nobody: a card's id is looked at, never looked up.
"""

from typing import Annotated, Literal, NamedTuple

from msgspec import UNSET, Meta, Struct, UnsetType

from jitway.domain.message import NO_MERCHANT, Authorization, AuthorizationKind, Merchant
from jitway.errors import InvalidRequest
from jitway.wire.forms import (
    AmountOrZero,
    Country,
    Currency,
    Id,
    Mcc,
    Metadata,
    ShortText,
    Text,
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
        InvalidRequest: a value is wrong or not supported; with its pointer.
    """
    body: AuthorizationBody = _DECODER.decode_once(raw)
    deadline_ms = body.deadline_ms or None
    _refuse_unsupported(body)
    dropped = _drop_defaults(body)
    content = canonical(body)
    # A member that stood twice is gone from the canonical text, and its colon with it. Without a
    # backslash the texts, and the colons in them, are the same in both.
    if b"\\" in raw or raw.count(b":") != content.count(b":") + dropped:
        refuse_duplicates(raw)
    check_currency(body.currency)
    if body.amount == 0:
        raise InvalidRequest("the amount must be at least 1 minor unit", "/amount")
    refuse_card_number(body.card, "/card")
    request = Authorization(
        body.card,
        body.amount,
        body.currency,
        _merchant(body.merchant) if body.merchant else NO_MERCHANT,
        body.kind or AuthorizationKind.PURCHASE,
    )
    return Decoded(request, content, deadline_ms)


def _refuse_unsupported(body: AuthorizationBody) -> None:
    if body.kind in {"account_verification", "balance_inquiry"}:
        raise InvalidRequest(f"the kind {body.kind} is not supported yet", "/kind", "not_supported")
    if body.partial_approval is True:
        raise InvalidRequest(
            "partial approval is not supported yet", "/partial_approval", "not_supported"
        )


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
