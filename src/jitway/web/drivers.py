"""`drivers.py`: what the drivers of the stores counted, as metrics; no store is asked for it.

A store that is not configured has no metric.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from jitway.database import DatabaseManager

if TYPE_CHECKING:
    from jitway.adapters.postgresql import PostgreSQLAdapter
    from jitway.adapters.rabbitmq import MessageQueueManager
    from jitway.adapters.redis import RedisAdapter

_WAIT_EDGES_MS = (0.05, 0.1, 0.5, 1, 5, 10, 50, 100, 500, 1000, 5000)
_PUBLICATIONS = ("published", "refused", "unroutable", "timed_out")


async def driver_metrics(manager: DatabaseManager) -> list[Metric]:
    """Of every store that is configured."""
    metrics = list(_postgresql(manager.postgres))
    if manager.redis is not None:
        metrics += _redis(manager.redis)
    if manager.mongodb is not None:
        metrics += _mongodb(await manager.mongodb.get_connection_stats())
    if manager.message_queue is not None:
        metrics += await _rabbitmq(manager.message_queue)
    return metrics


def _postgresql(postgres: "PostgreSQLAdapter") -> Iterator[Metric]:
    wait = postgres.acquire_wait
    counts = [*wait.counts_up_to([int(ms * 1e6) for ms in _WAIT_EDGES_MS]), wait.count]
    names = [*(f"{ms / 1000:g}" for ms in _WAIT_EDGES_MS), "+Inf"]
    family = HistogramMetricFamily(
        "jitway_postgres_acquire_wait_seconds", "Waits for a connection of the pool."
    )
    buckets = [(name, float(count)) for name, count in zip(names, counts, strict=True)]
    family.add_metric([], buckets, wait.sum_ns / 1e9)
    yield family


def _redis(redis: "RedisAdapter") -> Iterator[Metric]:
    yield CounterMetricFamily(
        "jitway_redis_errors", "Commands that Redis did not answer well.", value=redis.error_count
    )
    yield GaugeMetricFamily(
        "jitway_redis_available",
        "Whether Redis is asked at all, or left alone after failures.",
        value=redis.is_available,
    )
    yield GaugeMetricFamily(
        "jitway_redis_feed_synchronised",
        "Whether evictions of other processes arrive here.",
        value=redis.is_feed_synchronised,
    )


def _mongodb(stats: Mapping[str, int]) -> Iterator[Metric]:
    connections = GaugeMetricFamily(
        "jitway_mongodb_connections", "Connections to MongoDB.", labels=["state"]
    )
    for state in ("idle", "in_use", "opening"):
        connections.add_metric([state], stats[f"{state}_connections"])
    yield connections
    yield GaugeMetricFamily(
        "jitway_mongodb_waiting_requests",
        "Who waits for a connection to MongoDB.",
        value=stats["waiting_requests"],
    )
    yield CounterMetricFamily(
        "jitway_mongodb_retries", "Attempts that followed a failure.", value=stats["retries"]
    )


async def _rabbitmq(message_queue: "MessageQueueManager") -> list[Metric]:
    stats = await message_queue.get_connection_stats()
    publications = CounterMetricFamily(
        "jitway_rabbitmq_publications",
        "Messages published, by what became of them.",
        labels=["result"],
    )
    for result in _PUBLICATIONS:
        publications.add_metric([result], stats["publications"].get(result, 0))
    made = CounterMetricFamily(
        "jitway_rabbitmq_connections_made", "How often RabbitMQ was connected to.", labels=["use"]
    )
    for use in ("publishing", "consuming"):
        made.add_metric([use], stats[use]["connections_made"])
    return [publications, made]
