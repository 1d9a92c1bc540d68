"""`postgresql.py`: the ledger: version, durability, schema, clock, connections, slow statements.

Reads only, with one connection that names itself and is not counted. An embedded server that does
not run is not started.
"""

import asyncio
import shutil
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.adapters.postgresql.statistics import normalized
from jitway.doctor.findings import NOT_RUNNING, REACHABLE, Seen
from jitway.embedded import running_url
from jitway.embedded.places import find_cluster
from jitway.errors import SchemaMismatch
from jitway.sql.migrate import check_schema

TIMEOUT_MS = 1_500
# The others are being looked at meanwhile; the fastest tells what the store needs.
PINGS = 3
VERSIONS = (15, 18)
CLOCK_SKEW_S_MAX = 2.0
OUTBOX_AGE_S_MAX = 60.0
CONNECTIONS_SHARE_MAX = 0.9
COUNTED_MAX = 10_000
# Below this a busy server may not find room for its log of changes.
DISK_FREE_BYTES_MIN = 1024**3
APPLICATION = "jitway_doctor"
_LOSES_COMMITS = ("fsync", "full_page_writes", "synchronous_commit")

_FACTS = """
    SELECT current_setting('server_version') AS version,
           current_setting('server_version_num')::int / 10000 AS major,
           extract(epoch FROM clock_timestamp())::float8 AS now_s,
           pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on'
               AS is_read_only,
           current_setting('fsync') AS fsync,
           current_setting('full_page_writes') AS full_page_writes,
           current_setting('synchronous_commit') AS synchronous_commit,
           current_setting('max_connections')::int
               - current_setting('superuser_reserved_connections')::int
               - coalesce(current_setting('reserved_connections', true), '0')::int
               AS connections_max,
           pg_database_size(current_database()) AS database_bytes
"""
_CONNECTIONS = """
    SELECT count(*) AS all,
           count(*) FILTER (WHERE ours AND state = 'idle') AS ours_idle,
           count(*) FILTER (WHERE ours AND state <> 'idle') AS ours_busy
    FROM (
        SELECT state, datname = current_database() AND application_name = 'jitway' AS ours
        FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND application_name <> $1
    ) AS client
"""
_SLOW = """
    SELECT query, wait_event_type,
           1000 * extract(epoch FROM clock_timestamp() - query_start)::float8 AS runs_ms
    FROM pg_stat_activity
    WHERE datname = current_database() AND state = 'active' AND application_name <> $1
      AND backend_type = 'client backend'
      AND query_start < clock_timestamp() - $2 * interval '1 millisecond'
    ORDER BY query_start
    LIMIT 5
"""
_TABLES = """
    SELECT to_regclass('outbox') IS NOT NULL AS outbox,
           to_regclass('delivery') IS NOT NULL AS delivery,
           to_regclass('dead_letter') IS NOT NULL AS dead_letter
"""
_OUTBOX = """
    SELECT count(*) AS waiting,
           coalesce(extract(epoch FROM clock_timestamp() - min(occurred_at)), 0)::float8 AS age_s
    FROM (SELECT occurred_at FROM outbox WHERE published_at IS NULL LIMIT $1) AS counted
"""
_BY_QUEUE = "SELECT queue, count(*) AS messages FROM (SELECT queue FROM {} LIMIT $1) AS counted "
_DELIVERIES = _BY_QUEUE.format("delivery") + "GROUP BY queue ORDER BY queue"
_DEAD_LETTERS = _BY_QUEUE.format("dead_letter") + "GROUP BY queue ORDER BY queue"


