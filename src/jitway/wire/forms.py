"""`forms.py`: the forms that a field of our API can have, each with its bounds."""

from typing import Annotated, TypeAlias

from msgspec import Meta

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
