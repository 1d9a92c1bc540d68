"""A consumer that notes how long ago each event had happened when it arrived.

Loaded by `jitway work --consumers bench.event_latency`. An event's instant is that of its deciding
statement, before the commit: what is measured is a little more than commit to consumer.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from jitway.adapters.postgresql import TransactionClient
from jitway.events.broker import Queue
from jitway.events.consumer import Subscription
from jitway.events.envelope import Event

QUEUE = "bench-latency"
TABLE = "CREATE TABLE event_latency (occurred_at timestamptz, arrived_at timestamptz)"


async def note(events: Sequence[Event], transaction: TransactionClient) -> None:
    """One row for each event."""
    arrived_at = datetime.now(UTC)
    await transaction.query(
        "INSERT INTO event_latency SELECT occurred_at, $2 FROM unnest($1::timestamptz[])"
        " AS new (occurred_at)",
        [[event.occurred_at for event in events], arrived_at],
    )


CONSUMERS = [Subscription(Queue(QUEUE, ("jit-funding.*",)), note)]
