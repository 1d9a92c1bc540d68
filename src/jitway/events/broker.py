"""`broker.py`: what carries events to their readers, as a protocol, and its topology as data.

Two implementations: RabbitMQ (`rabbitmq_broker.py`) and tables of PostgreSQL (`local_broker.py`).
One suite holds both to the same behaviour, and this topology to that of the RabbitMQ adapter.

    handler returns          the delivery is finished
    handler raises           it comes again after 0.5, 2 and 5 s; the fourth failure buries it
    raises MalformedMessage  buried at once: no other try can help
    raises Postpone          the queue pauses; no attempt is burnt

A handler may get a message twice, and has to recognise that.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import Final, Protocol

from jitway.errors import BrokerUnavailable, SettingsError

EXCHANGE: Final = "transactions"
RETRY_DELAYS_MS: Final = (500, 2_000, 5_000)
PREFETCH: Final = 50
# How long a stopping consumer lets its handlers go on.
STOP_GRACE_S: Final = 8.0
LETTERS_MAX: Final = 1_000

_is_queue_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}").fullmatch


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue for consumers; retries and dead letters come with it.

    Args:
        name: of the queue.
        binding_keys: routing keys it receives, `*` for one word and `#` for any number.
        retry_delays_ms: how long each retry waits; their number is the number of retries.

    Raises:
        SettingsError: the name is reserved, too long or unreadable, or a delay makes no sense.
    """

    name: str
    binding_keys: tuple[str, ...]
    retry_delays_ms: tuple[int, ...] = RETRY_DELAYS_MS

    def __post_init__(self) -> None:
        reserved = self.name.endswith(".dead") or ".retry." in self.name
        if _is_queue_name(self.name) is None or reserved or self.name.startswith("amq."):
            raise SettingsError(f"{self.name[:64]!r} cannot be the name of a queue")
        if not all(0 < len(key) <= 255 for key in self.binding_keys):
            raise SettingsError(f"a binding key of {self.name} is empty or too long")
        if any(delay_ms <= 0 for delay_ms in self.retry_delays_ms):
            raise SettingsError(f"the retry delays of {self.name} must be above zero")
        if len(set(self.retry_delays_ms)) < len(self.retry_delays_ms):
            raise SettingsError(f"the retry delays of {self.name} must differ")


JIT_FUNDING_QUEUE: Final = "jit-funding-queue"
TRANSACTION_QUEUE: Final = "transaction-processing-queue"
WEBHOOK_QUEUE: Final = "webhook-queue"

QUEUES: Final = (
    Queue(JIT_FUNDING_QUEUE, ("jit-funding.*",)),
    Queue(TRANSACTION_QUEUE, ("transaction.*",)),
    Queue(WEBHOOK_QUEUE, ("webhook.*",)),
)


@dataclass(frozen=True, slots=True)
class Message:
    """A message on its way to the queues.

    Args:
        routing_key: such as `jit-funding.approved`.
        id: by which consumers recognise a second delivery.
        body: JSON.
        needs_reader: whether it is a failure that no queue takes it.
    """

    routing_key: str
    id: str
    body: bytes
    needs_reader: bool = True


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a row of messages.

    Args:
        count: so many of its first messages are safe with the broker.
        cause: why the next one is not; None when all are, or there was no more time.
    """

    count: int
    cause: BrokerUnavailable | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One arrival at a consumer.

    Args:
        queue: it came from.
        routing_key: as first published.
        id: the message's; None when its publisher set none.
        body: the bytes.
        attempts: counted failures so far.
        replays: how often an operator sent it back from the dead letters.
    """

    queue: str
    routing_key: str
    id: str | None
    body: bytes
    attempts: int
    replays: int


