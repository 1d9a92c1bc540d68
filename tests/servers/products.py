"""What answers at a URL, as its own driver hears it: product and version."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aio_pika
import asyncpg
import pymongo
from redis.asyncio import Redis

TIMEOUT_S = 10.0


async def product_of(variable: str, url: str) -> str:
    """The product and version behind a URL.

    Args:
        variable: `DATABASE_URL`, `MONGODB_URI`, `REDIS_URL` or `RABBITMQ_URL`.
        url: its value.

    Raises:
        Exception: of the driver, or TimeoutError: it cannot be reached.
    """
    async with asyncio.timeout(TIMEOUT_S):
        return await _QUESTIONS[variable](url)


async def _postgresql(url: str) -> str:
    connection = await asyncpg.connect(url, timeout=TIMEOUT_S)
    try:
        version: str = await connection.fetchval("SHOW server_version")
        return f"PostgreSQL {version}"
    finally:
        await connection.close(timeout=1)


async def _mongodb(url: str) -> str:
    milliseconds = int(TIMEOUT_S * 1000)
    client: pymongo.AsyncMongoClient[dict[str, object]]
    async with pymongo.AsyncMongoClient(url, serverSelectionTimeoutMS=milliseconds) as client:
        information = await client.admin.command("buildInfo")
        return f"MongoDB {information['version']}"


async def _redis(url: str) -> str:
    async with Redis.from_url(url, socket_timeout=TIMEOUT_S) as client:
        information = await client.info("server")
        # A Valkey also calls itself a Redis of the version that it is compatible with.
        if valkey := information.get("valkey_version"):
            return f"Valkey {valkey}"
        return f"Redis {information['redis_version']}"


async def _rabbitmq(url: str) -> str:
    connection = await aio_pika.connect(url, timeout=TIMEOUT_S)
    try:
        transport = connection.transport
        properties: Mapping[str, Any] = (
            transport.connection.server_properties or {} if transport is not None else {}
        )
        return f"{properties.get('product')} {properties.get('version')}"
    finally:
        await connection.close()


_QUESTIONS: dict[str, Callable[[str], Awaitable[str]]] = {
    "DATABASE_URL": _postgresql,
    "MONGODB_URI": _mongodb,
    "REDIS_URL": _redis,
    "RABBITMQ_URL": _rabbitmq,
}
