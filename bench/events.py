"""How fast events are, and that a sick broker is nobody's concern but theirs.

    scripts/bench events [--quick] [--json FILE]

(a) publish to confirm, one message at a time; (b) commit to consumer at half of the gateway's
peak, over RabbitMQ and without; (c) the backlog of an outage, drained; (d) authorizations while
the broker hangs (SIGSTOP) beside those while it is well, turn by turn in one run. Exits 1 when a
target was missed or the books are wrong.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from bench import ceiling, event_latency
from bench.gateway import (
    START_S,
    STOP_S,
    Server,
    ask_once_about,
    environment,
    jitway,
    postgresql,
    serving,
)
from bench.loads import Target, closed_loop
from bench.open_loop import open_loop
from bench.processes import machine
from bench.tables import markdown, write_json
from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.adapters.rabbitmq import MessageQueueManager
from tests.servers.rabbitmq import RabbitMQServer

CHECKOUT = Path(__file__).parents[1]
CONNECTIONS = 32
DRAINED_S = 900.0
LOOK_EVERY_S = 0.25
# A crowded machine decides late, and what is measured here is not how late.
PATIENT = {"JITWAY_DECISION_BUDGET_MS": "5000", "JITWAY_BATCH_STATEMENT_TIMEOUT_MS": "4000"}

PUBLISH_P99_MS = 5.0
LATENCY_P99_MS = 50.0
THROUGHPUT_RATIO = 0.95
P99_MORE_MS = 5.0


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Args:
        publications: one at a time.
        seconds: of each run.
        outage_s: how long the broker is away.
        turns: with the broker well and hung.
        cards: of the population.
    """

    publications: int
    seconds: int
    outage_s: int
    turns: int
    cards: int


QUICK = Effort(publications=300, seconds=3, outage_s=3, turns=2, cards=500)
WHOLE = Effort(publications=2_000, seconds=10, outage_s=60, turns=5, cards=2_000)


@dataclass
class Measured:
    """Everything that was measured; milliseconds unless the name says otherwise."""

    publish: dict[str, float] = field(default_factory=dict)
    latency: dict[str, dict[str, float]] = field(default_factory=dict)
    drain: dict[str, float] = field(default_factory=dict)
    well: dict[str, list[float]] = field(default_factory=lambda: {"per_second": [], "p99": []})
    hung: dict[str, list[float]] = field(default_factory=lambda: {"per_second": [], "p99": []})
    refused: int = 0
    verified: bool = False

    @property
    def throughput_ratio(self) -> float:
        """Of authorizations while the broker hangs."""
        return median(self.hung["per_second"]) / median(self.well["per_second"])

    @property
    def p99_more(self) -> float:
        """What the hung broker adds."""
        return median(self.hung["p99"]) - median(self.well["p99"])


