"""`consumer.py`: an event is applied once, in the transaction that remembers it was.

Owns the inbox and what becomes of a failure. Does not know what an event does: its handler does.

Deliveries that arrive while a transaction is under way are applied together in the next one. What
a handler refuses is found by applying each event alone, so neighbours of a poisonous one get
through. Whatever only says that a store is away postpones, and burns no attempt.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from jitway.adapters.postgresql import PostgreSQLAdapter, TransactionClient
from jitway.clock import Clock
from jitway.errors import (
    Conflict,
    InvalidRequest,
    MalformedMessage,
    NoDecision,
    NotFound,
    Postpone,
    StoreUnavailable,
    TransactionConflict,
)
from jitway.events.broker import PREFETCH, RETRY_DELAYS_MS, Delivery, Queue
from jitway.events.envelope import Event, born_at, decode
from jitway.sql import statements

_SQL = statements("events")

APPLIED_AT_ONCE_MAX: Final = 100
# How long the inbox remembers. An event that is older when it arrives may have been applied, and
# nobody knows: it is buried, and an operator decides.
REMEMBERED: Final = timedelta(days=30)
_MARGIN: Final = timedelta(days=1)
_FORGOTTEN_AT_ONCE: Final = 2_000
_STATEMENT_TIMEOUT_MS: Final = 30_000

# Not the fault of what is under way: it comes again, to somebody else.
_STOPPED: Final = Postpone("this consumer has stopped")

Handler = Callable[[Sequence[Event], TransactionClient], Awaitable[None]]
"""Applies events, in order, in the transaction that remembers them. May be called again with
events whose transaction did not commit: what it does elsewhere must bear that."""

EventHandler = Callable[[Event, TransactionClient], Awaitable[None]]
"""The same for one event."""

BareHandler = Callable[[Delivery], Awaitable[None]]
"""Applies a message that has not our envelope; has to recognise a repetition itself."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """Who reads a queue.

    Args:
        queue: its own; on somebody else's it would take every second message from them.
        handler: of the events in it.
        bare: by routing key, handlers of messages that may come without our envelope.
        prefetch: deliveries held at a time.
    """

    queue: Queue
    handler: Handler
    bare: Mapping[str, BareHandler] = field(default_factory=dict)
    prefetch: int = PREFETCH


def subscribe(
    queue: str,
    binding_keys: Sequence[str],
    handler: EventHandler,
    *,
    retry_delays_ms: Sequence[int] = RETRY_DELAYS_MS,
    prefetch: int = PREFETCH,
) -> Subscription:
    """A consumer of your own, with a queue of its own.

    Args:
        queue: its name; also under which the inbox remembers what was applied.
        binding_keys: what it receives: `jit-funding.*`, `#`.
        handler: applies one event; what it changes by the given transaction is applied once.
        retry_delays_ms: how long each retry waits.
        prefetch: deliveries held at a time.

    Raises:
        SettingsError: the queue cannot be named so, or a delay makes no sense.
    """

    async def apply(events: Sequence[Event], transaction: TransactionClient) -> None:
        for event in events:
            await handler(event, transaction)

    declared = Queue(queue, tuple(binding_keys), tuple(retry_delays_ms))
    return Subscription(declared, apply, prefetch=prefetch)


@dataclass(slots=True, eq=False)
class _Arrived:
    """One delivery of an event, and what becomes of it."""

    event: Event
    outcome: "asyncio.Future[None]"


class Consumer:
    """Applies what one queue delivers.

    Args:
        postgres: where the inbox is; a pool that the decisions do not need.
        clock: for the age of events.
        subscription: what to do.
    """

    def __init__(
        self, postgres: PostgreSQLAdapter, clock: Clock, subscription: Subscription
    ) -> None:
        self.subscription = subscription
        self._name = subscription.queue.name
        self._postgres = postgres
        self._clock = clock
        self._arrived: list[_Arrived] = []
        self._applying: asyncio.Task[None] | None = None
        self.counts: Counter[str] = Counter(applied=0, repeated=0, transactions=0)

    async def on_delivery(self, delivery: Delivery) -> None:
        """Applies one delivery, together with others that wait.

        Raises:
            Postpone: a store is away; this is no failure of the delivery.
            MalformedMessage: it can never be applied; the text is the cause.
            Exception: whatever its handler raised.
        """
        bare = self.subscription.bare.get(delivery.routing_key)
        try:
            if bare is not None:
                await bare(delivery)
            else:
                await self._apply(self._event(delivery))
        except (StoreUnavailable, NoDecision, TransactionConflict) as error:
            raise Postpone(str(error)) from error
        except (InvalidRequest, Conflict, NotFound) as error:
            # The same message will be refused again, for the same reason.
            raise MalformedMessage(str(error)) from error

    async def forget(self) -> int:
        """Removes from the inbox what is too old to come again; how many.

        Raises:
            StoreUnavailable: PostgreSQL is away.
        """
        before = self._clock.now() - REMEMBERED
        values = [self._name, _first_digits(before), _FORGOTTEN_AT_ONCE]
        return len(await self._postgres.execute_query(_SQL["forget_applied"], values))

    async def stop(self) -> None:
        """Ends what is under way; may be called twice, or first. Nothing new may arrive."""
        applying, self._applying = self._applying, None
        if applying is not None:
            applying.cancel()
            await asyncio.wait({applying})
        _settle(self._arrived, _STOPPED)
        self._arrived.clear()

    def _event(self, delivery: Delivery) -> Event:
        event = decode(delivery.body)
        if event.type != delivery.routing_key:
            raise MalformedMessage(
                f"an event of type {event.type} came under the routing key "
                f"{delivery.routing_key[:64]!r}"
            )
        too_old = self._clock.now() - born_at(event.digits) > REMEMBERED - _MARGIN
        if too_old and not delivery.replays:
            raise MalformedMessage(
                f"older than {(REMEMBERED - _MARGIN).days} days: whether it was applied is no "
                "longer known; replay it if it was not"
            )
        return event

    async def _apply(self, event: Event) -> None:
        arrived = _Arrived(event, asyncio.get_running_loop().create_future())
        self._arrived.append(arrived)
        if self._applying is None:
            self._applying = asyncio.create_task(self._apply_all(), name=f"apply {self._name}")
        try:
            await arrived.outcome
        finally:
            if arrived in self._arrived:
                self._arrived.remove(arrived)

    async def _apply_all(self) -> None:
        """Applies what has arrived, some at a time, until nothing waits."""
        try:
            while self._arrived:
                some = self._arrived[:APPLIED_AT_ONCE_MAX]
                del self._arrived[:APPLIED_AT_ONCE_MAX]
                try:
                    await self._apply_some(some)
                except asyncio.CancelledError:
                    _settle(some, _STOPPED)
                    raise
        finally:
            self._applying = None

    async def _apply_some(self, some: Sequence[_Arrived]) -> None:
        failure = await self._attempt([arrived.event for arrived in some])
        if isinstance(failure, StoreUnavailable | Postpone | TransactionConflict):
            # Not the fault of any of them; what may have been committed is recognised later.
            _settle(some, failure)
        elif failure is None or len(some) == 1:
            _settle(some, failure)
        else:
            for arrived in some:
                _settle([arrived], await self._attempt([arrived.event]))

    async def _attempt(self, events: Sequence[Event]) -> Exception | None:
        """One transaction; what went wrong, if anything did."""

        async def act(transaction: TransactionClient) -> int:
            ids = sorted({event.digits for event in events})
            rows = await transaction.query(_SQL["apply_once"], [self._name, ids])
            unseen = {row["event_id"].hex for row in rows}
            fresh = {event.digits: event for event in events if event.digits in unseen}
            if fresh:
                await self.subscription.handler(_in_order(fresh.values()), transaction)
            return len(fresh)

        self.counts["transactions"] += 1
        try:
            applied = await self._postgres.execute_transaction(
                act, statement_timeout_ms=_STATEMENT_TIMEOUT_MS
            )
        except Exception as error:
            return error
        self.counts["applied"] += applied
        self.counts["repeated"] += len(events) - applied
        return None


def _in_order(events: Iterable[Event]) -> list[Event]:
    """Events of one account in the order of its versions, as far as they are here together."""
    return sorted(
        events, key=lambda event: (event.account or "", event.account_version or 0, event.id)
    )


def _settle(some: Sequence[_Arrived], failure: Exception | None) -> None:
    for arrived in some:
        if arrived.outcome.done():
            continue
        if failure is None:
            arrived.outcome.set_result(None)
        else:
            arrived.outcome.set_exception(failure)


def _first_digits(instant: datetime) -> str:
    """The digits of the least id that could have been made then."""
    return f"{int(instant.timestamp() * 1000):012x}" + "0" * 20
