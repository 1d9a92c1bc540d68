"""One alert for one episode: as a log line, a count and an event; and nothing waits for it."""

import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.gateway.alerts import CLEAR_AFTER_S, RAISE_AFTER_S, WAITING_MAX, Alerts, Condition
from jitway.profiler.alarm import QUIET_NS
from jitway.profiler.profiler import Profiler
from jitway.profiler.trace import Stage
from tests.world import World

SECOND = 1_000_000_000
REDIS = Condition("service", "redis", "warning", "connection refused")


class HandClock:
    """A clock moved by hand, whose ids are all different."""

    def __init__(self) -> None:
        self.ns = 7 * SECOND
        self._made = 0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(microseconds=self.ns // 1000)

    def monotonic_ns(self) -> int:
        return self.ns

    def new_id(self, prefix: str) -> str:
        self._made += 1
        return f"{prefix}_{0x0199 << 112 | self._made:032x}"


class Scene:
    """Alerts over a ledger, by a clock that the test moves."""

    def __init__(self, postgres: PostgreSQLAdapter) -> None:
        self.clock = HandClock()
        self.profiler = Profiler(self.clock)
        self.alerts = Alerts(postgres, self.clock, self.profiler, process="here:1")
        self.wrong: Sequence[Condition] | None = []
        self.alerts.watch(self._look)

    async def _look(self) -> Sequence[Condition] | None:
        return self.wrong

    async def after(self, seconds: float, wrong: Sequence[Condition] | None = None) -> None:
        self.clock.ns += int(seconds * SECOND)
        self.wrong = wrong
        await self.alerts.look()

    def answer(self, span_ms: int) -> None:
        trace = self.profiler.start(f"req_{span_ms}")
        self.clock.ns += span_ms * 1_000_000
        trace.mark(Stage.COMMIT)
        self.profiler.finish(trace, "approved")


@pytest.fixture
async def scene(world: World) -> AsyncIterator[Scene]:
    yield Scene(world.postgres)
    await world.audited()


async def events(world: World) -> list[dict[str, Any]]:
    rows = await world.rows(
        "SELECT type, program_id, account_id, body FROM outbox"
        " WHERE type LIKE 'alert.%' ORDER BY position"
    )
    for row in rows:
        assert row["program_id"] is None
        assert row["account_id"] is None
    return [row | json.loads(row["body"]) for row in rows]


async def test_slow_answers_are_one_alert_until_they_are_over(world: World, scene: Scene) -> None:
    for span_ms in (60, 70, 120, 60, 130):
        scene.answer(span_ms)
        await scene.alerts.look()
    assert scene.alerts.active == {("latency", "authorizations"): "critical"}
    scene.clock.ns += QUIET_NS
    await scene.alerts.look()
    told = await events(world)
    assert [one["type"] for one in told] == [
        "alert.latency.warning", "alert.latency.critical", "alert.latency.cleared"
    ]  # fmt: skip
    assert told[1]["facts"] == {
        "threshold_ms": 100.0,
        "total_ms": 120.0,
        "request_id": "req_120",
        "stage": "commit",
        "slow_requests": 3,
    }
    assert told[1]["detail"] == ("an answer took 120 ms, over 100 ms; most over its budget: commit")
    assert told[2]["facts"]["slow_requests"] == 5
    assert {one["process"] for one in told} == {"here:1"}
    assert scene.alerts.active == {}
    assert scene.alerts.told["latency", "critical"] == 1


async def test_a_condition_is_told_when_it_lasts_and_when_it_is_over(
    world: World, scene: Scene
) -> None:
    # A blink is nothing.
    await scene.after(0, [REDIS])
    await scene.after(1, [])
    assert not await events(world)
    for _ in range(3):
        await scene.after(RAISE_AFTER_S, [REDIS])
    # Neither a gap in it nor a look that could not be had ends it.
    await scene.after(1, [])
    await scene.after(CLEAR_AFTER_S * 2, None)
    await scene.after(1, [REDIS])
    assert scene.alerts.active == {("service", "redis"): "warning"}
    await scene.after(CLEAR_AFTER_S / 2, [])
    await scene.after(CLEAR_AFTER_S / 2, [])
    told = await events(world)
    assert [one["type"] for one in told] == ["alert.service.warning", "alert.service.cleared"]
    assert told[0]["subject"] == "redis"
    assert told[1]["detail"] == "no longer: connection refused"
    assert scene.alerts.active == {}


async def test_what_gets_worse_is_told_once_more(world: World, scene: Scene) -> None:
    slow = Condition("service", "postgres", "warning", "slow: 400 ms")
    away = Condition("service", "postgres", "critical", "away")
    await scene.after(0, [slow])
    for condition in (slow, away, away, slow, away):
        await scene.after(RAISE_AFTER_S, [condition])
    assert [one["severity"] for one in await events(world)] == ["warning", "critical"]


async def test_without_postgresql_alerts_wait_bounded_and_are_told_later(
    world: World, database: str
) -> None:
    away = PostgreSQLAdapter({"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"})
    scene = Scene(away)
    with capture_logs() as lines:
        for _ in range(WAITING_MAX + 5):
            scene.alerts._tell("service", "warning", "postgres", "away")
        await scene.alerts.look()
    assert sum(line["event"] == "alert_raised" for line in lines) == WAITING_MAX + 5
    assert (scene.alerts.waiting, scene.alerts.dropped) == (WAITING_MAX, 5)
    scene.alerts._postgres = world.postgres
    await scene.alerts.look()
    assert scene.alerts.waiting == 0
    assert len(await events(world)) == WAITING_MAX
    await away.close()


async def test_an_alert_said_twice_is_one_event(world: World, scene: Scene) -> None:
    """As after a connection that broke when the first was written, and nobody heard so."""
    scene.alerts._tell("service", "warning", "redis", "away")
    told = scene.alerts._waiting[0]
    await scene.alerts.look()
    scene.alerts._waiting.append(told)
    await scene.alerts.look()
    assert len(await events(world)) == 1


async def test_it_starts_and_stops_like_everything_else(world: World, scene: Scene) -> None:
    await scene.alerts.stop()
    scene.alerts.start()
    scene.alerts.start()
    scene.answer(60)
    await scene.alerts.stop()
    await scene.alerts.stop()
    assert [one["type"] for one in await events(world)] == ["alert.latency.warning"]
