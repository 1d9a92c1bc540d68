"""`doctor.py`: what `jitway doctor` prints. What is looked at and judged stands in `doctor/`."""

from typing import Any

import click
import msgspec

from jitway.doctor import PROBLEM, Finding, Plan, Seen
from jitway.settings import Settings


def plan_of(settings: Settings) -> Plan:
    """What is to be looked at with these settings."""
    return Plan(
        database_url=settings.database_url,
        mongodb_uri=settings.mongodb_uri,
        mongodb_db=settings.mongodb_db,
        redis_url=settings.redis_url,
        rabbitmq_url=settings.rabbitmq_url,
        data_dir=settings.data_dir,
        workers=settings.workers,
        pool_max=settings.pool_max,
        lanes=settings.lanes,
        slow_query_ms=settings.slow_query_ms,
    )


def findings_of(seen: list[Seen]) -> list[Finding]:
    """Every finding, problems first."""
    found = [finding for one in seen for finding in one.findings]
    return sorted(found, key=lambda finding: finding.level != PROBLEM)


def is_right(seen: list[Seen]) -> bool:
    """Whether there is no problem; notes are none."""
    return not any(finding.level == PROBLEM for finding in findings_of(seen))


def document(settings: Settings, seen: list[Seen]) -> dict[str, Any]:
    """Everything as one JSON document."""
    services = {one.subject: msgspec.to_builtins(one) for one in seen}
    for service in services.values():
        del service["subject"], service["findings"]
    return {
        "ok": is_right(seen),
        "settings": {
            row.name: {"value": value or None, "source": source}
            for row, value, source in settings.shown()
        },
        "services": services,
        "findings": msgspec.to_builtins(findings_of(seen)),
    }


def tell(settings: Settings, seen: list[Seen]) -> None:
    """Everything for people: what is set, what was seen, what is wrong and what to do."""
    click.echo("Settings that are not the default (`jitway settings` has them all)")
    changed = [(row.name, value, source) for row, value, source in settings.shown()]
    for name, value, source in changed:
        if source != "default":
            click.echo(f"  {name} = {value}  [{source}]")
    click.echo("\nServices")
    for one in seen:
        latency = "" if one.latency_ms is None else f"{one.latency_ms:.1f} ms"
        facts = [one.status, one.product or "", latency, one.address or ""]
        click.echo(f"  {one.subject:<14}{'  '.join(fact for fact in facts if fact)}")
        for name, value in one.figures.items():
            click.echo(f"    {name:<28} {_shown(value)}")
    found = findings_of(seen)
    if found:
        click.echo("\nFindings (docs/troubleshooting.md explains each)")
    for finding in found:
        click.echo(f"  {finding.level.upper():<8}{finding.code}: {finding.subject}")
        click.echo(f"          {finding.detail}\n          -> {finding.advice}")
    problems = sum(finding.level == PROBLEM for finding in found)
    click.echo(f"\nProblems: {problems}." if problems else "\nAll is right.")


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(one)}" for name, one in value.items()) or "none"
    if isinstance(value, int):
        return f"{value:,}"
    return "-" if value is None else str(value)
