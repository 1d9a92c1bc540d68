"""`effects.py`: a consumer like a user's: what it applies can be counted, and nothing hides.

Loaded by `jitway work --consumers chaos.effects`. The table has no key, so an event that was
applied twice stands there twice.
"""

from typing import Final

from jitway.adapters.postgresql import TransactionClient
from jitway.events.consumer import subscribe
from jitway.events.envelope import Event

QUEUE: Final = "chaos-effects"
TABLE: Final = """
    CREATE TABLE effect (
        event_id        text   NOT NULL,
        type            text   NOT NULL,
        account         text,
        account_version bigint,
        amount          bigint
    )
"""


async def apply(event: Event, transaction: TransactionClient) -> None:
    """Notes what the event says."""
    await transaction.query(
        "INSERT INTO effect VALUES ($1, $2, $3, $4, $5)",
        [event.id, event.type, event.account, event.account_version, event.data.get("amount")],
    )


CONSUMERS = [subscribe(QUEUE, ["#"], apply, retry_delays_ms=(100, 200, 400))]
