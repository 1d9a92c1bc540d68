"""What the demonstration shows at its end, on a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from jitway.simulator.report import Report


def show(
    console: Console,
    report: Report,
    profile: Mapping[str, Any],
    health: Mapping[str, Any],
    books: Mapping[str, Any],
) -> None:
    """Prints decisions by reason, stages, cache hits, alerts, services, and the books."""
    console.print(_decisions(report))
    console.print(_stages(profile))
    console.print(_cache(profile))
    console.print(_alerts(profile))
    console.print(_services(health))
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


def _cache(profile: Mapping[str, Any]) -> Table:
    table = Table(title="Cache", title_justify="left")
    table.add_column("level")
    table.add_column("data")
    for column in ("hits", "misses", "hit rate"):
        table.add_column(column, justify="right")
    for level, kinds in profile["windows"]["start"]["cache"].items():
        for kind, row in kinds.items():
            rate = f"{row['hit_rate']:.1f} %"
            table.add_row(level, kind, f"{row['hits']:,}", f"{row['misses']:,}", rate)
    return table


def _alerts(profile: Mapping[str, Any]) -> Table:
    table = Table(title="Slow episodes", title_justify="left")
    table.add_column("severity")
    table.add_column("episodes", justify="right")
    for severity, count in profile["alerts"].items():
        table.add_row(severity, f"{count:,}")
    return table


def _services(health: Mapping[str, Any]) -> Table:
    table = Table(title="Services", title_justify="left")
    table.add_column("service")
    table.add_column("status")
    for name, service in health["services"].items():
        table.add_row(name, service["status"] if isinstance(service, Mapping) else str(service))
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
