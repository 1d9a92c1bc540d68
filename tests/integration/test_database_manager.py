"""The manager over the stores: opens in order, says what is wrong, looks, closes in reverse."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette

from jitway import DatabaseManager, health_router, initialize_health_routes
from jitway.database import StoreOptions
from jitway.errors import BrokerUnavailable, CacheUnavailable, LedgerUnavailable, SettingsError

NOBODY = "127.0.0.1:1"


async def get(app: Any, path: str) -> tuple[int, bytes]:
    """One GET through ASGI."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
        "root_path": "",
        "scheme": "http",
        "server": ("test", 80),
        "client": ("test", 1),
        "http_version": "1.1",
    }
    await app(scope, receive, send)
    return sent[0]["status"], sent[1]["body"]


async def test_what_is_not_configured_is_disabled(database: str) -> None:
    manager = DatabaseManager({"DATABASE_URL": database, "REDIS_URL": ""})
    await manager.initialize()
    try:
        assert await manager.get_health_status() == {
            "postgres": "healthy",
            "mongodb": "disabled",
            "redis": "disabled",
            "message_queue": "disabled",
        }
        report = await manager.get_health_report()
        assert report["postgres"].latency_ms is not None
        assert report["redis"].reason == "not configured"
    finally:
        await manager.close()
        await manager.close()


async def test_without_a_url_the_embedded_postgresql_is_started(tmp_path: Path) -> None:
    manager = DatabaseManager({}, options=StoreOptions(data_dir=tmp_path / "data"))
    await manager.initialize()
    try:
        assert manager.is_embedded
        rows = await manager.postgres.execute_query("SELECT 1 AS one")
        assert rows[0]["one"] == 1
    finally:
        await manager.close()
    with pytest.raises(SettingsError, match="not open"):
        _ = manager.postgres


@pytest.mark.parametrize(
    ("variables", "error", "said"),
    [
        ({"DATABASE_URL": f"postgresql://u:hunter2@{NOBODY}/d"}, LedgerUnavailable, "PostgreSQL"),
        ({"REDIS_URL": f"redis://:hunter2@{NOBODY}/0"}, CacheUnavailable, "Redis"),
        ({"RABBITMQ_URL": f"amqp://u:hunter2@{NOBODY}/"}, BrokerUnavailable, "RabbitMQ"),
    ],
)
async def test_a_service_that_is_away_is_named_with_its_masked_address(
    database: str, variables: dict[str, str], error: type[Exception], said: str
) -> None:
    manager = DatabaseManager({"DATABASE_URL": database, **variables})
    with pytest.raises(error, match=said) as raised:
        await manager.initialize()
    assert "hunter2" not in str(raised.value)
    assert NOBODY in str(raised.value)
    with pytest.raises(SettingsError, match="not open"):
        _ = manager.postgres


async def test_optional_services_may_be_away_and_only_degrade(database: str) -> None:
    addresses = {
        "DATABASE_URL": database,
        "REDIS_URL": f"redis://{NOBODY}/0",
        "RABBITMQ_URL": f"amqp://guest:guest@{NOBODY}/",
        "MONGODB_URI": f"mongodb://{NOBODY}/?serverSelectionTimeoutMS=300",
        "MONGODB_DB": "jitway",
    }
    options = StoreOptions(optional_may_be_down=True)
    manager = DatabaseManager(addresses, options=options)
    await manager.initialize()
    try:
        began = time.monotonic()
        statuses = await manager.get_health_status()
        assert time.monotonic() - began < 3
        assert statuses == {
            "postgres": "healthy",
            "mongodb": "unhealthy",
            "redis": "unhealthy",
            "message_queue": "unhealthy",
        }
        initialize_health_routes(manager)
        status, body = await get(Starlette(routes=health_router.routes), "/health")
        assert status == 200
        assert b'"status":"degraded"' in body
    finally:
        await manager.close()


async def test_the_guides_server_in_python(database: str) -> None:
    """The guide mounts the routes in its own application and initialises them with its manager."""
    app = FastAPI()
    manager = DatabaseManager({"DATABASE_URL": database})
    initialize_health_routes(manager)
    app.mount("/", health_router)
    assert (await get(app, "/ready"))[0] == 503
    await manager.initialize()
    try:
        status, body = await get(app, "/health")
        assert status == 200
        assert b'"postgres":"healthy"' in body
        assert (await get(app, "/ready"))[0] == 200
        assert (await get(app, "/live"))[0] == 200
    finally:
        await manager.close()
    assert (await get(app, "/health"))[0] == 503


async def test_looking_leaves_no_task_and_no_connection(database: str) -> None:
    manager = DatabaseManager({"DATABASE_URL": database})
    await manager.initialize()
    try:
        tasks = len(asyncio.all_tasks())
        for _ in range(20):
            await manager.get_health_report()
        stats = await manager.postgres.get_pool_stats()
        assert stats["dedicated_connections"] == 1
        assert len(asyncio.all_tasks()) == tasks
    finally:
        await manager.close()
