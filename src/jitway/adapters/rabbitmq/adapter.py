"""RabbitMQ: `MessageQueueManager`, the one way in and out.

Owns what is declared, when a message counts as published, and what happens to one whose consumer
fails. Refuses to know what a message means, and to keep one in memory for later.

Two connections, each made again from scratch whenever it ends: the broker stops reading one that
publishes while its memory or disk is short, and consumers must not stop for that. The second is
made when something is first consumed.

    rabbitmq_topology    what exists            rabbitmq_publisher   in: confirms, repairs
    rabbitmq_delivery    what travels           rabbitmq_consumer    out: retries, burials, pauses
    rabbitmq_link        reconnecting           rabbitmq_dead        replay and discard
    rabbitmq_wire        the driver             rabbitmq_address     the URL
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from jitway.adapters.rabbitmq.address import read_address
from jitway.adapters.rabbitmq.consumer import STOP_GRACE_S, Consumer, OnDelivery
from jitway.adapters.rabbitmq.dead import DeadLetters
from jitway.adapters.rabbitmq.declare import declare_all, declare_queue
from jitway.adapters.rabbitmq.delivery import DeadLetter, Delivery, Publication, encode_object
from jitway.adapters.rabbitmq.failure import NotThere
from jitway.adapters.rabbitmq.link import Link
from jitway.adapters.rabbitmq.publisher import Publisher
from jitway.adapters.rabbitmq.topology import GUIDE_TOPOLOGY as GUIDE
from jitway.adapters.rabbitmq.topology import RETRY_DELAYS_MS, QueueSpec, Topology
from jitway.adapters.rabbitmq.wire import Wire
from jitway.clock import Clock, SystemClock
from jitway.errors import BrokerUnavailable, NotFound, SettingsError

__all__ = [
    "Consumer",
    "DeadLetter",
    "Delivery",
    "MessageQueueManager",
    "Publication",
    "QueueSpec",
    "Topology",
]

Result = TypeVar("Result")
Handler = Callable[[dict[str, Any]], Awaitable[None]]

CONNECT_TIMEOUT_S = 10.0
PUBLISH_TIMEOUT_S = 5.0
HANDLER_TIMEOUT_S = 300.0
PREFETCH = 50
PREFETCH_MAX = 1_000
IN_FLIGHT_MAX = 200


class MessageQueueManager:
    """RabbitMQ with confirms, retries and dead letters.

    Connects on first use, or by `connect()`; `close()` it in the end. One event loop.

    Args:
        config: the guide's mapping; `RABBITMQ_URL` is read from it.
        rabbitmq_url: the same as a keyword: `amqp://user:password@host:5672/`, or `amqps://` with
            `?cafile=` for a private authority.
        name: how the connections appear in the broker's list.
        topology: the exchange and the queues; the guide's by default.
        clock: for ids and the times of failures.

    Raises:
        SettingsError: there is no URL, or it is none of a broker.
    """

    def __init__(
        self,
        config: Mapping[str, str] | None = None,
        *,
        rabbitmq_url: str | None = None,
        name: str = "jitway",
        topology: Topology = GUIDE,
        clock: Clock | None = None,
    ) -> None:
        url = rabbitmq_url or (config or {}).get("RABBITMQ_URL")
        if not url:
            raise SettingsError("RABBITMQ_URL is not set: write amqp://user:password@host:5672/")
        self._address = read_address(url, name=name)
        self._topology = topology
        self._clock = clock or SystemClock()
        self._consumers: list[Consumer] = []
        self._make_links()

    @property
    def address(self) -> str:
        """The broker's URL with its password masked."""
        return self._address.masked

    @property
    def topology(self) -> Topology:
        """What is kept declared."""
        return self._topology

    async def connect(self, *, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """Connect, and declare the exchange and the queues. A second call changes nothing.

        After a failure it goes on trying in the background, until `close()`.

        Args:
            timeout_s: how long to wait for a broker that is not there; a refusal is raised at once.

        Raises:
            BrokerUnavailable: not connected; the text names the masked URL and what to do.
            SettingsError: a certificate file cannot be read.
        """
        if await self._publishing.state() == "closed":
            self._make_links()
        await self._publishing.first_wire(timeout_s=timeout_s)

    initialize = connect

    async def close(self) -> None:
        """Finish what is being handled (at most 8 s), hand the rest back, and disconnect.

        Harmless when repeated, or before anything was opened.
        """
        consumers, self._consumers = self._consumers, []
        await asyncio.gather(*(consumer.stop(grace_s=STOP_GRACE_S) for consumer in consumers))
        await self._publisher.close()
        await asyncio.gather(self._consuming.close(), self._publishing.close())

    async def publish_message(
        self,
        exchange: str,
        routing_key: str,
        message: Mapping[str, Any],
        *,
        message_id: str | None = None,
        headers: Mapping[str, Any] | None = None,
        mandatory: bool = True,
        timeout_s: float = PUBLISH_TIMEOUT_S,
    ) -> str:
        """Publish a message as persistent JSON, and return after the broker's confirm.

        Args:
            exchange: its name, such as `transactions`.
            routing_key: such as `jit-funding.created`.
            message: what JSON can say.
            message_id: by which consumers recognise a second delivery; a fresh one by default.
            headers: additional headers.
            mandatory: whether it is an error that no queue takes it.
            timeout_s: after this many seconds it is given up, whatever it waits for.

        Returns:
            The message id.

        Raises:
            Unroutable: the broker has no queue, or no exchange, for it.
            BrokerUnavailable: not connected, blocked, refused or not confirmed in time. The
                message may then be in its queue or not: publish again, under the same id.
            InvalidRequest: it is not JSON, longer than 4 MiB, or a name is longer than 255 bytes.
        """
        publication = Publication(
            exchange,
            routing_key,
            encode_object(message),
            self._clock.new_id("msg") if message_id is None else message_id,
            headers or {},
            mandatory,
        )
        await self._publisher.publish(publication, timeout_s=timeout_s)
        return publication.message_id

    async def publish_many(
        self,
        publications: Sequence[Publication],
        *,
        timeout_s: float = PUBLISH_TIMEOUT_S,
        in_flight_max: int = IN_FLIGHT_MAX,
    ) -> list[BrokerUnavailable | None]:
        """Publish many messages at once, in order, and gather their confirms.

        What had to be sent again comes later than its successors.

        Args:
            publications: the messages.
            timeout_s: for each, from its own start.
            in_flight_max: how many may wait for their confirm at a time.

        Returns:
            For each message, in order: None after its confirm, or why it has none.
        """
        return await self._publisher.publish_many(
            publications, timeout_s=timeout_s, in_flight_max=in_flight_max
        )

    async def declare_queue(
        self,
        name: str,
        binding_keys: Sequence[str],
        *,
        retry_delays_ms: Sequence[int] = RETRY_DELAYS_MS,
        timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> QueueSpec:
        """Add a queue of your own, with delay queues and dead letters like ours.

        On one of ours, a consumer of yours would take every second message from us.

        Args:
            name: of the queue.
            binding_keys: what it receives; `*` is one word, `#` any number.
            retry_delays_ms: how long each retry waits, in milliseconds.
            timeout_s: for connecting, and again for declaring.

        Raises:
            BrokerUnavailable: not connected, or the queue exists with other arguments.
            SettingsError: the name is reserved or too long, or a delay makes no sense.
        """
        queue = QueueSpec(name, tuple(binding_keys), tuple(retry_delays_ms))
        wire = await self._publishing.first_wire(timeout_s=timeout_s)
        await self._bounded(self._declare_queue(wire, queue), self._publishing, timeout_s=timeout_s)
        self._topology = self._topology.with_queue(queue)
        return queue

    async def consume_message(
        self,
        queue: str,
        handler: Handler,
        *,
        prefetch: int = PREFETCH,
        handler_timeout_s: float = HANDLER_TIMEOUT_S,
        timeout_s: float | None = CONNECT_TIMEOUT_S,
    ) -> Consumer:
        """Have a queue's messages handled, and acknowledged after their handler.

        A handler that raises gets it again, after a growing delay, at most three times; then it is
        buried in `<queue>.dead` with its cause. One that raises `Postpone` pauses the queue and
        burns no attempt. What is no JSON object is buried at once. A message can arrive twice.

        Args:
            queue: a declared queue.
            handler: async, gets the decoded message.
            prefetch: how many are held, and handled at a time, 1 to 1000; 1 keeps order.
            handler_timeout_s: a handler that takes longer has failed.
            timeout_s: how long to wait until deliveries can arrive; None does not wait at all.

        Returns:
            The consumer; its `stop()` ends it alone, `close()` ends all.

        Raises:
            NotFound: no such queue is declared here.
            BrokerUnavailable: the broker is away; nothing is consumed then.
        """

        async def on_delivery(delivery: Delivery) -> None:
            await handler(delivery.decode())

        return await self.consume(
            queue,
            on_delivery,
            prefetch=prefetch,
            handler_timeout_s=handler_timeout_s,
            timeout_s=timeout_s,
        )

    async def consume(
        self,
        queue: str,
        on_delivery: OnDelivery,
        *,
        prefetch: int = PREFETCH,
        handler_timeout_s: float = HANDLER_TIMEOUT_S,
        timeout_s: float | None = CONNECT_TIMEOUT_S,
    ) -> Consumer:
        """The same for a handler of the whole `Delivery`: bytes, id, routing key, attempts."""
        if not 1 <= prefetch <= PREFETCH_MAX:
            raise SettingsError(f"prefetch is 1 to {PREFETCH_MAX}, not {prefetch}")
        consumer = Consumer(
            self._declared(queue),
            on_delivery,
            prefetch=prefetch,
            handler_timeout_s=handler_timeout_s,
            link=self._consuming,
            declare=self._declare_queue,
            publisher=self._publisher,
            clock=self._clock,
        )
        self._consumers.append(consumer)
        consumer.start()
        if timeout_s is not None:
            try:
                await consumer.attached(timeout_s=timeout_s)
            except BaseException:
                self._consumers.remove(consumer)
                await consumer.stop(grace_s=0)
                raise
        return consumer

    async def get_queue_stats(
        self, queue: str, *, timeout_s: float = PUBLISH_TIMEOUT_S
    ) -> dict[str, int]:
        """Messages ready for delivery in a queue, and its consumers.

        Args:
            queue: any queue of the broker, such as `jit-funding-queue.dead`.
            timeout_s: for connecting, and again for the answer.

        Returns:
            `{"message_count": 42, "consumer_count": 2}`

        Raises:
            NotFound: there is no such queue.
            BrokerUnavailable: the broker is away, or did not answer in time.
        """
        # Not on the connection that publishes: during an alarm the broker does not read it.
        wire = await self._consuming.first_wire(timeout_s=timeout_s)
        try:
            messages, consumers = await self._bounded(
                wire.depth(queue), self._consuming, timeout_s=timeout_s
            )
        except NotThere:
            raise NotFound(f"{self.address} has no queue {queue!r}") from None
        return {"message_count": messages, "consumer_count": consumers}

    async def peek_dead(self, queue: str, *, limit: int = 100) -> list[DeadLetter]:
        """The oldest dead letters of a queue, left where they are; `DeadLetters.peek`."""
        return await self._dead_letters.peek(self._declared(queue), limit=limit)

    async def replay_dead(self, queue: str, letter_id: str) -> DeadLetter | None:
        """Send a dead letter back into its queue; None when there is none of that id."""
        return await self._dead_letters.replay(self._declared(queue), letter_id)

    async def discard_dead(self, queue: str, letter_id: str) -> DeadLetter | None:
        """Forget a dead letter for good; None when there is none of that id."""
        return await self._dead_letters.discard(self._declared(queue), letter_id)

    async def ping(self, *, timeout_s: float = 2.0) -> float:
        """One round trip to the broker, without side effects.

        Returns:
            How long it took, in seconds.

        Raises:
            BrokerUnavailable: not connected, blocked by an alarm, or no answer in time.
        """
        wire = await self._publishing.first_wire(timeout_s=timeout_s)
        if await wire.is_blocked():
            raise BrokerUnavailable(
                f"{self.address} takes no messages: it has a memory or disk alarm"
            )
        started_s = time.perf_counter()
        await wire.probe(timeout_s=timeout_s)
        return time.perf_counter() - started_s

    async def get_connection_stats(self) -> dict[str, Any]:
        """State and counts of this process: both connections, publications, each consumer."""
        return {
            "address": self.address,
            "product": self._product,
            "publishing": await self._publishing.statistics(),
            "consuming": await self._consuming.statistics(),
            "publications": dict(self._publisher.counts),
            "consumers": [consumer.statistics() for consumer in self._consumers],
        }

    def _make_links(self) -> None:
        self._product: str | None = None
        self._publishing = Link(self._open_wire, self._declare_all)
        self._consuming = Link(self._open_wire, self._declare_nothing)
        self._publisher = Publisher(
            self._publishing, self.address, lambda: self._topology, self._declare_all
        )
        self._dead_letters = DeadLetters(self._consuming, self._publisher, self._clock)

    async def _open_wire(self, timeout_s: float) -> Wire:
        wire = await Wire.open(self._address, timeout_s=timeout_s)
        self._product = wire.product
        return wire

    async def _declare_all(self, wire: Wire) -> None:
        await declare_all(wire, self._topology)

    async def _declare_queue(self, wire: Wire, queue: QueueSpec) -> None:
        await declare_queue(wire, queue, exchange=self._topology.exchange)

    async def _declare_nothing(self, wire: Wire) -> None:
        """Each consumer declares what it needs."""

    def _declared(self, queue: str) -> QueueSpec:
        spec = self._topology.queue(queue)
        if spec is None:
            known = ", ".join(queue.name for queue in self._topology.queues)
            raise NotFound(f"no queue {queue!r} is declared here (but {known}): declare_queue()")
        return spec

    async def _bounded(self, work: Awaitable[Result], link: Link, *, timeout_s: float) -> Result:
        try:
            async with asyncio.timeout(timeout_s):
                return await work
        except TimeoutError:
            link.suspect()
            said = f"{self.address} did not answer within {timeout_s:g} s"
            raise BrokerUnavailable(said) from None
