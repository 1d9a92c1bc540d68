"""The gate of a paused queue: one tries at a time, and the first success lets all pass."""

import asyncio
import time

import pytest

from jitway.adapters.rabbitmq import gate as rabbitmq_gate
from jitway.adapters.rabbitmq.gate import Gate


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rabbitmq_gate, "PAUSE_MIN_S", 0.005)
    monkeypatch.setattr(rabbitmq_gate, "PAUSE_MAX_S", 0.02)


def is_closed(gate: Gate) -> bool:
    return gate.is_closed


async def attempt(gate: Gate, *, postponed: bool, until_s: float = 5.0) -> bool:
    async with gate.turn(until=time.monotonic() + until_s) as turn:
        await asyncio.sleep(0)
        turn.postponed = postponed
        return turn.granted


async def test_open_it_lets_all_pass_at_once() -> None:
    gate = Gate()
    inside = 0
    inside_max = 0

    async def pass_through() -> None:
        nonlocal inside, inside_max
        async with gate.turn(until=time.monotonic() + 5):
            inside += 1
            inside_max = max(inside_max, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(pass_through() for _ in range(5)))
    assert inside_max == 5
    assert not is_closed(gate)


async def test_closed_it_lets_one_try_at_a_time_until_one_succeeds() -> None:
    gate = Gate()
    await attempt(gate, postponed=True)
    assert is_closed(gate)
    inside = 0
    tries = 0

    async def deliver() -> None:
        nonlocal inside, tries
        while True:
            async with gate.turn(until=time.monotonic() + 5) as turn:
                assert not is_closed(gate) or inside == 0
                inside += 1
                tries += 1
                await asyncio.sleep(0.001)
                turn.postponed = tries < 4
                inside -= 1
            if not turn.postponed:
                return

    await asyncio.gather(*(deliver() for _ in range(10)))
    assert not is_closed(gate)
    assert tries == 13


async def test_what_began_before_it_closed_does_not_open_it() -> None:
    gate = Gate()
    early = gate.turn(until=time.monotonic() + 5)
    await early.__aenter__()
    await attempt(gate, postponed=True)
    await early.__aexit__(None, None, None)
    assert is_closed(gate)
    await attempt(gate, postponed=False)
    assert not is_closed(gate)


async def test_whoever_waited_too_long_is_not_let_in() -> None:
    gate = Gate()
    await attempt(gate, postponed=True)
    assert not await attempt(gate, postponed=False, until_s=0)
    assert is_closed(gate), "nothing was tried, so nothing was learnt"


async def test_a_cancelled_try_makes_room_for_the_next() -> None:
    gate = Gate()
    await attempt(gate, postponed=True)
    waiting = asyncio.create_task(attempt(gate, postponed=False))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert await attempt(gate, postponed=False)
    assert not is_closed(gate)