class Bench:
    """One run of everything on one PostgreSQL.

    Args:
        server: of the ledger.
        broker: private, to be hung and killed.
        effort: how much of it.
        key: an API key.
        cards: to ask about.
    """

    def __init__(
        self,
        server: Server,
        broker: RabbitMQServer,
        effort: Effort,
        *,
        key: str,
        cards: Sequence[str],
    ) -> None:
        self.measured = Measured()
        self._server = server
        self._broker = broker
        self._effort = effort
        self._key = key
        self._cards = cards
        self._runs = count(1)

    def play(self) -> None:
        """Measures, in the order of the title."""
        self.measured.publish = asyncio.run(self._publish())
        say(f"publish to confirm  p50 {self.measured.publish['p50']:.2f} ms")
        with self._whole(RABBITMQ_URL=self._broker.url) as target:
            self.measured.latency["rabbitmq"] = self._latency(target)
            self._outage(target)
            self._hang(target)
        with self._whole() as target:
            self.measured.latency["local"] = self._latency(target)
        self.measured.verified = bool(jitway(self._server.url, "verify")["ok"])

    async def _publish(self) -> dict[str, float]:
        manager = MessageQueueManager(rabbitmq_url=self._broker.url)
        spans_ms = []
        try:
            await manager.connect()
            for number in range(self._effort.publications):
                began = time.perf_counter()
                await manager.publish_message("transactions", "webhook.bench", {"n": number})
                spans_ms.append(1_000 * (time.perf_counter() - began))
        finally:
            await manager.close()
        hundredths = quantiles(spans_ms, n=100)
        return {"p50": median(spans_ms), "p99": hundredths[98], "max": max(spans_ms)}

    @contextmanager
    def _whole(self, **settings: str) -> Iterator[Target]:
        """A gateway that publishes, and a worker beside it that consumes."""
        work = {"JITWAY_WORK": "relay", **PATIENT, **settings}
        with serving(self._server.url, **work) as gateway, working(self._server.url, **work):
            ask_once_about(gateway, self._key, self._cards)
            self._drained()
            pids = {"postgresql": [self._server.pid], "gateway": [gateway.pid]}
            yield Target(gateway.url, self._key, self._cards, pids)

    def _latency(self, target: Target) -> dict[str, float]:
        peak = self._closed(target)["per_second"]
        self._drained()
        self._ask("DELETE FROM event_latency")
        half = open_loop(
            target, rate=peak / 2, seconds=self._effort.seconds, follow_ups=False, seed=1
        )
        self._drained()
        row = self._ask(
            "SELECT count(*) AS events, percentile_cont(ARRAY[0.5, 0.99, 1]) WITHIN GROUP (ORDER BY"
            " extract(epoch FROM arrived_at - occurred_at) * 1000) AS ms FROM event_latency"
        )[0]
        p50, p99, most = row["ms"]
        say(f"commit to consumer at {half.rate:,.0f}/s  p50 {p50:.1f}  p99 {p99:.1f} ms")
        return {"rate": half.rate, "events": row["events"], "p50": p50, "p99": p99, "max": most}

    def _outage(self, target: Target) -> None:
        self._broker.kill()
        began_s = time.monotonic()
        while time.monotonic() < began_s + self._effort.outage_s:
            self._closed(target, seconds=min(5, self._effort.outage_s))
        backlog = self._waiting()
        self._broker.start()
        back_s = time.monotonic()
        self._drained()
        took_s = time.monotonic() - back_s
        self.measured.drain = {"events": backlog, "seconds": took_s, "per_second": backlog / took_s}
        say(f"drained {backlog:,} events in {took_s:.1f} s")

    def _hang(self, target: Target) -> None:
        for _ in range(self._effort.turns):
            self._note(self.measured.well, target)
            self._broker.pause()
            try:
                # What the relay had sent already is waited for first.
                self._closed(target, seconds=1)
                self._note(self.measured.hung, target)
            finally:
                self._broker.resume()
            self._drained()

    def _note(self, figures: dict[str, list[float]], target: Target) -> None:
        run = self._closed(target)
        figures["per_second"].append(run["per_second"])
        figures["p99"].append(run["p99"])
        hung = "hung" if figures is self.measured.hung else "well"
        say(f"broker {hung}: {run['per_second']:8,.0f}/s  p99 {run['p99']:.1f} ms")

    def _closed(self, target: Target, *, seconds: int | None = None) -> dict[str, float]:
        run = closed_loop(
            target,
            connections=CONNECTIONS,
            seconds=seconds or self._effort.seconds,
            run=f"events-{next(self._runs)}",
        )
        if run.broken:
            raise RuntimeError(f"{run.broken} requests broke")
        self.measured.refused += run.refused
        return {"per_second": run.per_second, "p99": run.p99}

    def _waiting(self) -> int:
        rows = self._ask("SELECT count(*) AS n FROM outbox WHERE published_at IS NULL")
        return int(rows[0]["n"])

    def _drained(self) -> None:
        """Until everything is published, and applied by the consumer that measures."""
        until_s = time.monotonic() + DRAINED_S
        while self._waiting() or self._unapplied():
            if time.monotonic() > until_s:
                raise RuntimeError(f"{self._waiting()} events wait after {DRAINED_S:.0f} s")
            time.sleep(LOOK_EVERY_S)

    def _unapplied(self) -> int:
        rows = self._ask(
            "SELECT (SELECT count(*) FROM decision)"
            f" - (SELECT count(*) FROM inbox WHERE consumer = '{event_latency.QUEUE}') AS n"
        )
        return int(rows[0]["n"])

    def _ask(self, sql: str) -> list[dict[str, Any]]:
        return ask(self._server.url, sql)


def ask(url: str, sql: str) -> list[dict[str, Any]]:
    """One statement on a connection of its own."""

    async def work() -> list[dict[str, Any]]:
        postgres = PostgreSQLAdapter(database_url=url, pool_size_min=1, slow_query_ms=60_000)
        try:
            return await postgres.execute_query(sql)
        finally:
            await postgres.close()

    return asyncio.run(work())


