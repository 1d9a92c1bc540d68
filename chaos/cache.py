"""`cache.py`: freezes race authorizations over two gateways that believe what is no longer so.

First the checker is proved: gateways that trust their views must be caught. Then the races: not
one approval after a freeze had returned. PostgreSQL and Redis are of this run's own; commits do not
wait for the disk, since no plug is pulled.
"""

import argparse
import asyncio
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
import uvloop

from chaos.stale import Races, StaleRaces, deaf, trusting
from chaos.violation import Violation
from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.adapters.redis import RedisAdapter
from jitway.compose import Role, Services, services
from jitway.embedded import EmbeddedPostgreSQL, reachable_data_dir
from jitway.errors import JitwayError
from jitway.ledger.audit import verify
from jitway.settings import load
from jitway.sql.migrate import migrate
from tests.servers.process import ServerMissing
from tests.servers.redis import RedisServer

CHECKOUT = Path(__file__).resolve().parent.parent
RACES, RACES_QUICK = 100_000, 3_000
PROOF_RACES = 500
CARDS = 64
SHOWN_MAX = 20
REDIS_TIMEOUT_MS = 5_000


@dataclass(slots=True)
class Report:
    """What a run came to.

    Args:
        seed: of its random choices.
        violations: everything that must not be.
        counts: of the races.
        proof: how many approvals after a freeze the planted bug was caught with.
        lookups: of both gateways, by level, data type and result.
        books_right: what `jitway verify` says.
    """

    seed: int
    violations: list[Violation] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    proof: int = 0
    lookups: Counter[str] = field(default_factory=Counter)
    books_right: bool = False


async def run(directory: Path, report: Report, races: int) -> None:
    """Everything, from an empty directory to the verdict.

    Raises:
        JitwayError, ServerMissing: it cannot even be begun.
    """
    async with AsyncExitStack() as stack:
        server = EmbeddedPostgreSQL(directory / "data", durable=False)
        stack.push_async_callback(server.stop)
        url = await server.start()
        redis_server = RedisServer(directory / "redis")
        stack.callback(_stop, redis_server)
        await asyncio.to_thread(redis_server.start)
        postgres = PostgreSQLAdapter(database_url=url, pool_size_min=1, slow_query_ms=60_000)
        stack.push_async_callback(postgres.close)
        await migrate(postgres)
        # The hand that writes old values back waits as long as it takes.
        redis = RedisAdapter({"REDIS_URL": redis_server.url}, timeout_ms=REDIS_TIMEOUT_MS)
        stack.push_async_callback(redis.close)
        first, second = [
            await stack.enter_async_context(gateway(url, redis_server.url, directory))
            for _ in range(2)
        ]
        with trusting():
            planted = await StaleRaces(first, second, redis, seed=report.seed).run(
                min(races, PROOF_RACES), cards=CARDS
            )
        _prove(report, planted)
        async with asyncio.TaskGroup() as group:
            said = group.create_task(_say_how_far(report))
            real = StaleRaces(first, second, redis, seed=report.seed + 1)
            report.counts = real.races.counts
            try:
                done = await real.run(races, cards=CARDS)
            finally:
                said.cancel()
        report.violations += done.violations
        for running in (first, second):
            for label, number in running.profiler.counted().lookups.items():
                report.lookups[" ".join(label)] += number
        # The planted bug approved what was frozen; the books themselves must be right all the same.
        report.books_right = (await verify(postgres)).ok


@asynccontextmanager
async def gateway(url: str, redis_url: str, directory: Path) -> AsyncIterator[Services]:
    """A gateway on both stores that never hears of an eviction."""
    environment = {
        "HOME": str(directory),
        "DATABASE_URL": url,
        "REDIS_URL": redis_url,
        "JITWAY_UNSAFE_DURABILITY": "true",
        "JITWAY_DECISION_BUDGET_MS": "30000",
    }
    with deaf():
        async with services(load(environment, directory), role=Role.NONE) as running:
            yield running


def _stop(server: RedisServer) -> None:
    for process in server.processes:
        process.stop()


