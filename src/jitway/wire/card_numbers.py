"""`card_numbers.py`: refuses a body in which any text looks like a card's number.

A card's number must never be kept, not even in a decline, a description or somebody's own metadata
(PCI DSS 4.0, 3.3 and 3.5), so it is refused before anything else is looked at.
"""

import json
import re
from collections.abc import Iterator

from jitway.domain.redaction import redact_text
from jitway.errors import InvalidRequest

CARD_NUMBER_SAID = "this looks like a card number: send the card's id, and nothing of the number"

# A digit becomes 0 and anything else x, without what may stand between groups of digits.
_FORM = bytes(ord("0" if chr(code).isdecimal() else "x") for code in range(128)) + b"x" * 128
_BETWEEN = b" -"
_LEAST = b"0" * 13
_OUR_ID = re.compile(rb"[a-z]{3}_[0-9a-f]{32}(?![0-9A-Za-z])")
# A name of random hexadecimal digits has 13 decimal ones in a row now and then, and refusing it
# would refuse somebody's purchase. A letter among them says that it is one.
_HEXADECIMAL = re.compile(
    r"(?<![0-9A-Za-z])(?=[0-9]*[a-fA-F])[0-9a-fA-F]{14,}(?![0-9A-Za-z])", re.ASCII
)


def refuse_card_numbers(raw: bytes) -> None:
    """Refuses 13 to 19 digits with a right check digit, in one piece or in groups, in any text.

    Args:
        raw: JSON that a typed decoder has accepted.

    Raises:
        InvalidRequest: with the pointer to the field.
    """
    # Nearly every body ends here, for the price of one look. A backslash may hide digits.
    if b"\\" not in raw:
        if not _may_have_one(raw):
            return
        # Ids are what has most digits in a row, and are none.
        if not _may_have_one(_OUR_ID.sub(b"x", raw)):
            return
    for pointer, text in _texts(json.loads(raw, parse_int=lambda _: 0), ""):
        if has_card_number(text):
            raise InvalidRequest(CARD_NUMBER_SAID, pointer, "card_number_refused")


def _may_have_one(raw: bytes) -> bool:
    return _LEAST in raw.translate(_FORM, _BETWEEN)


def has_card_number(text: str) -> bool:
    """Whether a text outside of a body has something like a card's number in it."""
    without = _HEXADECIMAL.sub("x", text)
    return redact_text(without) != without


def _texts(value: object, pointer: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield pointer, value
    elif isinstance(value, list):
        for position, one in enumerate(value):
            yield from _texts(one, f"{pointer}/{position}")
    elif isinstance(value, dict):
        for name, member in value.items():
            # A name may be the caller's own; then the pointer ends at what has it.
            yield pointer, name
            yield from _texts(member, pointer if has_card_number(name) else f"{pointer}/{name}")
