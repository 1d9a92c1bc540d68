"""The alarm, by the kernel's timer and by the event loop's."""

import asyncio
import os
import sys
import time

import pytest

from jitway.simulator.pacer import Pacer

platforms = pytest.mark.parametrize("platform", [sys.platform, "elsewhere"])


async def rung_at(
    platform: str, monkeypatch: pytest.MonkeyPatch, instants_ns: list[int]
) -> list[int]:
    """When the alarm rang that was set to some instants, one after the other."""
    rung: list[int] = []
    done = asyncio.Event()

    def ring() -> None:
        rung.append(time.perf_counter_ns())
        done.set()

    monkeypatch.setattr(sys, "platform", platform)
    pacer = Pacer(ring)
    monkeypatch.undo()
    try:
        for instant_ns in instants_ns:
            pacer.wake_at(instant_ns)
        await asyncio.wait_for(done.wait(), 5)
    finally:
        pacer.close()
        pacer.close()
    return rung


@platforms
async def test_it_rings_at_its_instant_and_not_before(
    platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    instant_ns = time.perf_counter_ns() + 20_000_000
    (rung_ns,) = await rung_at(platform, monkeypatch, [instant_ns])
    assert rung_ns >= instant_ns


@platforms
async def test_an_instant_that_has_passed_rings_at_once(
    platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(await rung_at(platform, monkeypatch, [0])) == 1


@platforms
async def test_only_the_last_setting_counts(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = time.perf_counter_ns()
    instants_ns = [now_ns + 10_000_000, now_ns + 40_000_000]
    (rung_ns,) = await rung_at(platform, monkeypatch, instants_ns)
    assert rung_ns >= instants_ns[-1]


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
async def test_no_descriptor_is_left_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        Pacer(lambda: None).close()
    assert len(os.listdir("/proc/self/fd")) == before
