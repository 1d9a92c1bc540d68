"""`bodies.py`: the bodies of every route but the hot one, in our own JSON.

Owns their members, forms and bounds, and what they mean in domain words.
"""

import re
from datetime import date, datetime
from functools import cache
from typing import Annotated, ClassVar, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Meta, Struct

from jitway.domain.limits import Limit, Period, SpendControls
from jitway.errors import InvalidRequest
from jitway.wire.forms import (
    Amount,
    AmountOrZero,
    CardPresenceName,
    Country,
    Currency,
    EntryModeName,
    Id,
    LongText,
    Mcc,
    MomentText,
    ShortText,
    Text,
    check_country,
    check_currency,
    moment,
    refuse_card_number,
)
from jitway.wire.strict import StrictDecoder, canonical

LISTED_MAX = 1_000
LIMITS_MAX = 32
COUNT_MAX = 1_000_000_000


class Body(Struct, forbid_unknown_fields=True, omit_defaults=True, frozen=True):
    """A body; a member that is null or states its default is as good as absent."""

    MAY_BE_ABSENT: ClassVar[bool] = False
    """Whether no body at all says the same as `{}`."""

    def canonical(self) -> bytes:
        """The one text of everything that was asked."""
        return canonical(self)

    def check(self) -> None:
        """Refuses what the form alone does not.

        Raises:
            InvalidRequest: with the pointer to the field.
        """


class Capture(Body, frozen=True):
    """`POST /v1/authorizations/{id}/captures`."""

    amount: Amount
    final: bool = True


class Reversal(Body, frozen=True):
    """`POST /v1/authorizations/{id}/reversals`; without an amount, all that remains."""

    MAY_BE_ABSENT: ClassVar[bool] = True

    amount: Amount | None = None


class Program(Body, frozen=True):
    """`POST /v1/programs`."""

    name: Text
    currency: Currency
    time_zone: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_+/-]+\Z", max_length=64)]
    reason: LongText | None = None

    def check(self) -> None:
        """Refuses a currency or a time zone that there is not."""
        check_currency(self.currency)
        _check_time_zone(self.time_zone)


class Cardholder(Body, frozen=True):
    """`POST /v1/cardholders`."""

    program: Id
    external_id: ShortText | None = None
    name: Text | None = None
    reason: LongText | None = None

    def check(self) -> None:
        """Refuses an external id that looks like a card's number."""
        check_external_id(self.external_id)


class Account(Body, frozen=True):
    """`POST /v1/accounts`: of a cardholder or of a program, not of both."""

    currency: Currency
    cardholder: Id | None = None
    program: Id | None = None
    credit_line: AmountOrZero = 0
    reason: LongText | None = None

    def check(self) -> None:
        """Refuses a currency that there is not."""
        check_currency(self.currency)


class Movement(Body, frozen=True):
    """`POST /v1/accounts/{id}/deposits` and `/withdrawals`."""

    amount: Amount
    description: LongText | None = None
    reason: LongText | None = None


class Card(Body, frozen=True):
    """`POST /v1/cards`."""

    cardholder: Id
    account: Id
    external_id: ShortText | None = None
    last4: Annotated[str, Meta(pattern=r"\A[0-9]{4}\Z")] | None = None
    valid_from: MomentText | None = None
    valid_until: MomentText | None = None
    reason: LongText | None = None

    def check(self) -> None:
        """Refuses an external id that looks like a card's number."""
        check_external_id(self.external_id)


class CardState(Body, frozen=True):
    """`POST /v1/cards/{id}/freeze`, `/close` and their like; the body may be absent."""

    MAY_BE_ABSENT: ClassVar[bool] = True

    reason: LongText | None = None


class Login(Body, frozen=True):
    """`POST /dashboard/login`: one of the two."""

    key: ShortText | None = None
    link: ShortText | None = None


class LimitRule(Body, frozen=True):
    """A bound on what may be spent in one period."""

    period: Literal["transaction", "day", "week", "month", "year", "lifetime"]
    amount: AmountOrZero | None = None
    count: Annotated[int, Meta(ge=0, le=COUNT_MAX)] | None = None


