"""`rehearse.py`: what would be decided now: the same batch, under the same locks, and rolled back.

One rehearsal at a time, on a connection of its own. Leaves nothing, and so announces nothing.
"""

import asyncio
from datetime import timedelta

from jitway.adapters.postgresql import DedicatedConnection, PostgreSQLAdapter
from jitway.cache.views import CardViews
from jitway.clock import Clock, id_digits
from jitway.errors import LockTimeout, NoDecision, StoreUnavailable, TransactionConflict
from jitway.gateway.authorize import Asked, AuthorizeOptions
from jitway.gateway.batch import Batch
from jitway.gateway.caller import Answer
from jitway.gateway.waiting import Waiting
from jitway.profiler.trace import Stage, Trace


class Rehearsal:
    """Decides without deciding.

    Args:
        postgres: the ledger.
        views: card views; hints, never trusted.
        clock: instants and ids.
        options: the limits of the decision path.
    """

    def __init__(
        self,
        postgres: PostgreSQLAdapter,
        views: CardViews,
        clock: Clock,
        options: AuthorizeOptions,
    ) -> None:
        self._postgres = postgres
        self._views = views
        self._clock = clock
        self._options = options
        self._connection: DedicatedConnection | None = None
        self._turn = asyncio.Lock()

    async def rehearse(self, asked: Asked) -> Answer:
        """The decision of a batch of one that is rolled back; the stored one of a used key.

        Raises:
            IdempotencyConflict: the key was used with other content.
            NoDecision: there was none in time, or the ledger is away.
        """
        trace = asked.trace
        limit_ms = min(asked.deadline_ms or self._options.budget_ms, self._options.budget_ms)
        deadline_ns = trace.started_ns + limit_ms * 1_000_000
        seconds_left = max(0.0, (deadline_ns - self._clock.monotonic_ns()) / 1e9)
        try:
            async with asyncio.timeout(seconds_left):
                member = await self._member(asked, deadline_ns)
                async with self._turn:
                    return await self._rehearsed(member)
        except TimeoutError:
            raise NoDecision("the deadline passed before there was a decision") from None
        except StoreUnavailable as error:
            raise NoDecision(f"the ledger is away: {error}") from error

    async def _member(self, asked: Asked, deadline_ns: int) -> Waiting:
        card_id = asked.request.card if id_digits(asked.request.card, "crd") else None
        view = await self._views.card(card_id) if card_id else None
        asked.trace.mark(Stage.CARD_LOOKUP)
        return Waiting(
            asked.request,
            asked.caller,
            asked.idempotency,
            canonical=asked.canonical,
            card_id=card_id,
            view=view,
            authorization_digits=self._clock.new_id("aut")[4:],
            deadline_ns=deadline_ns,
            monotonic_ns=self._clock.monotonic_ns,
            trace=asked.trace,
        )

    async def _rehearsed(self, member: Waiting) -> Answer:
        """Tries until the locks are there and nothing came between; the deadline ends it."""
        while True:
            connection = await self._connected()
            trace = Trace(self._clock.monotonic_ns)
            batch = Batch(
                connection,
                [member],
                trace=trace,
                hold_ttl=timedelta(seconds=self._options.hold_ttl_s),
                reserve_ns=0,
                waiting_for_lock=True,
            )
            try:
                await connection.begin()
                await batch.decide()
                await connection.rollback()
            except (LockTimeout, TransactionConflict):
                await connection.rollback()
                continue
            except BaseException:
                # Whatever was under way there, it ends with the connection.
                self.close()
                raise
            if batch.settled.answers:
                member.trace.join(trace)
                (_, answer), *_ = batch.settled.answers
                if isinstance(answer, Answer):
                    return answer
                raise answer

    async def _connected(self) -> DedicatedConnection:
        if self._connection is None or self._connection.closed:
            options = self._options
            self._connection = await self._postgres.dedicated(
                lock_timeout_ms=options.lock_timeout_ms,
                statement_timeout_ms=options.statement_timeout_ms,
                idle_in_transaction_timeout_ms=options.statement_timeout_ms,
            )
        return self._connection

    def close(self) -> None:
        """Ends its connection; may be called twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
