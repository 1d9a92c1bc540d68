"""Open-loop load on a gateway: requests go when they are due, whatever became of earlier ones.

Realistic traffic of the simulator, with or without captures and reversals, in a process of its own:
`python -m bench.open_loop URL KEY CARDS_FILE RATE SECONDS WHAT SEED`.
"""

import asyncio
import json
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import uvloop

from bench.loads import Target, run_metered
from jitway.simulator.connections import Address, Connections
from jitway.simulator.plan import FOLLOW_UP_SHARE, Kind, Plan, draw_plan
from jitway.simulator.population import Population
from jitway.simulator.report import Report
from jitway.simulator.requests import Writer
from jitway.simulator.run import Run

CONNECTIONS = 128
TIMEOUT_S = 10.0
WARM_UP_S = 1.0


@dataclass(frozen=True)
class Traffic:
    """What came of one open-loop run; latencies in ms from the intended send time."""

    rate: float
    follow_ups: bool
    sent: int
    no_decision: int
    errors: int
    slipped: bool
    p50: float
    p95: float
    p99: float
    max: float
    follow_up_p99: float
    cores: dict[str, float]


def open_loop(target: Target, *, rate: float, seconds: int, follow_ups: bool, seed: int) -> Traffic:
    """Send traffic at a rate.

    Args:
        target: whom.
        rate: authorizations a second.
        seconds: for how long; the first one is not timed.
        follow_ups: captures and reversals on top, a quarter as many.
        seed: of the traffic.

    Raises:
        RuntimeError: the generator failed; the text carries what it said.
    """
    with tempfile.TemporaryDirectory() as directory:
        cards = Path(directory, "cards")
        cards.write_text("\n".join(target.cards))
        what = "all" if follow_ups else "authorizations"
        command = [sys.executable, "-m", "bench.open_loop", target.url, target.key, str(cards)]
        command += [str(rate), str(seconds), what, str(seed)]
        told, cores = run_metered(target, command, seconds=seconds)
    return Traffic(rate=rate, follow_ups=follow_ups, cores=cores, **told)


def without_follow_ups(plan: Plan) -> Plan:
    """The same schedule with an authorization in the place of each capture and reversal."""
    kinds = (Kind.FRESH if kind == Kind.FOLLOW_UP else kind for kind in plan.kinds)
    return replace(plan, kinds=bytearray(kinds))


async def main(
    url: str, key: str, cards_file: str, rate: str, seconds: str, what: str, seed: str
) -> None:
    """Play and print the result as `open_loop` expects it."""
    cards = (await asyncio.to_thread(Path(cards_file).read_text)).split()
    share = 1.0 if what == "all" else 1 + FOLLOW_UP_SHARE
    plan = draw_plan(
        Population(ordinary=cards), rate=float(rate) / share, seconds=float(seconds), seed=int(seed)
    )
    if what != "all":
        plan = without_follow_ups(plan)
    address = Address.of(url)
    connections = Connections(address, size=CONNECTIONS, timeout_s=TIMEOUT_S)
    try:
        await connections.open()
        run = Run(plan, connections, Writer(address, key), warmup_s=WARM_UP_S)
        await run.play(None)
    finally:
        await connections.close()
    print("RESULT " + json.dumps(told(run.report)))


def told(report: Report) -> dict[str, Any]:
    """The members of `Traffic` that the generator knows."""
    document = report.as_dict()
    return {
        "sent": report.sent,
        "no_decision": report.no_decision,
        "errors": document["errors"] + document["follow_up_errors"],
        "slipped": report.has_slipped,
        **document["latency_ms"],
        "follow_up_p99": document["follow_up_latency_ms"]["p99"],
    }


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