class Lists(Body, frozen=True):
    """What is allowed, or blocked, by where and how the card is used."""

    mcc: Annotated[list[Mcc], Meta(max_length=LISTED_MAX)] = []
    merchant: Annotated[list[ShortText], Meta(max_length=LISTED_MAX)] = []
    country: Annotated[list[Country], Meta(max_length=LISTED_MAX)] = []
    entry_mode: Annotated[list[EntryModeName], Meta(max_length=LISTED_MAX)] = []
    card_presence: Annotated[list[CardPresenceName], Meta(max_length=LISTED_MAX)] = []

    def sets(self) -> tuple[frozenset[str], ...]:
        """The lists in the order of `LISTED`."""
        named = (self.mcc, self.merchant, self.country, self.entry_mode, self.card_presence)
        return tuple(frozenset[str](values) for values in named)


class Controls(Body, frozen=True):
    """`PUT /v1/cards/{id}/controls`, and of cardholders and programs."""

    limits: Annotated[list[LimitRule], Meta(max_length=LIMITS_MAX)] = []
    allow: Lists = Lists()
    block: Lists = Lists()
    reason: LongText | None = None


AnyBody = TypeVar("AnyBody", bound=Body)


@cache
def _decoder(kind: type[Body]) -> StrictDecoder:
    return StrictDecoder(kind)


def decode_body(kind: type[AnyBody], raw: bytes) -> AnyBody:
    """Reads the body of one route.

    Args:
        kind: of the body.
        raw: the bytes; none at all where the body may be absent.

    Raises:
        MalformedMessage: the bytes are no JSON, or a member stands twice.
        InvalidRequest: a value is wrong or not supported; with its pointer.
    """
    if not raw and kind.MAY_BE_ABSENT:
        raw = b"{}"
    body: AnyBody = _decoder(kind).decode(raw)
    body.check()
    return body


def check_external_id(external_id: str | None) -> None:
    """Refuses an external id that looks like a card's number.

    Raises:
        InvalidRequest: with the pointer `/external_id`.
    """
    if external_id is not None:
        refuse_card_number(external_id, "/external_id")


def controls_of(body: Controls) -> SpendControls:
    """The controls in domain words, limits in the order of their periods.

    Raises:
        InvalidRequest: a limit limits nothing, two limit the same, or a country is none.
    """
    for name, lists in (("allow", body.allow), ("block", body.block)):
        for position, code in enumerate(lists.country):
            check_country(code, f"/{name}/country/{position}")
    limits: dict[Period, Limit] = {}
    for position, rule in enumerate(body.limits):
        limit = _limit(rule, f"/limits/{position}")
        if limit.period in limits:
            pointer = f"/limits/{position}/period"
            raise InvalidRequest(f"{rule.period} has a limit already", pointer)
        limits[limit.period] = limit
    return SpendControls(
        tuple(limits[period] for period in sorted(limits)),
        *body.block.sets(),
        *body.allow.sets(),
    )


def validity_of(text: str | None, name: str) -> datetime | date | None:
    """One end of a card's validity: an instant, or a date of the program's calendar.

    Args:
        text: as it was written; None is no end.
        name: of the member.

    Raises:
        InvalidRequest: it is neither.
    """
    return None if text is None else moment(text, f"/{name}")


def _limit(rule: LimitRule, pointer: str) -> Limit:
    period = Period[rule.period.upper()]
    if rule.amount is None and rule.count is None:
        raise InvalidRequest("a limit needs an amount or a count", pointer)
    if period is Period.TRANSACTION and rule.count is not None:
        raise InvalidRequest("a limit per transaction has no count", f"{pointer}/count")
    return Limit(period, rule.amount, rule.count)


def _check_time_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidRequest("there is no such time zone", "/time_zone") from None


_is_key = re.compile(r"[!-~]{1,255}").fullmatch


def check_idempotency_key(text: str) -> str:
    """An `Idempotency-Key`, when it is one.

    Raises:
        InvalidRequest: it has not 1 to 255 visible ASCII characters.
    """
    if _is_key(text) is None:
        raise InvalidRequest(
            "the Idempotency-Key header must have 1 to 255 visible ASCII characters",
            code="idempotency_key_invalid",
        )
    return text
