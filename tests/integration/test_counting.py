"""Decisions are counted when they stand: as many as there are rows, whoever was answered."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.cache.views import CardViews
from jitway.domain.card import CardView
from jitway.domain.message import Authorization
from jitway.errors import NoDecision
from jitway.gateway.authorize import Asked, AuthorizeOptions, Authorizer
from jitway.gateway.caller import Answer
from jitway.ledger.record import load_views
from jitway.profiler.profiler import Profiler
from tests.integration.commit_wire import CommitWire, Fault, commit_wire_to
from tests.world import OPERATOR, World, fresh_key

LIMIT_S = 20
HANG_MS = 300


class CountingGateway:
    """An authorizer behind a wire, and what its profiler counted."""

    def __init__(self, wire: CommitWire, world: World) -> None:
        self._world = world
        self._postgres = PostgreSQLAdapter({"DATABASE_URL": wire.url}, pool_size_min=1)
        self.profiler = Profiler(world.clock)
        views = CardViews(self._load, monotonic_ns=world.clock.monotonic_ns)
        options = AuthorizeOptions(budget_ms=5_000, hang_ms=HANG_MS)
        self.authorizer = Authorizer(
            self._postgres, views, world.clock, options, profiler=self.profiler
        )

    async def _load(self, card_ids: Iterable[str]) -> dict[str, CardView]:
        return await load_views(self, card_ids)

    async def fetch(self, sql: str, *parameters: object) -> list[dict[str, object]]:
        return await self._postgres.execute_query(sql, parameters)

    def ask(self, amount: int, *, card: str = "", deadline_ms: int = 5_000) -> asyncio.Task[Answer]:
        """A request under way; those made at one go are members of one batch."""
        asked = Asked(
            Authorization(card or self._world.card["id"], amount, "USD"),
            OPERATOR,
            fresh_key(),
            canonical="{}",
            deadline_ms=deadline_ms,
            trace=self.profiler.start(),
        )
        return asyncio.create_task(self.authorizer.authorize(asked))

    async def counted(self) -> dict[tuple[str, ...], int]:
        """The counts, once they are those of the rows."""
        rows: dict[tuple[str, ...], int] = {}
        async with asyncio.timeout(LIMIT_S):
            while True:
                rows = {
                    (row["outcome"], row["reason"] or ""): row["count"]
                    for row in await self._world.rows(
                        "SELECT outcome, reason, count(*) FROM decision GROUP BY 1, 2"
                    )
                }
                if dict(self.profiler.counted().decisions) == rows:
                    return rows
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        await self.authorizer.close()
        await self._postgres.close()


@asynccontextmanager
async def counting(
    world: World, database: str
) -> AsyncIterator[tuple[CommitWire, CountingGateway]]:
    await world.deposit(100_000)
    async with commit_wire_to(database) as wire:
        gateway = CountingGateway(wire, world)
        try:
            await gateway.authorizer.start()
            # So that its view is at hand, and later requests share a batch.
            await gateway.ask(1)
            yield wire, gateway
        finally:
            wire.release()
            await gateway.close()


DECLINED = ("declined", "insufficient_available_balance")


@pytest.mark.parametrize("fault", [None, Fault.CUT_BEFORE, Fault.CUT_AFTER, Fault.DELAY])
async def test_rows_are_counted_once_whatever_happens_to_their_commit(
    world: World, database: str, fault: Fault | None
) -> None:
    """Seen to fail with the count in the web route, where replays and answers are known."""
    async with counting(world, database) as (wire, gateway):
        if fault:
            wire.plan(fault)
        tasks = [gateway.ask(100), gateway.ask(10_000_000), gateway.ask(5, card="crd_" + "0" * 32)]
        await asyncio.gather(*tasks)
        assert await gateway.counted() == {
            ("approved", ""): 2, DECLINED: 1, ("declined", "card_not_found"): 1
        }  # fmt: skip


@pytest.mark.parametrize("fault", [Fault.SWALLOW, Fault.HOLD, Fault.DELAY])
async def test_a_commit_that_is_known_after_the_deadline_is_counted(
    world: World, database: str, fault: Fault
) -> None:
    """Without `unsettled` nobody asked again, and two rows were never counted."""
    async with counting(world, database) as (wire, gateway):
        wire.plan(fault)
        late = [gateway.ask(100, deadline_ms=40), gateway.ask(10_000_000, deadline_ms=40)]
        for outcome in await asyncio.gather(*late, return_exceptions=True):
            assert isinstance(outcome, NoDecision)
        wire.release()
        await gateway.ask(2)
        # On a loaded machine the deadline may pass before the write: then there is no row either.
        counted = await gateway.counted()
        assert counted["approved", ""] in (2, 3)
        assert counted.get(DECLINED, 0) == counted["approved", ""] - 2


async def test_callers_that_leave_are_counted_if_their_rows_stand(
    world: World, database: str
) -> None:
    async with counting(world, database) as (wire, gateway):
        for step in range(6):
            wire.plan(Fault.DELAY)
            tasks = [gateway.ask(100), gateway.ask(10_000_000)]
            # Some leave before the write, some while the commit is on its way.
            await asyncio.sleep(0.01 * step)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await gateway.ask(2)
        counted = await gateway.counted()
        assert counted["approved", ""] >= 2


async def test_repeats_and_conflicts_decide_nothing(world: World, database: str) -> None:
    async with counting(world, database) as (_, gateway):
        key = fresh_key()

        def asked(amount: int) -> Asked:
            return Asked(
                Authorization(world.card["id"], amount, "USD"),
                OPERATOR,
                key,
                canonical="{}",
                deadline_ms=None,
                trace=gateway.profiler.start(),
            )

        answers = [await gateway.authorizer.authorize(asked(100)) for _ in range(3)]
        assert [answer.replayed for answer in answers] == [False, True, True]
        assert await gateway.counted() == {("approved", ""): 2}
