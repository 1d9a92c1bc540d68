"""Closed-loop load on a gateway: as many requests as so many connections can carry.

By `wrk` where it is found, as it costs the machine a quarter of what a generator in Python does;
else by `bench.closed_loop`. Finds ceilings; tail latencies are for the open loop of the simulator,
because here a stalled gateway is asked less.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.processes import CpuMeter

GRACE_S = 30
UNIQUE = """
-- Cards at random; every request has a key of its own.
local cards, sent = {}, 0
function init(args)
  for line in io.lines("@cards@") do cards[#cards + 1] = line end
  math.randomseed(@seed@)
  wrk.method = "POST"
  wrk.headers["Authorization"] = "Bearer @key@"
  wrk.headers["Content-Type"] = "application/json"
end
function request()
  sent = sent + 1
  wrk.headers["Idempotency-Key"] = "@run@-" .. sent
  local body = '{"card":"' .. cards[math.random(#cards)]
    .. '","amount":' .. math.random(100, 900) .. ',"currency":"USD","merchant":'
    .. '{"id":"m-17","name":"Corner Books","mcc":"5942","country":"US"}}'
  return wrk.format(nil, "/v1/authorizations", nil, body)
end
function done(summary, latency, requests)
  io.write(string.format(
    'RESULT {"requests":%d,"seconds":%.6f,"p50":%.3f,"p95":%.3f,"p99":%.3f,"max":%.3f,'
    .. '"refused":%d,"broken":%d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
    latency:percentile(95) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3,
    summary.errors.status, summary.errors.connect + summary.errors.read
    + summary.errors.write + summary.errors.timeout))
end
"""


@dataclass(frozen=True)
class Target:
    """A gateway and the cards to ask it about; `pids` are its groups, for the meter."""

    url: str
    key: str
    cards: Sequence[str]
    pids: dict[str, list[int]]


@dataclass(frozen=True)
class Load:
    """What came of one closed-loop run; latencies in ms, cores by group of processes."""

    generator: str
    connections: int
    seconds: float
    requests: int
    refused: int
    broken: int
    p50: float
    p95: float
    p99: float
    max: float
    cores: dict[str, float]

    @property
    def per_second(self) -> float:
        """Requests answered with a decision, a second."""
        return (self.requests - self.refused) / self.seconds

    @property
    def cpu_us(self) -> dict[str, float]:
        """Processor time per request by group, in microseconds: steady where rates are noisy."""
        return {name: 1e6 * used / max(self.per_second, 1) for name, used in self.cores.items()}


def closed_loop(target: Target, *, connections: int, seconds: int, run: str) -> Load:
    """Ask as fast as the connections allow.

    Args:
        target: whom.
        connections: how many requests are in flight at all times.
        seconds: for how long.
        run: a prefix of idempotency keys that was not used before.

    Raises:
        RuntimeError: the generator failed; the text carries what it said.
    """
    with tempfile.TemporaryDirectory() as directory:
        cards = Path(directory, "cards")
        cards.write_text("\n".join(target.cards) + "\n")
        if wrk := shutil.which("wrk"):
            script = Path(directory, "unique.lua")
            script.write_text(_filled(target, cards, run))
            command = [wrk, "-t", "1", "-c", str(connections), "-d", f"{seconds}s"]
            command += ["--timeout", "10s", "-s", str(script), target.url]
            told, cores = run_metered(target, command, seconds=seconds)
            return Load(generator="wrk", connections=connections, cores=cores, **told)
        command = [sys.executable, "-m", "bench.closed_loop", target.url, target.key, str(cards)]
        command += [str(connections), str(seconds), run]
        told, cores = run_metered(target, command, seconds=seconds)
    return Load(generator="python", connections=connections, cores=cores, **told)


def _filled(target: Target, cards: Path, run: str) -> str:
    # The run in the seed: two runs in a row must not ask for the same cards in the same order.
    seed = sum(run.encode())
    values = {"cards": str(cards), "key": target.key, "run": run, "seed": str(seed)}
    script = UNIQUE
    for name, value in values.items():
        script = script.replace(f"@{name}@", value)
    return script


def run_metered(
    target: Target, command: list[str], *, seconds: int
) -> tuple[dict[str, Any], dict[str, float]]:
    """Run a generator; what it told in its line `RESULT {...}`, and who was how busy meanwhile.

    Raises:
        RuntimeError: it failed; the text carries what it said.
    """
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        meter = CpuMeter(target.pids | {"generator": [process.pid]})
        # Read just before its end: what has ended has no times of its own any more.
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds - 0.2)
        cores = meter.cores()
        output, _ = process.communicate(timeout=GRACE_S)
    results = [line for line in output.splitlines() if line.startswith("RESULT ")]
    if process.returncode or not results:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {output[-2000:]}")
    told: dict[str, Any] = json.loads(results[-1].removeprefix("RESULT "))
    return told, cores
