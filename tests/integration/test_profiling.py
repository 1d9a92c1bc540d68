"""`JITFundingProfiler`: a real authorization as a library call, timed, once for each id."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import jitway
from jitway import JITFundingProfiler
from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.adapters.redis import RedisAdapter
from jitway.errors import IdempotencyConflict, InvalidRequest, NoDecision
from jitway.profiler.trace import STAGES
from tests.integration.private_redis import private_redis
from tests.world import World

TABLES = ("decision", "hold", "idempotency_key", "outbox", "transfer")


@pytest.fixture
async def profiler(world: World) -> AsyncIterator[JITFundingProfiler]:
    profiler = JITFundingProfiler(None, world.postgres)
    yield profiler
    await profiler.close()


def transaction(world: World, id_: str = "tx-123", **changes: Any) -> dict[str, Any]:
    return {
        "id": id_,
        "user_id": world.cardholder["id"],
        "card_id": world.card["id"],
        "amount": 100,
    } | changes


async def rows(world: World) -> dict[str, int]:
    counts = ", ".join(f"(SELECT count(*) FROM {name}) AS {name}" for name in TABLES)
    return (await world.rows(f"SELECT {counts}"))[0]


async def test_a_real_authorization_with_its_stages(
    world: World, profiler: JITFundingProfiler
) -> None:
    await world.deposit(1_000)
    decision, metrics = await profiler.profile_authorization(transaction(world))
    assert (decision["decision"], decision["available"]) == ("approved", 900)
    assert decision["currency"] == "USD"
    assert decision.items() <= (await world.authorization(decision)).items()
    assert set(metrics) == {"total_ms", "stages_ms", "replayed", "dry_run"}
    assert list(metrics["stages_ms"]) == [stage.label for stage in STAGES]
    for stage in ("user_lookup", "card_lookup", "limits_check", "decision", "write", "commit"):
        assert metrics["stages_ms"][stage] > 0
    assert sum(metrics["stages_ms"].values()) == pytest.approx(metrics["total_ms"], rel=0.05)
    await world.audited()


async def test_an_id_is_decided_once(world: World, profiler: JITFundingProfiler) -> None:
    await world.deposit(1_000)
    asked = transaction(world)
    first, metrics = await profiler.profile_authorization(asked)
    assert not metrics["replayed"]
    again = await asyncio.gather(
        *(profiler.profile_authorization(asked | {"deadline_ms": 900 + n}) for n in range(5))
    )
    assert all(decision == first and metrics["replayed"] for decision, metrics in again)
    with pytest.raises(IdempotencyConflict):
        await profiler.profile_authorization(asked | {"amount": 101})
    assert (await world.balances())[1] == 100
    assert profiler.get_metrics_stats()["approval_rate"] == 100


async def test_the_user_is_ours_or_the_external_id(
    world: World, profiler: JITFundingProfiler
) -> None:
    await world.deposit(1_000)
    await world.rows(
        "UPDATE cardholder SET external_id = 'user-456' WHERE id = $1", world.cardholder
    )
    decided, _ = await profiler.profile_authorization(transaction(world, user_id="user-456"))
    assert decided["decision"] == "approved"
    other = await world.new_cardholder()
    for number, stranger in enumerate((other["id"], "user-457", world.card["id"])):
        decided, _ = await profiler.profile_authorization(
            transaction(world, f"strange-{number}", user_id=stranger)
        )
        assert (decided["decision"], decided["reason"]) == ("declined", "card_not_found")
        assert (decided["account"], decided["available"]) == (None, None)
    decided, _ = await profiler.profile_authorization(
        transaction(world, "nowhere", card_id="crd_" + "0" * 32)
    )
    assert (decided["reason"], decided["currency"]) == ("card_not_found", "XXX")
    await world.audited()


async def test_the_currency_is_the_accounts(world: World, profiler: JITFundingProfiler) -> None:
    account = await world.new_account(currency="EUR")
    await world.deposit(1_000, account)
    card = await world.new_card(account)
    decided, _ = await profiler.profile_authorization(transaction(world, card_id=card["id"]))
    assert (decided["decision"], decided["currency"]) == ("approved", "EUR")
    decided, _ = await profiler.profile_authorization(
        transaction(world, "in-usd", card_id=card["id"], currency="USD")
    )
    assert decided["reason"] == "currency_mismatch"


async def test_a_dry_run_decides_and_leaves_nothing(
    world: World, profiler: JITFundingProfiler
) -> None:
    await world.deposit(1_000)
    before, balances = await rows(world), await world.balances()
    for amount, outcome in ((400, "approved"), (1_001, "declined"), (400, "approved")):
        decided, metrics = await profiler.profile_authorization(
            transaction(world, amount=amount), dry_run=True
        )
        assert (decided["decision"], decided["id"]) == (outcome, None)
        assert metrics["dry_run"]
        assert metrics["stages_ms"]["limits_check"] + metrics["stages_ms"]["decision"] > 0
    assert await rows(world) == before
    assert await world.balances() == balances
    # Of an id that was decided it says what was decided.
    real, _ = await profiler.profile_authorization(transaction(world))
    told, metrics = await profiler.profile_authorization(transaction(world), dry_run=True)
    assert told == real
    assert metrics["replayed"]
    with pytest.raises(IdempotencyConflict):
        await profiler.profile_authorization(transaction(world, amount=5), dry_run=True)


async def test_a_dry_run_waits_for_the_lock_and_no_longer_than_its_deadline(
    world: World, profiler: JITFundingProfiler
) -> None:
    await profiler.profile_authorization(transaction(world), dry_run=True)
    async with world.locked(world.account):
        with pytest.raises(NoDecision):
            await profiler.profile_authorization(transaction(world, deadline_ms=50), dry_run=True)
    decided, _ = await profiler.profile_authorization(transaction(world), dry_run=True)
    assert decided["reason"] == "insufficient_available_balance"


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"id": ""}, "/id"),
        ({"id": 7}, "/id"),
        ({"id": "x" * 256}, "/id"),
        ({"user_id": None}, "/user_id"),
        ({"card_id": 5}, "/card_id"),
        ({"card_id": "4111111111111111"}, "/card_id"),
        ({"amount": 0}, "/amount"),
        ({"amount": 1.0}, "/amount"),
        ({"amount": True}, "/amount"),
        ({"amount": "100"}, "/amount"),
        ({"amount": 2**53}, "/amount"),
        ({"currency": "usd"}, "/currency"),
        ({"merchant": {"mcc": "12"}}, "/merchant/mcc"),
        ({"merchnt": {}}, "/merchnt"),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    world: World, profiler: JITFundingProfiler, changes: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await profiler.profile_authorization(transaction(world) | changes)
    assert refused.value.pointer == pointer
    assert (await rows(world))["decision"] == 0


@pytest.mark.relaxed_durability
async def test_985_of_1000_are_98_and_a_half_per_cent(
    world: World, profiler: JITFundingProfiler
) -> None:
    await world.deposit(985 * 100)
    calls = [transaction(world, f"tx-{n}") for n in range(985)]
    calls += [transaction(world, f"tx-{n}", amount=10_000_000) for n in range(985, 1000)]
    for start in range(0, 1000, 50):
        await asyncio.gather(*map(profiler.profile_authorization, calls[start : start + 50]))
    stats = profiler.get_metrics_stats()
    assert list(stats) == [
        *("count", "average", "min", "max", "p50", "p95", "p99", "approval_rate")
    ]
    assert (stats["count"], stats["approval_rate"]) == (1000, 98.5)
    assert 0 < stats["min"] <= stats["p50"] <= stats["p95"] <= stats["p99"] <= stats["max"]
    assert (await world.balances())[2] == 0


async def test_redis_is_a_level_that_may_go(
    world: World,
) -> None:
    await world.deposit(10_000)
    async with private_redis() as server:
        redis = RedisAdapter({"REDIS_URL": server.url})
        for process, levels in enumerate(({"l1", "l2", "l3"}, {"l1", "l2"})):
            profiler = JITFundingProfiler(redis, world.postgres)
            await profiler.profile_authorization(transaction(world, f"with-{process}"))
            assert set(profiler.statistics()["windows"]["start"]["cache"]) == levels
            await profiler.close()
        # Somebody else's data under our key is no owner.
        digits = world.card["id"][4:]
        await redis.cache_user(f"of-card:{digits}", {"cardholder": 5}, 60)
        profiler = JITFundingProfiler(redis, world.postgres)
        decided, _ = await profiler.profile_authorization(transaction(world, "lied-to"))
        assert decided["decision"] == "approved"
        await profiler.close()
        await server.kill()
        profiler = JITFundingProfiler(redis, world.postgres)
        decided, _ = await profiler.profile_authorization(transaction(world, "without"))
        assert decided["decision"] == "approved"
        await profiler.close()
        await redis.close()


async def test_it_ends_what_it_opened_and_nothing_else(world: World, database: str) -> None:
    postgres = PostgreSQLAdapter({"DATABASE_URL": database}, pool_size_min=1)
    profiler = JITFundingProfiler(None, postgres)
    await profiler.close()
    with pytest.raises(NoDecision):
        await profiler.profile_authorization(transaction(world))
    profiler = JITFundingProfiler(None, postgres)
    await profiler.initialize()
    await profiler.initialize()
    await profiler.profile_authorization(transaction(world), dry_run=True)
    assert (await postgres.get_pool_stats())["dedicated_connections"] > 0
    await profiler.close()
    await profiler.close()
    assert (await postgres.get_pool_stats())["dedicated_connections"] == 0
    assert await postgres.execute_query("SELECT 1 AS one") == [{"one": 1}]
    await postgres.close()


async def test_a_ledger_that_is_away_is_no_decision(world: World) -> None:
    postgres = PostgreSQLAdapter({"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"})
    profiler = JITFundingProfiler(None, postgres)
    with pytest.raises(NoDecision):
        await profiler.profile_authorization(transaction(world))
    await profiler.close()
    await postgres.close()


def test_it_is_public() -> None:
    assert "JITFundingProfiler" in jitway.__all__
