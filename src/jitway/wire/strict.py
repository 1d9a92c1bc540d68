"""`strict.py`: JSON that cannot be read in two ways, or it is refused.

Owns the one decoder, the check for duplicate members and the pointer to the field to blame.
Knows no body. Floats, NaN, wrong types, unknown members, lone surrogates, trailing bytes and
nesting beyond the schema are refused by msgspec itself; the last of two equal members would win
silently, so that is looked for here.
"""

import json
import re
from typing import Any, TypeVar

import msgspec

from jitway.errors import InvalidRequest, MalformedMessage
from jitway.wire.card_numbers import refuse_card_numbers

NAME_SHOWN_MAX = 64
PATTERN = "matching regex"

Body = TypeVar("Body")

_ENCODER = msgspec.json.Encoder(order="deterministic")
_STEP = re.compile(r"\.([A-Za-z0-9_]+)|\[(\d+|\.\.\.)\]")
_UNKNOWN = "Object contains unknown field `"
_MISSING = re.compile(r"Object missing required field `(\w+)`(?: - at `\$(.*)`)?\Z")


class StrictDecoder:
    """Decodes one kind of body.

    Args:
        body: a msgspec Struct that forbids unknown fields; every optional member defaults to
            UNSET, so that re-encoding yields exactly the members that were sent.
    """

    def __init__(self, body: type[Body]) -> None:
        self._decode = msgspec.json.Decoder(body).decode

    def decode(self, raw: bytes) -> Any:
        """The body.

        Raises:
            MalformedMessage: the bytes are no JSON, or a member stands twice.
            InvalidRequest: a value is wrong; with its pointer.
        """
        body = self.decode_once(raw)
        refuse_duplicates(raw)
        return body

    def decode_once(self, raw: bytes) -> Any:
        """The body; whoever calls this looks for duplicates.

        Raises:
            MalformedMessage, InvalidRequest.
        """
        try:
            body = self._decode(raw)
        except msgspec.ValidationError as error:
            raise explained(str(error)) from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise MalformedMessage(f"the body is not JSON: {error}") from None
        except UnicodeDecodeError:
            raise MalformedMessage("the body is not UTF-8 text") from None
        refuse_card_numbers(raw)
        return body


def canonical(body: Any) -> bytes:
    """The body as canonical JSON: members in the documented order, no blanks, only what is set."""
    return _ENCODER.encode(body)


def refuse_duplicates(raw: bytes) -> None:
    """Refuses a body in which a member stands twice, however its name is escaped.

    Args:
        raw: bytes that a typed decoder has accepted, so neither deep nor malformed.

    Raises:
        MalformedMessage: with the pointer to the first such member of its object.
    """
    json.loads(raw, object_pairs_hook=_unique, parse_int=str)


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        seen: set[str] = set()
        for name, _ in members:
            if name in seen:
                raise MalformedMessage(f"the member {_shown(name)} stands twice")
            seen.add(name)
    return found


def explained(message: str) -> InvalidRequest:
    """The failure as one sentence for the caller, with the JSON pointer to the field to blame.

    Args:
        message: msgspec's own words, such as "Expected `int`, got `str` - at `$.amount`".
    """
    if message.startswith(_UNKNOWN):
        # The name is the caller's: only the last ` - at ` can be msgspec's.
        name, at, path = message.removeprefix(_UNKNOWN).rpartition("` - at `$")
        if not at:
            name, path = path.removesuffix("`"), ""
        pointer = f"{_pointer(path)}/{_escaped(name[:NAME_SHOWN_MAX])}"
        return InvalidRequest(f"{_shown(name)} is no field here", pointer, "unknown_field")
    if (missing := _MISSING.match(message)) is not None:
        pointer = f"{_pointer(missing[2] or '')}/{missing[1]}"
        return InvalidRequest(f"{missing[1]} is required", pointer, "missing_field")
    what, _, where = message.partition(" - at `")
    pointer = _pointer(where.removeprefix("key` in `").rstrip("`"))
    if PATTERN in what:
        what = "not in the documented form"
    elif what.startswith("Invalid enum value"):
        # What follows is the caller's own text, of any length.
        what = "none of the documented values"
    subject = "a name" if where.startswith("key`") else "the value"
    said = what[:1].lower() + what[1:]
    return InvalidRequest(f"{subject} at {pointer or 'the top'}: {said}", pointer or None)


def _pointer(path: str) -> str:
    """`$.limits[0].period` as the JSON pointer `/limits/0/period`."""
    steps = []
    for name, index in _STEP.findall(path):
        # msgspec hides the names of a map's members; the pointer ends at the map.
        if index == "...":
            break
        steps.append(name or index)
    return "".join(f"/{step}" for step in steps)


def _escaped(name: str) -> str:
    return "".join(
        character if character.isprintable() else "?"
        for character in name.replace("~", "~0").replace("/", "~1")
    )


def _shown(name: str) -> str:
    """A caller's name for something, harmless in a log and of bounded length."""
    return json.dumps(name[:NAME_SHOWN_MAX])