class PostgreSQLLook:
    """One look at the ledger's database.

    Args:
        database_url: None = the embedded server on `data_dir`, if it runs.
        data_dir: of the embedded server.
        connections_wanted: the most that the processes of one gateway open.
        pool_max: pooled connections of them all.
        slow_query_ms: a statement that runs longer is slow.
    """

    def __init__(
        self,
        *,
        database_url: str | None,
        data_dir: Path,
        connections_wanted: int,
        pool_max: int,
        slow_query_ms: int,
    ) -> None:
        self._database_url = database_url
        self._data_dir = data_dir
        self._connections_wanted = connections_wanted
        self._pool_max = pool_max
        self._slow_query_ms = slow_query_ms

    async def __call__(self, seen: Seen, stack: AsyncExitStack) -> None:
        """Fills what was seen.

        Raises:
            JitwayError: it cannot be asked.
        """
        url = self._database_url or await self._embedded_url(seen)
        if url is None:
            return
        postgres = PostgreSQLAdapter(
            database_url=url,
            application_name=APPLICATION,
            pool_size_min=0,
            pool_size_max=1,
            connect_patience_ms=0,
            connect_timeout_ms=TIMEOUT_MS,
            query_timeout_ms=TIMEOUT_MS,
            acquire_timeout_ms=TIMEOUT_MS,
        )
        stack.push_async_callback(postgres.close)
        seen.address = postgres.address if self._database_url else "embedded"
        await postgres.execute_query("SELECT 1")
        seen.status = REACHABLE
        await self._look_at_server(seen, postgres)
        await self._look_at_connections(seen, postgres)
        await self._look_at_schema(seen, postgres)
        await self._look_at_events(seen, postgres)

    async def _embedded_url(self, seen: Seen) -> str | None:
        seen.address = "embedded"
        cluster = await asyncio.to_thread(find_cluster, self._data_dir)
        await asyncio.to_thread(_look_at_disk, seen, cluster or self._data_dir)
        url = await asyncio.to_thread(running_url, self._data_dir)
        if url is None:
            seen.status = NOT_RUNNING
            if cluster is None:
                seen.find("not_initialized", f"there is no ledger in {self._data_dir} yet")
            else:
                seen.find("not_running", f"the PostgreSQL in {self._data_dir} does not run")
        return url

    async def _look_at_server(self, seen: Seen, postgres: PostgreSQLAdapter) -> None:
        asked_s, started_ns = _wall_s(), time.perf_counter_ns()
        facts = await _one(postgres, _FACTS)
        took_s = (time.perf_counter_ns() - started_ns) / 1e9
        seen.latency_ms = round(min([await _ping_ms(postgres) for _ in range(PINGS)]), 3)
        seen.product = f"PostgreSQL {facts['version']}"
        skew_s = facts["now_s"] - (asked_s + took_s / 2)
        seen.figures |= {
            "database_bytes": facts["database_bytes"],
            "connections_max": facts["connections_max"],
            "clock_skew_s": round(skew_s, 3),
        }
        if not VERSIONS[0] <= facts["major"] <= VERSIONS[1]:
            seen.find("version_unsupported", f"{seen.product}; jitway knows 15 to 18")
        lost = [name for name in _LOSES_COMMITS if facts[name] == "off"]
        if lost:
            seen.find("durability", f"commits can be lost: {', '.join(lost)} off")
        if facts["is_read_only"]:
            seen.find("durability", "it is a standby or read-only: nothing can be booked")
        if abs(skew_s) > CLOCK_SKEW_S_MAX:
            ahead = "ahead of" if skew_s > 0 else "behind"
            seen.find("clock_skew", f"its clock is {abs(skew_s):.1f} s {ahead} this machine's")

    async def _look_at_connections(self, seen: Seen, postgres: PostgreSQLAdapter) -> None:
        client = await _one(postgres, _CONNECTIONS, APPLICATION)
        limit = seen.figures["connections_max"]
        busy, idle = client["ours_busy"], client["ours_idle"]
        seen.figures |= {"connections": client["all"], "pool_busy": busy, "pool_idle": idle}
        if self._connections_wanted > limit:
            wanted = f"the gateway may open {self._connections_wanted} connections"
            seen.find("connection_budget", f"{wanted}, and the server gives {limit} in all")
        if client["all"] >= CONNECTIONS_SHARE_MAX * limit:
            seen.find("connections_exhausted", f"{client['all']} of {limit} connections are taken")
        if idle == 0 and busy >= self._pool_max:
            seen.find("pool_exhausted", f"all {busy} connections of jitway are busy")
        slow = await postgres.execute_query(_SLOW, [APPLICATION, self._slow_query_ms])
        for row in slow:
            waits = f", waiting for {row['wait_event_type']}" if row["wait_event_type"] else ""
            statement = normalized(row["query"])
            seen.find("slow_queries", f"running for {row['runs_ms']:.0f} ms{waits}: {statement}")

    async def _look_at_schema(self, seen: Seen, postgres: PostgreSQLAdapter) -> None:
        try:
            pending = await check_schema(postgres)
        except SchemaMismatch as mismatch:
            seen.find("schema", str(mismatch))
            return
        if pending:
            seen.find("schema_pending", f"not applied yet: {', '.join(pending)}")

    async def _look_at_events(self, seen: Seen, postgres: PostgreSQLAdapter) -> None:
        tables = await _one(postgres, _TABLES)
        if tables["outbox"]:
            outbox = await _one(postgres, _OUTBOX, COUNTED_MAX)
            seen.figures["outbox_waiting"] = outbox["waiting"]
            if outbox["waiting"] and outbox["age_s"] > OUTBOX_AGE_S_MAX:
                waiting = "more than " * (outbox["waiting"] == COUNTED_MAX)
                waiting += f"{outbox['waiting']} events wait to be published"
                seen.find("outbox_waiting", f"{waiting}, one for {outbox['age_s']:.0f} s")
        if tables["delivery"]:
            seen.figures["deliveries"] = await _by_queue(postgres, _DELIVERIES)
        if tables["dead_letter"]:
            dead = seen.figures["dead_letters"] = await _by_queue(postgres, _DEAD_LETTERS)
            for queue, messages in dead.items():
                seen.find("dead_letters", f"{messages} dead letters", subject=queue)


def _look_at_disk(seen: Seen, directory: Path) -> None:
    while not directory.exists():
        directory = directory.parent
    free = seen.figures["disk_free_bytes"] = shutil.disk_usage(directory).free
    if free < DISK_FREE_BYTES_MIN:
        seen.find("disk_space", f"{free / 1e6:,.0f} MB are free in {directory}")


async def _one(postgres: PostgreSQLAdapter, sql: str, *parameters: object) -> dict[str, Any]:
    (row,) = await postgres.execute_query(sql, parameters)
    return row


def _wall_s() -> float:
    return time.time()


async def _ping_ms(postgres: PostgreSQLAdapter) -> float:
    started_ns = time.perf_counter_ns()
    await postgres.execute_query("SELECT 1")
    return (time.perf_counter_ns() - started_ns) / 1e6


async def _by_queue(postgres: PostgreSQLAdapter, sql: str) -> dict[str, int]:
    rows = await postgres.execute_query(sql, [COUNTED_MAX])
    return {row["queue"]: row["messages"] for row in rows}
