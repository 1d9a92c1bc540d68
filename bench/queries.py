"""Callers that only look: lists and scrapes, as many as are answered; run by `bench.overload`.

python -m bench.queries URL KEY CORE SECONDS
"""

import asyncio
import json
import os
import sys
import time

import uvloop

from jitway.simulator.connections import Address, Connections

LISTS = 16
SCRAPES_PER_S = 100
TIMEOUT_S = 30.0
TARGETS = ("/v1/authorizations?limit=200", "/v1/archive/authorizations?limit=200", "/v1/profile")


async def main(url: str, key: str, core: str, seconds: str) -> None:
    """Ask, and say how often each was answered how."""
    if core != "any":
        os.sched_setaffinity(0, {int(core)})
    address = Address.of(url)
    connections = Connections(address, size=LISTS + 8, timeout_s=TIMEOUT_S)
    await connections.open()
    ends = time.monotonic() + float(seconds)
    counts: dict[str, int] = {}

    async def ask(target: str) -> None:
        request = (
            f"GET {target} HTTP/1.1\r\nHost: {address.host}\r\nAuthorization: Bearer {key}\r\n\r\n"
        )
        status = (await connections.call(request.encode())).status
        name = f"{target.partition('?')[0]} {status}"
        counts[name] = counts.get(name, 0) + 1
        if status == 503:
            await asyncio.sleep(0.1)

    async def look(number: int) -> None:
        while time.monotonic() < ends:
            await ask(TARGETS[number % len(TARGETS)])

    async def scrape() -> None:
        while time.monotonic() < ends:
            await asyncio.gather(ask("/metrics"), asyncio.sleep(1 / SCRAPES_PER_S))

    try:
        await asyncio.gather(*(look(number) for number in range(LISTS)), scrape())
    finally:
        await connections.close()
    print("RESULT " + json.dumps(counts))


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
