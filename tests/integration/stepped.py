"""Gateways that a test walks through their batches statement by statement, by signals alone."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, cast

from jitway.adapters.postgresql import DedicatedConnection, PostgreSQLAdapter
from jitway.cache.views import CardViews
from jitway.clock import Clock, SystemClock
from jitway.domain.card import CardView
from jitway.domain.message import Authorization
from jitway.gateway.authorize import Asked, AuthorizeOptions, Authorizer
from jitway.gateway.caller import Answer, Caller, Idempotency
from jitway.ledger.record import load_views
from jitway.profiler.trace import Trace
from jitway.sql import statements
from tests.world import OPERATOR, Document, body, fresh_key

PATIENCE_S = 10.0

# A step takes as long as the machine likes: no limit of the product may end it.
PATIENT = AuthorizeOptions(
    budget_ms=30_000, lock_timeout_ms=20_000, statement_timeout_ms=20_000, hang_ms=30_000
)

_NAMES = {sql: name for name, sql in statements("ledger").items()}


class Barrier:
    """Where one connection stops until the test lets it go on."""

    def __init__(self) -> None:
        self._reached = asyncio.Event()
        self._open = asyncio.Event()

    async def reached(self) -> None:
        """Ends once a connection stands at the barrier."""
        async with asyncio.timeout(PATIENCE_S):
            await self._reached.wait()

    def open(self) -> None:
        """Lets it go on."""
        self._open.set()

    async def stop_here(self) -> None:
        self._reached.set()
        async with asyncio.timeout(PATIENCE_S):
            await self._open.wait()


class Steps:
    """What the batches of one gateway send, and where they are to stop.

    A step is `before lock_accounts` or `after commit`: statements by their name in `ledger.sql`,
    and `begin`, `commit`, `rollback`.
    """

    def __init__(self) -> None:
        self.sent: list[str] = []
        self._barriers: dict[str, deque[Barrier]] = {}
        self._acts: dict[str, deque[Callable[[], Awaitable[object]]]] = {}

    def stop(self, step: str) -> Barrier:
        """The next connection to come to this step stops there."""
        barrier = Barrier()
        self._barriers.setdefault(step, deque()).append(barrier)
        return barrier

    def act(self, step: str, act: Callable[[], Awaitable[object]]) -> None:
        """The next connection to come to this step waits for this to be done."""
        self._acts.setdefault(step, deque()).append(act)

    async def at(self, step: str) -> None:
        if acts := self._acts.get(step):
            await acts.popleft()()
        if barriers := self._barriers.get(step):
            await barriers.popleft().stop_here()

    def forget(self) -> None:
        """Counts the statements from now on."""
        self.sent.clear()


class SteppedConnection:
    """A dedicated connection that comes to its steps before and after every statement."""

    def __init__(self, connection: DedicatedConnection, steps: Steps) -> None:
        self._connection = connection
        self._steps = steps

    @property
    def closed(self) -> bool:
        return self._connection.closed

    @property
    def backend_pid(self) -> int:
        return self._connection.backend_pid

    async def begin(self) -> None:
        await self._step("begin", self._connection.begin)

    async def commit(self) -> None:
        await self._step("commit", self._connection.commit)

    async def rollback(self) -> None:
        await self._step("rollback", self._connection.rollback)

    async def fetch(self, sql: str, *parameters: object) -> list[Any]:
        name = _NAMES.get(sql, sql)
        return cast(list[Any], await self._step(name, self._connection.fetch, sql, *parameters))

    def terminate(self) -> None:
        self._connection.terminate()

    async def _step(
        self, name: str, send: Callable[..., Awaitable[object]], *arguments: object
    ) -> object:
        await self._steps.at(f"before {name}")
        self._steps.sent.append(name)
        answer = await send(*arguments)
        await self._steps.at(f"after {name}")
        return answer


class SteppedAdapter(PostgreSQLAdapter):
    """Its dedicated connections, and so the batches, are stepped; the pool is not."""

    def __init__(self, url: str, steps: Steps) -> None:
        super().__init__({"DATABASE_URL": url}, pool_size_min=1, slow_query_ms=60_000)
        self._steps = steps
        self.batch_connections: list[DedicatedConnection] = []

    async def dedicated(self, **limits: Any) -> DedicatedConnection:
        connection = await super().dedicated(**limits)
        self.batch_connections.append(connection)
        return cast(DedicatedConnection, SteppedConnection(connection, self._steps))


class Gateway:
    """A gateway of its own process, as far as PostgreSQL can tell."""

    def __init__(self, url: str, *, options: AuthorizeOptions, clock: Clock | None) -> None:
        self.steps = Steps()
        self.postgres = SteppedAdapter(url, self.steps)
        self.clock = clock or SystemClock()
        self.views = CardViews(self._load, monotonic_ns=self.clock.monotonic_ns)
        self.authorizer = Authorizer(self.postgres, self.views, self.clock, options)

    async def fetch(self, sql: str, *parameters: Any) -> list[Any]:
        return list(await self.postgres.execute_query(sql, parameters))

    async def _load(self, card_ids: Iterable[str]) -> dict[str, CardView]:
        return await load_views(self, card_ids)

    async def know(self, *cards: Document) -> None:
        """Has the cards' views at hand, so that requests made together share a batch."""
        for card in cards:
            await self.views.card(card["id"])

    def ask(
        self,
        card: Document | str,
        amount: int,
        *,
        key: Idempotency | None = None,
        deadline_ms: int | None = None,
        caller: Caller = OPERATOR,
        canonical: str = "{}",
        currency: str = "USD",
        **facts: Any,
    ) -> asyncio.Task[Answer]:
        """A request under way; those made at one go are members of one batch."""
        card_id = card if isinstance(card, str) else card["id"]
        trace = Trace(self.clock.monotonic_ns)
        asked = Asked(
            Authorization(card_id, amount, currency, **facts),
            caller,
            key or fresh_key(),
            canonical=canonical,
            deadline_ms=deadline_ms,
            trace=trace,
        )
        return asyncio.create_task(self.authorizer.authorize(asked))

    async def decide(self, card: Document | str, amount: int, **more: Any) -> Document:
        """The answer to one request."""
        return body(await self.ask(card, amount, **more))


@asynccontextmanager
async def gateway_on(
    url: str, *, options: AuthorizeOptions = PATIENT, clock: Clock | None = None
) -> AsyncIterator[Gateway]:
    """Another gateway on a ledger.

    Args:
        url: of the ledger.
        options: its limits.
        clock: its own, or the system's.
    """
    gateway = Gateway(url, options=options, clock=clock)
    try:
        await gateway.authorizer.start()
        yield gateway
    finally:
        await gateway.authorizer.close()
        await gateway.postgres.close()


class SteppedClock(SystemClock):
    """A clock that a test moves forward."""

    def __init__(self) -> None:
        super().__init__()
        self._ahead_ns = 0

    def monotonic_ns(self) -> int:
        """Nanoseconds, with what the test added."""
        return super().monotonic_ns() + self._ahead_ns

    def forward(self, seconds: float) -> None:
        """Moves it on."""
        self._ahead_ns += int(seconds * 1e9)


async def eventually(holds: Callable[[], Awaitable[object]]) -> None:
    """Ends when what the test has no signal for holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not await holds():
            await asyncio.sleep(0.005)