def _prove(report: Report, planted: Races) -> None:
    """A checker that misses the planted bug proves nothing."""
    report.proof = len(planted.violations)
    caught = {one.invariant for one in planted.violations}
    for invariant in ("frozen_is_declined", "rows_agree"):
        if invariant not in caught:
            detail = f"gateways that trust their views were not caught by {invariant}"
            report.violations.append(Violation("checker", "proof", detail))


async def _say_how_far(report: Report) -> None:
    while True:
        await asyncio.sleep(1 if sys.stderr.isatty() else 60)
        begin, end = ("\r\033[K", "") if sys.stderr.isatty() else ("", "\n")
        races = f"{report.counts['races']:,} races"
        print(f"{begin}chaos: {races}", end=end, file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Runs `scripts/chaos cache`; the exit code is 1 when something must not be."""
    options = _options(arguments)
    place = reachable_data_dir(CHECKOUT / ".chaos", "chaos")
    for path in {place, CHECKOUT / ".chaos"}:
        path.mkdir(parents=True, exist_ok=True)
    (CHECKOUT / ".chaos" / ".gitignore").write_text("*\n")
    directory = Path(tempfile.mkdtemp(prefix="cache-", dir=place))
    directory.chmod(0o711)
    print(f"chaos: seed {options.seed}", file=sys.stderr)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    report = Report(options.seed)
    began_s = time.monotonic()
    try:
        uvloop.run(run(directory, report, options.races))
    except* (JitwayError, ServerMissing, OSError) as errors:
        for error in _flat(errors):
            detail = f"{type(error).__name__} {error}"
            report.violations.append(Violation("runs", "process", detail))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    document = _document(report, options.races, time.monotonic() - began_s)
    if options.json:
        print(json.dumps(document))
    else:
        _show(document)
    return 0 if document["ok"] else 1


def _flat(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _flat(error)
        else:
            yield error


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/chaos cache",
        description="Freezes race authorizations over two gateways whose views are old on purpose; "
        "exit code 1 when one is approved after its card's freeze had returned.",
    )
    parser.add_argument("--quick", action="store_true", help=f"{RACES_QUICK} races")
    parser.add_argument("--races", type=int, help=f"so many (default {RACES})")
    parser.add_argument("--seed", type=int, help="repeats a run's random choices")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    options = parser.parse_args(arguments)
    if options.races is None:
        options.races = RACES_QUICK if options.quick else RACES
    if options.races < PROOF_RACES:
        parser.error(f"--races must be at least {PROOF_RACES}")
    if options.seed is None:
        options.seed = int.from_bytes(os.urandom(4), "big")
    return options


def _document(report: Report, races: int, seconds: float) -> dict[str, Any]:
    complete = report.counts["races"] == races
    return {
        "ok": not report.violations and report.books_right and complete,
        "seed": report.seed,
        "seconds": round(seconds, 1),
        "proof": report.proof,
        "counts": dict(report.counts),
        "lookups": dict(report.lookups),
        "verify": {"ok": report.books_right},
        "violations": [one.document for one in report.violations],
    }


def _show(document: dict[str, Any]) -> None:
    counts = Counter(document["counts"])
    print(
        f"seed {document['seed']}, {counts['races']:,} races over {counts['freezes']:,} freezes "
        f"in {document['seconds']} s"
    )
    print(
        f"the old view stood in the processes {counts['old_in_process']:,} times, in Redis "
        f"{counts['old_in_redis']:,}, in both {counts['old_in_everywhere']:,}"
    )
    print(
        f"beside a freeze: {counts['approved_beside']:,} approved, "
        f"{counts['declined_beside']:,} declined, {counts['undecided_beside']:,} undecided"
    )
    print(
        f"after a freeze: {counts['approved_after']:,} approved, {counts['declined_after']:,} "
        f"declined, {counts['undecided_after']:,} undecided; "
        f"{counts['began_with_the_old_view']:,} of them began with the old view at hand"
    )
    print(f"proof: gateways that trust their views were caught {document['proof']:,} times")
    for one in document["violations"][:SHOWN_MAX]:
        print(f"VIOLATED {one['invariant']} {one['subject']}: {one['detail']}")
    if len(document["violations"]) > SHOWN_MAX:
        print(f"VIOLATED and {len(document['violations']) - SHOWN_MAX} more")
    print("No frozen card spent." if document["ok"] else "Something is WRONG.")
