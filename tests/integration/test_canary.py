"""What must never be kept is sent everywhere, and then looked for everywhere (invariant I-26)."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from redis.asyncio import Redis

from jitway.adapters.mongodb import MongoDBAdapter
from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.adapters.rabbitmq.topology import GUIDE_TOPOLOGY
from tests.conformance.brokers import eventually
from tests.integration.http.gateway import Gateway, serving
from tests.integration.private_redis import private_redis
from tests.integration.rabbitmq_scenes import remove
from tests.servers.rabbitmq import RabbitMQServer
from tests.service_skips import require_service

pytest_plugins = ["tests.integration.rabbitmq_fixtures"]

PAN = "4111111111111111"
GROUPED = "4111 1111 1111 1111"
CVV = "98127364"
PASSWORD = "correct-horse-canary"
CANARIES = (PAN, GROUPED, "4111-1111-1111-1111", CVV, PASSWORD)
DATABASE = "jitway_canary"


class Outsider:
    """Everything that the exchange carries, as somebody else's queue sees it."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def hear(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        self.heard.append(f"{message.headers} {message.body.decode()}")
        await message.ack()


@pytest.fixture
async def places(
    database: str, tmp_path: Path, private_broker: RabbitMQServer
) -> AsyncIterator[tuple[Gateway, str, Outsider]]:
    mongodb_uri = require_service("mongodb")
    await remove(private_broker.url, GUIDE_TOPOLOGY)
    async with (
        private_redis() as redis,
        serving(
            database,
            tmp_path,
            REDIS_URL=redis.url,
            RABBITMQ_URL=private_broker.url,
            MONGODB_URI=mongodb_uri,
            MONGODB_DB=DATABASE,
            JITWAY_WORK="all",
        ) as gateway,
        await aio_pika.connect(private_broker.url) as connection,
    ):
        channel = await connection.channel()
        outsider = Outsider()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind("transactions", "#")
        await queue.consume(outsider.hear)
        yield gateway, redis.url, outsider
    await remove(private_broker.url, GUIDE_TOPOLOGY)


def bodies(gateway: Gateway) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """A good body for every route that takes one."""
    program, cardholder = gateway.program["id"], gateway.cardholder["id"]
    account, card = gateway.account["id"], gateway.card["id"]
    of_program = {"name": "n", "currency": "USD", "time_zone": "UTC", "reason": "r"}
    yield "POST", "/v1/programs", of_program
    holder = {"program": program, "external_id": "e", "name": "n", "reason": "r"}
    yield "POST", "/v1/cardholders", holder
    yield "POST", "/v1/accounts", {"cardholder": cardholder, "currency": "USD", "reason": "r"}
    yield "POST", f"/v1/accounts/{account}/deposits", {"amount": 1, "description": "d"}
    yield "POST", f"/v1/accounts/{account}/withdrawals", {"amount": 1, "description": "d"}
    on_account = {"cardholder": cardholder, "account": account}
    yield "POST", "/v1/cards", {**on_account, "external_id": "e", "last4": "4242", "reason": "r"}
    yield "POST", f"/v1/cards/{card}/unfreeze", {"reason": "r"}
    blocked = {"merchant": ["m"], "mcc": ["7995"], "country": ["US"]}
    yield "PUT", f"/v1/cards/{card}/controls", {"block": blocked, "reason": "r"}
    merchant = {"id": "m", "name": "n", "mcc": "5942", "country": "US"}
    yield (
        "POST",
        "/v1/authorizations",
        {
            "card": card,
            "amount": 1,
            "currency": "USD",
            "kind": "purchase",
            "merchant": merchant,
            "network_reference": "x",
            "metadata": {"order": "77"},
        },
    )


def poisoned(value: Any, canary: str) -> Iterator[Any]:
    """The value with the canary in place of each of its texts, one at a time, and as a new one."""
    if isinstance(value, str):
        yield canary
        yield f"see {canary}."
    elif isinstance(value, list):
        for position, one in enumerate(value):
            for wrong in poisoned(one, canary):
                yield [*value[:position], wrong, *value[position + 1 :]]
    elif isinstance(value, dict):
        for name, one in value.items():
            for wrong in poisoned(one, canary):
                yield value | {name: wrong}
        yield value | {canary: "x"}
        yield value | {"pan": canary, "cvv": CVV, "password": PASSWORD}


async def test_no_card_number_no_secret_is_ever_kept(
    places: tuple[Gateway, str, Outsider], database: str, capfd: pytest.CaptureFixture[str]
) -> None:
    gateway, redis_url, outsider = places
    for method, path, body in bodies(gateway):
        for canary in (PAN, GROUPED):
            for wrong in poisoned(body, canary):
                response = await gateway.call(method, path, wrong)
                assert response.status == 400, (path, wrong, response.body)
        assert (await gateway.call(method, path, body)).status in (200, 201)
    await in_files(gateway)
    await everywhere_else(gateway)
    webhook = {"card": {"number": PAN, "cvc": CVV}, "note": f"card {GROUPED}", "password": PASSWORD}
    assert (await gateway.post("/v1/webhooks/processor", webhook)).status == 200

    async def all_heard() -> bool:
        rows = await gateway.services.postgres.execute_query(
            "SELECT count(*) AS count FROM outbox WHERE published_at IS NULL"
        )
        return rows[0]["count"] == 0 and any("webhook.received" in said for said in outsider.heard)

    await eventually(all_heard)
    kept = {
        "PostgreSQL": await rows_of(gateway.services.postgres),
        "Redis": await values_of(redis_url),
        "RabbitMQ": "\n".join(outsider.heard),
        "MongoDB": await documents(gateway),
        "/metrics": (await gateway.get("/metrics")).body.decode(),
        "/v1/profile": (await gateway.get("/v1/profile")).body.decode(),
        "log": "".join(capfd.readouterr()),
    }
    for place, text in kept.items():
        for canary in (*CANARIES, gateway.key):
            assert canary not in text, f"{canary} is kept in {place}"
    # The search would find what is there.
    for place, known in (
        ("PostgreSQL", gateway.card["id"][4:8]),
        ("RabbitMQ", gateway.card["id"]),
        ("MongoDB", gateway.card["id"]),
        ("/metrics", "jitway_decisions_total"),
    ):
        assert known in kept[place], place


