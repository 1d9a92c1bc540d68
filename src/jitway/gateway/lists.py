"""`lists.py`: programs, cardholders, accounts, cards and keys, page by page, for who may see them.

The newest first. A cursor is the last id of a page: what is made meanwhile stands before it, so
that nothing that was there is left out or comes twice. Reads only, and locks nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.clock import id_digits
from jitway.domain.money import is_currency
from jitway.errors import InvalidRequest
from jitway.gateway.caller import Caller
from jitway.gateway.documents import (
    Document,
    Row,
    account_document,
    card_document,
    cardholder_document,
    key_document,
    program_document,
)
from jitway.gateway.read import ID_LAST, PAGE_DEFAULT, check_limit, digits_to_find
from jitway.sql import statements

_SQL = statements("administration")
_READ = statements("reading")
_KEYS = statements("keys")

Filter = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Listed:
    """One kind of thing that is listed.

    Args:
        statement: names the ids of a page.
        prefix: of its ids.
        filters: what it is found by, beside its program, in the order of the statement.
        shown: the statement that has the rows of these ids.
        document: a row as the API shows it.
    """

    statement: str
    prefix: str
    filters: Mapping[str, Filter]
    shown: str
    document: Callable[[Row], Document]


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list to show.

    Args:
        limit: how many at most.
        cursor: `next_cursor` of the page before.
    """

    limit: int = PAGE_DEFAULT
    cursor: str | None = None


async def list_things(
    postgres: PostgreSQLAdapter,
    caller: Caller,
    kind: str,
    filters: Mapping[str, str],
    page: Page = Page(),
) -> Document:
    """Programs, cardholders, accounts, cards or keys as they are now, the newest first.

    Args:
        postgres: the ledger.
        caller: who asks; sees what belongs to its program.
        kind: `programs`, `cardholders`, `accounts`, `cards` or `keys`.
        filters: those of `LISTS[kind]`, and `program`.
        page: which part.

    Returns:
        `{"data": [...], "next_cursor": ...}`; the cursor is None on the last page.

    Raises:
        InvalidRequest: a filter cannot be meant; with its pointer.
    """
    listed = LISTS[kind]
    check_limit(page.limit)
    program = digits_to_find(filters.get("program"), "prg", "/program")
    found: list[object] = [
        None if name not in filters else read(filters[name])
        for name, read in listed.filters.items()
    ]
    below = digits_to_find(page.cursor, listed.prefix, "/cursor") or ID_LAST
    if program is None:
        program = caller.program_id and caller.program_id[4:]
    elif not caller.may_see(f"prg_{program}"):
        return {"data": [], "next_cursor": None}
    values = [program, *found, below, page.limit + 1]
    rows = await postgres.execute_query(_statement(listed.statement), values, repeatable=True)
    ids = [row["id"] for row in rows[: page.limit]]
    return {
        "data": await _documents(postgres, listed, ids),
        "next_cursor": f"{listed.prefix}_{ids[-1].hex}" if len(rows) > page.limit else None,
    }


async def _documents(postgres: PostgreSQLAdapter, listed: Listed, ids: list[Any]) -> list[Document]:
    if not ids:
        return []
    rows = await postgres.execute_query(_statement(listed.shown), [ids], repeatable=True)
    by_id = {row["id"]: listed.document(row) for row in rows}
    # Nothing is ever deleted, so whatever was named is there.
    return [by_id[id_] for id_ in ids]


def _statement(name: str) -> str:
    return next(file[name] for file in (_SQL, _READ, _KEYS) if name in file)


def _id(prefix: str, name: str) -> Filter:
    def read(text: str) -> str:
        digits = id_digits(text, prefix)
        if digits is None:
            raise InvalidRequest(f"this is no {prefix}_ id", f"/{name}")
        return digits

    return read


def _status(*states: str) -> Filter:
    def read(text: str) -> str:
        if text not in states:
            raise InvalidRequest(f"status is one of {', '.join(states)}", "/status")
        return text

    return read


def _currency(text: str) -> str:
    if not is_currency(text):
        raise InvalidRequest("the currency is no active ISO 4217 code", "/currency")
    return text


LISTS: Mapping[str, Listed] = {
    "programs": Listed(
        "programs",
        "prg",
        {"status": _status("active", "suspended", "closed")},
        "program",
        program_document,
    ),
    "cardholders": Listed(
        "cardholders",
        "chd",
        {"external_id": str, "status": _status("active", "suspended", "closed")},
        "cardholder",
        cardholder_document,
    ),
    "accounts": Listed(
        "accounts",
        "acc",
        {
            "cardholder": _id("chd", "cardholder"),
            "currency": _currency,
            "status": _status("active", "frozen", "closed"),
        },
        "account",
        account_document,
    ),
    "cards": Listed(
        "cards",
        "crd",
        {
            "cardholder": _id("chd", "cardholder"),
            "account": _id("acc", "account"),
            "external_id": str,
            "status": _status("active", "frozen", "closed"),
        },
        "card",
        card_document,
    ),
    "keys": Listed(
        "key_ids", "key", {"status": _status("good", "expired", "revoked")}, "keys", key_document
    ),
}
