"""How fast authorizations are: the gateway beside what PostgreSQL alone can do, in one run.

    scripts/bench authorize [--quick] [--json FILE]

(a) `pgbench` calling one SQL function that writes equal rows, (b) the gateway over HTTP, closed
loop, (c) the same on one hot account; then open loop at half of the peak. (a), (b) and (c) take
turns, so that whatever else the machine does meanwhile is in all of them. Exits 1 when the books
are wrong, a request failed or the two sides did not write equal rows.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median

from bench import ceiling, findings
from bench.ceiling import Ceiling
from bench.gateway import Server, ask_once_about, jitway, postgresql, serving
from bench.loads import Load, Target, closed_loop
from bench.open_loop import Traffic, open_loop
from bench.processes import fdatasync_ms, machine

CLIENTS = (1, 8, 16, 32, 64)
CONNECTIONS = (1, 16, 64, 128)
CEILING_DATABASE = "ceiling"
SEED = 20_240_229


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Args:
        rounds: turns of everything.
        seconds: of each closed-loop run.
        open_runs: runs of the open loop.
        open_seconds: of each.
        cards: of the population.
    """

    rounds: int
    seconds: int
    open_runs: int
    open_seconds: int
    cards: int


QUICK = Effort(rounds=2, seconds=2, open_runs=1, open_seconds=6, cards=2_000)
WHOLE = Effort(rounds=5, seconds=4, open_runs=3, open_seconds=12, cards=5_000)


@dataclass
class Measured:
    """Everything that was measured, by clients or connections; the hot account apart."""

    ceiling: dict[int, list[Ceiling]] = field(default_factory=dict)
    gateway: dict[int, list[Load]] = field(default_factory=dict)
    hot: list[Load] = field(default_factory=list)
    ceiling_hot: list[Ceiling] = field(default_factory=list)
    open: list[Traffic] = field(default_factory=list)
    wal_bytes: dict[str, int] = field(default_factory=lambda: {"ceiling": 0, "gateway": 0})
    rows: dict[str, dict[str, int]] = field(default_factory=dict)
    verified: dict[str, bool] = field(default_factory=dict)

    def peak(self) -> int:
        """The number of connections at which the gateway is fastest."""
        return max(self.gateway, key=lambda size: median(r.per_second for r in self.gateway[size]))

    def best(self) -> int:
        """The number of clients at which pgbench is fastest."""
        return max(self.ceiling, key=lambda size: median(r.per_second for r in self.ceiling[size]))


