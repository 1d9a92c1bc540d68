"""`forms.py`: the forms that a field of our API can have, each with its bounds."""

from datetime import date, datetime
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from jitway.domain.country import is_country
from jitway.domain.instant import parse_instant
from jitway.domain.message import RESERVES_NOTHING
from jitway.domain.money import AMOUNT_MINOR_MAX, is_currency
from jitway.errors import InvalidRequest

METADATA_MAX = 50

# `\Z` and not `$`: that one also matches before a newline at the end.
_TEXT = r"\A[^\x00-\x1f\x7f-\x9f\u2028\u2029]+\Z"
Id: TypeAlias = Annotated[str, Meta(pattern=r"\A[!-~]+\Z", max_length=64)]
Amount: TypeAlias = Annotated[int, Meta(ge=1, le=AMOUNT_MINOR_MAX)]
AmountOrZero: TypeAlias = Annotated[int, Meta(ge=0, le=AMOUNT_MINOR_MAX)]
Currency: TypeAlias = Annotated[str, Meta(pattern=r"\A[A-Z]{3}\Z")]
Mcc: TypeAlias = Annotated[str, Meta(pattern=r"\A[0-9]{4}\Z")]
Country: TypeAlias = Annotated[str, Meta(pattern=r"\A[A-Z]{2}\Z")]
EntryModeName: TypeAlias = Literal[
    "chip",
    "contactless",
    "magstripe",
    "fallback",
    "manual",
    "ecommerce",
    "stored",
    "recurring",
    "other",
]
CardPresenceName: TypeAlias = Literal["present", "not_present"]
# An instant or a date; read by `moment`.
MomentText: TypeAlias = Annotated[str, Meta(min_length=10, max_length=40)]
ShortText: TypeAlias = Annotated[str, Meta(pattern=_TEXT, max_length=64)]
Text: TypeAlias = Annotated[str, Meta(pattern=_TEXT, max_length=200)]
LongText: TypeAlias = Annotated[str, Meta(pattern=_TEXT, max_length=500)]
Metadata: TypeAlias = Annotated[dict[ShortText, LongText], Meta(max_length=METADATA_MAX)]


def check_currency(code: str) -> None:
    """Refuses what has the form of a currency and is none.

    Raises:
        InvalidRequest: with the pointer `/currency`.
    """
    if not is_currency(code):
        raise InvalidRequest("the currency is no active ISO 4217 code", "/currency")


def check_amount(amount: int, kind: str) -> None:
    """Refuses an amount that the kind of an authorization cannot have.

    Args:
        amount: minor units, not negative.
        kind: one of `AuthorizationKind`.

    Raises:
        InvalidRequest: with the pointer `/amount`.
    """
    if amount > 0:
        if kind == "account_verification":
            raise InvalidRequest("the amount of an account_verification is 0", "/amount")
    elif kind not in RESERVES_NOTHING:
        raise InvalidRequest(
            "the amount must be at least 1 minor unit: 0 is an account_verification", "/amount"
        )


def check_country(code: str, pointer: str) -> None:
    """Refuses what has the form of a country and is none, so that no list misses its aim.

    Raises:
        InvalidRequest: with its pointer.
    """
    if not is_country(code):
        raise InvalidRequest(f"{code} is no ISO 3166 alpha-2 code", pointer)


def moment(text: str, pointer: str) -> datetime | date:
    """An instant in UTC, or a date of the program's calendar, as it was written.

    Raises:
        InvalidRequest: it is neither; with its pointer.
    """
    try:
        # Other forms of a date have no hyphens, or name weeks.
        if len(text) == len("2026-01-31") and text[4] == text[7] == "-":
            return date.fromisoformat(text)
        return parse_instant(text)
    except ValueError:
        raise InvalidRequest(
            "neither an RFC 3339 instant with an offset nor a date such as 2026-01-31", pointer
        ) from None


def refuse_card_number(text: str, pointer: str) -> None:
    """Refuses what looks like a card's number: it must never be kept, not even in a decline.

    Args:
        text: what stands where an id is expected.
        pointer: to that field.

    Raises:
        InvalidRequest: 13 to 19 digits with a right check digit.
    """
    if not 13 <= len(text) <= 19 or not (text.isascii() and text.isdecimal()):
        return
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in text[-2::-2])
    if (doubled + sum(int(digit) for digit in text[-1::-2])) % 10 == 0:
        raise InvalidRequest(
            "this looks like a card number: send the card's id", pointer, "card_number_refused"
        )
