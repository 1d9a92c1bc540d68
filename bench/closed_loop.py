"""A closed-loop generator in Python, for machines without wrk; run by `bench.loads`.

python -m bench.closed_loop URL KEY CARDS_FILE CONNECTIONS SECONDS RUN
"""

import asyncio
import json
import random
import sys
import time
from pathlib import Path

import uvloop

from jitway.profiler.histogram import Histogram
from jitway.simulator.connections import Address, Answer, Connections, Exchange
from jitway.simulator.merchants import MERCHANTS
from jitway.simulator.requests import Writer

TIMEOUT_S = 10.0


class ClosedLoop:
    """One request in flight on each connection, until the time is over."""

    def __init__(self, pool: Connections, write: Writer, *, cards: list[str], run: str) -> None:
        self.latency = Histogram()
        self.refused = 0
        self.broken = 0
        self._pool = pool
        self._write = write
        self._cards = cards
        self._run = run
        self._number = 0
        self._draw = random.Random(run)
        self._ends_ns = 0

    async def play(self, *, connections: int, seconds: float) -> float:
        """Ask until the time is over, wait for the last answers; the seconds it took."""
        began_ns = time.perf_counter_ns()
        self._ends_ns = began_ns + int(seconds * 1e9)
        for _ in range(connections):
            self._ask()
        await self._pool.drain()
        return (time.perf_counter_ns() - began_ns) / 1e9

    def _ask(self) -> None:
        self._number += 1
        request = self._write.authorization(
            f"{self._run}-{self._number}",
            card=self._draw.choice(self._cards),
            amount_minor=self._draw.randint(100, 900),
            currency="USD",
            merchant=MERCHANTS[0],
        )
        self._pool.submit(Exchange(request, time.perf_counter_ns(), self._answered))

    def _answered(self, exchange: Exchange, answer: Answer) -> None:
        self.latency.record(exchange.ended_ns - exchange.sent_ns)
        self.broken += answer.status == 0
        self.refused += answer.status not in (0, 200)
        if exchange.ended_ns < self._ends_ns:
            self._ask()


async def main(
    url: str, key: str, cards_file: str, connections: str, seconds: str, run: str
) -> None:
    """Play and print the result as `bench.loads` expects it."""
    address = Address.of(url)
    pool = Connections(address, size=int(connections), timeout_s=TIMEOUT_S)
    cards = (await asyncio.to_thread(Path(cards_file).read_text)).split()
    loop = ClosedLoop(pool, Writer(address, key), cards=cards, run=run)
    try:
        await pool.open()
        elapsed = await loop.play(connections=int(connections), seconds=float(seconds))
    finally:
        await pool.close()
    p50, p95, p99, greatest = (ns / 1e6 for ns in loop.latency.percentiles((50, 95, 99, 100)))
    told = {
        "requests": loop.latency.count - loop.broken,
        "seconds": elapsed,
        "p50": p50,
        "p95": p95,
        "p99": p99,
        "max": greatest,
        "refused": loop.refused,
        "broken": loop.broken,
    }
    print("RESULT " + json.dumps(told))


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
