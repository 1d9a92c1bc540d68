"""A stale view costs a reload and never an approval; a hundred thousand: `scripts/chaos cache`."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from chaos.stale import StaleRaces, deaf, trusting
from jitway.adapters.redis import RedisAdapter
from jitway.compose import Role, Services, services
from jitway.settings import load
from tests.service_skips import require_service

RACES, CARDS = 300, 12
SEED = int(os.environ.get("TEST_SEED", "0"))

pytestmark = pytest.mark.relaxed_durability


@pytest.fixture
async def gateways(
    database: str, tmp_path: Path
) -> AsyncIterator[tuple[Services, Services, RedisAdapter]]:
    """Two that share a ledger and a Redis, and hear of no eviction."""
    url = require_service("redis")
    environment = {
        "HOME": str(tmp_path),
        "DATABASE_URL": database,
        "REDIS_URL": url,
        "JITWAY_DECISION_BUDGET_MS": "30000",
        "JITWAY_POOL_MIN": "1",
        "JITWAY_UNSAFE_DURABILITY": "true",
    }
    redis = RedisAdapter({"REDIS_URL": url}, timeout_ms=5_000)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(redis.close)
        with deaf():
            first, second = [
                await stack.enter_async_context(
                    services(load(environment, tmp_path), role=Role.NONE)
                )
                for _ in range(2)
            ]
            yield first, second, redis


async def test_no_frozen_card_spends(gateways: tuple[Services, Services, RedisAdapter]) -> None:
    races = await StaleRaces(*gateways, seed=SEED).run(RACES, cards=CARDS)
    assert races.violations == []
    assert races.counts["races"] == RACES
    assert races.counts["approved_after"] == 0
    # The races are real: decisions began with a view by which the card could spend.
    assert races.counts["began_with_the_old_view"] > RACES // 10
    assert races.counts["approved_beside"] > 0


async def test_gateways_that_trust_their_views_are_caught(
    gateways: tuple[Services, Services, RedisAdapter],
) -> None:
    """Both checks must name them: what callers were told, and the rows."""
    with trusting():
        races = await StaleRaces(*gateways, seed=SEED).run(60, cards=6)
    assert {one.invariant for one in races.violations} == {"frozen_is_declined", "rows_agree"}
