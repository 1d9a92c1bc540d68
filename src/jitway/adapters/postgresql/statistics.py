"""What the PostgreSQL adapter counts, in fixed memory.

Owns counters, the histogram of waits for a connection, and the log line of a slow statement.
Never sees a parameter, and takes the literals out of a statement before it writes it.
"""

import re
import time
from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import structlog

# Buckets grow by a quarter of a power of two from one microsecond: 2**30 us is about 18 minutes.
_STEPS = 4
_BUCKETS = 30 * _STEPS
_STATEMENT_LENGTH_MAX = 400
_LOG_LINES_PER_S = 10
_LITERAL = re.compile(
    r"\$(\w*)\$.*?\$\1\$|\b[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/|(?<![\w$])\d+(?:\.\d+)?",
    re.DOTALL,
)

_log = structlog.get_logger("jitway.adapters.postgresql")


def _bucket_of(duration_ns: int) -> int:
    micros = max(1, duration_ns // 1000)
    power = micros.bit_length() - 1
    step = ((micros << 2) >> power) & 3
    return min(power * _STEPS + step, _BUCKETS - 1)


class WaitHistogram:
    """Durations in buckets of at most 19 % width; the greatest is kept exactly."""

    __slots__ = ("_counts", "count", "max_ns", "sum_ns")

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * _BUCKETS))
        self.count = 0
        self.max_ns = 0
        self.sum_ns = 0

    def observe(self, duration_ns: int) -> None:
        """Count one duration, in nanoseconds."""
        self._counts[_bucket_of(duration_ns)] += 1
        self.count += 1
        self.sum_ns += duration_ns
        self.max_ns = max(self.max_ns, duration_ns)

    def percentile_ms(self, percent: float) -> float:
        """The upper edge of the bucket in which that share of the durations ends, in ms."""
        wanted = self.count * percent / 100
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                power, step = divmod(bucket, _STEPS)
                edge_ns = int((1 << power) * (1 + (step + 1) / _STEPS) * 1000)
                return min(edge_ns, self.max_ns) / 1e6
        return 0.0

    def counts_up_to(self, edges_ns: Sequence[int]) -> list[int]:
        """How many durations are at most as long as each edge; edges are rounded to a bucket."""
        running = list(accumulate(self._counts))
        return [running[_bucket_of(edge)] for edge in edges_ns]

    def summary(self) -> dict[str, float]:
        """`count`, and `p50`, `p95`, `p99`, `max` in milliseconds."""
        return {
            "count": self.count,
            "p50": self.percentile_ms(50),
            "p95": self.percentile_ms(95),
            "p99": self.percentile_ms(99),
            "max": self.max_ns / 1e6,
        }


class Statistics:
    """Counters of one adapter since it was made; reading them costs no statement."""

    def __init__(self, *, slow_query_ms: int) -> None:
        self.acquire_wait = WaitHistogram()
        self.waiting = 0
        self.queries = 0
        self.slow_queries = 0
        self.timeouts = 0
        self.connections_lost = 0
        self._slow_ns = slow_query_ms * 1_000_000
        self._log_second = 0
        self._log_lines = 0

    def observe_query(self, sql: str, duration_ns: int) -> None:
        """Count a statement that ran, and log it if it was slow."""
        self.queries += 1
        if duration_ns <= self._slow_ns:
            return
        self.slow_queries += 1
        second = time.monotonic_ns() // 1_000_000_000
        if second != self._log_second:
            self._log_second, self._log_lines = second, 0
        # When everything is slow, writing about each would make it slower.
        if self._log_lines < _LOG_LINES_PER_S:
            self._log_lines += 1
            _log.warning(
                "slow_query", statement=normalized(sql), duration_ms=round(duration_ns / 1e6, 1)
            )

    def snapshot(self) -> dict[str, Any]:
        """The counters under their public names; waits in milliseconds."""
        return {
            "waiting_requests": self.waiting,
            "acquire_wait_ms": self.acquire_wait.summary(),
            "queries": self.queries,
            "slow_queries": self.slow_queries,
            "timeouts": self.timeouts,
            "connections_lost": self.connections_lost,
        }


def normalized(sql: str) -> str:
    """The statement on one line, without comments, and with `?` for each literal in it."""
    bare = _LITERAL.sub(lambda found: " " if found[0][:2] in ("--", "/*") else "?", sql)
    line = " ".join(bare.split())
    if len(line) > _STATEMENT_LENGTH_MAX:
        return line[: _STATEMENT_LENGTH_MAX - 3] + "..."
    return line
