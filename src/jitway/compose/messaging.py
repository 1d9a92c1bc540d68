"""`messaging.py`: who publishes, who delivers and who consumes, from what is configured."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum

from jitway.adapters.postgresql import DedicatedConnection, PostgreSQLAdapter
from jitway.archive.store import Archive
from jitway.clock import Clock, SystemClock
from jitway.compose.archives import archive_handlers
from jitway.database import DatabaseManager
from jitway.events.broker import JIT_FUNDING_QUEUE, QUEUES, Broker, Queue
from jitway.events.consumer import Subscription
from jitway.events.dead_letter import DeadLetters
from jitway.events.local_broker import LocalBroker
from jitway.events.outbox import Outbox
from jitway.events.relay import Relay
from jitway.events.work import EventWork
from jitway.gateway import created
from jitway.gateway.authorize import Authorizer
from jitway.settings import Settings
from jitway.wire.created import decode_created

# The relay's own connection: a claim that waits longer is made by somebody else meanwhile.
_RELAY_STATEMENT_MS = 5_000
_RELAY_LOCK_MS = 500
_RELAYS = 2


class Role(StrEnum):
    """What a process does with events."""

    ALL = "all"
    RELAY = "relay"
    CONSUMERS = "consumers"
    NONE = "none"

    @property
    def publishes(self) -> bool:
        """Whether it empties the outbox."""
        return self in (Role.ALL, Role.RELAY)

    @property
    def consumes(self) -> bool:
        """Whether it runs the consumers."""
        return self in (Role.ALL, Role.CONSUMERS)


def role_of(settings: Settings) -> Role:
    """What `serve` does with events: everything, unless others are there to consume."""
    if settings.work != "auto":
        return Role(settings.work)
    return Role.RELAY if settings.database_url and settings.rabbitmq_url else Role.ALL


def event_work(
    settings: Settings,
    manager: DatabaseManager,
    clock: Clock,
    *,
    role: Role,
    archive: Archive,
    authorizer: Authorizer,
    consumers: Sequence[Subscription] = (),
) -> EventWork:
    """What this process does with events; not started yet.

    Args:
        settings: say where RabbitMQ is.
        manager: has the stores.
        clock: instants and ids.
        role: whether it publishes, consumes, or both.
        archive: is filled by our consumers.
        authorizer: decides what comes by message.
        consumers: of others, beside our own.
    """
    postgres = manager.postgres
    broker = broker_of(manager, [one.queue for one in consumers], url=settings.rabbitmq_url or "")
    own = _subscriptions(archive, authorizer, postgres, clock)
    return EventWork(
        postgres,
        clock,
        broker,
        relays=_relays(postgres, broker, clock) if role.publishes else (),
        subscriptions=(*own, *consumers) if role.consumes else (),
        left_behind=None if isinstance(broker, LocalBroker) else LocalBroker(postgres),
    )


@asynccontextmanager
async def dead_letters_of(manager: DatabaseManager) -> AsyncIterator[DeadLetters]:
    """The dead letters alone, for one command."""
    broker = broker_of(manager)
    try:
        await broker.connect()
        yield DeadLetters(broker, manager.postgres, SystemClock())
    finally:
        await broker.close()


def broker_of(manager: DatabaseManager, others: Sequence[Queue] = (), *, url: str = "") -> Broker:
    """RabbitMQ where it is configured, else tables of PostgreSQL.

    Args:
        manager: has the stores.
        others: queues beside our own, to be kept declared.
        url: of RabbitMQ, for connections of its own that know those queues.
    """
    if manager.message_queue is None:
        return LocalBroker(manager.postgres, (*QUEUES, *others))
    from jitway.events.rabbitmq_broker import RabbitMQBroker

    if others:
        return RabbitMQBroker.at(url, (*QUEUES, *others))
    return RabbitMQBroker(manager.message_queue)


def _relays(postgres: PostgreSQLAdapter, broker: Broker, clock: Clock) -> list[Relay]:
    async def connect() -> DedicatedConnection:
        return await postgres.dedicated(
            lock_timeout_ms=_RELAY_LOCK_MS,
            statement_timeout_ms=_RELAY_STATEMENT_MS,
            idle_in_transaction_timeout_ms=_RELAY_STATEMENT_MS,
        )

    # Statements do not wait for confirms: PostgreSQL's tables need no second one.
    number = 1 if isinstance(broker, LocalBroker) else _RELAYS
    return [Relay(Outbox(connect), broker, holder=clock.new_id("rly")) for _ in range(number)]


def _subscriptions(
    archive: Archive, authorizer: Authorizer, postgres: PostgreSQLAdapter, clock: Clock
) -> list[Subscription]:
    """Who reads our three queues."""
    by_message = created.authorize_created(postgres, clock, authorizer.authorize, decode_created)
    bare = {JIT_FUNDING_QUEUE: {created.TYPE: by_message}}
    handlers = archive_handlers(archive)
    return [Subscription(queue, handlers[queue.name], bare.get(queue.name, {})) for queue in QUEUES]