@dataclass(frozen=True, slots=True)
class Failure:
    """One counted failure of a delivery."""

    attempt: int
    at: datetime | None
    cause: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A buried delivery.

    Args:
        queue: in which it failed.
        id: its message id.
        routing_key: as first published.
        body: the bytes.
        cause: of the last failure, in one line.
        attempts: counted failures.
        replays: how often it was sent back before.
        first_failed_at: in UTC, as far as it is known.
        last_failed_at: when it was buried.
        history: the last failures, oldest first.
    """

    queue: str
    id: str
    routing_key: str
    body: bytes
    cause: str
    attempts: int
    replays: int
    first_failed_at: datetime | None
    last_failed_at: datetime | None
    history: tuple[Failure, ...]


CAUSE_LENGTH_MAX: Final = 500


def cause_of(error: BaseException) -> str:
    """One line for a failure: its type, and its text if it has one."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    return (f"{name}: {text}" if text else name)[:CAUSE_LENGTH_MAX]


OnDelivery = Callable[[Delivery], Awaitable[None]]


class Consumption(Protocol):
    """A consumer at work."""

    async def stop(self, *, grace_s: float = STOP_GRACE_S) -> None:
        """Take no more; let what has begun finish, and give the rest back.

        Args:
            grace_s: how many seconds the running handlers get before they are cancelled.
        """


class Broker(Protocol):
    """Carries messages to queues and keeps them until they are finished."""

    @property
    def address(self) -> str:
        """Where it is, fit for eyes."""

    async def connect(self) -> None:
        """Be ready to publish and consume; keep trying in the background when it is away."""

    async def close(self) -> None:
        """End everything; may be called twice, or first."""

    async def declare(self, queue: Queue) -> None:
        """Make sure of a queue, its bindings, retries and dead letters.

        Raises:
            BrokerUnavailable: it cannot be declared.
        """

    async def publish(
        self, rows: Sequence[Sequence[Message]], *, until: float = inf
    ) -> list[Published]:
        """Publish rows of messages side by side, those of one row in order.

        A message is not sent before the one before it is safe, so no queue receives the messages
        of a row in another order; a repetition may come late.

        Args:
            rows: the messages.
            until: by `time.monotonic()`, when to begin with no more of them.

        Returns:
            What became of each row.
        """

    async def publish_many(self, messages: Sequence[Message]) -> list[BrokerUnavailable | None]:
        """Publish messages at once; no order among them is promised.

        Returns:
            For each, None once it is safe with the broker, or why it is not.
        """

    async def consume(
        self, queue: str, on_delivery: OnDelivery, *, prefetch: int = PREFETCH
    ) -> Consumption:
        """Hand the messages of a queue to a handler, from now on, also after an outage.

        Args:
            queue: a declared one.
            on_delivery: up to `prefetch` of it run at a time.
            prefetch: 1 keeps the order, as long as nothing fails.

        Raises:
            NotFound: the queue was not declared here.
        """

    async def depth(self, queue: str) -> int:
        """How many messages wait in a queue; those that wait for a retry do not count.

        Raises:
            NotFound: there is no such queue.
            BrokerUnavailable: it is away.
        """

    async def dead(self, queue: str) -> list[DeadLetter]:
        """The dead letters of a queue, the oldest first, at most 1,000.

        Raises:
            NotFound: the queue was not declared here.
            BrokerUnavailable: it is away.
        """

    async def replay(self, queue: str, letter_id: str) -> DeadLetter | None:
        """Send a dead letter back into its queue with all attempts granted again.

        Returns:
            The letter, or None when there is none of that id.

        Raises:
            NotFound, BrokerUnavailable.
        """

    async def discard(self, queue: str, letter_id: str) -> DeadLetter | None:
        """Forget a dead letter for good.

        Returns:
            The letter, or None when there is none of that id.

        Raises:
            NotFound, BrokerUnavailable.
        """


def pattern_of(binding_key: str) -> str:
    """A binding key as a regular expression, which PostgreSQL and Python read alike.

    It matches a routing key with a dot put before it, so that every word has one.
    """
    return "^" + "".join(map(_word_pattern, binding_key.split("."))) + "$"


def _word_pattern(word: str) -> str:
    if word == "#":
        return r"(\.[^.]*)*"
    return r"\." + (r"[^.]*" if word == "*" else re.escape(word))
