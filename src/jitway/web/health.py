"""`health.py`: whether this gateway lives, may be sent requests, and what it stands on.

A watch asks PostgreSQL once a second on a connection of its own; the routes answer from what it
saw last, so a hung store never hangs a probe. `/live` looks at nothing at all.
"""

import asyncio
import time
from contextlib import suppress

import msgspec
import structlog

from jitway.adapters.postgresql import DedicatedConnection, PostgreSQLAdapter
from jitway.errors import JitwayError
from jitway.gateway.caller import Answer

INTERVAL_S = 1.0
TIMEOUT_MS = 1_000
# What was seen this long ago says nothing about now.
STALE_S = 4.0

_WRITABLE = """
    SELECT NOT pg_is_in_recovery() AND current_setting('default_transaction_read_only') = 'off'
        AS writable
"""
_log = structlog.get_logger("jitway.web.health")


class LedgerWatch:
    """Looks at PostgreSQL again and again until it is stopped.

    Args:
        postgres: the ledger.
        interval_s: seconds between two looks.
    """

    def __init__(self, postgres: PostgreSQLAdapter, *, interval_s: float = INTERVAL_S) -> None:
        self._postgres = postgres
        self._interval_s = interval_s
        self._connection: DedicatedConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._seen_at = -STALE_S
        self._is_healthy = False

    @property
    def is_healthy(self) -> bool:
        """Whether PostgreSQL answered a moment ago and takes writes."""
        return self._is_healthy and time.monotonic() - self._seen_at < STALE_S

    def start(self) -> None:
        """Begins to look; a second call changes nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="ledger-watch")

    async def stop(self) -> None:
        """Ends it; may be called twice, or before `start`."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._drop()

    async def _run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(self._interval_s)

    async def look(self) -> None:
        """Asks once; what it finds is kept."""
        was_healthy = self._is_healthy
        try:
            if self._connection is None or self._connection.closed:
                self._connection = await self._postgres.dedicated(
                    lock_timeout_ms=TIMEOUT_MS,
                    statement_timeout_ms=TIMEOUT_MS,
                    idle_in_transaction_timeout_ms=TIMEOUT_MS,
                )
            rows = await self._connection.fetch(_WRITABLE)
            self._is_healthy = bool(rows[0]["writable"])
            cause = "read-only"
        except JitwayError as error:
            self._drop()
            self._is_healthy = False
            cause = str(error)
        self._seen_at = time.monotonic()
        if was_healthy and not self._is_healthy:
            _log.warning("ledger_unhealthy", cause=cause)
        elif self._is_healthy and not was_healthy:
            _log.info("ledger_healthy")

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


def live() -> Answer:
    """`GET /live`: this process answers."""
    return Answer(200, '{"status":"alive"}')


def ready(watch: LedgerWatch, *, draining: bool) -> Answer:
    """`GET /ready`: whether requests should be sent here."""
    if draining:
        return Answer(503, '{"status":"draining"}')
    if not watch.is_healthy:
        return Answer(503, '{"status":"not_ready"}')
    return Answer(200, '{"status":"ready"}')


def health(watch: LedgerWatch) -> Answer:
    """`GET /health`: each service and its state; 503 when money cannot be decided."""
    postgres = "healthy" if watch.is_healthy else "unhealthy"
    document = {
        "status": postgres,
        "services": {
            "postgres": postgres,
            "mongodb": "disabled",
            "redis": "disabled",
            "message_queue": "disabled",
        },
    }
    return Answer(200 if watch.is_healthy else 503, msgspec.json.encode(document).decode())
