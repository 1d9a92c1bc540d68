"""How long each question to a full archive takes, and what a million decisions add to the disk.

    scripts/bench archive [--quick] [--documents N] [--rounds N] [--mongodb] [--json FILE]

Fills an archive of its own with N authorizations, a million unless told (20,000 with --quick), and
asks each question many times, with values that hit few, some and many documents, the newest page
and the one after it. In PostgreSQL: on the server of DATABASE_URL, else an embedded one; with
--mongodb on that of MONGODB_URI, else one that is started for it. The target is 100 ms for the 95th
percentile of each. Exits 1 when it was missed.
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import quantiles
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import uvloop

from bench.gateway import postgresql
from bench.processes import machine
from bench.tables import markdown, write_json
from jitway import MongoDBAdapter, PostgreSQLAdapter
from jitway.archive.jsonb import JsonbArchive
from jitway.archive.mongo import MongoArchive
from jitway.archive.store import AUTHORIZATIONS, Archive, Document, Question
from jitway.domain.instant import instant_text
from jitway.sql.migrate import migrate
from tests.servers.mongodb import MongoDBServer

CHECKOUT = Path(__file__).parents[1]
DOCUMENTS, DOCUMENTS_QUICK = 1_000_000, 20_000
TARGET_MS = 100.0
ROUNDS = 60
BATCH = 500
WRITERS = 2
SPAN = timedelta(days=30)
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
CARDS, MERCHANTS = 50_000, 5_000
REASONS = ("insufficient_available_balance", "spend_limit_exceeded", "mcc_blocked", "card_frozen")
NAME = f"jitway_bench_archive_{os.getpid()}"
RULES = (
    *("card_active", "cardholder_active", "account_active", "program_active"),
    *("currency", "available_balance"),
)
SIZES = """
    SELECT pg_relation_size('archive_authorizations') AS table_bytes,
        pg_indexes_size('archive_authorizations') AS index_bytes,
        pg_total_relation_size('archive_authorizations') AS all_bytes
