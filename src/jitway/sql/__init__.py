"""The SQL of the product, in files named after their room; each statement has a name and a reason.

Owns the reading of those files. A block begins with `-- name: lock_accounts`, may go on with
comment lines that say why, and holds one statement. Refuses to build or complete SQL.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

_HEADER = re.compile(r"-- name: ([a-z][a-z0-9_]*)")


@cache
def statements(name: str) -> Mapping[str, str]:
    """The statements of one file: its name for each, to the SQL as the server gets it.

    Args:
        name: of the file, without `.sql`: `ledger`.

    Raises:
        ValueError: a name twice, a block without a statement, or SQL before the first name.
        FileNotFoundError: there is no such file.
    """
    return parse_statements((files("jitway.sql") / f"{name}.sql").read_text(encoding="utf-8"))


def parse_statements(text: str) -> Mapping[str, str]:
    """As `statements`, from the text of a file."""
    found: dict[str, str] = {}
    for name, lines in _blocks(text):
        sql = "\n".join(lines).strip().removesuffix(";").rstrip()
        if name in found:
            raise ValueError(f"two statements are named {name}")
        if not sql:
            raise ValueError(f"{name} holds no statement")
        found[name] = sql
    return MappingProxyType(found)


def _blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each name with the lines of its statement, the comments above it left out."""
    name: str | None = None
    lines: list[str] = []
    for line in text.splitlines():
        if header := _HEADER.fullmatch(line.rstrip()):
            if name is not None:
                yield name, lines
            name, lines = header[1], []
        elif line.startswith("-- name"):
            raise ValueError(f"a header is `-- name: lower_case`, not {line!r}")
        elif lines or (line.strip() and not line.startswith("--")):
            if name is None:
                raise ValueError(f"SQL before the first `-- name:`: {line!r}")
            lines.append(line)
    if name is not None:
        yield name, lines
