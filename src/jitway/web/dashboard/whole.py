"""`whole.py`: what all workers of a gateway counted together, as their supervisor tells it.

Reads the merged metrics, which are at most two seconds old, back into counters. Their histograms
have some fifteen edges: within them samples are taken to lie evenly, so that percentiles are about
right and never on the wrong side of an edge.
"""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from jitway.profiler.histogram import BUCKETS, Histogram, bucket_of
from jitway.profiler.profile import TOTAL
from jitway.profiler.profiler import Counted
from jitway.profiler.windows import Label
from jitway.supervisor import Crew

_line = re.compile(r"([a-z_]+)(?:\{(.*)\})? (\S+)").fullmatch
_labels = re.compile(r'(\w+)="([^"]*)"').findall
_STAGE, _TOTAL = "jitway_stage_seconds", "jitway_authorization_seconds"


class Sample(NamedTuple):
    """One line of the exposition."""

    labels: Mapping[str, str]
    value: float


class Whole:
    """What all workers counted.

    Args:
        crew: of this worker.
        nothing: the counters of a process that has just begun: its stages and their budgets.
    """

    def __init__(self, crew: Crew, nothing: Counted) -> None:
        self._crew = crew
        empty = {name: Histogram() for name in nothing.histograms}
        self._told = nothing._replace(histograms=empty, decisions={}, outcomes={}, lookups={})
        self.is_new = False
        """Whether something was told since it was read last."""

    def counted(self) -> Counted:
        """What was told last."""
        return self._told

    async def ask(self) -> dict[str, Any]:
        """Learns what was counted until now.

        Returns:
            `pool` and `batch` of all workers, in the forms of one process.

        Raises:
            FiguresUnavailable: the supervisor did not say in time.
        """
        samples = read((await self._crew.exposition([])).decode())
        self._told = self._told._replace(
            histograms={**self._told.histograms, **_histograms(samples)},
            outcomes=_outcomes(samples),
            lookups=_lookups(samples),
        )
        self.is_new = True
        return {"pool": _pool(samples), "batch": _batch(samples)}

    async def slowest(self) -> list[dict[str, Any]]:
        """The slowest requests of all workers; costs each of them some ten milliseconds.

        Raises:
            FiguresUnavailable: the supervisor did not say in time.
        """
        found: list[dict[str, Any]] = json.loads(await self._crew.profile())["slowest"]
        return found


def read(text: str) -> dict[str, list[Sample]]:
    """The samples of an exposition, by name."""
    found: dict[str, list[Sample]] = defaultdict(list)
    for line in text.splitlines():
        if line.startswith("jitway_") and (match := _line(line)):
            found[match[1]].append(Sample(dict(_labels(match[2] or "")), float(match[3])))
    return found


def histogram_of(edges_s: Mapping[float, float], sum_s: float) -> Histogram:
    """A histogram from cumulative counts by edge; between two edges samples lie evenly.

    Args:
        edges_s: how many samples are at most so many seconds long; the last edge is infinite.
        sum_s: of all samples.
    """
    histogram, low, below = Histogram(), 0, 0
    for edge, cumulative in sorted(edges_s.items()):
        # What is longer than the last edge is at most a few times as long.
        high = bucket_of(int(edge * 1e9)) if edge != float("inf") else min(low + 128, BUCKETS - 1)
        width, count = max(high - low, 1), int(cumulative) - below
        if count:
            for place in range(width):
                share = count * (place + 1) // width - count * place // width
                histogram.counts[min(low + place + 1, BUCKETS - 1)] += share
        low, below = high, int(cumulative)
    histogram.sum_ns = int(sum_s * 1e9)
    return histogram


def _histograms(samples: Mapping[str, list[Sample]]) -> dict[str, Histogram]:
    edges: dict[str, dict[float, float]] = defaultdict(dict)
    sums: dict[str, float] = {}
    for family in (_TOTAL, _STAGE):
        for labels, value in samples.get(f"{family}_bucket", ()):
            edges[labels.get("stage", TOTAL)][float(labels["le"])] = value
        for labels, value in samples.get(f"{family}_sum", ()):
            sums[labels.get("stage", TOTAL)] = value
    return {name: histogram_of(found, sums.get(name, 0.0)) for name, found in edges.items()}


def _outcomes(samples: Mapping[str, list[Sample]]) -> dict[Label, int]:
    """Decisions by reason, and whatever else was answered."""
    found: dict[Label, int] = {}
    for labels, value in samples.get("jitway_decisions_total", ()):
        found[labels["outcome"], labels["reason"]] = int(value)
    for labels, value in samples.get("jitway_authorization_requests_total", ()):
        if labels["result"] not in ("approved", "declined"):
            found[labels["result"], ""] = int(value)
    return found


def _lookups(samples: Mapping[str, list[Sample]]) -> dict[Label, int]:
    return {
        (labels["level"], labels["kind"], labels["result"]): int(value)
        for labels, value in samples.get("jitway_cache_lookups_total", ())
    }


def _pool(samples: Mapping[str, list[Sample]]) -> dict[str, int]:
    by_state = {
        labels["state"]: int(value)
        for labels, value in samples.get("jitway_postgres_connections", ())
    }
    return {
        "in_use": by_state.get("in_use", 0),
        "idle_connections": by_state.get("idle", 0),
        "dedicated_connections": by_state.get("dedicated", 0),
        "waiting_requests": int(_value(samples, "jitway_postgres_waiting_requests")),
        "slow_queries": int(_value(samples, "jitway_postgres_slow_queries_total")),
    }


def _batch(samples: Mapping[str, list[Sample]]) -> dict[str, float]:
    return {
        "average": round(_value(samples, "jitway_group_commit_batch_size_average"), 2),
        "waiting": int(_value(samples, "jitway_group_commit_depth")),
    }


def _value(samples: Mapping[str, list[Sample]], name: str) -> float:
    found = samples.get(name)
    return found[0].value if found else 0.0
