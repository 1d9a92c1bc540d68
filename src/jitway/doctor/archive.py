"""`archive.py`: MongoDB: latency, version, memory and connections, as far as it shows them."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from jitway.adapters.mongodb import MongoDBAdapter
from jitway.doctor.findings import REACHABLE, Seen
from jitway.errors import InvalidRequest, StatementRefused

TIMEOUT_MS = 1_500
CONNECT_TIMEOUT_MS = 1_000
# The others are being looked at meanwhile; the fastest tells what the store needs.
PINGS = 3


class MongoDBLook:
    """One look at the archive."""

    def __init__(self, mongodb_uri: str, mongodb_db: str) -> None:
        self._mongodb_uri = mongodb_uri
        self._mongodb_db = mongodb_db

    async def __call__(self, seen: Seen, stack: AsyncExitStack) -> None:
        """Fills what was seen.

        Raises:
            JitwayError: it cannot be asked.
        """
        mongodb = MongoDBAdapter(
            mongodb_uri=self._mongodb_uri,
            mongodb_db=self._mongodb_db,
            timeout_ms=TIMEOUT_MS,
            connect_timeout_ms=CONNECT_TIMEOUT_MS,
            attempts_max=1,
            pool_size_min=0,
            pool_size_max=1,
            app_name="jitway_doctor",
        )
        stack.push_async_callback(mongodb.close)
        seen.address = mongodb.address
        await mongodb.connect()
        seen.status = REACHABLE
        seen.latency_ms = round(min([await mongodb.ping() for _ in range(PINGS)]), 3)
        build = await _command(mongodb, "buildInfo")
        seen.product = f"MongoDB {build.get('version', 'of unknown version')}"
        server = await _command(mongodb, "serverStatus")
        if (memory := server.get("mem", {}).get("resident")) is not None:
            seen.figures["memory_bytes"] = int(memory) * 1024**2
        if (current := server.get("connections", {}).get("current")) is not None:
            seen.figures["connections"] = int(current)
        seen.figures["replica_set"] = server.get("repl", {}).get("setName")


async def _command(mongodb: MongoDBAdapter, name: str) -> Mapping[str, Any]:
    """A server's answer; nothing where this user or this server knows no such command."""
    database = mongodb.collection("unused").database
    try:
        return await mongodb.run(lambda: database.command(name))
    except (StatementRefused, InvalidRequest):
        return {}
