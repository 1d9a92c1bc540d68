"""`opaque.py`: JSON of others, whose members concern nobody here: read, redacted, written again.

Refuses what cannot be read in one way. What comes out is ASCII: whatever text was in it, it can be
stored anywhere.
"""

import json
from typing import Any, NoReturn

from jitway.domain.redaction import redact
from jitway.errors import MalformedMessage


def redacted_json(raw: bytes) -> str:
    """A JSON object or array without card data and secrets, as compact JSON.

    Raises:
        MalformedMessage: it is none, or a member stands twice.
    """
    try:
        document = json.loads(
            raw.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError:
        raise MalformedMessage("the body is not UTF-8 text") from None
    except RecursionError:
        raise MalformedMessage("the body is nested too deep") from None
    except ValueError as error:
        # Its words name a place, never a value.
        raise MalformedMessage(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict | list):
        raise MalformedMessage("the body is JSON, but no object")
    try:
        return json.dumps(redact(document), separators=(",", ":"), allow_nan=False)
    except ValueError:
        raise MalformedMessage("a number is too large") from None


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        raise MalformedMessage("a member stands twice in the same object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
