"""What more workers bring on this machine: throughput by their number, in turns on one server.

    .venv/bin/python -m bench.workers [--workers 1 2] [--cards 2000] [--connections 64]

The gateways run beside each other on one embedded PostgreSQL, durable and without a relay, and are
asked one after the other, so that whatever else the machine does meanwhile is in all of them. Also
tells how many of the connections each worker accepted.
"""

import argparse
import asyncio
import json
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median

from bench import ceiling
from bench.gateway import ask_once_about, jitway, postgresql, serving
from bench.loads import Load, Target, closed_loop
from bench.processes import fdatasync_ms, machine
from jitway.simulator.connections import Address

WARMINGS = 3
BATCH_SIZE = "jitway_group_commit_batch_size_average"
REQUESTS = "jitway_authorization_requests_total"
TIMEOUT_S = 10.0
SETTLE_S = 1.0


def measure(
    workers: Sequence[int], *, cards_count: int, rounds: int, seconds: int, connections: int
) -> bool:
    """Measures and prints; returns whether the books are right."""
    print(f"machine: {json.dumps(machine())}")
    with postgresql() as server, ExitStack() as stack:
        print(f"fdatasync of a page takes {fdatasync_ms(server.data_dir):.2f} ms here")
        key = jitway(server.url, "init")["key"]
        cards = ceiling.populate(server.url, cards=cards_count)
        targets = {}
        for number in workers:
            settings = {
                "JITWAY_WORKERS": str(number),
                "JITWAY_POOL_MAX": "5",
                # Whoever else is on this machine, throughput is measured and not patience.
                "JITWAY_DECISION_BUDGET_MS": "10000",
            }
            gateway = stack.enter_context(serving(server.url, **settings))
            # Each worker has a cache of its own, and who asks cannot choose the worker.
            for _ in range(1 if number == 1 else WARMINGS * number):
                ask_once_about(gateway, key, cards)
            pids = {"postgresql": [server.pid], "gateway": [gateway.pid]}
            targets[number] = Target(gateway.url, key, cards, pids)
        ceiling.checkpoint(server.url)
        before = {number: batches(target.url) for number, target in targets.items()}
        loads: dict[int, list[Load]] = {number: [] for number in workers}
        for turn in range(rounds):
            for number, target in targets.items():
                run = f"workers-{number}-{turn}"
                load = closed_loop(target, connections=connections, seconds=seconds, run=run)
                loads[number].append(load)
                print(told(number, load), flush=True)
        for number, several in loads.items():
            rate = median(load.per_second for load in several)
            p99 = median(load.p99 for load in several)
            shared = asyncio.run(accepted(targets[number].url, connections))
            asked, committed = batches(targets[number].url)
            batch = (asked - before[number][0]) / max(committed - before[number][1], 1)
            print(
                f"{number} workers: median {rate:,.0f}/s, p99 {p99:.1f} ms; "
                f"{batch:.1f} in a batch; accepted {shared}"
            )
        report = jitway(server.url, "verify")
        print(f"books right: {report['ok']}")
        return bool(report["ok"])


def told(number: int, load: Load) -> str:
    """One run as a line."""
    cpu = ", ".join(f"{name} {us:.0f}" for name, us in load.cpu_us.items() if name != "machine")
    return (
        f"  {number} workers  {load.per_second:8,.0f}/s  p50 {load.p50:.1f}  p99 {load.p99:.1f} ms"
        f"  refused {load.refused}  broken {load.broken}  processor us each: {cpu}"
        f"  machine {load.cores['machine']:.2f} cores"
    )


def batches(url: str) -> tuple[float, float]:
    """Requests and batches since the start."""
    # The figures of several workers are kept for a second.
    time.sleep(SETTLE_S)
    with urllib.request.urlopen(f"{url}/metrics", timeout=TIMEOUT_S) as response:
        text: str = response.read().decode()
    told = [line.rpartition(" ") for line in text.splitlines()]
    requests = sum(float(value) for name, _, value in told if name.startswith(REQUESTS))
    (size,) = [float(value) for name, _, value in told if name == BATCH_SIZE]
    return requests, requests / size if size else 0.0


async def accepted(url: str, connections: int) -> list[int]:
    """How many connections each worker accepts when so many come at once to stay, most first."""
    address = Address.of(url)
    opening = [asyncio.open_connection(address.host, address.port) for _ in range(connections)]
    opened = await asyncio.gather(*opening)
    # That they shook hands with the kernel does not say yet who took them.
    await asyncio.sleep(SETTLE_S)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            counted = Counter([await worker_of(*one) for one in opened])
    finally:
        for _, writer in opened:
            writer.close()
    return sorted(counted.values(), reverse=True)


async def worker_of(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    """Which worker answers on a connection."""
    writer.write(b"GET /health HTTP/1.1\r\nHost: jitway\r\nConnection: close\r\n\r\n")
    body = (await reader.read()).partition(b"\r\n\r\n")[2]
    worker: int = json.loads(body).get("worker", 1)
    return worker


def main(arguments: Sequence[str]) -> int:
    """Measure; the exit code is 1 when the books are wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.workers")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cards", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=64)
    given = parser.parse_args(arguments)
    right = measure(
        given.workers,
        cards_count=given.cards,
        rounds=given.rounds,
        seconds=given.seconds,
        connections=given.connections,
    )
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
