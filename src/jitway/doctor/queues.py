"""`queues.py`: RabbitMQ: latency, version, and each queue twice: what waits, whether it grows.

Declares nothing: a queue that is missing is a finding.
"""

import asyncio
import time
from contextlib import AsyncExitStack

from jitway.adapters.rabbitmq import MessageQueueManager
from jitway.doctor.findings import REACHABLE, Seen
from jitway.errors import NotFound

TIMEOUT_S = 1.5
# Between the two looks at the same queue.
PAUSE_S = 0.8
DEPTH_MAX = 1_000
# A few more than a moment ago is how a busy queue breathes.
GROWTH_MIN = 20


class RabbitMQLook:
    """One look at the broker and the queues of the product."""

    def __init__(self, rabbitmq_url: str) -> None:
        self._rabbitmq_url = rabbitmq_url

    async def __call__(self, seen: Seen, stack: AsyncExitStack) -> None:
        """Fills what was seen.

        Raises:
            JitwayError: it cannot be asked.
        """
        queues = MessageQueueManager(rabbitmq_url=self._rabbitmq_url, name="jitway doctor")
        stack.push_async_callback(queues.close)
        seen.address = queues.address
        names = [queue.name for queue in queues.topology.queues]
        first = {name: await _depth(queues, name) for name in names}
        seen.status = REACHABLE
        seen.product = (await queues.get_connection_stats())["product"]
        first_ns = time.perf_counter_ns()
        for queue in queues.topology.queues:
            await self._look_at_dead(seen, queues, queue.dead)
        seen.latency_ms = round((time.perf_counter_ns() - first_ns) / 1e6 / len(names), 3)
        await asyncio.sleep(PAUSE_S)
        for name in names:
            _compare(seen, name, first[name], await _depth(queues, name))

    async def _look_at_dead(self, seen: Seen, queues: MessageQueueManager, name: str) -> None:
        depth = await _depth(queues, name)
        if depth is None:
            return
        seen.figures[name] = {"messages": depth["message_count"]}
        if depth["message_count"]:
            seen.find("dead_letters", f"{depth['message_count']} dead letters", subject=name)


def _compare(
    seen: Seen, name: str, before: dict[str, int] | None, now: dict[str, int] | None
) -> None:
    if now is None:
        seen.find("queue_missing", "it is not declared", subject=name)
        return
    waiting, consumers = now["message_count"], now["consumer_count"]
    grown = waiting - before["message_count"] if before is not None else 0
    seen.figures[name] = {"messages": waiting, "consumers": consumers, "grown": grown}
    if waiting and not consumers:
        seen.find("queue_unconsumed", f"{waiting} messages wait and nobody consumes", subject=name)
    if grown >= GROWTH_MIN:
        what = f"{grown} messages more within {PAUSE_S:g} s, {waiting} now"
        seen.find("queue_growing", what, subject=name)
    if waiting >= DEPTH_MAX:
        seen.find("queue_deep", f"{waiting} messages wait (aim: below {DEPTH_MAX})", subject=name)


async def _depth(queues: MessageQueueManager, name: str) -> dict[str, int] | None:
    """Messages and consumers, or None when there is no such queue."""
    try:
        return await queues.get_queue_stats(name, timeout_s=TIMEOUT_S)
    except NotFound:
        return None
