"""`families.py`: metrics as plain data: sent between processes, added up, and written as text.

Owns how a metric of several workers becomes one of the whole: counters and histograms are summed
(their edges are the same everywhere), each gauge by its meaning.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

Key = tuple[str, tuple[tuple[str, str], ...]]
Rule = Callable[[list[float]], float]

GAUGES: Mapping[str, Rule] = {
    "jitway_alerts_active": sum,
    "jitway_alerts_waiting": sum,
    "jitway_build_info": max,
    "jitway_group_commit_batch_size_average": fmean,
    "jitway_authorizations_under_way": sum,
    "jitway_authorizations_under_way_max": sum,
    "jitway_group_commit_depth": sum,
    "jitway_mongodb_connections": sum,
    "jitway_mongodb_waiting_requests": sum,
    "jitway_outbox_depth": max,
    "jitway_outbox_lag_seconds": max,
    "jitway_postgres_connections": sum,
    "jitway_postgres_waiting_requests": sum,
    "jitway_ready": min,
    "jitway_redis_available": min,
    "jitway_redis_feed_synchronised": min,
    "jitway_service_latency_seconds": max,
    "jitway_service_status": max,
    "jitway_slowness_active": max,
    "jitway_stage_budget_seconds": max,
    "jitway_workers": sum,
    "process_max_fds": min,
    "process_open_fds": sum,
    "process_resident_memory_bytes": sum,
    "process_start_time_seconds": min,
    "process_virtual_memory_bytes": sum,
}
"""How the values that several workers tell of a gauge become one; a test knows them all."""


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One line of the exposition."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float


class Family(msgspec.Struct, frozen=True, array_like=True):
    """One metric: `kind` is `counter`, `histogram` or `gauge`."""

    name: str
    kind: str
    meaning: str
    samples: list[Sample]

    @property
    def only_grows(self) -> bool:
        """Whether what was counted stays counted when its worker has ended."""
        return self.kind != "gauge"


def plain(metrics: Iterable[Metric]) -> list[Family]:
    """Metrics of the library as plain data."""
    return [
        Family(
            metric.name,
            metric.type,
            metric.documentation,
            [
                Sample(one.name, tuple(one.labels.items()), float(one.value))
                for one in metric.samples
            ],
        )
        for metric in metrics
    ]


def merge(several: Sequence[Sequence[Family]]) -> list[Family]:
    """The metrics of all: every sample that at least one of them has."""
    values: dict[str, dict[Key, list[float]]] = {}
    known: dict[str, Family] = {}
    for families in several:
        for family in families:
            known.setdefault(family.name, family)
            of_family = values.setdefault(family.name, {})
            for sample in family.samples:
                of_family.setdefault((sample.name, sample.labels), []).append(sample.value)
    return [
        msgspec.structs.replace(
            family,
            samples=[
                Sample(sample_name, labels, _rule(family)(told))
                for (sample_name, labels), told in values[name].items()
            ],
        )
        for name, family in known.items()
    ]


def _rule(family: Family) -> Rule:
    return sum if family.only_grows else GAUGES.get(family.name, sum)


def exposition(families: Iterable[Family]) -> bytes:
    """The text format of Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected([_metric(family) for family in families]))
    return generate_latest(registry)


def _metric(family: Family) -> Metric:
    metric = Metric(family.name, family.meaning, family.kind)
    for sample in family.samples:
        metric.add_sample(sample.name, dict(sample.labels), sample.value)
    return metric


class _Collected:
    """Metrics as the library wants to be given them."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        return self._metrics
