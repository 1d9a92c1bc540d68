"""Wherever 80 ms are lost, the profile of the running gateway names that stage."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from jitway.gateway import authorize, batch
from jitway.gateway.waiting import Waiting
from jitway.profiler.trace import STAGES
from jitway.web import authorizations
from jitway.wire import native
from tests.integration.http.gateway import Gateway, Response, serving
from tests.integration.slow_wire import STATEMENTS, SlowWire, slow_wire_to

LOST_S = 0.08
# Another program may take the machine away as well; then it is tried again.
TRIES = 10
NOISE_MS = 60.0
Slow = tuple[SlowWire, Gateway]

BLOCKING: dict[str, tuple[Any, str]] = {
    "decode": (native, "decode"),
    "user_lookup": (authorize, "Waiting"),
    "limits_check": (batch, "check_limits"),
    "decision": (batch, "decide"),
    "encode": (Waiting, "answer"),
    "other": (authorizations.AuthorizationRoute, "_finish"),
}


@pytest.fixture
async def slow(database: str, tmp_path: Path) -> AsyncIterator[Slow]:
    async with (
        slow_wire_to(database) as wire,
        serving(wire.url, tmp_path, JITWAY_WORK="none", JITWAY_EXPIRY_SWEEP_S="3600") as gateway,
    ):
        await gateway.authorize(amount=1)
        yield wire, gateway


def blocked_once(real: Callable[..., Any]) -> Callable[..., Any]:
    """The same, but its first call blocks the loop."""
    calls: list[None] = []

    def slow(*arguments: Any, **named: Any) -> Any:
        if not calls:
            calls.append(None)
            time.sleep(LOST_S)
        return real(*arguments, **named)

    return slow


async def lose(slow: Slow, stage: str, monkeypatch: pytest.MonkeyPatch) -> Response:
    """One authorization, 80 ms of which are lost in a stage."""
    wire, gateway = slow
    if stage in STATEMENTS:
        wire.delay(stage, LOST_S)
    elif stage == "batch_wait":
        wire.delay("commit", LOST_S)
        before = asyncio.create_task(gateway.authorize(amount=1))
        await wire.delaying.wait()
        response = await gateway.authorize(amount=1)
        await before
        return response
    elif stage == "card_lookup":
        # What is not at hand is read by the pool, whose statements stand in no batch.
        views = gateway.services.views
        load = views.card

        async def late(card_id: str) -> Any:
            await asyncio.sleep(LOST_S)
            return await load(card_id)

        monkeypatch.setattr(views, "card", late)
        monkeypatch.setattr(views, "peek", lambda _: (False, None))
    else:
        room, name = BLOCKING[stage]
        monkeypatch.setattr(room, name, blocked_once(getattr(room, name)))
    return await gateway.authorize(amount=1)


async def kept(gateway: Gateway, request_id: str) -> dict[str, Any]:
    profile = (await gateway.get("/v1/profile")).json
    (found,) = [one for one in profile["over_threshold"] if one["request_id"] == request_id]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("stage", [stage.label for stage in STAGES])
async def test_eighty_milliseconds_are_charged_to_the_stage_that_lost_them(
    slow: Slow, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, Any] = {}
    spans: dict[str, float] = {}
    response: Response | None = None
    for _ in range(TRIES):
        with monkeypatch.context() as patch:
            response = await lose(slow, stage, patch)
        assert response.status == 200
        found = await kept(slow[1], response.headers["x-request-id"])
        spans = found["stages_ms"]
        assert spans[stage] >= LOST_S * 1000 - 5
        assert sum(spans.values()) == pytest.approx(found["total_ms"], rel=0.05)
        if max(ms for name, ms in spans.items() if name != stage) < NOISE_MS:
            break
    assert response is not None
    assert found["guilty"] == stage
    assert found["severity"] in ("warning", "critical")
    if stage in BLOCKING:
        # The loop was blocked meanwhile, and that stands beside it.
        assert found["loop_lag_ms"] > 10
    timing = dict(part.split(";dur=") for part in response.headers["server-timing"].split(", "))
    assert float(timing[stage]) == pytest.approx(spans[stage], abs=0.01)
