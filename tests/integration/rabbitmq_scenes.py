"""What the tests of RabbitMQ share: keeping what arrives, waiting, and cleaning up."""

import asyncio
from typing import Any

import aio_pika

from jitway.adapters.rabbitmq import MessageQueueManager, Topology
from tests.integration.leaks import eventually

DELAYS_MS = (60, 90, 120)


async def remove(url: str, topology: Topology) -> None:
    async with await aio_pika.connect(url) as connection:
        assert connection.transport is not None
        channel = await connection.transport.connection.channel()
        for queue in topology.queues:
            for declaration in queue.declarations():
                await channel.queue_delete(declaration.name)
        await channel.exchange_delete(topology.exchange)


async def until_depth(queues: MessageQueueManager, queue: str, expected: int) -> None:
    async def reached() -> bool:
        return (await queues.get_queue_stats(queue))["message_count"] == expected

    await eventually(reached, within_s=10)


class Collector:
    """A handler that keeps what it got."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self._changed = asyncio.Condition()

    async def __call__(self, message: Any) -> None:
        async with self._changed:
            self.got.append(message)
            self._changed.notify_all()

    async def reaches(self, number: int, *, within_s: float = 10.0) -> list[Any]:
        async with asyncio.timeout(within_s), self._changed:
            await self._changed.wait_for(lambda: len(self.got) >= number)
        return self.got


def orders_of(queues: MessageQueueManager) -> str:
    return queues.topology.queues[0].name
