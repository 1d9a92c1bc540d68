"""`simulation.py`: `jitway simulate`: runs the traffic and prints what came of it."""

import asyncio
import json

import click

from jitway.cli.logs import configure
from jitway.simulator.population import CannotProvision
from jitway.simulator.report import Report
from jitway.simulator.simulate import simulate

FAILED, CANNOT_RUN = 1, 2


def play(
    url: str, *, key: str, rate: float, seconds: float, seed: int | None, as_json: bool
) -> int:
    """Sends the traffic.

    Args:
        url: of the gateway.
        key: to authenticate with.
        rate: authorizations a second.
        seconds: for how long.
        seed: of the traffic.
        as_json: print one JSON document.

    Returns:
        The exit code: 0, 1 when requests failed, 2 when nothing could be sent.
    """
    lines = configure(level="warning", form=None)
    try:
        report = asyncio.run(simulate(url, key=key, rate=rate, seconds=seconds, seed=seed))
    except (ValueError, OSError, CannotProvision) as error:
        click.echo(f"jitway: {error}", err=True)
        return CANNOT_RUN
    finally:
        lines.close()
    click.echo(json.dumps(report.as_dict()) if as_json else _told(report))
    return FAILED if report.errors else 0


def _told(report: Report) -> str:
    document = report.as_dict()
    latency = document["latency_ms"]
    lines = [f"sent {report.sent:,} in {report.seconds:.1f} s, {document['rate']} a second"]
    lines.append(f"  approved     {report.approved:>10,}")
    for reason, count in report.declined.most_common():
        lines.append(f"  declined     {count:>10,}  {reason}")
    others = ("replays", "conflicts", "no_decision", "errors")
    lines += [f"  {name:<12} {document[name]:>10,}" for name in others]
    lines.append(
        "latency ms, from the intended send time: "
        + "  ".join(f"{name} {value}" for name, value in latency.items())
    )
    if report.has_slipped:
        lines.append("The schedule slipped by more than a second: this machine was too slow.")
    return "\n".join(lines)
