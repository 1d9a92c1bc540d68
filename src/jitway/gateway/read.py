"""`read.py`: things as they are now, for whoever may see them. Reads only, and locks nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.clock import id_digits
from jitway.errors import InvalidRequest, NotFound
from jitway.gateway.caller import Caller
from jitway.gateway.documents import (
    Document,
    account_document,
    authorization_document,
    card_document,
    cardholder_document,
    explanation_document,
    program_document,
)
from jitway.sql import statements

_SQL = statements("reading")

PAGE_DEFAULT = 50
PAGE_MAX = 200

ID_FIRST = "0" * 32
ID_LAST = "f" * 32
# How far the clock that makes ids may be from the database's.
CLOCKS_APART = timedelta(days=1)


async def authorization(postgres: PostgreSQLAdapter, caller: Caller, id_: str) -> Document:
    """One authorization as it is now, with its explanation.

    Raises:
        NotFound: there is no such authorization for this caller.
    """
    row = await _row(postgres, "authorization", "aut", id_)
    if not caller.may_see(row["program_id"] and f"prg_{row['program_id'].hex}"):
        raise _not_found("authorization")
    explanation = explanation_document(row["explanation"])
    return authorization_document(row) | {"explanation": explanation}


async def program(postgres: PostgreSQLAdapter, caller: Caller, id_: str) -> Document:
    """One program.

    Raises:
        NotFound: there is no such program for this caller.
    """
    row = await _row(postgres, "program", "prg", id_)
    if not caller.may_see(id_):
        raise _not_found("program")
    return program_document(row)


async def cardholder(postgres: PostgreSQLAdapter, caller: Caller, id_: str) -> Document:
    """One cardholder.

    Raises:
        NotFound: there is no such cardholder for this caller.
    """
    return await _seen(postgres, caller, "cardholder", "chd", id_, cardholder_document)


async def account(postgres: PostgreSQLAdapter, caller: Caller, id_: str) -> Document:
    """One account with its balances.

    Raises:
        NotFound: there is no such account for this caller.
    """
    return await _seen(postgres, caller, "account", "acc", id_, account_document)


async def card(postgres: PostgreSQLAdapter, caller: Caller, id_: str) -> Document:
    """One card.

    Raises:
        NotFound: there is no such card for this caller.
    """
    return await _seen(postgres, caller, "card", "crd", id_, card_document)


@dataclass(frozen=True, slots=True)
class AuthorizationsAsked:
    """Which authorizations to list; what is None does not restrict.

    Args:
        card: `crd_...`.
        account: `acc_...`.
        decision: `approved` or `declined`.
        reason: of a decline.
        from_: decided at this instant or later.
        to: decided before this instant.
        limit: how many at most.
        cursor: `next_cursor` of the page before.
    """

    card: str | None = None
    account: str | None = None
    decision: str | None = None
    reason: str | None = None
    from_: datetime | None = None
    to: datetime | None = None
    limit: int = PAGE_DEFAULT
    cursor: str | None = None


async def list_authorizations(
    postgres: PostgreSQLAdapter, caller: Caller, asked: AuthorizationsAsked
) -> Document:
    """Authorizations as they are now, the newest first, without explanations.

    Returns:
        `{"data": [...], "next_cursor": ...}`; the cursor is None on the last page.

    Raises:
        InvalidRequest: a filter cannot be meant; with its pointer.
    """
    check_limit(asked.limit)
    if asked.decision not in (None, "approved", "declined"):
        raise InvalidRequest("decision is approved or declined", "/decision")
    card_digits = digits_to_find(asked.card, "crd", "/card")
    account_digits = digits_to_find(asked.account, "acc", "/account")
    rows = await postgres.execute_query(
        _SQL["authorizations"],
        [
            caller.program_id and caller.program_id[4:],
            card_digits,
            account_digits,
            asked.decision,
            asked.reason,
            asked.from_,
            asked.to,
            id_at(asked.from_, -CLOCKS_APART, otherwise=ID_FIRST),
            digits_to_find(asked.cursor, "aut", "/cursor")
            or id_at(asked.to, CLOCKS_APART, otherwise=ID_LAST),
            asked.limit + 1,
        ],
        repeatable=True,
    )
    page = rows[: asked.limit]
    more = len(rows) > asked.limit
    return {
        "data": [authorization_document(row) for row in page],
        "next_cursor": f"aut_{page[-1]['id'].hex}" if more else None,
    }


def check_limit(limit: int) -> None:
    """Refuses a page that is empty or too long.

    Raises:
        InvalidRequest: with the pointer `/limit`.
    """
    if not 1 <= limit <= PAGE_MAX:
        raise InvalidRequest(f"limit is from 1 to {PAGE_MAX}", "/limit")


def digits_to_find(id_: str | None, prefix: str, pointer: str) -> str | None:
    """The digits to filter by, or None where nothing was given.

    Raises:
        InvalidRequest: it is no id of its kind.
    """
    if id_ is None:
        return None
    digits = id_digits(id_, prefix)
    if digits is None:
        raise InvalidRequest(f"this is no {prefix}_ id", pointer)
    return digits


def id_at(instant: datetime | None, apart: timedelta, *, otherwise: str) -> str:
    """The least id that could have been made at an instant."""
    if instant is None:
        return otherwise
    milliseconds = int((instant.timestamp() + apart.total_seconds()) * 1000)
    # Forty-eight bits of milliseconds come first in an id; instants before 1970 have none.
    return f"{min(max(milliseconds, 0), (1 << 48) - 1):012x}" + "0" * 20


async def _seen(
    postgres: PostgreSQLAdapter,
    caller: Caller,
    name: str,
    prefix: str,
    id_: str,
    document: Callable[[Any], Document],
) -> Document:
    row = await _row(postgres, name, prefix, id_)
    if not caller.may_see(f"prg_{row['program_id'].hex}"):
        raise _not_found(name)
    return document(row)


async def _row(postgres: PostgreSQLAdapter, name: str, prefix: str, id_: str) -> dict[str, Any]:
    digits = id_digits(id_, prefix)
    if digits is None:
        raise _not_found(name)
    rows = await postgres.execute_query(_SQL[name], [[digits]], repeatable=True)
    if not rows:
        raise _not_found(name)
    return rows[0]


def _not_found(name: str) -> NotFound:
    return NotFound(f"there is no {name} with this id")
