"""`rabbitmq_broker.py`: the broker's contract over RabbitMQ, in the words of events.

Owns the translation; everything that can go wrong with RabbitMQ is the adapter's.
"""

import asyncio
import time
from collections.abc import Sequence
from math import inf
from typing import Final

import structlog

from jitway.adapters.rabbitmq import (
    Consumer,
    MessageQueueManager,
    Publication,
    QueueSpec,
    Topology,
)
from jitway.adapters.rabbitmq import DeadLetter as RabbitLetter
from jitway.adapters.rabbitmq import Delivery as RabbitDelivery
from jitway.errors import BrokerUnavailable
from jitway.events.broker import (
    EXCHANGE,
    LETTERS_MAX,
    PREFETCH,
    QUEUES,
    DeadLetter,
    Delivery,
    Failure,
    Message,
    OnDelivery,
    Published,
    Queue,
)

_log = structlog.get_logger("jitway.events")

CONNECT_TIMEOUT_S: Final = 5.0
PUBLISH_TIMEOUT_S: Final = 5.0


class RabbitMQBroker:
    """A `Broker` over RabbitMQ.

    Args:
        manager: its topology is declared at every connection, and again when it is lost.
    """

    def __init__(self, manager: MessageQueueManager) -> None:
        self._manager = manager
        self._exchange = manager.topology.exchange

    @classmethod
    def at(
        cls,
        url: str,
        queues: Sequence[Queue] = QUEUES,
        *,
        name: str = "jitway",
        exchange: str = EXCHANGE,
    ) -> "RabbitMQBroker":
        """One with connections of its own.

        Args:
            url: `amqp://...`.
            queues: to be kept declared.
            name: how its connections appear in the broker's list.
            exchange: the topic exchange; another one for tests.
        """
        topology = Topology(exchange, tuple(map(_spec, queues)))
        return cls(MessageQueueManager(rabbitmq_url=url, name=name, topology=topology))

    @property
    def address(self) -> str:
        """The URL with its password masked."""
        return self._manager.address

    async def connect(self) -> None:
        """Connects and declares; a broker that is away is tried again in the background."""
        try:
            await self._manager.connect(timeout_s=CONNECT_TIMEOUT_S)
        except BrokerUnavailable as error:
            _log.warning("broker_away", cause=str(error))

    async def close(self) -> None:
        """Stops the consumers and disconnects; may be called twice, or first."""
        await self._manager.close()

    async def declare(self, queue: Queue) -> None:
        """Makes sure of one queue more.

        Raises:
            BrokerUnavailable: not connected, or the queue exists with other arguments.
        """
        await self._manager.declare_queue(
            queue.name, queue.binding_keys, retry_delays_ms=queue.retry_delays_ms
        )

    async def publish(
        self, rows: Sequence[Sequence[Message]], *, until: float = inf
    ) -> list[Published]:
        """Publishes rows side by side; each message of a row after the confirm of the one before.

        Pipelining a row would be faster, and lose its order when one message of it is refused.
        """
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._publish_row(row, until)) for row in rows]
        return [task.result() for task in tasks]

    async def publish_many(self, messages: Sequence[Message]) -> list[BrokerUnavailable | None]:
        """Publishes messages concurrently; None for each once it is confirmed."""
        publications = list(map(self._publication, messages))
        return await self._manager.publish_many(publications, timeout_s=PUBLISH_TIMEOUT_S)

    async def _publish_row(self, row: Sequence[Message], until: float) -> Published:
        for place, message in enumerate(row):
            if time.monotonic() >= until:
                return Published(place)
            (failure,) = await self.publish_many([message])
            if failure is not None:
                return Published(place, failure)
        return Published(len(row))

    def _publication(self, message: Message) -> Publication:
        return Publication(
            self._exchange,
            message.routing_key,
            message.body,
            message.id,
            mandatory=message.needs_reader,
        )

    async def consume(
        self, queue: str, on_delivery: OnDelivery, *, prefetch: int = PREFETCH
    ) -> Consumer:
        """Hands the messages of a queue to a handler, as soon as the broker is there.

        Raises:
            NotFound: the queue was not declared here.
        """

        async def arrived(delivery: RabbitDelivery) -> None:
            await on_delivery(_delivery(delivery))

        return await self._manager.consume(queue, arrived, prefetch=prefetch, timeout_s=None)

    async def depth(self, queue: str) -> int:
        """How many messages are ready in a queue.

        Raises:
            NotFound: there is no such queue.
            BrokerUnavailable: the broker is away.
        """
        return (await self._manager.get_queue_stats(queue))["message_count"]

    async def dead(self, queue: str) -> list[DeadLetter]:
        """The dead letters of a queue, the oldest first, at most 1,000.

        Raises:
            NotFound: the queue was not declared here.
            BrokerUnavailable: the broker is away.
        """
        letters = await self._manager.peek_dead(queue, limit=LETTERS_MAX)
        return [_letter(queue, letter) for letter in letters]

    async def replay(self, queue: str, letter_id: str) -> DeadLetter | None:
        """Sends a dead letter back into its queue; None when there is none.

        Raises:
            NotFound, BrokerUnavailable.
        """
        letter = await self._manager.replay_dead(queue, letter_id)
        return None if letter is None else _letter(queue, letter)

    async def discard(self, queue: str, letter_id: str) -> DeadLetter | None:
        """Forgets a dead letter for good; None when there is none.

        Raises:
            NotFound, BrokerUnavailable.
        """
        letter = await self._manager.discard_dead(queue, letter_id)
        return None if letter is None else _letter(queue, letter)


def _spec(queue: Queue) -> QueueSpec:
    return QueueSpec(queue.name, queue.binding_keys, queue.retry_delays_ms)


def _delivery(delivery: RabbitDelivery) -> Delivery:
    return Delivery(
        delivery.queue,
        delivery.routing_key,
        delivery.message_id,
        delivery.body,
        delivery.attempts,
        delivery.replays,
    )


def _letter(queue: str, letter: RabbitLetter) -> DeadLetter:
    delivery = letter.delivery
    return DeadLetter(
        queue,
        letter.id,
        delivery.routing_key,
        delivery.body,
        letter.cause,
        delivery.attempts,
        delivery.replays,
        delivery.first_failed_at,
        letter.last_failed_at,
        tuple(Failure(one.attempt, one.at, one.cause) for one in delivery.history),
    )
