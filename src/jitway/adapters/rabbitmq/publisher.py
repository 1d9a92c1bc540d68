"""Publishing: a message counts as published when the broker has confirmed it, and never before.

Owns the channel for publications, their time-out and the one repair after a return. Refuses to
remember a message for later: what was not confirmed is the caller's again, under the same id.

What ends without an answer may have been published. It is published again as long as its time
lasts, so a queue can receive a message twice: consumers recognise the second by its message id.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count

from jitway.adapters.rabbitmq.delivery import Publication
from jitway.adapters.rabbitmq.failure import NotThere, Unconfirmed
from jitway.adapters.rabbitmq.link import Link
from jitway.adapters.rabbitmq.topology import Topology
from jitway.adapters.rabbitmq.wire import Channel, Wire
from jitway.errors import BrokerUnavailable, Unroutable

logger = logging.getLogger(__name__)

WAITING_MAX = 10_000
# When a queue is declared again within 10 ms of its deletion, RabbitMQ 3.10 forgets to tell its
# consumers, hands messages to them that never arrive, and keeps these as unacknowledged.
SETTLE_S = 0.5


@dataclass(slots=True)
class _Progress:
    """How far a publication has come, for the sentence that tells its caller."""

    waits: str = "to be connected"
    wire: Wire | None = None
    channel: Channel | None = None
    sent: bool = False


class Publisher:
    """Publishes over one link.

    Args:
        link: the connection; used for publications only, as the broker may stop reading it.
        address: the masked URL, for errors.
        topology: tells what should be there.
        declare: declares all of it again.
    """

    def __init__(
        self,
        link: Link,
        address: str,
        topology: Callable[[], Topology],
        declare: Callable[[Wire], Awaitable[None]],
    ) -> None:
        self._link = link
        self._address = address
        self._topology = topology
        self._declare = declare
        self._channel: Channel | None = None
        self._channel_of: Wire | None = None
        self._opening = asyncio.Lock()
        self._repairing = asyncio.Lock()
        self._repairs = 0
        self._under_way: dict[str, asyncio.Event] = {}
        self._waiting = 0
        self._closing: set[asyncio.Task[None]] = set()
        self.counts: Counter[str] = Counter(
            published=0, unroutable=0, refused=0, timed_out=0, repaired=0
        )

    async def publish(self, publication: Publication, *, timeout_s: float) -> None:
        """Publish one message and return after its confirm.

        Args:
            publication: the message.
            timeout_s: after this many seconds it is given up, whatever it is waiting for.

        Raises:
            Unroutable: the broker has no queue, or no exchange, for it.
            BrokerUnavailable: not connected, blocked, refused, or not confirmed in time.
        """
        if self._waiting >= WAITING_MAX:
            raise BrokerUnavailable(f"{WAITING_MAX} messages wait to be published to RabbitMQ")
        self._waiting += 1
        progress = _Progress()
        try:
            async with asyncio.timeout(timeout_s), self._alone(publication.message_id):
                await self._publish(publication, progress, timeout_s)
        except TimeoutError:
            self.counts["timed_out"] += 1
            raise await self._overdue(progress, timeout_s) from None
        except Unroutable:
            self.counts["unroutable"] += 1
            raise
        except BrokerUnavailable:
            self.counts["refused"] += 1
            raise
        else:
            self.counts["published"] += 1
        finally:
            self._waiting -= 1

    async def publish_many(
        self, publications: Sequence[Publication], *, timeout_s: float, in_flight_max: int
    ) -> list[BrokerUnavailable | None]:
        """Publish all of them at once, in order, and gather the confirms.

        Args:
            publications: the messages.
            timeout_s: for each of them, from its own start.
            in_flight_max: how many may wait for their confirm at a time.

        Returns:
            For each message, in order, None after its confirm, or why it has none.
        """
        slots = asyncio.Semaphore(in_flight_max)

        async def outcome(publication: Publication) -> BrokerUnavailable | None:
            async with slots:
                try:
                    await self.publish(publication, timeout_s=timeout_s)
                except BrokerUnavailable as error:
                    return error
                return None

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(outcome(publication)) for publication in publications]
        return [task.result() for task in tasks]

    async def close(self) -> None:
        """Let go of the channels; the link ends their connection."""
        self._channel = None
        for closing in tuple(self._closing):
            closing.cancel()

    async def _publish(
        self, publication: Publication, progress: _Progress, timeout_s: float
    ) -> None:
        repairs_before, is_missing = self._repairs, False
        for sends in count():
            try:
                if is_missing:
                    progress.waits = "to be connected"
                    await self._repair(await self._link.wire(), repairs_before)
                await self._send(publication, progress, timeout_s)
            except (NotThere, Unroutable) as error:
                if self._is_neighbours(error, publication):
                    continue
                if is_missing or not self._is_promised(publication):
                    raise Unroutable(self._nowhere(publication)) from error
                is_missing = True
            except Unconfirmed:
                # The connection may need a moment to know that it is lost.
                progress.waits = "to be connected"
                await asyncio.sleep(min(1.0, 0.02 * 2**sends))
            else:
                return

    async def _send(self, publication: Publication, progress: _Progress, timeout_s: float) -> None:
        progress.waits = "to be connected"
        progress.wire = wire = await self._link.wire()
        progress.waits = "for an end of its memory or disk alarm"
        await wire.writable()
        progress.waits = "for a channel"
        progress.channel = channel = await self._open_channel(wire)
        progress.waits, progress.sent = "for a confirm", True
        await channel.publish(publication, timeout_s=timeout_s)

    async def _open_channel(self, wire: Wire) -> Channel:
        async with self._opening:
            if self._channel is None or self._channel.is_closed or self._channel_of is not wire:
                self._channel = await wire.channel()
                self._channel_of = wire
            return self._channel

    @asynccontextmanager
    async def _alone(self, message_id: str) -> AsyncIterator[None]:
        """Keep a message id to one publication at a time.

        The driver tells a returned message by its id only. With two of one id under way, the
        return of the first would be taken for the second's, and the first for confirmed.
        """
        while (other := self._under_way.get(message_id)) is not None:
            await other.wait()
        done = self._under_way[message_id] = asyncio.Event()
        try:
            yield
        finally:
            del self._under_way[message_id]
            done.set()

    async def _repair(self, wire: Wire, repairs_before: int) -> None:
        """Declare everything again, once for all who found the same thing missing."""
        async with self._repairing:
            if self._repairs != repairs_before:
                return
            logger.warning("RabbitMQ has lost a queue, an exchange or a binding: declared again")
            await asyncio.sleep(SETTLE_S)
            await self._declare(wire)
            self._repairs += 1
            self.counts["repaired"] += 1

    def _is_promised(self, publication: Publication) -> bool:
        return self._topology().promises(publication.exchange, publication.routing_key)

    def _is_neighbours(self, error: BrokerUnavailable, publication: Publication) -> bool:
        """Whether the channel ended because of another publication's exchange."""
        return isinstance(error, NotThere) and f"'{publication.exchange}'" not in str(error)

    def _nowhere(self, publication: Publication) -> str:
        return (
            f"{self._address} has no queue for exchange {publication.exchange!r} and routing key "
            f"{publication.routing_key!r}; declare_queue() binds one"
        )

    async def _overdue(self, progress: _Progress, timeout_s: float) -> BrokerUnavailable:
        waits = progress.waits
        if progress.wire is not None and await progress.wire.is_blocked():
            waits = "for an end of its memory or disk alarm"
        elif waits in ("for a confirm", "for a channel"):
            # A confirm may have been lost, or the whole broker: a fresh channel, and a probe.
            self._link.suspect()
            self._give_up(progress.channel)
        reason = f" ({self._link.reason()})" if waits == "to be connected" else ""
        outcome = (
            "the message may be in its queue or not: publish it again under the same message_id"
            if progress.sent
            else "nothing was published"
        )
        return BrokerUnavailable(
            f"{self._address}: waited {timeout_s:g} s {waits}{reason}; {outcome}"
        )

    def _give_up(self, channel: Channel | None) -> None:
        """Use this channel no more; what else waits on it is published again on another."""
        if channel is not None and channel is self._channel:
            self._channel = None
            closing = asyncio.create_task(channel.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
