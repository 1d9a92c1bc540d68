"""How long each operation of the four connections takes, beside what the guide asks for.

    scripts/bench adapters [--quick] [--json FILE]

The servers are those of the five variables; where one is missing, those of `scripts/services`,
which are started, and stopped again if nobody had. What is measured is the caller's time: waiting
for a connection counts. The target is for one operation at a time; 16 at a time keep client and
server busy without a pause, and show what that costs. Exits 1 when a target was missed.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from statistics import fmean, quantiles
from typing import Any

import uvloop

from bench.processes import machine
from bench.tables import markdown, write_json
from jitway import MessageQueueManager, MongoDBAdapter, PostgreSQLAdapter, RedisAdapter
from jitway.adapters.rabbitmq import QueueSpec, Topology
from tests.integration.rabbitmq_scenes import remove
from tests.servers.products import product_of

SCRIPT = Path(__file__).parents[1] / "scripts" / "services"
VARIABLES = ("DATABASE_URL", "MONGODB_URI", "REDIS_URL", "RABBITMQ_URL")
SERVICES_S = 300
OPERATIONS, OPERATIONS_QUICK = 3_000, 400
AT_ONCE = 16
WARM_UP = 50
NAME = f"jitway_bench_{os.getpid()}"
# The guide's, as means in milliseconds; jitway aims far below.
QUERY_MS, LOOKUP_MS, PUBLISH_MS, CONSUME_MS = 50.0, 5.0, 10.0, 50.0

Operation = Callable[[int], Awaitable[object]]


@dataclass(frozen=True)
class Figures:
    """What one operation took, in milliseconds.

    Args:
        store: whose operation.
        operation: its name.
        at_once: how many were under way at a time.
        per_second: how many ended in a second.
        target: the guide's for the mean; None where it has none.
    """

    store: str
    operation: str
    at_once: int
    per_second: float
    mean: float
    p50: float
    p95: float
    p99: float
    max: float
    target: float | None

    @property
    def is_met(self) -> bool:
        """Whether the mean is below the target."""
        return self.target is None or self.mean < self.target


@dataclass(frozen=True)
class Measured:
    """One operation to be measured."""

    store: str
    name: str
    run: Operation
    target: float | None = None


def figures_of(one: Measured, spans_ms: Sequence[float], *, at_once: int, took_s: float) -> Figures:
    cuts = quantiles(spans_ms, n=100, method="inclusive")
    return Figures(
        one.store,
        one.name,
        at_once,
        len(spans_ms) / took_s,
        fmean(spans_ms),
        cuts[49],
        cuts[94],
        cuts[98],
        max(spans_ms),
        one.target if at_once == 1 else None,
    )


async def measure(one: Measured, *, operations: int, at_once: int) -> Figures:
    """Runs an operation so often, so many at a time; a failure ends everything."""
    numbers = count()
    spans_ms: list[float] = []

    async def keep_going(limit: int, *, kept: bool) -> None:
        while (number := next(numbers)) < limit:
            started_ns = time.perf_counter_ns()
            await one.run(number)
            if kept:
                spans_ms.append((time.perf_counter_ns() - started_ns) / 1e6)

    await asyncio.gather(*(keep_going(WARM_UP, kept=False) for _ in range(at_once)))
    numbers = count()
    began = time.perf_counter()
    await asyncio.gather(*(keep_going(operations, kept=True) for _ in range(at_once)))
    return figures_of(one, spans_ms, at_once=at_once, took_s=time.perf_counter() - began)


@asynccontextmanager
async def postgres_operations() -> AsyncIterator[list[Measured]]:
    async with AsyncExitStack() as stack:
        postgres = PostgreSQLAdapter(os.environ)
        stack.push_async_callback(postgres.close)
        await postgres.execute_query(f"CREATE TABLE {NAME} (id bigint PRIMARY KEY, n bigint)")
        stack.push_async_callback(postgres.execute_query, f"DROP TABLE {NAME}")
        await postgres.execute_query(
            f"INSERT INTO {NAME} SELECT i, 0 FROM generate_series(0, 999) i"
        )
        read = f"SELECT n FROM {NAME} WHERE id = $1"
        write = f"UPDATE {NAME} SET n = n + 1 WHERE id = $1"

        async def both(client: Any, number: int) -> None:
            await client.query(read, [number % 1000])
            await client.query(write, [number % 1000])

        yield [
            Measured(
                "PostgreSQL",
                "query, read",
                lambda n: postgres.execute_query(read, [n % 1000]),
                QUERY_MS,
            ),
            Measured(
                "PostgreSQL",
                "query, durable write",
                lambda n: postgres.execute_query(write, [n % 1000]),
                QUERY_MS,
            ),
            Measured(
                "PostgreSQL",
                "transaction of two",
                lambda n: postgres.execute_transaction(lambda client: both(client, n)),
                QUERY_MS,
            ),
        ]


@asynccontextmanager
async def mongodb_operations() -> AsyncIterator[list[Measured]]:
    async with AsyncExitStack() as stack:
        mongo = MongoDBAdapter(os.environ, mongodb_db="jitway_bench")
        stack.push_async_callback(mongo.close)
        stack.push_async_callback(mongo.delete_many, NAME, {})
        await mongo.create_indexes(NAME, ["card"])
        await mongo.insert_many(NAME, [{"_id": n, "card": n % 50, "n": 0} for n in range(1000)])
        ids = count(1_000)
        spent: list[dict[str, Any]] = [
            {"$match": {"card": 7}},
            {"$group": {"_id": None, "n": {"$sum": "$n"}}},
        ]
        yield [
            Measured(
                "MongoDB", "find by id", lambda n: mongo.find(NAME, {"_id": n % 1000}), QUERY_MS
            ),
            Measured(
                "MongoDB",
                "update_one, journaled",
                lambda n: mongo.update_one(NAME, {"_id": n % 1000}, {"$inc": {"n": 1}}),
                QUERY_MS,
            ),
            Measured("MongoDB", "aggregate", lambda _: mongo.aggregate(NAME, spent), QUERY_MS),
            Measured(
                "MongoDB",
                "insert_one, journaled",
                lambda _: mongo.insert_one(NAME, {"_id": next(ids), "card": -1}),
                QUERY_MS,
            ),
        ]


@asynccontextmanager
async def redis_operations() -> AsyncIterator[list[Measured]]:
    async with AsyncExitStack() as stack:
        redis = RedisAdapter(os.environ, key_prefix=f"{NAME}:", timeout_ms=1_000)
        stack.push_async_callback(redis.close)
        await redis.connect()
        stack.push_async_callback(redis.reset_counter, "n")
        user = {"name": "Ada", "status": "active", "limits": {"day": 5_000}}

        async def found(number: int) -> None:
            assert await redis.get_from_cache(f"user:{number % 100}") == user

        yield [
            Measured(
                "Redis", "cache_user", lambda n: redis.cache_user(str(n % 100), user, 60), LOOKUP_MS
            ),
            Measured("Redis", "get_from_cache, hit", found, LOOKUP_MS),
            Measured(
                "Redis",
                "get_from_cache, miss",
                lambda _: redis.get_from_cache("user:nobody"),
                LOOKUP_MS,
            ),
            Measured(
                "Redis", "increment_counter", lambda _: redis.increment_counter("n"), LOOKUP_MS
            ),
            Measured(
                "Redis",
                "invalidate_user_cache",
                lambda n: redis.invalidate_user_cache(str(n % 100)),
                LOOKUP_MS,
            ),
        ]


@asynccontextmanager
async def rabbitmq_operations() -> AsyncIterator[list[Measured]]:
    published, consumed = (
        QueueSpec(f"{NAME}-published", ("p",)),
        QueueSpec(f"{NAME}-consumed", ("c",)),
    )
    topology = Topology(NAME, (published, consumed))
    async with AsyncExitStack() as stack:
        mq = MessageQueueManager(os.environ, topology=topology)
        stack.push_async_callback(remove, os.environ["RABBITMQ_URL"], topology)
        stack.push_async_callback(mq.close)
        await mq.connect()
        handled: dict[int, asyncio.Event] = {}

        async def handle(message: dict[str, Any]) -> None:
            handled.pop(message["n"]).set()

        await mq.consume_message(consumed.name, handle)
        ids = count()

        async def through(_: int) -> None:
            number = next(ids)
            arrived = handled[number] = asyncio.Event()
            async with asyncio.TaskGroup() as both:
                both.create_task(mq.publish_message(NAME, "c", {"n": number}))
                both.create_task(arrived.wait())

        message = {"transaction_id": "123", "user_id": "user-456", "amount": 100}
        yield [
            Measured(
                "RabbitMQ",
                "publish, confirmed",
                lambda _: mq.publish_message(NAME, "p", message),
                PUBLISH_MS,
            ),
            Measured("RabbitMQ", "publish until handled", through, CONSUME_MS),
        ]


async def measure_all(operations: int) -> list[Figures]:
    """Store by store, so that they do not take each other's processor."""
    found = []
    for opened in (postgres_operations, mongodb_operations, redis_operations, rabbitmq_operations):
        async with opened() as measured:
            for one in measured:
                for at_once in (1, AT_ONCE):
                    figures = await measure(one, operations=operations, at_once=at_once)
                    found.append(figures)
                    say(f"{one.store:<11}{one.name:<24}{at_once:>3} at once {figures.mean:8.3f} ms")
    return found


