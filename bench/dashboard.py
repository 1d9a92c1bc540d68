"""Authorizations with and without twenty open pages: what the live page costs them.

The same traffic at one rate, in turns, on one gateway. The pages are connections that read the
stream as browsers do; each is counted, so that twenty that heard nothing prove nothing. Drawing is
the browsers' own work, on the operators' machines.
"""

import argparse
import asyncio
import http.client
import json
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from bench import ceiling
from bench.gateway import ask_once_about, jitway, postgresql, serving
from bench.loads import Target, closed_loop
from bench.open_loop import Traffic, open_loop
from bench.processes import machine
from bench.tables import markdown, write_json

PAGES = 20
P99_MORE_MS = 1.0
CONNECTIONS = 16
SHARE_OF_PEAK = 1 / 3
ALONE, WATCHED = "alone", "twenty pages"


@dataclass(frozen=True)
class Effort:
    """How much of everything."""

    cards: int
    seconds: int
    turns: int


WHOLE = Effort(cards=5_000, seconds=15, turns=5)
QUICK = Effort(cards=1_000, seconds=6, turns=2)


@dataclass(slots=True)
class Measured:
    """What came of it; latencies in milliseconds.

    Args:
        traffic: by who looked.
        rate: authorizations a second of all of them.
        heard: snapshots that each page read, by turn.
        bytes_a_second: that one page read.
        verified: whether the books are right.
    """

    traffic: dict[str, list[Traffic]] = field(default_factory=lambda: {ALONE: [], WATCHED: []})
    rate: float = 0.0
    heard: list[list[int]] = field(default_factory=list)
    bytes_a_second: float = 0.0
    verified: bool = False

    def p99(self, who: str) -> float:
        """The median of the turns' p99."""
        return median(run.p99 for run in self.traffic[who])

    @property
    def more_ms(self) -> float:
        """By how much the p99 is higher with the pages: the median over pairs of turns."""
        pairs = zip(self.traffic[WATCHED], self.traffic[ALONE], strict=True)
        return median(watched.p99 - alone.p99 for watched, alone in pairs)


class Pages:
    """Open pages of one gateway, in a thread of their own.

    Args:
        url: of the gateway.
        key: of the operator.
    """

    def __init__(self, url: str, key: str) -> None:
        self._address = urlsplit(url)
        self._cookie = self._log_in(key)
        self._stopping = threading.Event()
        self.heard = [0] * PAGES
        self.bytes = 0

    def _log_in(self, key: str) -> str:
        connection = http.client.HTTPConnection(self._address.netloc, timeout=10)
        headers = {
            "Content-Type": "application/json",
            "Origin": f"http://{self._address.netloc}",
        }
        connection.request("POST", "/dashboard/login", json.dumps({"key": key}), headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"the login was answered {answer.status}")
        return str(answer.headers["Set-Cookie"]).split(";")[0]

    @contextmanager
    def open(self) -> Iterator[None]:
        """All of them, until the end."""
        self._stopping.clear()
        self.heard, self.bytes = [0] * PAGES, 0
        thread = threading.Thread(target=lambda: asyncio.run(self._look()))
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            thread.join()

    async def _look(self) -> None:
        tasks = [asyncio.create_task(self._read(number)) for number in range(PAGES)]
        while not self._stopping.is_set():
            await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, number: int) -> None:
        host, port = str(self._address.hostname), self._address.port
        reader, writer = await asyncio.open_connection(host, port, limit=2**20)
        head = f"Host: {self._address.netloc}\r\nCookie: {self._cookie}\r\n"
        writer.write(f"GET /dashboard/stream HTTP/1.1\r\n{head}\r\n".encode())
        try:
            while piece := await reader.readuntil(b"\n\n"):
                self.heard[number] += piece.startswith(b"event: figures")
                self.bytes += len(piece)
        finally:
            writer.close()


