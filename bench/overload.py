"""Five times what the gateway can decide: what it still decides, and how it comes back.

    scripts/bench overload [--quick] [--json FILE]

Open loop on a PostgreSQL of its own. The peak is the most that is decided within the deadline at
any rate tried, before and after the rest. Then five times that peak (fault O1), twice the peak with
every refusal sent again at once up to three times (O2), and half of it beside callers who only look
(O3). The generator has a core to itself, the gateway and PostgreSQL have the others: under
overload it works several times as hard, and on a core they share that would be the gateway's loss.
Exits 1 when the books are wrong or an aim is missed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import ceiling
from bench.gateway import ask_once_about, jitway, postgresql, serving
from bench.loads import Target
from bench.processes import CpuMeter, machine
from bench.tables import markdown, percentiles_ms, write_json

CARDS = 2_000
CONNECTIONS = 2_048
DEADLINE_MS = 1_000
FIRST_RATE = 1_000.0
STEP = 1.25
# At so much more than what is decided the peak is behind.
ENOUGH = 1.3
GRACE_S = 60


@dataclass(frozen=True)
class Effort:
    """How long each part takes, in seconds."""

    step: float
    peak: float
    normal: float
    flood: float
    storm: float
    after: float


QUICK = Effort(step=1.5, peak=3, normal=4, flood=12, storm=8, after=5)
WHOLE = Effort(step=3, peak=10, normal=10, flood=60, storm=30, after=10)


@dataclass
class Measured:
    """Everything that was measured, a stage as `bench.flood` tells it."""

    peak: float = 0.0
    stages: list[dict[str, Any]] = field(default_factory=list)
    queries: dict[str, int] = field(default_factory=dict)
    recovery_s: dict[str, float] = field(default_factory=dict)
    verified: bool = False

    def stage(self, name: str) -> dict[str, Any]:
        """The stage of that name."""
        return next(stage for stage in self.stages if stage["name"] == name)


class Bench:
    """One run.

    Args:
        target: the gateway.
        effort: how long.
        core: of the generator; None where there is only one.
    """

    def __init__(self, target: Target, effort: Effort, core: int | None) -> None:
        self.measured = Measured()
        self._target = target
        self._effort = effort
        self._core = core

    def play(self) -> None:
        """Measures everything."""
        effort, measured = self._effort, self.measured
        self._find_peak()
        peak = measured.peak
        self._around("flood", {"rate": 5 * peak, "seconds": effort.flood})
        self._peak_again("peak after")
        self._around("storm", {"rate": 2 * peak, "seconds": effort.storm, "retries": 3})
        self._look()

    def _find_peak(self) -> None:
        rate, best = FIRST_RATE, 0.0
        while rate < ENOUGH * max(best, FIRST_RATE):
            (stage,) = self._flood([_stage("sweep", rate, self._effort.step)])
            best = max(best, stage["goodput"])
            rate *= STEP
        self.measured.peak = best
        self._peak_again("peak before")

    def _peak_again(self, name: str) -> None:
        """A little above the peak: what is decided there in a longer run."""
        rates = [share * self.measured.peak for share in (1.0, 1.15)]
        stages = self._flood([_stage(name, rate, self._effort.peak) for rate in rates])
        best = max(stage["goodput"] for stage in stages)
        self.measured.peak = max(self.measured.peak, best)

    def _around(self, name: str, stage: dict[str, Any]) -> None:
        """Normal traffic, the stage, and normal traffic from the instant in which it ends."""
        effort, half = self._effort, self.measured.peak / 2
        before, _, after = self._flood(
            [
                _stage(f"before {name}", half, effort.normal),
                {"name": name, **stage},
                _stage(f"after {name}", half, effort.after),
            ]
        )
        self.measured.recovery_s[name] = recovery_s(before, after)

    def _look(self) -> None:
        effort, half = self._effort, self.measured.peak / 2
        self._flood([_stage("alone", half, effort.normal)])
        core = "any" if self._core is None else str(self._core)
        command = [sys.executable, "-m", "bench.queries", self._target.url, self._target.key]
        command += [core, str(effort.normal + 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            self._flood([_stage("beside queries", half, effort.normal)])
            output, _ = process.communicate(timeout=GRACE_S)
        (told,) = [line for line in output.splitlines() if line.startswith("RESULT ")]
        self.measured.queries = json.loads(told.removeprefix("RESULT "))

    def _flood(self, stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        plan = {
            "url": self._target.url,
            "key": self._target.key,
            "cards": list(self._target.cards),
            "connections": CONNECTIONS,
            "core": self._core,
            "deadline_ms": DEADLINE_MS,
            "stages": stages,
        }
        told = []
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory, "plan.json")
            file.write_text(json.dumps(plan))
            command = [sys.executable, "-m", "bench.flood", str(file)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                meter = CpuMeter(self._target.pids)
                for line in process.stdout:
                    if line.startswith("STAGE "):
                        stage = json.loads(line.removeprefix("STAGE "))
                        stage["cores"] = meter.cores()
                        meter = CpuMeter(self._target.pids)
                        told.append(stage)
                        say(stage)
            if process.returncode or len(told) != len(stages):
                raise RuntimeError(f"the generator ended with {process.returncode}")
        self.measured.stages += told
        return told


def _stage(name: str, rate: float, seconds: float) -> dict[str, Any]:
    return {"name": name, "rate": rate, "seconds": seconds}


def recovery_s(before: dict[str, Any], after: dict[str, Any]) -> float:
    """Seconds until the p99 of a quarter of a second is normal for good.

    Args:
        before: the stage of normal traffic before; three times its slowest quarter is normal,
            and so is whatever is below 50 ms.
        after: the same traffic from the end of the overload.
    """
    normal = max(50.0, 3 * max(p99 for _, p99 in before["windows"]))
    slow = [at for at, p99 in after["windows"] if p99 > normal]
    return (max(slow) + 0.25) if slow else 0.0


def aims(measured: Measured) -> list[tuple[str, float, str, bool]]:
    """Each aim: its name, what was measured, what is wanted and whether that is so."""
    found = []
    for name in ("flood", "storm"):
        stage = measured.stage(name)
        share = stage["goodput"] / measured.peak
        accepted, refused = stage["accepted_ms"]["p99"], stage["refused_ms"]["p99"]
        back = measured.recovery_s[name]
        found += [
            (f"{name}: goodput / peak", share, ">= 0.9", share >= 0.9),
            (f"{name}: accepted p99, ms", accepted, f"<= {DEADLINE_MS}", accepted <= DEADLINE_MS),
            (f"{name}: refused p99, ms", refused, "< 20", refused < 20),
            (f"{name}: back to normal, s", back, "<= 2", back <= 2),
        ]
    alone, beside = (measured.stage(name) for name in ("alone", "beside queries"))
    decided = beside["decided"] / max(alone["decided"], 1)
    found.append(("beside queries: decided / alone", decided, ">= 0.99", decided >= 0.99))
    p99 = beside["accepted_ms"]["p99"]
    found.append(("beside queries: p99, ms", p99, f"<= {DEADLINE_MS / 2:.0f}", p99 <= 500))
    return found


def told(measured: Measured, described: dict[str, Any]) -> str:
    """Everything as Markdown."""
    rows = [
        [
            stage["name"],
            stage["rate"],
            stage["goodput"],
            stage["refused"] / stage["seconds"],
            *percentiles_ms(stage["accepted_ms"])[::2],
            *percentiles_ms(stage["refused_ms"])[::2],
            stage["cores"]["gateway"],
            stage["cores"]["postgresql"],
            stage["generator_cores"],
        ]
        for stage in measured.stages
    ]
    rates, latencies = ("sent/s", "decided/s", "refused/s"), ("p50 ms", "p99 ms")
    cores = ("gateway cores", "PostgreSQL cores", "generator")
    columns = ("stage", *rates, *latencies, "refused p50", "refused p99", *cores)
    listed = [
        [name, value, wanted, "yes" if met else "no"] for name, value, wanted, met in aims(measured)
    ]
    parts = [
        "Machine: " + ", ".join(f"{name} {value}" for name, value in described.items()) + ".",
        f"Peak: {measured.peak:,.0f} authorizations a second.",
        markdown(columns, rows),
        f"Beside queries: {measured.queries}",
        markdown(("what", "measured", "aim", "met"), listed),
    ]
    return "\n\n".join(parts)


def say(stage: dict[str, Any]) -> None:
    """Progress, apart from the result."""
    line = (
        f"{stage['name']:<14} {stage['rate']:>8,.0f}/s  decided {stage['goodput']:>7,.0f}/s"
        f"  late {stage['late']}  refused {stage['refused'] / stage['seconds']:>7,.0f}/s"
        f"  broken {stage['broken']}  p99 {stage['accepted_ms']['p99']:.0f} ms"
        f"  refused p99 {stage['refused_ms']['p99']:.1f} ms"
    )
    print(line, file=sys.stderr, flush=True)


def measure(effort: Effort) -> Measured:
    """Everything, on a fresh server."""
    cores = sorted(os.sched_getaffinity(0))
    core = cores[-1] if len(cores) > 1 else None
    if core is not None:
        # What is started from here on, PostgreSQL and the gateway, inherits this.
        os.sched_setaffinity(0, set(cores[:-1]))
    with postgresql() as server:
        key = jitway(server.url, "init")["key"]
        cards = ceiling.populate(server.url, cards=CARDS)
        settings = {"JITWAY_CONNECTIONS_PER_ADDRESS_MAX": str(2 * CONNECTIONS)}
        with serving(server.url, **settings) as gateway:
            ask_once_about(gateway, key, cards)
            pids = {"postgresql": [server.pid], "gateway": [gateway.pid]}
            bench = Bench(Target(gateway.url, key, cards, pids), effort, core)
            bench.play()
        bench.measured.verified = jitway(server.url, "verify")["ok"]
        return bench.measured


def main(arguments: Sequence[str]) -> int:
    """Measure, print a table, write the JSON; the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/bench overload")
    parser.add_argument("--quick", action="store_true", help="less of everything: about 90 s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to a file")
    given = parser.parse_args(arguments)
    described = machine()
    measured = measure(QUICK if given.quick else WHOLE)
    described["load_average_after"] = machine()["load_average"]
    print(told(measured, described))
    found = aims(measured)
    if given.json is not None:
        listed = {name: value for name, value, _, _ in found}
        write_json(given.json, {"machine": described, "aims": listed, **vars(measured)})
    if not measured.verified:
        print("WRONG: the books are wrong", file=sys.stderr)
    return 0 if measured.verified and all(met for _, _, _, met in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