@contextmanager
def servers() -> Iterator[None]:
    """The variables in the environment; what has to be started for them is stopped again."""
    if all(os.environ.get(name) for name in VARIABLES):
        yield
        return
    were_running = _services("status").returncode == 0
    started = _services("start")
    if started.returncode != 0:
        sys.exit(f"bench: {started.stderr.strip() or started.stdout.strip()}")
    try:
        for line in _services("env").stdout.splitlines():
            name, _, value = line.partition("=")
            os.environ.setdefault(name, value)
        yield
    finally:
        if not were_running:
            _services("stop")


def _services(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, command], capture_output=True, text=True, timeout=SERVICES_S, check=False
    )


def say(line: str) -> None:
    """Progress, apart from the result."""
    print(line, file=sys.stderr, flush=True)


def table(found: Sequence[Figures]) -> str:
    """The figures as Markdown."""
    columns = ("store", "operation", "at once", "a second", "mean ms", "p50", "p95", "p99", "max")
    rows = [
        [
            *(one.store, one.operation, one.at_once, one.per_second),
            *(one.mean, one.p50, one.p95, one.p99, one.max),
            *((f"< {one.target:g}", "yes" if one.is_met else "no") if one.target else "--"),
        ]
        for one in found
    ]
    return markdown((*columns, "target of the mean", "met"), rows)


def main(arguments: Sequence[str]) -> int:
    """Measure, print a table, write the JSON; the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/bench adapters")
    parser.add_argument("--quick", action="store_true", help="less of everything: about 20 s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to a file")
    given = parser.parse_args(arguments)
    with servers():
        described = machine()
        products = [asyncio.run(product_of(name, os.environ[name])) for name in VARIABLES]
        found = uvloop.run(measure_all(OPERATIONS_QUICK if given.quick else OPERATIONS))
    facts = ", ".join(f"{name} {value}" for name, value in described.items())
    print(f"Machine: {facts}. Servers: {', '.join(products)}.\n\n{table(found)}")
    if given.json is not None:
        figures = [{**asdict(one), "met": one.is_met} for one in found]
        write_json(given.json, {"machine": described, "servers": products, "operations": figures})
    missed = [one for one in found if not one.is_met]
    for one in missed:
        say(f"MISSED: {one.store} {one.operation}: {one.mean:.1f} ms")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
