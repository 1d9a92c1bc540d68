"""Dead letters: looking at them where they lie, and the two ways out, replay and discard.

Owns the walk through `<queue>.dead`. The broker has no way to read one message in the middle of a
queue, so a walk takes messages from the front without acknowledging them, and closing the channel
puts them back. While it lasts (well below a second per thousand) nobody else sees what it holds: a
walk at the same moment in another process may miss a letter, but none is ever lost.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from itertools import count

from jitway.adapters.rabbitmq.delivery import (
    DeadLetter,
    Incoming,
    Publication,
    headers_of_replay,
    read_dead_letter,
)
from jitway.adapters.rabbitmq.link import CONNECT_TIMEOUT_S, Link
from jitway.adapters.rabbitmq.publisher import Publisher
from jitway.adapters.rabbitmq.topology import QueueSpec
from jitway.adapters.rabbitmq.wire import Channel
from jitway.clock import Clock
from jitway.errors import BrokerUnavailable

WALK_MAX = 10_000
WALK_TIMEOUT_S = 30.0
PUBLISH_TIMEOUT_S = 5.0


class DeadLetters:
    """What was buried, queue by queue.

    Args:
        link: the connection to walk on.
        publisher: publishes what is replayed.
        clock: for the id of a replayed message that never had one.
    """

    def __init__(self, link: Link, publisher: Publisher, clock: Clock) -> None:
        self._link = link
        self._publisher = publisher
        self._clock = clock
        self._walking = asyncio.Lock()

    async def peek(self, queue: QueueSpec, *, limit: int) -> list[DeadLetter]:
        """The dead letters of a queue that were buried first, oldest first; all stay there.

        Args:
            queue: whose.
            limit: how many at most. What a walk gives back, the broker may put in another order,
                so all are walked through, up to 10000, and these are picked.

        Raises:
            BrokerUnavailable: the broker is away, or did not answer in time.
        """
        # A heap with the youngest on top, so that no more than `limit` bodies are held.
        oldest: list[tuple[float, int, DeadLetter]] = []
        numbers = count()

        async def note(_channel: Channel, incoming: Incoming) -> bool:
            letter = read_dead_letter(queue.name, incoming)
            buried_s = letter.last_failed_at.timestamp() if letter.last_failed_at else 0.0
            entry = (-buried_s, -next(numbers), letter)
            if len(oldest) < limit:
                heapq.heappush(oldest, entry)
            else:
                heapq.heappushpop(oldest, entry)
            return True

        if limit > 0:
            await self._walk(queue, note)
        return [letter for _, _, letter in sorted(oldest, reverse=True)]

    async def replay(self, queue: QueueSpec, letter_id: str) -> DeadLetter | None:
        """Send one letter back into its queue, with all its attempts granted again.

        It leaves the dead letters after its copy was confirmed; a crash between the two makes a
        second delivery.

        Returns:
            The letter, or None when there is none of that id.

        Raises:
            BrokerUnavailable: the broker is away, refused the copy, or did not answer in time.
        """
        return await self._take(queue, letter_id, before=self._publish_again)

    async def discard(self, queue: QueueSpec, letter_id: str) -> DeadLetter | None:
        """Forget one letter for good.

        Returns:
            The letter, or None when there is none of that id.

        Raises:
            BrokerUnavailable: the broker is away, or did not answer in time.
        """
        return await self._take(queue, letter_id, before=None)

    async def _take(
        self,
        queue: QueueSpec,
        letter_id: str,
        *,
        before: Callable[[QueueSpec, DeadLetter], Awaitable[None]] | None,
    ) -> DeadLetter | None:
        taken: DeadLetter | None = None

        async def take(channel: Channel, incoming: Incoming) -> bool:
            nonlocal taken
            letter = read_dead_letter(queue.name, incoming)
            if letter.id != letter_id:
                return True
            if before is not None:
                await before(queue, letter)
            await channel.acknowledge(incoming.tag)
            taken = letter
            return False

        await self._walk(queue, take)
        return taken

    async def _publish_again(self, queue: QueueSpec, letter: DeadLetter) -> None:
        delivery = letter.delivery
        message_id = delivery.message_id or self._clock.new_id("msg")
        headers = headers_of_replay(delivery)
        copy = Publication("", queue.name, delivery.body, message_id, headers)
        await self._publisher.publish(copy, timeout_s=PUBLISH_TIMEOUT_S)

    async def _walk(
        self, queue: QueueSpec, visit: Callable[[Channel, Incoming], Awaitable[bool]]
    ) -> None:
        """Visit dead letters from the oldest, until a visit says stop; the rest goes back."""
        try:
            async with asyncio.timeout(WALK_TIMEOUT_S), self._walking:
                wire = await self._link.first_wire(timeout_s=CONNECT_TIMEOUT_S)
                async with wire.throwaway() as channel:
                    for _ in range(WALK_MAX):
                        incoming = await channel.get(queue.dead)
                        if incoming is None or not await visit(channel, incoming):
                            return
        except TimeoutError:
            self._link.suspect()
            raise BrokerUnavailable(
                f"the dead letters of {queue.name} could not be read within {WALK_TIMEOUT_S:g} s"
            ) from None
