"""`redaction.py`: what must never be kept is taken out before anything is. Pure.

Owns the names and the forms of card data and secrets. Takes out too much rather than too little.
"""

import re

REDACTED = "[redacted]"
DEPTH_MAX = 32

# Names as their letters and digits alone, in small letters.
_SECRET_NAMES = frozenset(
    {
        "pan",
        "primaryaccountnumber",
        "cardnumber",
        "number",
        "cvv",
        "cvv2",
        "cvc",
        "cvc2",
        "cid",
        "securitycode",
        "verificationcode",
        "cardverificationvalue",
        "pin",
        "pinblock",
        "encryptedpinblock",
        "track",
        "track1",
        "track2",
        "track1data",
        "track2data",
        "magstripe",
        "emvdata",
        "iccdata",
        "password",
        "passwd",
        "secret",
        "clientsecret",
        "apikey",
        "privatekey",
        "authorizationheader",
        "accesstoken",
        "refreshtoken",
    }
)
# An id is kept as it is. Digits as they are printed on a card, in one piece or in groups, are not;
# no card's number begins with 0 or 1, but the milliseconds since 1970 do.
_ID_OR_CARD_NUMBER = re.compile(
    r"(?P<id>[a-z]{3}_[0-9a-f]{32}(?![0-9a-z])"
    r"|(?<![0-9a-zA-Z])[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?![0-9a-zA-Z]))"
    r"|(?<!\d)[2-9](?:[ -]?\d){12,18}(?!\d)",
    re.ASCII,
)
_NOT_A_LETTER = re.compile(r"[^a-z0-9]")


def redact(value: object, *, depth_max: int = DEPTH_MAX) -> object:
    """A decoded JSON value without card numbers and secrets.

    What looks like a card's number keeps its last four digits; the value of a member whose name
    says that it is secret is replaced whole. What is nested deeper than `depth_max` is replaced.
    """
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, int) and not isinstance(value, bool):
        text = redact_text(str(value))
        return value if text == str(value) else text
    if not isinstance(value, dict | list):
        return value
    if depth_max == 0:
        return REDACTED
    if isinstance(value, list):
        return [redact(one, depth_max=depth_max - 1) for one in value]
    return {redact_text(name): _member(name, member, depth_max) for name, member in value.items()}


def _member(name: str, value: object, depth_max: int) -> object:
    if _NOT_A_LETTER.sub("", name.lower()) in _SECRET_NAMES and value not in (None, ""):
        return REDACTED
    return redact(value, depth_max=depth_max - 1)


def redact_text(text: str) -> str:
    """A text in which every card number is masked but for its last four digits."""
    return _ID_OR_CARD_NUMBER.sub(_masked, text)


def _masked(match: re.Match[str]) -> str:
    if match["id"] is not None:
        return match[0]
    digits = re.sub(r"\D", "", match[0])
    return f"{'*' * (len(digits) - 4)}{digits[-4:]}" if has_check_digit(digits) else match[0]


def has_check_digit(digits: str) -> bool:
    """Whether the last digit is right by Luhn's formula."""
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (doubled + sum(int(digit) for digit in digits[-1::-2])) % 10 == 0