async def in_files(gateway: Gateway) -> None:
    """Canaries in the cells of files, and in the parameters that say why they are sent."""
    program, cardholder = gateway.program["id"], gateway.cardholder["id"]
    of_kinds = {
        "cards": {
            "external_id": "file-1",
            "cardholder_external_id": "file-h",
            "cardholder_name": "n",
            "last4": "4242",
        },
        "funding": {"key": "file-k", "account": gateway.account["id"], "description": "d"},
    }
    named = {"Content-Type": "text/csv"}
    for kind, cells in of_kinds.items():
        money = {"amount": "1"} if kind == "funding" else {}
        path = f"/v1/bulk/{kind}?program={program}"
        for canary in (PAN, GROUPED):
            for wrong in (cells | {name: canary} for name in cells):
                row = wrong | money
                raw = f"{','.join(row)}\n{','.join(row.values())}\n".encode()
                done = await gateway.call("POST", path, raw, named)
                assert (done.status, done.json["failed"]) == (200, 1), (row, done.body)
                assert canary.encode() not in done.body
            raw = f"external_id,cardholder\n{kind},{cardholder}\n".encode()
            asked = f"{path}&reason={canary.replace(' ', '%20')}"
            refused = await gateway.call("POST", asked, raw, named)
            assert (refused.status, refused.code) == (400, "card_number_refused")
        row = cells | money
        raw = f"{','.join(row)}\n{','.join(row.values())}\n".encode()
        done = await gateway.call("POST", f"{path}&reason=file", raw, named)
        assert (done.status, done.json["failed"]) == (200, 0), done.body


async def everywhere_else(gateway: Gateway) -> None:
    """Canaries in paths, queries, headers and bytes that are no message at all."""
    for path in (f"/v1/cards/{PAN}", f"/{PAN}", f"/v1/authorizations?card={PAN}&reason={PAN}"):
        assert (await gateway.get(path)).status in (400, 404)
    body = {"card": gateway.card["id"], "amount": 1, "currency": "USD"}
    named = {"Idempotency-Key": f"{PAN}-{CVV}", "X-Request-Id": PAN, "User-Agent": PASSWORD}
    assert (await gateway.call("POST", "/v1/authorizations", body, named)).status == 200
    named = {"Authorization": f"Bearer {PASSWORD}", "X-Request-Id": PAN}
    assert (await gateway.call("POST", "/v1/authorizations", body, named)).status == 401
    for raw in (PAN.encode(), f'{{"card": "{PAN}'.encode(), f'["{CVV}"]'.encode()):
        assert (await gateway.call("POST", "/v1/authorizations", raw)).status == 400
    named = {"webhook-id": PAN}
    refused = await gateway.call("POST", "/v1/webhooks/processor", {"pan": PAN}, named)
    assert (refused.status, refused.code) == (400, "card_number_refused")
    assert (await gateway.post(f"/v1/webhooks/{PAN}", {"pan": PAN})).status == 404


async def rows_of(postgres: PostgreSQLAdapter) -> str:
    """Every row of every table, as text."""
    tables = await postgres.execute_query(
        "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
    )
    said = []
    for table in tables:
        name = table["tablename"]
        rows = await postgres.execute_query(f'SELECT t::text AS row FROM "{name}" AS t')
        said += [str(row["row"]) for row in rows]
    return "\n".join(said)


async def values_of(url: str) -> str:
    """Every key and value, whatever its type."""
    redis = Redis.from_url(url, decode_responses=False)
    said = []
    try:
        async for key in redis.scan_iter():
            is_hash = await redis.type(key) == b"hash"
            value = await redis.hgetall(key) if is_hash else await redis.get(key)
            said.append(f"{key!r} {value!r}")
    finally:
        await redis.aclose()
    return "\n".join(said)


async def documents(gateway: Gateway) -> str:
    """Every document of the archive, once what was told has arrived."""
    manager = gateway.services.manager
    assert isinstance(manager.mongodb, MongoDBAdapter)
    mongodb = manager.mongodb

    async def arrived() -> bool:
        return bool(await mongodb.find("webhooks", {})) and bool(
            await mongodb.find("authorizations", {"card": gateway.card["id"]})
        )

    await eventually(arrived)
    found = [
        await mongodb.find(name, {}) for name in ("authorizations", "transactions", "webhooks")
    ]
    await asyncio.gather(
        *(mongodb.delete_many(name, {}) for name in ("authorizations", "transactions", "webhooks"))
    )
    return json.dumps(found, default=str)
