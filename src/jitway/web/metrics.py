"""`metrics.py`: `GET /metrics`: what this gateway counted, in the text form of Prometheus.

Owns the names, their labels and the edges of the histograms. Counts nothing itself: it reads the
profiler's own histograms, the pool, the lanes and what the health watch saw last. Every label has
a bounded vocabulary; no card, account or merchant ever becomes one. What several workers counted
is added up by their supervisor.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from jitway import __version__
from jitway.adapters.postgresql import DedicatedConnection, PostgreSQLAdapter
from jitway.compose import Services
from jitway.domain.decision import DeclineReason
from jitway.errors import JitwayError
from jitway.events.outbox import Outbox
from jitway.gateway.admission import Admission
from jitway.gateway.alerts import CLEARED, Alerts
from jitway.health import DEGRADED, HEALTHY, UNHEALTHY, HealthWatch
from jitway.profiler.histogram import Histogram
from jitway.profiler.profile import TOTAL
from jitway.profiler.profiler import Counted
from jitway.profiler.spans import RESULTS, Spans
from jitway.profiler.windows import Label
from jitway.supervisor.families import Family, exposition, plain
from jitway.supervisor.messages import Roll
from jitway.supervisor.rounds import workers_family
from jitway.web.drivers import driver_metrics
from jitway.web.exchange import Reply

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
EDGES_MS = (0.1, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 50, 100, 250, 1000)
# However many ask, the figures are put together at most so often.
KEPT_S = 1.0
# The only figure that is asked of the ledger; a scrape does not wait for a ledger that is away.
OUTBOX_TIMEOUT_S = 0.5

_EDGES_NS = [int(ms * 1e6) for ms in EDGES_MS]
_EDGE_NAMES = [*(f"{ms / 1000:g}" for ms in EDGES_MS), "+Inf"]
_DECIDED = ("approved", "declined")
_RESULTS = (*_DECIDED, "replayed", "conflict", "no_decision")
_SEVERITIES = ("warning", "critical")
_ALERTS = ("latency", "service", "outbox", "dead_letters")
_STATUSES = (HEALTHY, DEGRADED, UNHEALTHY, "disabled")


class Metrics:
    """The text of the last scrape, and the way to the next one.

    Args:
        services: what runs.
        watch: how each store was a moment ago.
        refused: how many requests were turned away unread, by why.
        kept_s: how long one text serves everybody.
    """

    def __init__(
        self,
        services: Services,
        watch: HealthWatch,
        *,
        refused: Callable[[], Mapping[str, int]] = dict,
        kept_s: float = KEPT_S,
    ) -> None:
        self._services = services
        self._watch = watch
        self._refused = refused
        self._kept_s = kept_s
        self._outbox = _outbox(services.postgres)
        self._process = ProcessCollector(registry=None)
        self._text = b""
        self._of_ledger: list[Family] = []
        self._good_until = 0.0
        self._turn = asyncio.Lock()

    async def text(self) -> bytes:
        """The exposition of all workers, at most a second old; what is not known is left out.

        Raises:
            FiguresUnavailable: there are several, and their supervisor did not say in time.
        """
        crew = self._services.crew
        async with self._turn:
            if time.monotonic() >= self._good_until:
                waiting = await self._waiting_events()
                self._of_ledger = [] if waiting is None else plain(_outbox_gauges(*waiting))
                if crew is None:
                    alone = workers_family(Roll(serving=1))
                    told = [*await self.families(), *self._of_ledger, alone]
                    self._text = exposition(told)
                self._good_until = time.monotonic() + self._kept_s
            return self._text if crew is None else await crew.exposition(self._of_ledger)

    async def families(self) -> list[Family]:
        """What this process counted; nothing is asked of a store."""
        pool = await self._services.postgres.get_pool_stats()
        counted = self._services.profiler.counted()
        return plain(
            [
                *_decisions(counted),
                *_durations(counted),
                *_slowness(counted),
                *_alerts(self._services.alerts),
                *_pool(pool),
                *await driver_metrics(self._services.manager),
                *_group_commit(
                    self._services.authorizer.depth, self._services.authorizer.batch_size_average
                ),
                *_edge(self._services.authorizer.admission, self._refused()),
                _traces(self._services.spans),
                *_health(self._watch),
                *self._process.collect(),
            ]
        )

    async def close(self) -> None:
        """Ends its connection; may be called twice."""
        await self._outbox.close()

    async def _waiting_events(self) -> tuple[int, float] | None:
        """Depth and lag of the outbox; None when the ledger did not say in time."""
        try:
            async with asyncio.timeout(OUTBOX_TIMEOUT_S):
                return await self._outbox.depth_and_lag()
        except (JitwayError, TimeoutError):
            # An answer may still be on its way: this connection cannot be asked again.
            await self._outbox.close()
            return None


def metrics_reply(text: bytes, request_id: str) -> Reply:
    """The exposition as a reply."""
    headers = [(b"content-type", CONTENT_TYPE), (b"x-request-id", request_id.encode())]
    return Reply(200, headers, text)


def _outbox(postgres: PostgreSQLAdapter) -> Outbox:
    limit_ms = int(OUTBOX_TIMEOUT_S * 1000)

    async def connect() -> DedicatedConnection:
        return await postgres.dedicated(
            lock_timeout_ms=limit_ms,
            statement_timeout_ms=limit_ms,
            idle_in_transaction_timeout_ms=limit_ms,
        )

    return Outbox(connect)


def _decisions(counted: Counted) -> Iterator[Metric]:
    """Zeros are told too: a rate needs the sample before the first event."""
    decisions = CounterMetricFamily(
        "jitway_decisions",
        "Decisions written here, by outcome and reason; repeats are not counted.",
        labels=["outcome", "reason"],
    )
    labels: dict[Label, int] = {("approved", ""): 0}
    labels |= {("declined", reason.value): 0 for reason in DeclineReason}
    labels |= counted.decisions
    for label, number in labels.items():
        decisions.add_metric(label, number)
    yield decisions

    results = dict.fromkeys(_RESULTS, 0)
    for (result, _), number in counted.outcomes.items():
        results[result] = results.get(result, 0) + number
    yield _counters(
        "jitway_authorization_requests",
        "Authorization requests that were answered, by result.",
        "result",
        results,
    )

    lookups = CounterMetricFamily(
        "jitway_cache_lookups",
        "Cache lookups by level, data type and result.",
        labels=["level", "kind", "result"],
    )
    for label, number in counted.lookups.items():
        lookups.add_metric(label, number)
    yield lookups


def _durations(counted: Counted) -> Iterator[Metric]:
    total = HistogramMetricFamily(
        "jitway_authorization_seconds", "From a request's arrival to its answer."
    )
    _add(total, [], counted.histograms[TOTAL])
    yield total
    stages = HistogramMetricFamily(
        "jitway_stage_seconds", "The same by stage; together they are the total.", labels=["stage"]
    )
    budgets = {name: budget_ms / 1000 for name, budget_ms in counted.budgets_ms.items()}
    for name in budgets:
        _add(stages, [name], counted.histograms[name])
    yield stages
    yield _gauges("jitway_stage_budget_seconds", "What a stage may take.", "stage", budgets)


def _slowness(counted: Counted) -> Iterator[Metric]:
    for name, meaning, histogram in (
        ("jitway_loop_lag_seconds", "How late the event loop woke up.", counted.loop_lag),
        ("jitway_gc_pause_seconds", "Pauses of the garbage collector.", counted.gc_pause),
    ):
        family = HistogramMetricFamily(name, meaning)
        _add(family, [], histogram)
        yield family
    yield _counters(
        "jitway_slowness_alerts",
        "Episodes of slow answers: begun, risen to critical, ended.",
        "severity",
        counted.alerts,
    )
    yield _gauges(
        "jitway_slowness_active",
        "Whether an episode of that severity is on.",
        "severity",
        {severity: counted.severity == severity for severity in _SEVERITIES},
    )


def _alerts(alerts: Alerts) -> Iterator[Metric]:
    told = CounterMetricFamily(
        "jitway_alerts", "Alerts that were told.", labels=["alert", "severity"]
    )
    for alert in _ALERTS:
        for severity in (*_SEVERITIES, CLEARED):
            told.add_metric([alert, severity], alerts.told[alert, severity])
    yield told
    active = Counter(alert for alert, _ in alerts.active)
    yield _gauges(
        "jitway_alerts_active",
        "Episodes that were told and are not over.",
        "alert",
        {alert: active[alert] for alert in _ALERTS},
    )
    yield GaugeMetricFamily(
        "jitway_alerts_waiting", "Alerts that are no events yet.", value=alerts.waiting
    )
    yield CounterMetricFamily(
        "jitway_alerts_dropped", "Alerts that never became events.", value=alerts.dropped
    )


def _pool(pool: Mapping[str, Any]) -> Iterator[Metric]:
    yield _gauges(
        "jitway_postgres_connections",
        "Connections to PostgreSQL: of the pool, and apart from it.",
        "state",
        {
            "idle": pool["idle_connections"],
            "in_use": pool["in_use"],
            "dedicated": pool["dedicated_connections"],
        },
    )
    yield GaugeMetricFamily(
        "jitway_postgres_waiting_requests",
        "Who waits for a connection of the pool.",
        value=pool["waiting_requests"],
    )
    for name, meaning in (
        ("queries", "Statements that ran."),
        ("slow_queries", "Statements over JITWAY_SLOW_QUERY_MS."),
        ("timeouts", "Statements that reached their limit."),
        ("connections_lost", "Connections that broke."),
    ):
        yield CounterMetricFamily(f"jitway_postgres_{name}", meaning, value=pool[name])


def _group_commit(depth: int, batch_size_average: float) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "jitway_group_commit_depth", "Requests that wait for a batch.", value=depth
    )
    yield GaugeMetricFamily(
        "jitway_group_commit_batch_size_average",
        "Requests per batch since the start.",
        value=batch_size_average,
    )


def _outbox_gauges(depth: int, lag_s: float) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "jitway_outbox_depth", "Events of this ledger that wait to be published.", value=depth
    )
    yield GaugeMetricFamily(
        "jitway_outbox_lag_seconds", "How long the oldest of them has waited.", value=lag_s
    )


def _edge(admission: Admission, refused: Mapping[str, int]) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "jitway_authorizations_under_way",
        "Authorizations that were let in and are not answered yet.",
        value=admission.under_way,
    )
    yield GaugeMetricFamily(
        "jitway_authorizations_under_way_max",
        "How many of them there may be, by how long batches take.",
        value=admission.limit,
    )
    yield _counters(
        "jitway_turned_away",
        "Requests that were refused before they were looked at.",
        "why",
        refused,
    )


def _traces(spans: Spans | None) -> Metric:
    return _counters(
        "jitway_otel_traces",
        "Requests that were to be told to a collector of traces, by what became of them.",
        "result",
        dict.fromkeys(RESULTS, 0) if spans is None else spans.counts,
    )


def _health(watch: HealthWatch) -> Iterator[Metric]:
    services = watch.services
    statuses = GaugeMetricFamily(
        "jitway_service_status", "1 for the status a service has.", labels=["service", "status"]
    )
    for service, report in services.items():
        for status in _STATUSES:
            statuses.add_metric([service, status], report.status == status)
    yield statuses
    yield _gauges(
        "jitway_service_latency_seconds",
        "Of the last sign of life.",
        "service",
        {
            service: report.latency_ms / 1000
            for service, report in services.items()
            if report.latency_ms is not None
        },
    )
    yield GaugeMetricFamily(
        "jitway_ready", "Whether money can be decided here.", value=watch.is_ready
    )
    build = GaugeMetricFamily("jitway_build_info", "The release.", labels=["version"])
    build.add_metric([__version__], 1)
    yield build


def _add(family: HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    """Cumulative counts up to each edge, which is rounded to a bucket: by 1.6 % at most."""
    counts = [*histogram.counts_up_to(_EDGES_NS), histogram.count]
    buckets = [(name, float(n)) for name, n in zip(_EDGE_NAMES, counts, strict=True)]
    family.add_metric(labels, buckets, histogram.sum_ns / 1e9)


def _counters(name: str, meaning: str, label: str, numbers: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, meaning, labels=[label])
    for value, number in numbers.items():
        family.add_metric([value], number)
    return family


def _gauges(name: str, meaning: str, label: str, numbers: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=[label])
    for value, number in numbers.items():
        family.add_metric([value], number)
    return family
