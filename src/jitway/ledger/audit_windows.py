"""`audit_windows.py`: recomputes what each card has spent from its decisions.

A window is compared from the instant its first day began in the program's zone, until the instant
the next one begins; the current one and one that is over alike.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from jitway.adapters.postgresql import TransactionClient
from jitway.domain.instant import midnight
from jitway.sql import statements

_SQL = statements("audit")

_PERIODS = ("day", "week", "month", "year", "lifetime")
_NEVER = datetime(1, 1, 1, tzinfo=UTC)

Bounds = tuple[datetime, datetime]


async def windows_equal_decisions(
    client: TransactionClient, page: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Cards whose windows are not what their decisions make, each with a subject and a detail.

    Args:
        client: in a snapshot.
        page: accounts, by `id`.
    """
    cards = await client.query(_SQL["card_windows"], [[row["id"] for row in page]])
    counted = [card for card in cards if card["version"] is not None]
    spent = await _spent(client, counted)
    violations = [_violation(card, "has no window") for card in cards if card["version"] is None]
    for card in counted:
        found = spent.get(card["id"], {})
        wrong = [
            f"{name} is {card[name]}, decisions make {found.get(name) or 0}"
            for period in _PERIODS
            for name in (f"{period}_amount", f"{period}_count")
            if card[name] != (found.get(name) or 0)
        ]
        if wrong:
            violations.append(_violation(card, "; ".join(wrong)))
    return violations


async def _spent(
    client: TransactionClient, cards: Sequence[Mapping[str, Any]]
) -> dict[Any, dict[str, Any]]:
    columns: list[list[Any]] = [[] for _ in range(10)]
    for card in cards:
        zone = ZoneInfo(card["time_zone"])
        bounds = [
            bound
            for period in _PERIODS[:-1]
            for bound in window_bounds(period, card[f"{period}_start"], zone)
        ]
        for column, value in zip(columns, [card["id"], card["account_id"], *bounds], strict=True):
            column.append(value)
    rows = await client.query(_SQL["spent_by_decisions"], columns) if cards else []
    return {row["card_id"]: row for row in rows}


def window_bounds(period: str, start: date, zone: ZoneInfo) -> Bounds:
    """The instants between which a window of that period counts; the same twice for none.

    Args:
        period: `day`, `week`, `month` or `year`.
        start: its first local date; the least date there is for a window never used.
        zone: the program's.
    """
    if start == date.min:
        return _NEVER, _NEVER
    return midnight(start, zone), midnight(_next_start(period, start), zone)


def _next_start(period: str, start: date) -> date:
    if period == "day":
        return start + timedelta(days=1)
    if period == "week":
        return start + timedelta(days=7)
    if period == "month":
        return (start + timedelta(days=31)).replace(day=1)
    return start.replace(year=start.year + 1)


def _violation(card: Mapping[str, Any], detail: str) -> dict[str, Any]:
    return {"subject": f"crd_{card['id'].hex}", "detail": detail}
