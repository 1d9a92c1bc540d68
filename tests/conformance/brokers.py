"""Both brokers, each with an exchange and queues of the test's own."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.events.broker import Broker, Delivery, Message, Queue
from jitway.events.local_broker import LocalBroker
from tests.integration.rabbitmq_scenes import remove
from tests.service_skips import require_service

KINDS = ("local", "rabbitmq")
_numbers = count(1)


class Place:
    """Where a broker of one kind is, and how another process would reach it."""

    def __init__(self, kind: str, postgres: PostgreSQLAdapter) -> None:
        self.kind = kind
        self._postgres = postgres
        name = f"conformance-{os.getpid()}-{next(_numbers)}"
        self.queue = Queue(f"{name}-orders", ("order.*",), (60, 90, 120))
        self.other = Queue(f"{name}-audit", ("#",), (60,))
        self.exchange = name

    def broker(self) -> Broker:
        """A broker as another process has it: nothing in memory is shared."""
        queues = (self.queue, self.other)
        if self.kind == "local":
            return LocalBroker(self._postgres, queues, handler_timeout_s=1.0)
        from jitway.events.rabbitmq_broker import RabbitMQBroker

        return RabbitMQBroker.at(require_service("rabbitmq"), queues, exchange=self.exchange)

    async def clear(self) -> None:
        """Leaves nothing on a broker that others use."""
        if self.kind == "rabbitmq":
            from jitway.adapters.rabbitmq import QueueSpec, Topology

            specs = [QueueSpec(one.name, (), one.retry_delays_ms) for one in self.queues]
            await remove(require_service("rabbitmq"), Topology(self.exchange, tuple(specs)))

    @property
    def queues(self) -> tuple[Queue, ...]:
        """Everything that is declared."""
        return self.queue, self.other


@asynccontextmanager
async def connected(place: Place) -> AsyncIterator[Broker]:
    """A broker that is ready, until the end."""
    broker = place.broker()
    await broker.connect()
    try:
        yield broker
    finally:
        await broker.close()


class Taker:
    """A handler that keeps what it got, and fails as a test says."""

    def __init__(self, failure: Callable[[Delivery], Exception | None] = lambda _: None) -> None:
        self.failure = failure
        self.got: list[Delivery] = []
        self.handled: list[Delivery] = []
        self._changed = asyncio.Condition()

    async def __call__(self, delivery: Delivery) -> None:
        failure = self.failure(delivery)
        async with self._changed:
            self.got.append(delivery)
            if failure is None:
                self.handled.append(delivery)
            self._changed.notify_all()
        if failure is not None:
            raise failure

    async def until(self, holds: Callable[["Taker"], bool], *, within_s: float = 15.0) -> None:
        async with asyncio.timeout(within_s), self._changed:
            await self._changed.wait_for(lambda: holds(self))

    def ids(self) -> list[str | None]:
        """Of what was handled, in the order in which it came."""
        return [delivery.id for delivery in self.handled]


async def eventually(holds: Callable[[], Awaitable[bool]], *, within_s: float = 15.0) -> None:
    async with asyncio.timeout(within_s):
        while not await holds():
            await asyncio.sleep(0.02)


def orders(*numbers: int, key: str = "order.made") -> list[Message]:
    return [Message(key, f"m-{n}", b'{"n":%d}' % n) for n in numbers]
