"""Traffic of the measurements: what is sent, and to whom it is charged."""

import os
import subprocess
import sys
from collections import Counter

from bench.gateway import environment
from bench.open_loop import without_follow_ups
from bench.processes import CpuMeter, cpu_s
from bench.tables import markdown
from jitway.simulator.plan import Kind, draw_plan
from jitway.simulator.population import Population

BURN = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"


def test_without_follow_ups_everything_is_sent_at_the_same_instants() -> None:
    cards = [f"crd_{n:032x}" for n in range(50)]
    plan = draw_plan(Population(ordinary=cards), rate=500, seconds=2, seed=7)
    alone = without_follow_ups(plan)
    assert alone.at_ns == plan.at_ns
    kinds, before = Counter(alone.kinds), Counter(plan.kinds)
    assert kinds[Kind.FOLLOW_UP] == 0 < before[Kind.FOLLOW_UP]
    assert kinds[Kind.FRESH] == before[Kind.FRESH] + before[Kind.FOLLOW_UP]
    assert alone.authorizations == len(plan)


def test_a_child_is_charged_to_its_group_even_after_its_end() -> None:
    before = cpu_s([os.getpid()])
    meter = CpuMeter({"us": [os.getpid()], "nobody": []})
    subprocess.run([sys.executable, "-c", BURN], check=True)
    cores = meter.cores()
    assert cpu_s([os.getpid()]) - before >= 0.25
    assert cores["us"] > 0
    assert cores["nobody"] == 0


def test_a_gateway_that_is_measured_has_nobodys_settings() -> None:
    before = dict(os.environ)
    os.environ |= {"JITWAY_LANES": "9", "REDIS_URL": "redis://nowhere", "PORT": "1"}
    try:
        found = environment("postgresql://here")
    finally:
        os.environ.clear()
        os.environ.update(before)
    assert found["DATABASE_URL"] == "postgresql://here"
    assert found["JITWAY_WORK"] == "none"
    assert {"JITWAY_LANES", "REDIS_URL", "PORT"}.isdisjoint(found)
    assert found["PATH"] == before["PATH"]


def test_numbers_stand_to_the_right_and_lose_what_is_only_mood() -> None:
    assert markdown(("what", "a second"), [("peak", 12345.678), ("lone", 0.98765)]) == (
        "| what | a second |\n| ---- | -------: |\n| peak |   12,346 |\n| lone |    0.988 |"
    )
