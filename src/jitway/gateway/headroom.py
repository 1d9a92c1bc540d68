"""`headroom.py`: what a card, a cardholder or a program may spend now, and which level says so.

Read outside any lock, so it is as of a moment and never a promise; decisions look again.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.clock import id_digits
from jitway.domain.card import Bound, Level, Listed, bounds_of, lists_of
from jitway.domain.instant import instant_text
from jitway.domain.limits import (
    COUNTED_PERIODS,
    LIFETIME_START,
    Period,
    SpendControls,
    SpendWindow,
    WindowStarts,
    window_starts,
)
from jitway.errors import NotFound
from jitway.gateway.caller import Caller
from jitway.gateway.controls import OwnerKind
from jitway.gateway.documents import Document, controls_form
from jitway.sql import statements

_SQL = statements("reading")

_PREFIXES = {"program": "prg", "cardholder": "chd", "card": "crd"}
# From the widest to the narrowest: whose controls an owner is under, its own included.
_LEVELS: dict[OwnerKind, tuple[OwnerKind, ...]] = {
    "program": ("program",),
    "cardholder": ("program", "cardholder"),
    "card": ("program", "cardholder", "card"),
}

Row = Mapping[str, Any]


async def controls_now(
    postgres: PostgreSQLAdapter, caller: Caller, owner_kind: OwnerKind, owner_id: str
) -> Document:
    """One owner's controls with everything above them, and what remains of each limit.

    Args:
        postgres: the ledger.
        caller: who asks.
        owner_kind: of the owner.
        owner_id: with the prefix of its kind.

    Returns:
        `own`, as they were set; `effective`: the `limits` and `lists` of all levels, in the order
        in which they are checked, each limit with `used` and `remaining` (amounts in minor units of
        `currency`; None while a level is not counted); `windows`: what the owner itself has spent
        in each current period, where that is counted.

    Raises:
        NotFound: there is no such owner for this caller.
        StoreUnavailable: PostgreSQL cannot be asked.
    """
    owner = await _row(postgres, owner_kind, owner_id)
    program_id = owner["id"] if owner_kind == "program" else owner["program_id"]
    if not caller.may_see(f"prg_{program_id.hex}"):
        raise _not_found(owner_kind)
    program = await _row(postgres, "program", f"prg_{program_id.hex}")
    currency = program["currency"]
    if owner_kind == "card":
        account = await postgres.execute_query(
            _SQL["account"], [[owner["account_id"]]], repeatable=True
        )
        currency = account[0]["currency"]
    ids = {"program": program_id, "cardholder": owner.get("cardholder_id"), "card": None}
    ids[owner_kind] = owner["id"]
    kinds = _LEVELS[owner_kind]
    rows = await postgres.execute_query(
        _SQL["controls"], [[ids[kind] for kind in kinds]], repeatable=True
    )
    starts = window_starts(rows[0]["now"], ZoneInfo(program["time_zone"]))
    levels = [_level(kind, row) for kind, row in zip(kinds, rows, strict=True)]
    windows = {level.id: _window(row) for level, row in zip(levels, rows, strict=True)}
    return {
        "owner": owner_id,
        "level": owner_kind,
        "currency": currency,
        "time_zone": program["time_zone"],
        "as_of": instant_text(rows[0]["now"]),
        "own": controls_form(levels[-1].controls),
        "effective": {
            "limits": [_limit(bound, windows, starts) for bound in bounds_of(levels)],
            "lists": [_list(listed, levels) for listed in lists_of(levels)],
        },
        "windows": _periods(windows[levels[-1].id], starts),
    }


async def _row(postgres: PostgreSQLAdapter, kind: OwnerKind, id_: str) -> Row:
    digits = id_digits(id_, _PREFIXES[kind])
    rows: list[dict[str, Any]] = []
    if digits is not None:
        rows = await postgres.execute_query(_SQL[kind], [[digits]], repeatable=True)
    if not rows:
        raise _not_found(kind)
    return rows[0]


def _not_found(kind: str) -> NotFound:
    return NotFound(f"there is no {kind} with this id")


def _level(kind: OwnerKind, row: Row) -> Level:
    controls = SpendControls.from_document(msgspec.json.decode(row["controls"] or "{}"))
    return Level(kind, f"{_PREFIXES[kind]}_{row['id'].hex}", "", 0, controls)


def _window(row: Row) -> SpendWindow | None:
    """What the owner has spent; None when that is not counted, or not filled in yet."""
    version = row["version"]
    if version is None or version < 0:
        return None
    names = [period.label for period in COUNTED_PERIODS]
    return SpendWindow(
        row["id"].hex,
        version,
        [*(row[f"{name}_start"] for name in names[:-1]), LIFETIME_START],
        [row[f"{name}_amount"] for name in names],
        [row[f"{name}_count"] for name in names],
    )


def _limit(
    bound: Bound, windows: Mapping[str, SpendWindow | None], starts: WindowStarts
) -> Document:
    used = _used(bound, windows[bound.owner_id], starts)
    remaining: int | None = bound.bound
    if bound.period is not Period.TRANSACTION:
        remaining = None if used is None else max(0, bound.bound - used)
    return {
        "rule": bound.rule,
        "level": bound.level,
        "owner": bound.owner_id,
        "period": bound.label,
        "limit": bound.bound,
        "used": used,
        "remaining": remaining,
    }


def _used(bound: Bound, window: SpendWindow | None, starts: WindowStarts) -> int | None:
    if bound.period is Period.TRANSACTION or window is None:
        return None
    amount, count = window.spent(bound.period, starts)
    return count if bound.rule == "count_limit" else amount


def _list(listed: Listed, levels: Sequence[Level]) -> Document:
    (owner,) = [level.id for level in levels if level.name == listed.level]
    return {
        "rule": listed.rule,
        "level": listed.level,
        "owner": owner,
        "values": sorted(listed.values),
    }


def _periods(window: SpendWindow | None, starts: WindowStarts) -> list[Document]:
    if window is None:
        return []
    periods = []
    for period in COUNTED_PERIODS:
        amount, count = window.spent(period, starts)
        since = None if period is Period.LIFETIME else starts[period].isoformat()
        periods.append({"period": period.label, "since": since, "amount": amount, "count": count})
    return periods