"""


def digits(kind: int, number: int) -> str:
    """The digits of the id of one of a kind."""
    return f"{kind:012x}7{number:019x}"


def authorization(number: int, total: int, seed: random.Random) -> Document:
    """One of `total`, spread evenly over the time; cards and merchants are used unevenly."""
    at = BEGAN + SPAN * (number / total)
    card = int(CARDS * seed.random() ** 2)
    merchant = int(MERCHANTS * seed.random() ** 3)
    reason = seed.choices(REASONS, (50, 30, 19, 1))[0] if seed.random() < 0.1 else None
    amount = int(seed.lognormvariate(8, 1.2)) + 1
    id_ = f"aut_{int(at.timestamp() * 1000):012x}7{number:019x}"
    return {
        "_id": id_,
        "revision": number + 1,
        "id": id_,
        "decision": "declined" if reason else "approved",
        "reason": reason,
        "card": f"crd_{digits(1, card)}",
        "account": f"acc_{digits(2, card)}",
        "amount": amount,
        "approved_amount": 0 if reason else amount,
        "currency": "USD",
        "available": 1_000_000,
        "account_version": number + 1,
        "decided_at": instant_text(at),
        "expires_at": None if reason else instant_text(at + timedelta(days=7)),
        "status": "declined" if reason else "captured",
        "captured": 0 if reason else amount,
        "released": 0,
        "remaining": 0,
        "explanation": [
            {
                "rule": rule,
                "outcome": "passed",
                "fact": "active",
                "limit": "active",
                "level": None,
                "period": None,
                "headroom": None,
            }
            for rule in RULES
        ],
        "program": f"prg_{digits(3, card % 4)}",
        "cardholder": f"chd_{digits(4, card // 2)}",
        "kind": "purchase",
        "merchant": {"id": f"m-{merchant}", "name": "Corner Books", "mcc": "5942", "country": "US"},
        "network_reference": None,
        "metadata": None,
    }


def questions(seed: random.Random) -> dict[str, Question]:
    """One of each, with values of their own."""
    card = int(CARDS * seed.random() ** 2)
    at = BEGAN + SPAN * seed.random()
    amount = int(seed.lognormvariate(8, 1.2)) + 1
    return {
        "nothing": Question(),
        "card": Question(card=f"crd_{digits(1, card)}"),
        "cardholder": Question(cardholder=f"chd_{digits(4, card // 2)}"),
        "account": Question(account=f"acc_{digits(2, card)}"),
        "program": Question(program=f"prg_{digits(3, card % 4)}"),
        "one minute": Question(from_=at, to=at + timedelta(minutes=1)),
        "ten days": Question(from_=at, to=at + timedelta(days=10)),
        "decision": Question(decision=seed.choice(["approved", "declined"])),
        "reason": Question(reason=seed.choice(REASONS)),
        "merchant": Question(merchant=f"m-{int(MERCHANTS * seed.random() ** 3)}"),
        "exact amount": Question(amount_min=amount, amount_max=amount),
        "amount up to 2 x": Question(amount_min=amount, amount_max=2 * amount),
        "great amounts": Question(amount_min=1_000_000),
        "program, reason, ten days": Question(
            program=f"prg_{digits(3, card % 4)}",
            reason=seed.choice(REASONS),
            from_=at,
            to=at + timedelta(days=10),
        ),
    }


@dataclass(frozen=True, slots=True)
class Row:
    """One question: how often it was asked and how long it took, in milliseconds."""

    question: str
    asked: int
    found: float
    p50_ms: float
    p95_ms: float
    max_ms: float


async def fill(archive: Archive, total: int) -> float:
    """Puts all documents; seconds it took."""
    began = time.perf_counter()
    starts = iter(range(0, total, BATCH))

    async def write() -> None:
        for start in starts:
            seed = random.Random(start)
            numbers = range(start, min(start + BATCH, total))
            await archive.put_many(
                AUTHORIZATIONS, [authorization(number, total, seed) for number in numbers]
            )
            if start % 50_000 == 0:
                print(f"{start:,} of {total:,} documents", file=sys.stderr)

    await asyncio.gather(*(write() for _ in range(WRITERS)))
    return time.perf_counter() - began


async def ask(archive: Archive, rounds: int) -> list[Row]:
    """Every question, the first page and the one after it."""
    seed = random.Random(5)
    times: dict[str, list[float]] = {}
    found: dict[str, int] = {}
    for _ in range(rounds):
        for name, question in questions(seed).items():
            cursor = None
            for _page in range(2):
                began = time.perf_counter_ns()
                page = await archive.search(AUTHORIZATIONS, question, cursor=cursor)
                times.setdefault(name, []).append((time.perf_counter_ns() - began) / 1e6)
                found[name] = found.get(name, 0) + len(page.documents)
                if (cursor := page.next_cursor) is None:
                    break
    rows = []
    for name, spent in times.items():
        cuts = quantiles(spent, n=100)
        mean = found[name] / len(spent)
        rows.append(Row(name, len(spent), mean, cuts[49], cuts[94], max(spent)))
    return rows


@asynccontextmanager
async def jsonb(url: str) -> AsyncIterator[tuple[Archive, PostgreSQLAdapter]]:
    """An archive in a database of its own."""
    parts = urlsplit(url)
    server = PostgreSQLAdapter({"DATABASE_URL": url}, pool_size_min=0, slow_query_ms=60_000)
    await server.execute_query(f"CREATE DATABASE {NAME}")
    try:
        await server.execute_query(f"ALTER DATABASE {NAME} SET synchronous_commit = off")
        own = urlunsplit(parts._replace(path=f"/{NAME}"))
        postgres = PostgreSQLAdapter({"DATABASE_URL": own}, slow_query_ms=60_000)
        try:
            await migrate(postgres)
            yield JsonbArchive(postgres), postgres
        finally:
            await postgres.close()
    finally:
        await server.execute_query(f"DROP DATABASE {NAME} WITH (FORCE)")
        await server.close()


@asynccontextmanager
async def mongodb(url: str) -> AsyncIterator[tuple[Archive, MongoDBAdapter]]:
    """An archive in a database of its own."""
    adapter = MongoDBAdapter({"MONGODB_URI": url, "MONGODB_DB": NAME}, timeout_ms=60_000)
    database = adapter.collection(AUTHORIZATIONS.name).database
    try:
        yield MongoArchive(adapter), adapter
    finally:
        await adapter.run(lambda: database.client.drop_database(NAME))
        await adapter.close()


@contextmanager
def store(*, in_mongodb: bool) -> Iterator[str]:
    """The address of the server that is named, or of one of the benchmark's own.

    Raises:
        ServerMissing: none is named, and none can be had.
    """
    given = os.environ.get("MONGODB_URI" if in_mongodb else "DATABASE_URL")
    if given:
        yield given
    elif not in_mongodb:
        with postgresql() as server:
            yield server.url
    else:
        with tempfile.TemporaryDirectory(prefix="jitway-bench-") as place:
            mongodb_server = MongoDBServer(Path(place), environments=CHECKOUT / ".services")
            mongodb_server.start()
            try:
                yield mongodb_server.url
            finally:
                for process in mongodb_server.processes:
                    process.kill()


async def sizes_in(adapter: PostgreSQLAdapter | MongoDBAdapter) -> dict[str, int]:
    """What the store says that it takes on disk, in bytes."""
    if isinstance(adapter, PostgreSQLAdapter):
        # As autovacuum does by itself after so many rows.
        await adapter.execute_query("ANALYZE archive_authorizations")
        (sizes,) = await adapter.execute_query(SIZES)
        return dict(sizes)
    collection = adapter.collection(AUTHORIZATIONS.name)
    stats = await adapter.run(lambda: collection.database.command("collStats", collection.name))
    return {
        "table_bytes": int(stats.get("storageSize", 0)),
        "index_bytes": int(stats.get("totalIndexSize", 0)),
    }


async def measure(url: str, total: int, rounds: int, *, in_mongodb: bool) -> dict[str, Any]:
    """Everything, as one document."""
    async with mongodb(url) if in_mongodb else jsonb(url) as (archive, adapter):
        seconds = await fill(archive, total)
        sizes = await sizes_in(adapter)
        print(f"filled in {seconds:.0f} s; asking", file=sys.stderr)
        rows = await ask(archive, rounds)
    return {
        "documents": total,
        "filled_per_s": total / seconds,
        "bytes_per_document": {name: value / total for name, value in sizes.items()},
        "questions": [{name: getattr(row, name) for name in Row.__slots__} for row in rows],
    }


def main(given: Sequence[str]) -> int:
    """Measures, prints, and says whether the target was met."""
    parser = argparse.ArgumentParser(prog="scripts/bench archive")
    parser.add_argument("--quick", action="store_true", help=f"{DOCUMENTS_QUICK} documents")
    parser.add_argument("--documents", type=int, help=f"so many (default {DOCUMENTS})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of all questions")
    parser.add_argument("--mongodb", action="store_true", help="in MongoDB")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to a file")
    arguments = parser.parse_args(given)
    total = arguments.documents or (DOCUMENTS_QUICK if arguments.quick else DOCUMENTS)
    with store(in_mongodb=arguments.mongodb) as url:
        result = uvloop.run(measure(url, total, arguments.rounds, in_mongodb=arguments.mongodb))
    columns = list(result["questions"][0])
    print(markdown(columns, [list(row.values()) for row in result["questions"]]))
    print(f"\n{result['documents']:,} documents, {result['filled_per_s']:,.0f} put per second")
    for name, value in result["bytes_per_document"].items():
        print(f"{name}: {value:,.0f} per document")
    if arguments.json is not None:
        write_json(arguments.json, {"machine": machine(), **result})
    missed = [row["question"] for row in result["questions"] if row["p95_ms"] >= TARGET_MS]
    print(f"p95 at or above {TARGET_MS:g} ms: {', '.join(missed) or 'none'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
