"""The demonstration, told from top to bottom; `scripts/demo` runs it."""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from demo.gateway import Gateway, GatewayFailed
from demo.population import load
from demo.tables import show
from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.cli.logs import configure
from jitway.embedded import reachable_data_dir, running_url
from jitway.errors import JitwayError
from jitway.simulator.population import Population
from jitway.simulator.report import Report
from jitway.simulator.simulate import simulate

CARDS = 5_000
RATE = 250.0
PORT = 3000
CHECKOUT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Runs the demonstration; the exit code is 0 when it went well and the books are clean."""
    options = _options(sys.argv[1:])
    console = Console(stderr=options.json, highlight=False)
    data_dir = reachable_data_dir(CHECKOUT / ".demo", "demo")
    data_dir.mkdir(parents=True, exist_ok=True)
    gateway = Gateway(data_dir, options.port, os.environ)
    # Standard output is for the document alone.
    lines = configure(level="error", form=None)
    try:
        return _demonstrate(options, console, gateway, data_dir)
    except (GatewayFailed, JitwayError, OSError) as error:
        console.print(f"demo: {error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        gateway.stop()
        lines.close()


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="A demo card program with realistic traffic on an embedded PostgreSQL.",
    )
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


def _demonstrate(
    options: argparse.Namespace, console: Console, gateway: Gateway, data_dir: Path
) -> int:
    console.print(f"Starting jitway on its embedded PostgreSQL in {data_dir}")
    gateway.command("init")
    # A key of this run alone: an earlier run's key was shown once and is gone.
    key = gateway.command("keys", "create", "--scopes", "authorize,read,operate")["key"]
    gateway.start()
    url = running_url(data_dir)
    if url is None:
        raise GatewayFailed("the embedded PostgreSQL is not there")
    outcome = asyncio.run(_traffic(options, console, gateway, key, url))
    report, decisions, population = outcome
    profile = gateway.get("/v1/profile", key)
    books = gateway.command("verify")
    if options.json:
        print(json.dumps(_document(options, report, decisions, profile, books)))
    else:
        show(console, report, profile, books)
    balanced = decisions == report.decisions and report.ended == report.sent
    verdict = "The books are clean." if books["ok"] else "The books are NOT clean."
    console.print(
        f"{verdict} {report.sent:,} requests: {decisions:,} decisions in the ledger, "
        f"{report.replays} repeats, {report.conflicts} conflicts. Seed {options.seed}."
    )
    if not options.exit:
        _serve_on(console, gateway, key, population.ordinary[0])
    return 0 if books["ok"] and balanced and not report.errors else 1


async def _traffic(
    options: argparse.Namespace, console: Console, gateway: Gateway, key: str, url: str
) -> tuple[Report, int, Population]:
    program = gateway.post(
        "/v1/programs",
        key,
        {"name": "Demo", "currency": "USD", "time_zone": "America/New_York"},
    )
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
            playing = progress.add_task(f"Card traffic, {RATE:.0f} a second", total=None)
            report = await simulate(
                gateway.url,
                key=key,
                rate=RATE,
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


def _document(
    options: argparse.Namespace,
    report: Report,
    decisions: int,
    profile: dict[str, Any],
    books: dict[str, Any],
) -> dict[str, Any]:
    window = profile["windows"]["start"]
    return {
        "seed": options.seed,
        "traffic": report.as_dict(),
        "decision_rows": decisions,
        "stages_ms": {**window["stages"], "total": window["total"]},
        "verify": books,
    }


def _serve_on(console: Console, gateway: Gateway, key: str, card: str) -> None:
    body = json.dumps({"card": card, "amount": 1250, "currency": "USD"})
    console.print("\nThe gateway serves on until Ctrl-C. One more authorization, to paste:\n")
    print(
        f"curl -sS {gateway.url}/v1/authorizations \\\n"
        f"  -H 'Authorization: Bearer {key}' \\\n"
        f"  -H 'Content-Type: application/json' -H \"Idempotency-Key: $(date +%s%N)\" \\\n"
        f"  -d '{body}'\n",
        file=sys.stderr if gateway.ended() else sys.stdout,
        flush=True,
    )
    while not gateway.ended():
        time.sleep(0.5)
    raise GatewayFailed("the gateway ended by itself")


if __name__ == "__main__":
    sys.exit(main())
