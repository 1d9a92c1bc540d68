"""What a document and an index may look like, to be kept faithfully by every MongoDB.

Knows no driver. Names with `$` or `.` are stored by some servers, refused by others and unreachable
for queries on all; a payload with foreign names belongs into a string or binary field.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from jitway.errors import InvalidRequest

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
DEPTH_MAX = 100
LIMIT_MAX = 100_000


def check_document(document: object) -> None:
    """Refuses what cannot be stored faithfully.

    Raises:
        InvalidRequest: a name that is no text, is empty, begins with `$` or has a `.` or NUL, an
            integer above 64 bits, an instant without zone, or too deep; with a JSON pointer.
    """
    if not isinstance(document, Mapping):
        raise InvalidRequest("a document must be a mapping", code="bad_document")
    _check(document, "", 1)


def with_integers(kind: Callable[[int], int], document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with every integer in it made one of a kind."""
    return {name: _with_integers(kind, value) for name, value in document.items()}


def _with_integers(kind: Callable[[int], int], value: Any) -> Any:
    if isinstance(value, Mapping):
        return with_integers(kind, value)
    if isinstance(value, list | tuple):
        return [_with_integers(kind, inner) for inner in value]
    return kind(value) if isinstance(value, int) and not isinstance(value, bool) else value


def check_limit(limit: int) -> None:
    """Refuses a number of documents that memory has no bound for.

    Raises:
        InvalidRequest: it is not 1 to 100,000.
    """
    if not 1 <= limit <= LIMIT_MAX:
        raise InvalidRequest(f"a limit must be 1 to {LIMIT_MAX:,}", code="bad_limit")


def index_parts(
    index: str | Sequence[tuple[str, int]] | Mapping[str, Any],
) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    """Pairs of field and direction, and the options of an index, however it was given.

    Raises:
        InvalidRequest: no keys, or an option that not every server has.
    """
    if not isinstance(index, Mapping):
        return _index_keys(index), {}
    options = {name: value for name, value in index.items() if name != "keys"}
    if "keys" not in index or not options.keys() <= {"unique", "name"}:
        raise InvalidRequest("an index has keys, and may have unique and name", code="bad_index")
    return _index_keys(index["keys"]), options


def _index_keys(keys: str | Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    return [(keys, 1)] if isinstance(keys, str) else [(field, way) for field, way in keys]


def _check(value: object, pointer: str, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise InvalidRequest(f"nested deeper than {DEPTH_MAX}", pointer, "bad_document")
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _check_name(name, pointer)
            _check(inner, f"{pointer}/{name}", depth + 1)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for index, inner in enumerate(value):
            _check(inner, f"{pointer}/{index}", depth + 1)
    elif isinstance(value, int) and not INT_MIN <= value <= INT_MAX:
        raise InvalidRequest("an integer does not fit 64 bits", pointer, "bad_document")
    elif isinstance(value, datetime) and value.tzinfo is None:
        raise InvalidRequest("an instant has no time zone", pointer, "bad_document")


def _check_name(name: object, pointer: str) -> None:
    if not isinstance(name, str):
        raise InvalidRequest("a field's name must be text", pointer, "bad_document")
    if not name or name.startswith("$") or "." in name or "\0" in name:
        raise InvalidRequest(
            f"the field name {name!r} cannot be stored: empty, or with $, . or NUL",
            pointer,
            "bad_document",
        )
