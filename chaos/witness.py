"""`witness.py`: an outsider's queue: bound to everything, and read by nobody until the end."""

import asyncio
from contextlib import suppress

from chaos.event_checker import Fact
from jitway.events.broker import Broker, Delivery, Queue
from jitway.events.envelope import decode

WITNESS = Queue("chaos-witness", ("#",), ())
# RabbitMQ counts what a queue holds now and then only, so its count cannot say when all was read.
QUIET_S = 15.0
QUIET_WHEN_COMPLETE_S = 1.0


async def witnessed(broker: Broker, expected: int) -> list[tuple[str, Fact]]:
    """What the queue holds, in its order; it is empty afterwards.

    Args:
        broker: has declared it.
        expected: different events; it is waited longer for those than for what is too much.
    """
    arrived: list[tuple[str, Fact]] = []
    seen: set[str] = set()
    more = asyncio.Event()

    async def take(delivery: Delivery) -> None:
        event = decode(delivery.body)
        fact = (event.type, event.account, event.account_version, event.data.get("amount"))
        arrived.append((event.id, fact))
        seen.add(event.id)
        more.set()

    consumption = await broker.consume(WITNESS.name, take, prefetch=500)
    with suppress(TimeoutError):
        while True:
            is_complete = len(seen) >= expected
            async with asyncio.timeout(QUIET_WHEN_COMPLETE_S if is_complete else QUIET_S):
                await more.wait()
            more.clear()
    await consumption.stop()
    return arrived
