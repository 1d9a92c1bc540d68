"""`work.py`: the relay and the consumers of one process, from start to drained.

Owns the order of starting and stopping, and the now-and-then: what is too old is removed from the
inbox. Does not know what runs: the composition root hands it in.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import structlog

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.clock import Clock
from jitway.errors import JitwayError
from jitway.events.broker import Broker, Consumption
from jitway.events.consumer import Consumer, Subscription
from jitway.events.local_broker import LocalBroker, declaration
from jitway.events.relay import Relay
from jitway.sql import statements

_SQL = statements("events")
_log = structlog.get_logger("jitway.events")

FORGET_EVERY_S: Final = 60.0
# Below the ten seconds after which an orchestrator kills.
STOP_S: Final = 9.0


class EventWork:
    """Everything that moves events in one process.

    Args:
        postgres: a pool that the decisions do not need.
        clock: for the age of events.
        broker: has the queues of all subscriptions.
        relays: none when other processes publish; several, so that a busy account, whose events
            go one after the other, keeps only one of them.
        subscriptions: what is consumed here; none when other processes do.
        left_behind: where deliveries of an earlier life without RabbitMQ may lie.
    """

    def __init__(
        self,
        postgres: PostgreSQLAdapter,
        clock: Clock,
        broker: Broker,
        *,
        relays: Sequence[Relay] = (),
        subscriptions: Sequence[Subscription] = (),
        left_behind: LocalBroker | None = None,
    ) -> None:
        self.broker = broker
        self.relays = tuple(relays)
        self._postgres = postgres
        self._left_behind = left_behind
        self.consumers = [Consumer(postgres, clock, one) for one in subscriptions]
        self._consumptions: list[Consumption] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begins to publish and consume; a broker that is away is waited for meanwhile.

        Raises:
            StoreUnavailable: PostgreSQL is away.
        """
        for consumer in self.consumers:
            values = declaration(consumer.subscription.queue)
            await self._postgres.execute_query(_SQL["declare_subscription"], values)
        self._tasks = [
            asyncio.create_task(self.broker.connect(), name="broker-connect"),
            asyncio.create_task(self._forget(), name="inbox-forget"),
        ]
        for relay in self.relays:
            relay.start()
        for consumer in self.consumers:
            await self._consume(self.broker, consumer)
        if self._left_behind is not None:
            await self._consume_left_behind(self._left_behind)

    async def stop(self) -> None:
        """Publishes and handles what has begun, hands the rest back; at most ten seconds.

        May be called twice, or before `start`.
        """
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        consumptions, self._consumptions = self._consumptions, []
        work = asyncio.create_task(self._drain(consumptions))
        await asyncio.wait({work, *tasks}, timeout=STOP_S)
        work.cancel()
        for consumer in self.consumers:
            await consumer.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self.broker.close()

    def statistics(self) -> dict[str, Any]:
        """What was published and applied since start, and what waits."""
        return {
            "broker": self.broker.address,
            "relay": self._published(),
            "consumers": {
                consumer.subscription.queue.name: dict(consumer.counts)
                for consumer in self.consumers
            },
        }

    def _published(self) -> dict[str, Any] | None:
        if not self.relays:
            return None
        counts: Counter[str] = Counter()
        for relay in self.relays:
            counts.update(relay.counts)
        looked = self.relays[0]
        return {**counts, "depth": looked.depth, "lag_s": round(looked.lag_s, 3)}

    async def _drain(self, consumptions: Sequence[Consumption]) -> None:
        relays = [relay.stop() for relay in self.relays]
        await asyncio.gather(*relays, *(one.stop() for one in consumptions))

    async def _consume(self, broker: Broker, consumer: Consumer) -> None:
        subscription = consumer.subscription
        self._consumptions.append(
            await broker.consume(
                subscription.queue.name, consumer.on_delivery, prefetch=subscription.prefetch
            )
        )

    async def _consume_left_behind(self, left_behind: LocalBroker) -> None:
        for consumer in self.consumers:
            queue = consumer.subscription.queue.name
            if await left_behind.holds(queue):
                _log.info("deliveries_left_behind", queue=queue)
                await self._consume(left_behind, consumer)

    async def _forget(self) -> None:
        while True:
            for consumer in self.consumers:
                try:
                    while await consumer.forget():
                        await asyncio.sleep(0)
                except JitwayError as error:
                    _log.warning("inbox_not_pruned", cause=str(error))
            await asyncio.sleep(FORGET_EVERY_S)
