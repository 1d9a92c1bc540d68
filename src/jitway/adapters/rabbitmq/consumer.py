"""Consuming: a delivery is acknowledged after its handler, retried when it failed, then buried.

Owns the life of a delivery from its arrival to its acknowledgement. Refuses to lose one: an
acknowledgement follows either a handler that returned or a confirmed copy elsewhere.

    handler returns            acknowledge
    handler raises             copy to Q.retry.<ms> with x-attempt + 1, then acknowledge
    ... for the fourth time    copy to Q.dead with cause and history, then acknowledge
    raises MalformedMessage    buried at once: no retry makes the bytes a message
    raises Postpone            the queue pauses; the attempt does not count

Copy and acknowledgement are two steps. A crash between them makes a second delivery, as does a
lost acknowledgement: handlers recognise it by its message id.

While a dependency is away the delivery is held, not given back: the broker counts what is given
back, and buries at its limit. Nor can it be held for ever (the broker closes the channel after 30
minutes), so in the end a copy waits in the longest delay queue, its attempts unchanged.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from jitway.adapters.rabbitmq.delivery import (
    Delivery,
    Incoming,
    Publication,
    cause_of,
    headers_after_failure,
    headers_unchanged,
    only_ours,
    read_delivery,
)
from jitway.adapters.rabbitmq.gate import Gate
from jitway.adapters.rabbitmq.link import PAUSE_MAX_S, PAUSE_MIN_S, Link
from jitway.adapters.rabbitmq.publisher import SETTLE_S, Publisher
from jitway.adapters.rabbitmq.topology import QueueSpec
from jitway.adapters.rabbitmq.wire import Channel, Wire
from jitway.clock import Clock
from jitway.errors import BrokerUnavailable, JitwayError, MalformedMessage, Postpone

logger = logging.getLogger(__name__)

OnDelivery = Callable[[Delivery], Awaitable[None]]

ATTACH_TIMEOUT_S = 10.0
COPY_TIMEOUT_S = 5.0
STOP_GRACE_S = 8.0
HOLD_MAX_S = 600.0


class Consumer:
    """Hands the messages of one queue to one handler, on a channel of its own.

    Args:
        queue: what is consumed.
        on_delivery: the handler; up to `prefetch` of them run at a time.
        prefetch: deliveries held at a time.
        handler_timeout_s: a handler that takes longer has failed.
        link: the connection for consuming.
        declare: makes sure of the queue and what belongs to it.
        publisher: publishes the copies.
        clock: for the times in a copy's headers.
    """

    def __init__(
        self,
        queue: QueueSpec,
        on_delivery: OnDelivery,
        *,
        prefetch: int,
        handler_timeout_s: float,
        link: Link,
        declare: Callable[[Wire, QueueSpec], Awaitable[None]],
        publisher: Publisher,
        clock: Clock,
    ) -> None:
        self.queue = queue
        self._on_delivery = on_delivery
        self._prefetch = prefetch
        self._handler_timeout_s = handler_timeout_s
        self._link = link
        self._declare = declare
        self._publisher = publisher
        self._clock = clock
        self._slots = asyncio.Semaphore(prefetch)
        self._gate = Gate()
        self._deliveries: set[asyncio.Task[None]] = set()
        self._begun: set[asyncio.Task[None]] = set()
        self._channel: Channel | None = None
        self._attached = asyncio.Event()
        self._attachment: asyncio.Task[None] | None = None
        self._stopping = False
        self._failures = 0
        self.last_error: JitwayError | None = None
        self.counts: Counter[str] = Counter(
            handled=0, retried=0, buried=0, postponed=0, put_off=0, attachments=0
        )

    def start(self) -> None:
        """Begin to attach to the queue, and again whenever the channel ends."""
        if self._attachment is None:
            self._attachment = asyncio.create_task(
                self._stay_attached(), name=f"rabbitmq-consumer {self.queue.name}"
            )

    async def attached(self, *, timeout_s: float) -> None:
        """Wait until deliveries can arrive.

        Raises:
            BrokerUnavailable: not within that time; it keeps trying.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._attached.wait()
        except TimeoutError:
            reason = self.last_error or self._link.reason()
            raise BrokerUnavailable(f"cannot consume {self.queue.name}: {reason}") from None

    @property
    def is_attached(self) -> bool:
        """Whether deliveries can arrive now."""
        return self._attached.is_set()

    @property
    def is_paused(self) -> bool:
        """Whether a handler has said that its dependency is away."""
        return self._gate.is_closed

    def statistics(self) -> dict[str, Any]:
        """Queue, state and counts of outcomes."""
        state = {"queue": self.queue.name, "attached": self.is_attached, "paused": self.is_paused}
        return state | self.counts

    async def stop(self, *, grace_s: float = STOP_GRACE_S) -> None:
        """Take no more, finish what has begun, hand the rest back; harmless when repeated.

        Args:
            grace_s: how many seconds the running handlers get before they are cancelled.
        """
        self._stopping = True
        self._drop_what_has_not_begun()
        if self._channel is not None:
            try:
                async with asyncio.timeout(1):
                    await self._channel.stop_consuming()
            except (BrokerUnavailable, TimeoutError) as error:
                logger.debug("the consumer of %s was not taken back: %s", self.queue.name, error)
        self._drop_what_has_not_begun()
        if self._deliveries:
            await asyncio.wait(set(self._deliveries), timeout=grace_s)
        for delivery in self._deliveries:
            delivery.cancel()
        if self._deliveries:
            await asyncio.wait(set(self._deliveries), timeout=1)
        attachment, self._attachment = self._attachment, None
        if attachment is not None:
            attachment.cancel()
            await asyncio.wait({attachment})

    async def _stay_attached(self) -> None:
        while True:
            try:
                channel = await self._attach()
            except (JitwayError, TimeoutError) as error:
                await self._note_failure(error)
                continue
            try:
                await channel.closed.wait()
            finally:
                self._attached.clear()
                self._channel = None
                self._drop_what_has_not_begun()
                await channel.close()
            logger.warning("the consumer of %s lost its channel", self.queue.name)
            await asyncio.sleep(SETTLE_S)

    def _drop_what_has_not_begun(self) -> None:
        """The broker has these deliveries again, or gets them back as the channel ends."""
        for task in self._deliveries - self._begun:
            task.cancel()

    async def _attach(self) -> Channel:
        wire = await self._link.wire()
        async with asyncio.timeout(ATTACH_TIMEOUT_S):
            await self._declare(wire, self.queue)
            channel = await wire.channel()
            try:
                await channel.consume(
                    self.queue.name,
                    lambda incoming: self._arrived(incoming, channel),
                    prefetch=self._prefetch,
                )
            except BaseException:
                await channel.close()
                raise
        self._channel = channel
        self._failures = 0
        self.last_error = None
        self.counts["attachments"] += 1
        self._attached.set()
        return channel

    async def _note_failure(self, error: JitwayError | TimeoutError) -> None:
        if isinstance(error, TimeoutError):
            self._link.suspect()
            error = BrokerUnavailable("RabbitMQ did not answer in time")
        if self._failures == 0:
            logger.warning("cannot consume %s: %s", self.queue.name, error)
        self._failures += 1
        self.last_error = error
        await asyncio.sleep(min(PAUSE_MAX_S, PAUSE_MIN_S * 2 ** min(self._failures, 10)))

    def _arrived(self, incoming: Incoming, channel: Channel) -> None:
        task = asyncio.create_task(self._deliver(incoming, channel))
        self._deliveries.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._deliveries.discard(task)
        self._begun.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a delivery of %s failed here", self.queue.name, exc_info=error)

    async def _deliver(self, incoming: Incoming, channel: Channel) -> None:
        """One delivery, from its arrival to its acknowledgement."""
        delivery = read_delivery(self.queue.name, incoming)
        held_until = time.monotonic() + HOLD_MAX_S
        # Handlers of a lost connection go on beside those of the next: the slots bound both.
        async with self._slots:
            while time.monotonic() < held_until:
                async with self._gate.turn(until=held_until) as turn:
                    if not turn.granted:
                        break
                    if self._stopping:
                        return
                    self._begin()
                    failure = await self._handle(delivery)
                    turn.postponed = isinstance(failure, Postpone)
                if not turn.postponed:
                    await self._settle(delivery, failure, incoming, channel)
                    return
                self.counts["postponed"] += 1
                self._wait_again(channel)
            self._begin()
            if await self._copied(self._put_off(delivery), channel):
                self.counts["put_off"] += 1
                await self._acknowledge(incoming, channel)

    def _begin(self) -> None:
        """From here the delivery is finished, even if its channel ends."""
        if (task := asyncio.current_task()) is not None:
            self._begun.add(task)

    def _wait_again(self, channel: Channel) -> None:
        """From here it is dropped when its channel ends or the consumer stops."""
        if (task := asyncio.current_task()) is not None:
            self._begun.discard(task)
            if self._stopping or channel.is_closed:
                task.cancel()

    async def _handle(self, delivery: Delivery) -> Exception | None:
        """Run the handler; what it raised, if it did."""
        limit = asyncio.timeout(self._handler_timeout_s)
        try:
            async with limit:
                await self._on_delivery(delivery)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return RuntimeError("something the handler waited for was cancelled")
        except TimeoutError as error:
            if limit.expired():
                return TimeoutError(f"the handler took more than {self._handler_timeout_s:g} s")
            return error
        except Exception as error:
            return error
        return None

    async def _settle(
        self, delivery: Delivery, failure: Exception | None, incoming: Incoming, channel: Channel
    ) -> None:
        if failure is None:
            self.counts["handled"] += 1
        else:
            copy, outcome = self._after_failure(delivery, failure)
            if not await self._copied(copy, channel):
                return
            self.counts[outcome] += 1
            logger.warning(
                "a delivery of %s (%s) failed: %s: %s",
                self.queue.name,
                copy.message_id,
                outcome,
                copy.headers["x-cause"],
            )
        await self._acknowledge(incoming, channel)

    def _after_failure(self, delivery: Delivery, failure: Exception) -> tuple[Publication, str]:
        """The copy that goes on instead of a failed delivery: to a delay, or to its grave."""
        delays_ms = self.queue.retry_delays_ms
        if isinstance(failure, MalformedMessage) or delivery.attempts >= len(delays_ms):
            target, outcome = self.queue.dead, "buried"
        else:
            target, outcome = self.queue.retry(delays_ms[delivery.attempts]), "retried"
        cause = cause_of(failure)
        headers = headers_after_failure(delivery, cause, at=self._clock.now())
        return self._copy(delivery, target, headers), outcome

    def _put_off(self, delivery: Delivery) -> Publication:
        delays_ms = self.queue.retry_delays_ms
        target = self.queue.retry(max(delays_ms)) if delays_ms else self.queue.name
        return self._copy(delivery, target, headers_unchanged(delivery))

    def _copy(self, delivery: Delivery, queue: str, headers: dict[str, object]) -> Publication:
        message_id = delivery.message_id or self._clock.new_id("msg")
        return Publication("", queue, delivery.body, message_id, headers)

    async def _copied(self, copy: Publication, channel: Channel) -> bool:
        """Publish the copy, however long it takes; false when the delivery is not ours any more."""
        pause_s = PAUSE_MIN_S
        while not channel.is_closed:
            try:
                await self._publisher.publish(copy, timeout_s=COPY_TIMEOUT_S)
            except BrokerUnavailable as error:
                logger.warning("a copy to %s is tried again: %s", copy.routing_key, error)
                await asyncio.sleep(pause_s)
                pause_s = min(PAUSE_MAX_S, 2 * pause_s)
            except (TypeError, ValueError) as error:
                logger.warning("a copy to %s loses its headers: %s", copy.routing_key, error)
                copy = replace(copy, headers=only_ours(copy.headers))
            else:
                return True
        return False

    async def _acknowledge(self, incoming: Incoming, channel: Channel) -> None:
        try:
            await channel.acknowledge(incoming.tag)
        except (BrokerUnavailable, TimeoutError) as error:
            # The broker delivers it again; it is recognised by its message id.
            logger.info("a delivery of %s was not acknowledged: %s", self.queue.name, error)
            if isinstance(error, TimeoutError):
                self._link.suspect()
