"""The demonstration, told from top to bottom; `scripts/demo` runs it."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from demo.gateway import Gateway, GatewayFailed
from demo.population import load
from demo.tables import show
from demo.visit import Visit
from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.cli.logs import configure
from jitway.embedded import reachable_data_dir, running_url
from jitway.errors import JitwayError
from jitway.simulator.population import Population
from jitway.simulator.report import Report
from jitway.simulator.simulate import simulate

CARDS = 5_000
# The four servers and the worker of --full take their part of the machine.
RATE, RATE_FULL = 250.0, 150.0
PORT = 3000
CHECKOUT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run showed.

    Args:
        report: what became of every request.
        decisions: how many rows the ledger has for them.
        profile: where the milliseconds went.
        health: of every service.
        books: whether they are clean.
    """

    report: Report
    decisions: int
    profile: dict[str, Any]
    health: dict[str, Any]
    books: dict[str, Any]

    @property
    def went_well(self) -> bool:
        """Whether every request is accounted for and the books are clean."""
        balanced = self.decisions == self.report.decisions and self.report.ended == self.report.sent
        return bool(self.books["ok"]) and balanced and not self.report.errors


def main() -> int:
    """Runs the demonstration; the exit code is 0 when it went well and the books are clean."""
    options = _options(sys.argv[1:])
    # Standard output is for the document alone.
    console = Console(stderr=options.json, highlight=False)
    try:
        with ExitStack() as stack:
            stack.callback(configure(level="error", form=None).close)
            return _demonstrate(options, console, stack)
    except (GatewayFailed, JitwayError, OSError) as error:
        console.print(f"demo: {error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="A demo card program with realistic traffic on an embedded PostgreSQL.",
    )
    parser.add_argument("--full", action="store_true", help="on servers of all four kinds")
    parser.add_argument("--exit", action="store_true", help="stop at the end instead of serving on")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--seconds", type=float, default=20.0, help="of traffic (default 20)")
    parser.add_argument("--port", type=int, default=PORT, help=f"default {PORT}")
    parser.add_argument("--seed", type=int, default=None, help="the same seed, the same traffic")
    options = parser.parse_args(arguments)
    if not 1 <= options.seconds <= 3600:
        parser.error("--seconds must be from 1 to 3600")
    if not 0 <= options.port <= 65535:
        parser.error("--port must be from 0 to 65535")
    if options.seed is None:
        options.seed = int.from_bytes(os.urandom(4), "big")
    return options


def _demonstrate(options: argparse.Namespace, console: Console, stack: ExitStack) -> int:
    data_dir = reachable_data_dir(CHECKOUT / ".demo", "demo")
    data_dir.mkdir(parents=True, exist_ok=True)
    urls, processes = _four_services(console, stack) if options.full else ({}, {})
    where = "the four services" if options.full else f"its embedded PostgreSQL in {data_dir}"
    console.print(f"Starting jitway on {where}")
    gateway = Gateway(data_dir, options.port, os.environ | urls, works=options.full)
    stack.callback(gateway.stop)
    gateway.command("init")
    # A key of this run alone: an earlier run's key was shown once and is gone.
    key = gateway.command("keys", "create", "--scopes", "authorize,read,operate")["key"]
    gateway.start()
    url = urls.get("DATABASE_URL") or running_url(data_dir)
    if url is None:
        raise GatewayFailed("the embedded PostgreSQL is not there")
    report, decisions, population = asyncio.run(_traffic(options, console, gateway, key, url))
    outcome = Outcome(
        report,
        decisions,
        gateway.get("/v1/profile", key),
        gateway.get("/health", key),
        gateway.command("verify"),
    )
    _tell(options, console, outcome)
    if not options.exit:
        Visit(console, gateway, key, population, processes).stay(seed=options.seed)
    return 0 if outcome.went_well else 1


def _four_services(console: Console, stack: ExitStack) -> tuple[dict[str, str], dict[str, int]]:
    """Addresses of servers of all four kinds, as an environment, and their processes by name."""
    # Servers of the tests are no part of the product: nothing else here needs them.
    from demo.stores import Stores

    console.print("Starting PostgreSQL, MongoDB, Redis and RabbitMQ")
    stores = Stores(CHECKOUT / ".demo" / "full")
    stack.callback(stores.stop)
    return stores.start(), stores.processes()


async def _traffic(
    options: argparse.Namespace, console: Console, gateway: Gateway, key: str, url: str
) -> tuple[Report, int, Population]:
    program = gateway.post(
        "/v1/programs",
        key,
        {"name": "Demo", "currency": "USD", "time_zone": "America/New_York"},
    )
    rate = RATE_FULL if options.full else RATE
    postgres = PostgreSQLAdapter(database_url=url, pool_size_min=1, pool_size_max=2)
    bars = (TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn())
    try:
        with Progress(*bars, TimeElapsedColumn(), console=console) as progress:
            loading = progress.add_task("Loading cards", total=CARDS)
            population = await load(
                postgres,
                program["id"],
                cards=CARDS,
                seed=options.seed,
                on_progress=lambda done: progress.update(loading, completed=done),
            )
            before = await _decisions(postgres)
            playing = progress.add_task(f"Card traffic, {rate:.0f} a second", total=None)
            report = await simulate(
                gateway.url,
                key=key,
                rate=rate,
                seconds=options.seconds,
                seed=options.seed,
                cards=population,
                on_progress=lambda sent, planned: progress.update(
                    playing, completed=sent, total=planned
                ),
            )
        return report, await _decisions(postgres) - before, population
    finally:
        await postgres.close()


async def _decisions(postgres: PostgreSQLAdapter) -> int:
    rows = await postgres.execute_query("SELECT count(*) AS count FROM decision")
    return int(rows[0]["count"])


def _tell(options: argparse.Namespace, console: Console, outcome: Outcome) -> None:
    if options.json:
        print(json.dumps(_document(options, outcome)))
    else:
        show(console, outcome.report, outcome.profile, outcome.health, outcome.books)
    report = outcome.report
    verdict = "The books are clean." if outcome.books["ok"] else "The books are NOT clean."
    console.print(
        f"{verdict} {report.sent:,} requests: {outcome.decisions:,} decisions in the ledger, "
        f"{report.replays} repeats, {report.conflicts} conflicts. Seed {options.seed}."
    )


def _document(options: argparse.Namespace, outcome: Outcome) -> dict[str, Any]:
    window = outcome.profile["windows"]["start"]
    return {
        "seed": options.seed,
        "traffic": outcome.report.as_dict(),
        "decision_rows": outcome.decisions,
        "stages_ms": {**window["stages"], "total": window["total"]},
        "cache": window["cache"],
        "alerts": outcome.profile["alerts"],
        "health": outcome.health,
        "verify": outcome.books,
    }


if __name__ == "__main__":
    sys.exit(main())
