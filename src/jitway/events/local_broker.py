"""`local_broker.py`: delivery without RabbitMQ, by the same contract, in tables of PostgreSQL.

Owns the tables `subscription`, `delivery` and `dead_letter`. A message is one row for each queue
that takes it; handing it out moves its `due_at` into the future, and a consumer that dies simply
lets that moment come. Any number of processes may publish and consume.
"""

import asyncio
from collections.abc import Sequence
from math import inf
from typing import Any, Final

import msgspec

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.domain.instant import parse_instant
from jitway.errors import BrokerUnavailable, NotFound, StoreUnavailable, Unroutable
from jitway.events.broker import (
    LETTERS_MAX,
    PREFETCH,
    QUEUES,
    DeadLetter,
    Failure,
    Message,
    OnDelivery,
    Published,
    Queue,
    pattern_of,
)
from jitway.events.local_consumption import LocalConsumption
from jitway.sql import statements

_SQL = statements("events")

HANDLER_TIMEOUT_S: Final = 300.0


class LocalBroker:
    """A `Broker` over PostgreSQL.

    Args:
        postgres: a pool that the decisions do not need.
        queues: declared when it connects.
        handler_timeout_s: a handler that takes longer has failed.
    """

    def __init__(
        self,
        postgres: PostgreSQLAdapter,
        queues: Sequence[Queue] = QUEUES,
        *,
        handler_timeout_s: float = HANDLER_TIMEOUT_S,
    ) -> None:
        self._postgres = postgres
        self._handler_timeout_s = handler_timeout_s
        self._queues = {queue.name: queue for queue in queues}
        self._consumptions: list[LocalConsumption] = []

    @property
    def address(self) -> str:
        """Where it is, fit for eyes."""
        return "PostgreSQL (RABBITMQ_URL is not set)"

    async def connect(self) -> None:
        """Declares its queues.

        Raises:
            BrokerUnavailable: PostgreSQL is away.
        """
        for queue in self._queues.values():
            await self.declare(queue)

    async def close(self) -> None:
        """Stops the consumers; may be called twice, or first."""
        consumptions, self._consumptions = self._consumptions, []
        await asyncio.gather(*(one.stop() for one in consumptions))

    async def declare(self, queue: Queue) -> None:
        """Makes a queue known to every process of this ledger.

        Raises:
            BrokerUnavailable: PostgreSQL is away.
        """
        await self._ask("declare_subscription", *declaration(queue))
        self._queues[queue.name] = queue

    async def publish(
        self, rows: Sequence[Sequence[Message]], *, until: float = inf
    ) -> list[Published]:
        """Publishes rows of messages, all in one statement; `until` is far away for that."""
        messages = [message for row in rows for message in row]
        if not messages:
            return [Published(0)] * len(rows)
        numbers = [number for number, row in enumerate(rows) for _ in row]
        try:
            refused = await self._ask(
                "deliver",
                [message.id for message in messages],
                [message.routing_key for message in messages],
                [message.body for message in messages],
                [message.needs_reader for message in messages],
                numbers,
            )
        except BrokerUnavailable as error:
            return [Published(0, error)] * len(rows)
        for consumption in self._consumptions:
            consumption.nudge()
        outcomes = [Published(len(row)) for row in rows]
        for one in refused:
            before = one["place"] - 1 - numbers.index(one["line"])
            message = messages[one["place"] - 1]
            outcomes[one["line"]] = Published(before, _nowhere(message))
        return outcomes

    async def publish_many(self, messages: Sequence[Message]) -> list[BrokerUnavailable | None]:
        """Publishes messages; None for each that is safe."""
        return [one.cause for one in await self.publish([[message] for message in messages])]

    async def consume(
        self, queue: str, on_delivery: OnDelivery, *, prefetch: int = PREFETCH
    ) -> LocalConsumption:
        """Hands the messages of a queue to a handler, from now on.

        Raises:
            NotFound: the queue was not declared here.
        """
        consumption = LocalConsumption(
            self._postgres,
            self._declared(queue),
            on_delivery,
            prefetch=prefetch,
            handler_timeout_s=self._handler_timeout_s,
        )
        self._consumptions.append(consumption)
        consumption.start()
        return consumption

    async def holds(self, queue: str) -> bool:
        """Whether anything at all of a queue is still to be delivered.

        Raises:
            BrokerUnavailable: PostgreSQL is away.
        """
        return bool((await self._ask("is_anything_delivered", queue))[0]["found"])

    async def depth(self, queue: str) -> int:
        """How many messages are due in a queue.

        Raises:
            NotFound: there is no such queue.
            BrokerUnavailable: PostgreSQL is away.
        """
        rows = await self._ask("queue_depth", queue)
        if not rows:
            raise _unknown(queue)
        depth: int = rows[0]["depth"]
        return depth

    async def dead(self, queue: str) -> list[DeadLetter]:
        """The dead letters of a queue, the oldest first, at most 1,000.

        Raises:
            NotFound: the queue was not declared here.
            BrokerUnavailable: PostgreSQL is away.
        """
        self._declared(queue)
        return [_letter(row) for row in await self._ask("dead_letters", queue, LETTERS_MAX)]

    async def replay(self, queue: str, letter_id: str) -> DeadLetter | None:
        """Sends a dead letter back into its queue, in one statement; None when there is none.

        Raises:
            NotFound, BrokerUnavailable.
        """
        return await self._take("replay_dead_letter", queue, letter_id)

    async def discard(self, queue: str, letter_id: str) -> DeadLetter | None:
        """Forgets a dead letter for good; None when there is none.

        Raises:
            NotFound, BrokerUnavailable.
        """
        return await self._take("discard_dead_letter", queue, letter_id)

    async def _take(self, statement: str, queue: str, letter_id: str) -> DeadLetter | None:
        self._declared(queue)
        rows = await self._ask(statement, queue, letter_id)
        for consumption in self._consumptions:
            consumption.nudge()
        return _letter(rows[0]) if rows else None

    def _declared(self, queue: str) -> Queue:
        found = self._queues.get(queue)
        if found is None:
            raise _unknown(queue)
        return found

    async def _ask(self, statement: str, *values: object) -> list[dict[str, Any]]:
        try:
            return await self._postgres.execute_query(_SQL[statement], values)
        except StoreUnavailable as error:
            raise BrokerUnavailable(f"local delivery needs PostgreSQL: {error}") from error


def declaration(queue: Queue) -> tuple[object, ...]:
    """A queue as the row that every process reads."""
    return (
        queue.name,
        list(queue.binding_keys),
        [pattern_of(key) for key in queue.binding_keys],
        list(queue.retry_delays_ms),
    )


def _unknown(queue: str) -> NotFound:
    return NotFound(f"no queue {queue[:200]!r} is declared")


def _nowhere(message: Message) -> Unroutable:
    return Unroutable(f"no queue takes {message.routing_key!r}: declare one")


def _letter(row: dict[str, Any]) -> DeadLetter:
    return DeadLetter(
        row["queue"],
        row["id"],
        row["routing_key"],
        row["body"],
        row["cause"],
        row["attempts"],
        row["replays"],
        row["first_failed_at"],
        row["last_failed_at"],
        _history(row["history"]),
    )


def _history(stored: str) -> tuple[Failure, ...]:
    """The failures of a delivery, as the table keeps them."""
    return tuple(
        Failure(one["attempt"], parse_instant(one["at"]), one["cause"])
        for one in msgspec.json.decode(stored)
    )
