"""`record.py`: what a decision needs fresh, and what earlier requests were answered.

Everything here is read in statements after the lock. Does not decide, does not write money.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Protocol
from uuid import UUID
from zoneinfo import ZoneInfo

from jitway.adapters.postgresql import Row
from jitway.domain.card import CardView, Level, Validity
from jitway.domain.limits import NO_CONTROLS, SpendControls, SpendWindow
from jitway.ledger.account import spend_window
from jitway.sql import statements

_SQL = statements("ledger")

# The first column of the card's window in a row of `refresh`.
_WINDOW_AT = 4
_PREFIXES = {"program": "prg", "cardholder": "chd", "card": "crd"}
_SHARED_MAX = 1024


class Fetches(Protocol):
    """A connection or a transaction that answers a statement with rows."""

    async def fetch(self, sql: str, *parameters: object) -> Sequence[Row]:
        """The rows of one statement."""


class Asked(Protocol):
    """What `refresh` must know of one request."""

    card_id: str | None
    scope: str
    key: bytes


@dataclass(slots=True)
class KnownKey:
    """An idempotency key that was used before.

    Args:
        content: the digest of what was asked then.
        subject: the digits of what it made.
    """

    content: bytes
    subject: str


@dataclass(slots=True)
class Refreshed:
    """What one batch saw under its locks; the lists are in the order of its requests.

    Args:
        decided_at: the database's instant of the statement after the locks.
        versions: of program, cardholder and card; None where there is no such card.
        known: keys that were used before; None for fresh ones.
        windows: of the cards, by card id.
    """

    decided_at: datetime
    versions: list[tuple[int, int, int] | None]
    known: list[KnownKey | None]
    windows: dict[str, SpendWindow]


async def refresh(connection: Fetches, asked: Sequence[Asked]) -> Refreshed:
    """Reads versions, windows and keys of a batch, in a statement after its locks.

    Args:
        connection: in the transaction that holds the locks.
        asked: at least one request.
    """
    rows = await connection.fetch(
        _SQL["refresh"],
        [one.card_id and one.card_id[4:] for one in asked],
        [one.scope for one in asked],
        [one.key for one in asked],
    )
    fresh = Refreshed(rows[0][0], [], [], {})
    for one, row in zip(asked, rows, strict=True):
        if row[3] is None:
            fresh.versions.append(None)
        else:
            fresh.versions.append((row[1], row[2], row[3]))
            assert one.card_id is not None
            if one.card_id not in fresh.windows:
                fresh.windows[one.card_id] = spend_window(one.card_id, row, offset=_WINDOW_AT)
        fresh.known.append(None if row[-2] is None else KnownKey(row[-2], row[-1].hex))
    return fresh


@dataclass(slots=True)
class StoredDecision:
    """What a request was answered.

    Args:
        id: the authorization's.
        reserves: whether it is an approval with a hold.
        body: the answer's text.
        account_id: None when it had none.
        abandoned: whether it is known that the approval was never answered.
        recalled: whether it was answered again before.
    """

    id: str
    reserves: bool
    body: str
    account_id: str | None
    abandoned: bool
    recalled: bool


async def stored_decisions(connection: Fetches, digits: Iterable[str]) -> dict[str, StoredDecision]:
    """Decisions by the digits of their ids; those that do not exist are absent."""
    rows = await connection.fetch(_SQL["stored_decisions"], list(digits))
    return {
        row["id"].hex: StoredDecision(
            id=f"aut_{row['id'].hex}",
            reserves=row["hold_state"] is not None,
            body=row["body"],
            account_id=row["account_id"] and f"acc_{row['account_id'].hex}",
            abandoned=row["hold_state"] == "abandoned",
            recalled=row["recalled_at"] is not None,
        )
        for row in rows
    }


async def mark_recalled(connection: Fetches, digits: Iterable[str], at: datetime) -> None:
    """Protects stored approvals from being abandoned, before they are answered again."""
    await connection.fetch(_SQL["mark_recalled"], list(digits), at)


async def load_views(connection: Fetches, card_ids: Iterable[str]) -> dict[str, CardView]:
    """Views of cards by id; cards that do not exist are absent."""
    rows = await connection.fetch(_SQL["load_views"], [card_id[4:] for card_id in card_ids])
    views = (_view(row) for row in rows)
    return {view.card.id: view for view in views}


def _view(row: Row) -> CardView:
    return CardView(
        program=_program(*_level_values(row, "program")),
        cardholder=_level("cardholder", *_level_values(row, "cardholder")),
        card=_level("card", *_level_values(row, "card")),
        account_id=f"acc_{row['account_id'].hex}",
        zone=ZoneInfo(row["time_zone"]),
        validity=_validity(row["valid_from"], row["valid_until"]),
    )


def _validity(valid_from: datetime | None, valid_until: datetime | None) -> Validity | None:
    if valid_from is None and valid_until is None:
        return None
    return Validity(valid_from, valid_until)


def _level_values(row: Row, name: str) -> tuple[UUID, str, int, str | None]:
    return (
        row[f"{name}_id"],
        row[f"{name}_state"],
        row[f"{name}_version"],
        row[f"{name}_controls"],
    )


def _level(name: str, id_: UUID, state: str, version: int, controls: str | None) -> Level:
    return Level(
        name=name,
        id=f"{_PREFIXES[name]}_{id_.hex}",
        state=state,
        version=version,
        controls=_controls(controls) if controls else NO_CONTROLS,
    )


# A hundred thousand remembered cards have few programs and few different controls: what they share
# is there once, or each full garbage collection would stop everybody four times as long.
@lru_cache(maxsize=_SHARED_MAX)
def _program(id_: UUID, state: str, version: int, controls: str | None) -> Level:
    return _level("program", id_, state, version, controls)


@lru_cache(maxsize=_SHARED_MAX)
def _controls(text: str) -> SpendControls:
    return SpendControls.from_document(json.loads(text))
