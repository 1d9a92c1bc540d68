"""What the tests of events share: a relay's outbox, a broker that obeys, things that come true."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from math import inf

from jitway.adapters.postgresql import DedicatedConnection, PostgreSQLAdapter
from jitway.errors import BrokerUnavailable
from jitway.events.broker import Message, Published
from jitway.events.outbox import Outbox

NOWHERE = BrokerUnavailable("the test's broker takes nothing")


def outbox_of(postgres: PostgreSQLAdapter) -> Outbox:
    """An outbox with a connection like the product's."""

    async def connect() -> DedicatedConnection:
        return await postgres.dedicated(
            lock_timeout_ms=500, statement_timeout_ms=5_000, idle_in_transaction_timeout_ms=5_000
        )

    return Outbox(connect)


async def eventually(holds: Callable[[], Awaitable[bool]], *, within_s: float = 10.0) -> None:
    """Asks again and again until it is so."""
    async with asyncio.timeout(within_s):
        while not await holds():
            await asyncio.sleep(0.01)


class ObedientBroker:
    """Takes messages, or not, as a test says; keeps those it took in the order it took them.

    Only the relay's half of the contract: what happens after the confirm is the suite's of the
    real brokers.
    """

    def __init__(self) -> None:
        self.taken: list[Message] = []
        self.refuses: Callable[[Message], bool] = lambda _: False
        self.rounds = 0

    async def publish(
        self, rows: Sequence[Sequence[Message]], *, until: float = inf
    ) -> list[Published]:
        self.rounds += 1
        return [self._take(row) for row in rows]

    def _take(self, row: Sequence[Message]) -> Published:
        for place, message in enumerate(row):
            if self.refuses(message):
                return Published(place, NOWHERE)
            self.taken.append(message)
        return Published(len(row))
