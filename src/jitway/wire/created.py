"""`created.py`: an authorization that is handed in by message, as the guide writes it.

    {"transaction_id": "123", "user_id": "user-456", "card_id": "crd_...", "amount": 100}

It is somebody else's form, so members that are not known are ignored; those that are known must be
right. Decides nothing.
"""

from typing import NamedTuple

from msgspec import Struct

from jitway.domain.message import NO_MERCHANT, Authorization, AuthorizationKind, Merchant
from jitway.errors import InvalidRequest, MalformedMessage
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
from jitway.wire.native import presence
from jitway.wire.strict import StrictDecoder, canonical


class _Merchant(Struct, omit_defaults=True):
    id: ShortText | None = None
    name: Text | None = None
    mcc: Mcc | None = None
    country: Country | None = None


class _Created(Struct, omit_defaults=True):
    amount: AmountOrZero
    transaction_id: ShortText | int | None = None
    id: ShortText | int | None = None
    user_id: ShortText | None = None
    card_id: Id | None = None
    currency: Currency | None = None
    merchant: _Merchant | None = None
    kind: AuthorizationKind = AuthorizationKind.PURCHASE
    partial_approval: bool = False
    entry_mode: EntryModeName | None = None
    card_present: bool | None = None
    network_reference: ShortText | None = None
    metadata: Metadata | None = None


class Created(NamedTuple):
    """What was handed in.

    Args:
        id: the sender's; None when the message has none of its own.
        request: with the currency `""` where that is the account's.
        canonical: the known members as canonical JSON.
    """

    id: str | None
    request: Authorization
    canonical: bytes


_DECODER = StrictDecoder(_Created)


def decode_created(raw: bytes) -> Created:
    """Reads a `jit-funding.created`.

    Raises:
        MalformedMessage: the bytes are no JSON, or a member stands twice.
        InvalidRequest: a member is missing or wrong.
    """
    try:
        body: _Created = _DECODER.decode(raw)
    except RecursionError:
        # What is not known is ignored, but it has to be read.
        raise MalformedMessage("the body is nested too deep") from None
    if body.card_id is None:
        raise InvalidRequest("card_id is missing: nobody knows which card to authorize", "/card_id")
    refuse_card_number(body.card_id, "/card_id")
    kind = body.kind.value
    check_amount(body.amount, kind)
    if body.currency is not None:
        check_currency(body.currency)
    merchant = NO_MERCHANT
    if (given := body.merchant) is not None:
        merchant = Merchant(given.id, given.name, given.mcc, given.country)
    request = Authorization(
        body.card_id,
        body.amount,
        body.currency or "",
        merchant,
        kind,
        body.partial_approval,
        body.entry_mode,
        presence(body.entry_mode, card_present=body.card_present),
    )
    given_id = body.transaction_id if body.transaction_id is not None else body.id
    return Created(None if given_id is None else str(given_id), request, canonical(body))