def measure(effort: Effort) -> Measured:
    """Everything, on fresh servers."""
    measured = Measured()
    with postgresql() as postgres:
        key = jitway(postgres.url, "init")["key"]
        cards = ceiling.populate(postgres.url, cards=effort.cards)
        with serving(postgres.url) as gateway:
            ask_once_about(gateway, key, cards)
            pids = {"postgresql": [postgres.pid], "gateway": [gateway.pid]}
            target = Target(gateway.url, key, cards, pids)
            peak = closed_loop(target, connections=CONNECTIONS, seconds=effort.seconds, run="peak")
            measured.rate = round(peak.per_second * SHARE_OF_PEAK)
            pages, seeds = Pages(gateway.url, key), count(1)
            for turn in range(effort.turns):
                # Whoever comes second in a pair may be lucky: it is each in turn.
                for who in (ALONE, WATCHED) if turn % 2 == 0 else (WATCHED, ALONE):
                    _turn(measured, target, pages, who, effort, seed=next(seeds))
        measured.verified = bool(jitway(postgres.url, "verify")["ok"])
    return measured


def _turn(
    measured: Measured, target: Target, pages: Pages, who: str, effort: Effort, *, seed: int
) -> None:
    def traffic() -> Traffic:
        return open_loop(
            target, rate=measured.rate, seconds=effort.seconds, follow_ups=False, seed=seed
        )

    if who == WATCHED:
        with pages.open():
            run = traffic()
        measured.heard.append(pages.heard)
        measured.bytes_a_second = pages.bytes / PAGES / effort.seconds
    else:
        run = traffic()
    measured.traffic[who].append(run)
    say(f"{who}: p50 {run.p50:.2f}  p99 {run.p99:.2f} ms")


def wrong(measured: Measured, effort: Effort) -> list[str]:
    """What missed its aim, a sentence each."""
    missed = []
    if measured.more_ms > P99_MORE_MS:
        missed.append(f"with {PAGES} open pages the p99 is {measured.more_ms:.2f} ms more")
    if any(heard < effort.seconds / 2 for turn in measured.heard for heard in turn):
        missed.append("a page heard less than half of the seconds")
    failed = sum(run.no_decision + run.errors for runs in measured.traffic.values() for run in runs)
    if failed:
        missed.append(f"{failed} authorizations were not decided")
    if not measured.verified:
        missed.append("the books are wrong")
    return missed


def told(measured: Measured) -> str:
    """The table."""
    rows = [
        [
            who,
            sum(run.sent for run in measured.traffic[who]),
            median(run.p50 for run in measured.traffic[who]),
            measured.p99(who),
        ]
        for who in (ALONE, WATCHED)
    ]
    return "\n\n".join(
        [
            f"Authorizations at {measured.rate:,.0f}/s, from the intended send time:",
            markdown(["who looks", "sent", "p50 ms", "p99 ms"], rows),
            f"p99 more with {PAGES} pages, median of pairs: {measured.more_ms:+.2f} ms (aim: at "
            f"most {P99_MORE_MS:g}). One page reads {measured.bytes_a_second / 1000:.1f} kB/s.",
        ]
    )


def say(line: str) -> None:
    """Progress, apart from the result."""
    print(line, file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, write the JSON; the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/bench dashboard")
    parser.add_argument("--quick", action="store_true", help="less of everything: about a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to a file")
    given = parser.parse_args(arguments)
    effort = QUICK if given.quick else WHOLE
    described = machine()
    measured = measure(effort)
    facts = ", ".join(f"{name} {value}" for name, value in described.items())
    print(f"Machine: {facts}.\n\n{told(measured)}")
    missed = wrong(measured, effort)
    if given.json is not None:
        more = {"more_ms": measured.more_ms, "missed": missed}
        write_json(given.json, {"machine": described, **asdict(measured), **more})
    for sentence in missed:
        say(f"WRONG: {sentence}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