@contextmanager
def working(database_url: str, **settings: str) -> Iterator[None]:
    """`jitway work`, consuming, until the end.

    Raises:
        RuntimeError: it did not start, or did not end well.
    """
    command = [sys.executable, "-m", "jitway", "work", "--only", "consumers"]
    with subprocess.Popen(
        [*command, "--consumers", event_latency.__name__],
        cwd=CHECKOUT,
        env=environment(database_url, **settings),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        guard = threading.Timer(START_S, process.kill)
        guard.start()
        try:
            assert process.stdout is not None
            works = process.stdout.readline().startswith("jitway works")
            guard.cancel()
            if not works:
                raise RuntimeError("jitway work did not start; what it said stands above")
            yield
        finally:
            guard.cancel()
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
        if process.returncode != 0:
            raise RuntimeError(f"jitway work ended with {process.returncode}")


def measure(effort: Effort) -> Measured:
    """Everything, on fresh servers."""
    say("starting a PostgreSQL and a RabbitMQ")
    with postgresql() as server, tempfile.TemporaryDirectory(prefix="jitway-bench-") as place:
        broker = RabbitMQServer(Path(place))
        try:
            broker.start()
            key = jitway(server.url, "init")["key"]
            cards = ceiling.populate(server.url, cards=effort.cards)
            ask(server.url, event_latency.TABLE)
            bench = Bench(server, broker, effort, key=key, cards=cards)
            bench.play()
            return bench.measured
        finally:
            broker.resume()
            for process in broker.processes:
                process.kill()


def wrong(measured: Measured) -> list[str]:
    """What missed its target, a sentence each."""
    missed = []
    if measured.publish["p99"] >= PUBLISH_P99_MS:
        missed.append(f"publish to confirm p99 is {measured.publish['p99']:.1f} ms")
    for kind, figures in measured.latency.items():
        if figures["p99"] >= LATENCY_P99_MS:
            missed.append(f"commit to consumer p99 over {kind} is {figures['p99']:.1f} ms")
    if measured.throughput_ratio < THROUGHPUT_RATIO:
        missed.append(f"a hung broker leaves {measured.throughput_ratio:.2f} of the throughput")
    if measured.p99_more > P99_MORE_MS:
        missed.append(f"a hung broker adds {measured.p99_more:.1f} ms to the p99")
    if measured.refused:
        missed.append(f"{measured.refused} authorizations were not decided")
    if not measured.verified:
        missed.append("the books are wrong")
    return missed


def told(measured: Measured) -> str:
    """The tables."""
    publish, drain = measured.publish, measured.drain
    rows = [
        ["publish to confirm, ms", publish["p50"], publish["p99"], f"p99 < {PUBLISH_P99_MS:g}"],
        *(
            [
                f"commit to consumer over {kind} at {figures['rate']:,.0f}/s, ms",
                figures["p50"],
                figures["p99"],
                f"p99 < {LATENCY_P99_MS:g}",
            ]
            for kind, figures in measured.latency.items()
        ),
    ]
    broker = [
        ["well", median(measured.well["per_second"]), median(measured.well["p99"])],
        ["hung", median(measured.hung["per_second"]), median(measured.hung["p99"])],
    ]
    return "\n\n".join(
        [
            markdown(["what", "p50", "p99", "target"], rows),
            markdown(["broker", "authorizations/s", "p99, ms"], broker),
            f"hung / well: {measured.throughput_ratio:.2f} (target >= {THROUGHPUT_RATIO:g}), "
            f"p99 {measured.p99_more:+.1f} ms (target <= +{P99_MORE_MS:g})",
            f"after an outage: {drain['events']:,.0f} events drained in {drain['seconds']:.1f} s, "
            f"{drain['per_second']:,.0f}/s",
        ]
    )


def say(line: str) -> None:
    """Progress, apart from the result."""
    print(line, file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Measure, print the tables, write the JSON; the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/bench events")
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to a file")
    given = parser.parse_args(arguments)
    described = machine()
    measured = measure(QUICK if given.quick else WHOLE)
    print(told(measured))
    missed = wrong(measured)
    if given.json is not None:
        write_json(given.json, {"machine": described, **asdict(measured), "missed": missed})
    for sentence in missed:
        say(f"WRONG: {sentence}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