class Bench:
    """One run of everything.

    Args:
        server: where both databases are.
        effort: how much of it.
        target: the gateway.
    """

    def __init__(self, server: Server, effort: Effort, target: Target) -> None:
        self.measured = Measured()
        self._server = server
        self._effort = effort
        self._target = target
        self._ceiling_url = server.database(CEILING_DATABASE)
        self._runs = count(1)

    def play(self) -> None:
        """Measure; the books are looked at after each round."""
        before = self._written()
        for number in range(1, self._effort.rounds + 1):
            say(f"round {number} of {self._effort.rounds}")
            self._round()
            self._verify(f"round {number}")
        self._rows(before)
        half = median(r.per_second for r in self.measured.gateway[self.measured.peak()]) / 2
        for number in range(1, self._effort.open_runs + 1):
            self._open_loop(half, number, follow_ups=False)
        self._open_loop(half, 0, follow_ups=True)
        self._verify("open loop")

    def _round(self) -> None:
        measured = self.measured
        turns = max(len(CLIENTS), len(CONNECTIONS))
        for turn in range(turns):
            if turn < len(CLIENTS):
                measured.ceiling.setdefault(CLIENTS[turn], []).append(self._ask(CLIENTS[turn]))
            if turn < len(CONNECTIONS):
                size = CONNECTIONS[turn]
                measured.gateway.setdefault(size, []).append(self._load(self._target, size))
        size = CONNECTIONS[-2]
        measured.hot.append(self._load(one_card(self._target), size))
        measured.ceiling_hot.append(self._ask(CLIENTS[2], cards=1))

    def _ask(self, clients: int, *, cards: int | None = None) -> Ceiling:
        wal_before = ceiling.wal_bytes(self._server.url)
        run = ceiling.run(
            self._ceiling_url,
            clients=clients,
            seconds=self._effort.seconds,
            cards=cards or self._effort.cards,
            pids={"postgresql": self._target.pids["postgresql"]},
        )
        self.measured.wal_bytes["ceiling"] += ceiling.wal_bytes(self._server.url) - wal_before
        say(f"  pgbench  {clients:>4} {'hot   ' if cards else 'spread'} {run.per_second:8,.0f}/s")
        return run

    def _load(self, target: Target, connections: int) -> Load:
        wal_before = ceiling.wal_bytes(self._server.url)
        run = closed_loop(
            target,
            connections=connections,
            seconds=self._effort.seconds,
            run=f"run-{next(self._runs)}",
        )
        self.measured.wal_bytes["gateway"] += ceiling.wal_bytes(self._server.url) - wal_before
        spread = "spread" if len(target.cards) > 1 else "hot   "
        say(f"  gateway  {connections:>4} {spread} {run.per_second:8,.0f}/s  p99 {run.p99:.1f} ms")
        return run

    def _open_loop(self, rate: float, number: int, *, follow_ups: bool) -> None:
        seconds = self._effort.open_seconds
        run = open_loop(
            self._target, rate=rate, seconds=seconds, follow_ups=follow_ups, seed=SEED + number
        )
        self.measured.open.append(run)
        what = "and captures" if follow_ups else "alone"
        say(f"open loop {rate:,.0f}/s {what}  p50 {run.p50:.2f}  p99 {run.p99:.2f} ms")

    def _written(self) -> dict[str, dict[str, int]]:
        return {
            "ceiling": ceiling.written(self._ceiling_url),
            "gateway": ceiling.written(self._server.url),
        }

    def _rows(self, before: dict[str, dict[str, int]]) -> None:
        after = self._written()
        self.measured.rows = {
            side: {name: after[side][name] - before[side][name] for name in after[side]}
            for side in after
        }

    def _verify(self, when: str) -> None:
        report = jitway(self._server.url, "verify")
        self.measured.verified[when] = report["ok"]
        for violation in report["violations"][:10]:
            say(f"VIOLATED {violation}")


def one_card(target: Target) -> Target:
    """The same gateway, asked about one account only."""
    return Target(target.url, target.key, target.cards[:1], target.pids)


def say(line: str) -> None:
    """Progress, apart from the result."""
    print(line, file=sys.stderr, flush=True)


def measure(effort: Effort) -> Measured:
    """Everything, on a fresh server."""
    say("starting a PostgreSQL")
    with postgresql() as server:
        say(f"fdatasync of a page takes {fdatasync_ms(server.data_dir):.2f} ms here")
        key = jitway(server.url, "init")["key"]
        cards = ceiling.populate(server.url, cards=effort.cards)
        ceiling.copy_database(server.database("postgres"), source="jitway", to=CEILING_DATABASE)
        with serving(server.url) as gateway:
            ask_once_about(gateway, key, cards)
            texts = ceiling.stored_texts(server.url)
            ceiling.make_function(server.database(CEILING_DATABASE), **texts)
            ceiling.checkpoint(server.url)
            pids = {"postgresql": [server.pid], "gateway": [gateway.pid]}
            bench = Bench(server, effort, Target(gateway.url, key, cards, pids))
            bench.play()
            return bench.measured


def main(arguments: Sequence[str]) -> int:
    """Measure, print a table, write the JSON; the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/bench authorize")
    parser.add_argument("--quick", action="store_true", help="less of everything: about 80 s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to a file")
    given = parser.parse_args(arguments)
    described = machine()
    measured = measure(QUICK if given.quick else WHOLE)
    print(findings.told(measured, described))
    if given.json is not None:
        findings.write(given.json, measured, described)
    wrong = findings.wrong(measured)
    for sentence in wrong:
        say(f"WRONG: {sentence}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
