"""Which exchange and queues exist, with which arguments: data, declared from here and nowhere else.

    exchange `transactions` (topic, durable)
      jit-funding.* -> jit-funding-queue, transaction.* -> transaction-processing-queue,
      webhook.* -> webhook-queue
    for each queue Q
      Q              what consumers read; given back too often by dying consumers -> Q.dead
      Q.retry.<ms>   holds a failed delivery for that long, then -> Q; nobody consumes it
      Q.dead         holds what was buried until somebody replays or discards it

`*` matches exactly one word. Retries and burials travel through the default exchange, in which
every queue is bound under its own name: there is no binding of theirs that could go missing.

Every argument is valid on RabbitMQ 3.10 and on 4.x. Arguments of an existing queue cannot change
(the broker refuses with 406): a changed limit belongs into a policy, a changed argument needs the
queue drained and deleted. A changed delay makes a new queue, as its name carries the delay. This
module talks to nobody.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from jitway.errors import SettingsError

RETRY_DELAYS_MS = (500, 2_000, 5_000)
"""One delay per retry, so three retries: the fourth failure buries."""

# One queue per delay: in a single queue with a lifetime per message, a short one would wait behind
# a long one. 4.x has a limit of 20 by default and drops what exceeds it; 3.10 has none and loops.
DELIVERY_LIMIT = 20
# Listing the dead letters delivers them and gives them back. They must survive being looked at.
DEAD_DELIVERY_LIMIT = 2_000_000_000
LENGTH_MAX = 1_000_000
NAME_BYTES_MAX = 200

Argument = str | int


@dataclass(frozen=True, slots=True)
class QueueDeclaration:
    """A queue as the broker is asked for it: name, arguments, binding keys in the exchange."""

    name: str
    arguments: Mapping[str, Argument]
    binding_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """A queue for consumers, with its delay queues and its dead letters.

    Args:
        name: of the queue.
        binding_keys: routing keys it receives, `*` for one word and `#` for any number.
        retry_delays_ms: how long each retry waits, in milliseconds; their number is the number of
            retries.
        length_max: messages it may hold; beyond, the broker refuses more and the publisher hears.
    """

    name: str
    binding_keys: tuple[str, ...]
    retry_delays_ms: tuple[int, ...] = RETRY_DELAYS_MS
    length_max: int = LENGTH_MAX

    def __post_init__(self) -> None:
        if not 1 <= len(self.name.encode()) <= NAME_BYTES_MAX:
            raise SettingsError(f"a queue's name has 1 to {NAME_BYTES_MAX} bytes: {self.name!r}")
        if self.name.endswith(".dead") or ".retry." in self.name or self.name.startswith("amq."):
            raise SettingsError(f"the queue name {self.name!r} is reserved")
        if any(delay_ms <= 0 for delay_ms in self.retry_delays_ms):
            raise SettingsError(f"the retry delays of {self.name} must be above zero")
        if len(set(self.retry_delays_ms)) < len(self.retry_delays_ms):
            raise SettingsError(f"the retry delays of {self.name} must differ")

    @property
    def dead(self) -> str:
        """The queue of its dead letters."""
        return f"{self.name}.dead"

    def retry(self, delay_ms: int) -> str:
        """The queue that holds a delivery for that long."""
        return f"{self.name}.retry.{delay_ms}"

    def declarations(self) -> Iterator[QueueDeclaration]:
        """Everything that has to exist for it; what messages flow to comes first."""
        yield QueueDeclaration(
            self.dead, self._arguments() | {"x-delivery-limit": DEAD_DELIVERY_LIMIT}
        )
        buries = _dead_letters_to(self.dead) | {"x-delivery-limit": DELIVERY_LIMIT}
        yield QueueDeclaration(self.name, self._arguments() | buries, self.binding_keys)
        for delay_ms in self.retry_delays_ms:
            returns = _dead_letters_to(self.name) | {"x-message-ttl": delay_ms}
            yield QueueDeclaration(self.retry(delay_ms), self._arguments() | returns)

    def takes(self, routing_key: str) -> bool:
        """Whether one of its bindings matches the key."""
        return any(binding_matches(pattern, routing_key) for pattern in self.binding_keys)

    def _arguments(self) -> dict[str, Argument]:
        # At-least-once dead-lettering falls back to at-most-once, silently, without this overflow.
        return {
            "x-queue-type": "quorum",
            "x-overflow": "reject-publish",
            "x-max-length": self.length_max,
        }


@dataclass(frozen=True, slots=True)
class Topology:
    """One topic exchange and the queues behind it."""

    exchange: str
    queues: tuple[QueueSpec, ...]

    def with_queue(self, queue: QueueSpec) -> "Topology":
        """The same with one queue more; a queue of that name is replaced."""
        others = tuple(other for other in self.queues if other.name != queue.name)
        return Topology(self.exchange, (*others, queue))

    def queue(self, name: str) -> QueueSpec | None:
        """The queue of that name, or None."""
        return next((queue for queue in self.queues if queue.name == name), None)

    def promises(self, exchange: str, routing_key: str) -> bool:
        """Whether a queue of ours should have received this: then a return means one is gone."""
        if exchange == self.exchange:
            return any(queue.takes(routing_key) for queue in self.queues)
        declared = (entry.name for queue in self.queues for entry in queue.declarations())
        return exchange == "" and routing_key in declared


GUIDE_TOPOLOGY = Topology(
    "transactions",
    (
        QueueSpec("jit-funding-queue", ("jit-funding.*",)),
        QueueSpec("transaction-processing-queue", ("transaction.*",)),
        QueueSpec("webhook-queue", ("webhook.*",)),
    ),
)


def binding_matches(pattern: str, routing_key: str) -> bool:
    """Whether a topic binding takes a routing key: `*` is one word, `#` none or more."""
    return _words_match(tuple(pattern.split(".")), tuple(routing_key.split(".")))


def _words_match(pattern: tuple[str, ...], words: tuple[str, ...]) -> bool:
    if not pattern:
        return not words
    head, rest = pattern[0], pattern[1:]
    if head == "#":
        return any(_words_match(rest, words[skipped:]) for skipped in range(len(words) + 1))
    return bool(words) and head in ("*", words[0]) and _words_match(rest, words[1:])


def _dead_letters_to(queue: str) -> dict[str, Argument]:
    return {
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": queue,
        "x-dead-letter-strategy": "at-least-once",
    }
