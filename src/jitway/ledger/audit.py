"""`audit.py`: proves the books from the rows, on a live system, without changing or blocking it.

Goes through accounts, decisions, holds, transfers, keys and events page by page. Each page is one
read-only snapshot, in which every invariant must hold whatever is under way; its size follows the
time it takes, so that no snapshot keeps old row versions alive for long.
"""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from jitway.adapters.postgresql import PostgreSQLAdapter, TransactionClient
from jitway.domain.transfer import CHART
from jitway.ledger.audit_windows import windows_equal_decisions
from jitway.sql import statements

_SQL = statements("audit")

_PAGE_FIRST = 200
_PAGE_MAX = 5_000
_SNAPSHOT_S = 0.5
_STATEMENT_TIMEOUT_MS = 30_000
# Of one invariant; the count of the others is told.
_VIOLATIONS_MAX = 100

_NO_ID = "0" * 32
Rows = Sequence[dict[str, Any]]
Check = Callable[[TransactionClient, Rows], Awaitable[Rows]]


@dataclass(frozen=True, slots=True)
class Violation:
    """A row that breaks an invariant.

    Args:
        invariant: its name.
        subject: the row, by the id of the thing.
        detail: what is wrong with it.
    """

    invariant: str
    subject: str
    detail: str


@dataclass(slots=True)
class Report:
    """What an audit found.

    Args:
        checked: rows looked at, by invariant.
        violations: at most a hundred of each invariant.
        omitted: how many more there are, by invariant.
    """

    checked: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    omitted: Counter[str] = field(default_factory=Counter)

    @property
    def ok(self) -> bool:
        """Whether the books are clean."""
        return not self.violations

    def add(self, invariant: str, checked: int, violations: Rows) -> None:
        """Takes what one page came to."""
        self.checked[invariant] += checked
        room = _VIOLATIONS_MAX - sum(one.invariant == invariant for one in self.violations)
        for row in violations[:room]:
            self.violations.append(Violation(invariant, row["subject"], row["detail"]))
        if len(violations) > room:
            self.omitted[invariant] += len(violations) - room

    def document(self) -> dict[str, Any]:
        """The report as `jitway verify --json` prints it."""
        document: dict[str, Any] = {
            "ok": self.ok,
            "checked": dict(self.checked),
            "violations": [
                {"invariant": one.invariant, "subject": one.subject, "detail": one.detail}
                for one in self.violations
            ],
        }
        if self.omitted:
            document["omitted"] = dict(self.omitted)
        return document


@dataclass(frozen=True, slots=True)
class Pass:
    """One walk over a table, in the order of its primary key.

    Args:
        page: the statement that names the rows of a page.
        first: less than every key.
        checks: what must be true of each page, by the name of the invariant.
    """

    page: str
    first: tuple[object, ...]
    checks: dict[str, Check]


async def verify(postgres: PostgreSQLAdapter) -> Report:
    """Checks every invariant that existing rows can decide.

    Args:
        postgres: the ledger.

    Raises:
        StoreUnavailable: it could not be checked.
    """
    report = Report()
    for one in _PASSES:
        await _walk(postgres, one, report)
    return report


async def _walk(postgres: PostgreSQLAdapter, one: Pass, report: Report) -> None:
    after = one.first
    size = _PAGE_FIRST
    for name in one.checks:
        report.checked[name] += 0
    while True:
        started_s = time.monotonic()
        page = await _check_page(postgres, one, after, size, report)
        if len(page) < size:
            return
        after = tuple(page[-1].values())
        spent_s = time.monotonic() - started_s
        size = min(size * 2, _PAGE_MAX) if spent_s < _SNAPSHOT_S / 4 else size
        size = max(size // 2, 1) if spent_s > _SNAPSHOT_S else size


async def _check_page(
    postgres: PostgreSQLAdapter, one: Pass, after: tuple[object, ...], size: int, report: Report
) -> Rows:
    """One snapshot; nothing of it is reported unless all of it was checked."""

    async def look(client: TransactionClient) -> tuple[Rows, dict[str, Rows]]:
        page = await client.query(_SQL[one.page], [*after, size])
        if not page:
            return page, {}
        return page, {name: await check(client, page) for name, check in one.checks.items()}

    page, found = await postgres.execute_transaction(
        look,
        isolation="REPEATABLE READ",
        read_only=True,
        statement_timeout_ms=_STATEMENT_TIMEOUT_MS,
    )
    for name, violations in found.items():
        report.add(name, len(page), violations)
    return page


def _by_sql(*names: str) -> dict[str, Check]:
    return {name: _checked_by(name) for name in names}


def _checked_by(name: str) -> Check:
    """The statement of that name, given the columns of the page."""

    async def check(client: TransactionClient, page: Rows) -> Rows:
        columns = [list(column) for column in zip(*(row.values() for row in page), strict=True)]
        return await client.query(_SQL[name], [*columns, *_EXTRA.get(name, ())])

    return check


_EXTRA: dict[str, Sequence[object]] = {
    "transfers_balance": [
        list(CHART),
        [policy.layer for policy in CHART.values()],
        [policy.system for policy in CHART.values()],
        [policy.side for policy in CHART.values()],
    ]
}

_PASSES = (
    Pass(
        "page_accounts",
        (_NO_ID,),
        _by_sql(
            "posted_equals_transfers",
            "held_equals_holds",
            "available_not_below_floor",
            "versions_gapless",
            "currency_matches",
        )
        | {"windows_equal_decisions": windows_equal_decisions},
    ),
    Pass("page_wide_owners", (_NO_ID,), _by_sql("wide_windows_equal_cards")),
    Pass(
        "page_decisions",
        (_NO_ID,),
        _by_sql(
            "one_hold_per_approval",
            "decline_has_no_hold",
            "decision_knows_its_owners",
            "explanation_agrees",
            "approves_what_was_asked",
            "one_event_per_decision",
        ),
    ),
    Pass(
        "page_holds",
        (_NO_ID,),
        _by_sql("hold_has_its_approval", "hold_is_accounted_for", "no_open_hold_past_expiry"),
    ),
    Pass(
        "page_transfers",
        (_NO_ID,),
        _by_sql("transfers_balance", "transfer_has_its_approval", "one_event_per_transfer"),
    ),
    Pass("page_keys", (_NO_ID, b""), _by_sql("keys_point_to_subjects")),
    Pass("page_answers", (_NO_ID, b""), _by_sql("answers_have_keys")),
    Pass("page_events", (-1, _NO_ID), _by_sql("events_have_causes")),
)
