"""What the demonstration shows at its end, on a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from jitway.simulator.report import Report


def show(
    console: Console, report: Report, profile: Mapping[str, Any], books: Mapping[str, Any]
) -> None:
    """Prints decisions by reason, the stages beside their budgets, and the books."""
    console.print(_decisions(report))
    console.print(_stages(profile))
    console.print(_books(books))


def _decisions(report: Report) -> Table:
    table = Table(title="Decisions", title_justify="left")
    table.add_column("outcome")
    table.add_column("requests", justify="right")
    table.add_row("approved", f"{report.approved:,}")
    for reason, count in report.declined.most_common():
        table.add_row(f"declined: {reason}", f"{count:,}")
    table.add_section()
    table.add_row("same key again: same answer", f"{report.replays:,}")
    table.add_row("same key, other content: conflict", f"{report.conflicts:,}")
    table.add_row("no decision", f"{report.no_decision:,}")
    table.add_row("errors", f"{report.errors.total():,}")
    table.add_section()
    table.add_row("captures", f"{report.captures:,}")
    table.add_row("reversals", f"{report.reversals:,}")
    return table


def _stages(profile: Mapping[str, Any]) -> Table:
    table = Table(title="Where the milliseconds go", title_justify="left")
    table.add_column("stage")
    for column in ("p50", "p95", "p99", "max", "budget"):
        table.add_column(column, justify="right")
    window = profile["windows"]["start"]
    for name, row in window["stages"].items():
        table.add_row(name, *_milliseconds(row), f"{row['budget']:g}")
    table.add_section()
    table.add_row("total, in the gateway", *_milliseconds(window["total"]), "")
    return table


def _milliseconds(row: Mapping[str, float]) -> list[str]:
    return [f"{row[name]:.3f}" for name in ("p50", "p95", "p99", "max")]


def _books(books: Mapping[str, Any]) -> Table:
    table = Table(title="The books (jitway verify)", title_justify="left")
    table.add_column("invariant")
    table.add_column("rows", justify="right")
    table.add_column("violations", justify="right")
    for name, rows in books["checked"].items():
        broken = sum(1 for violation in books["violations"] if violation["invariant"] == name)
        table.add_row(name, f"{rows:,}", str(broken) if broken else "none")
    return table
