"""From the previous release to this one: its own code serves while its ledger is migrated.

`tests/upgrade` keeps that release and a ledger that it made; CONTRIBUTING says when they change.
"""

import asyncio
import json
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from chaos.connection import Connection, Reply, request_bytes
from chaos.gateway import Gateway, GatewayFailed
from jitway.adapters.postgresql import PostgreSQLAdapter
from tests.conftest import database_url
from tests.end_to_end.asking import Asking
from tests.end_to_end.conftest import PATIENT

KEPT = Path(__file__).parents[1] / "upgrade"
ENOUGH = 40
# From Python 3.11.4 on.
FILTERED: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


@dataclass(frozen=True)
class Ledger:
    """The database of the previous release, and gateways of both on it."""

    url: str
    old_code: Path
    place: Path

    def gateway(self, *, previous: bool) -> Gateway:
        settings = {**PATIENT, "DATABASE_URL": self.url, "JITWAY_WORK": "none"}
        if previous:
            settings["PYTHONPATH"] = str(self.old_code / "src")
        name = "previous" if previous else "this"
        return Gateway(self.place / "unused", self.place / f"{name}.log", settings)


@pytest.fixture(scope="module")
def old_code() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="jitway-previous-") as directory:
        with tarfile.open(KEPT / "previous_release.tar.xz") as kept:
            kept.extractall(directory, **FILTERED)
        yield Path(directory)


@pytest.fixture
async def ledger(
    server: PostgreSQLAdapter, server_url: str, old_code: Path, tmp_path: Path
) -> AsyncIterator[Ledger]:
    name = f"jitway_upgrade_{tmp_path.name.replace('-', '_')}"[:60].lower()
    await server.execute_query(f"CREATE DATABASE {name}")
    url = database_url(server_url, name)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute((KEPT / "previous_ledger.sql").read_text())
    finally:
        await connection.close()
    try:
        yield Ledger(url, old_code, tmp_path)
    finally:
        await server.execute_query(f"DROP DATABASE {name} WITH (FORCE)")


async def said(gateway: Gateway, key: str, method: str, path: str, **fields: Any) -> Reply:
    """One request on a connection of its own."""
    connection = Connection(gateway.port)
    body, headers = fields.get("body"), fields.get("headers", {})
    raw = json.dumps(body).encode() if body is not None else b""
    try:
        request = request_bytes(method, path, key=key, body=raw, headers=headers)
        return await connection.ask(request, timeout_s=20)
    finally:
        connection.close()


async def test_a_ledger_that_is_not_migrated_is_not_served(ledger: Ledger) -> None:
    with pytest.raises(GatewayFailed, match="run `jitway migrate`"):
        await ledger.gateway(previous=False).start()


async def test_nothing_is_lost_or_refused_while_it_is_migrated(ledger: Ledger) -> None:
    previous, this = ledger.gateway(previous=True), ledger.gateway(previous=False)
    _, made = await previous.command("keys", "create")
    await previous.start()
    asking = Asking(previous.port, made["key"])
    await asking.prepare()
    going = True
    caller = asyncio.create_task(asking.keep_asking(0, lambda: going, pause_s=0.01))
    await more(asking, ENOUGH)
    code, migrated = await this.command("migrate")
    assert code == 0
    assert migrated["applied"]
    # The previous release goes on on the schema of this one, until its gateways are replaced.
    await more(asking, ENOUGH)
    await this.start()
    beside = Asking(this.port, made["key"], asking.openings)
    new_caller = asyncio.create_task(beside.keep_asking(1, lambda: going, pause_s=0.01))
    await more(beside, ENOUGH)
    await more(asking, ENOUGH)
    going = False
    await asyncio.gather(caller, new_caller)
    # Each tells what the other decided.
    for gateway, ends in ((previous, beside.ends), (this, asking.ends)):
        told = json.loads(ends[-1].reply.body) if ends[-1].reply is not None else {}
        reply = await said(gateway, made["key"], "GET", f"/v1/authorizations/{told['id']}")
        assert (reply.status, json.loads(reply.body)["decision"]) == (200, "approved")
    assert await previous.terminate() is not None
    assert [*asking.failures(), *beside.failures()] == []

    keys = [end.key for end in (*asking.ends, *beside.ends)]
    rows = await decided(ledger, keys)
    assert rows == len(set(keys))
    code, books = await this.command("verify")
    assert (code, books["violations"]) == (0, [])
    await this.terminate()


async def test_what_the_previous_release_decided_still_stands(ledger: Ledger) -> None:
    before = await stored(ledger)
    this = ledger.gateway(previous=False)
    await this.command("migrate")
    _, made = await this.command("keys", "create")
    await this.start()
    try:
        key = made["key"]
        for row in before:
            reply = await said(this, key, "GET", f"/v1/authorizations/aut_{row['id'].hex}")
            answer = json.loads(reply.body)
            assert (reply.status, answer["decision"]) == (200, row["outcome"])
            assert answer["explanation"]
        # The same key gets the first answer, byte for byte.
        merchant = {"id": "m-17", "mcc": "5942", "country": "US"}
        opened = next(row for row in before if json.loads(row["body"])["amount"] == 1000)
        card = json.loads(opened["body"])["card"]
        asked = {"card": card, "amount": 1000, "currency": "USD", "merchant": merchant}
        again = await said(
            this, key, "POST", "/v1/authorizations", body=asked, headers={"Idempotency-Key": "open"}
        )
        assert (again.status, again.body.decode()) == (200, opened["body"])
        taken = await said(
            this,
            key,
            "POST",
            f"/v1/authorizations/aut_{opened['id'].hex}/captures",
            body={"amount": 1000},
            headers={"Idempotency-Key": "after"},
        )
        assert taken.status == 201
        fresh = await said(
            this, key, "POST", "/v1/authorizations", body=asked, headers={"Idempotency-Key": "new"}
        )
        assert json.loads(fresh.body)["decision"] == "approved"
        code, books = await this.command("verify")
        assert (code, books["violations"]) == (0, [])
    finally:
        await this.terminate()


async def more(asking: Asking, count: int) -> None:
    """Until so many more were answered."""
    wanted = len(asking.ends) + count
    async with asyncio.timeout(60):
        while len(asking.ends) < wanted:
            await asyncio.sleep(0.02)


async def stored(ledger: Ledger) -> list[asyncpg.Record]:
    """The decisions of the previous release."""
    connection = await asyncpg.connect(ledger.url)
    try:
        rows: list[asyncpg.Record] = await connection.fetch(
            "SELECT id, outcome, body FROM jitway.decision ORDER BY id"
        )
        return rows
    finally:
        await connection.close()


async def decided(ledger: Ledger, keys: list[str]) -> int:
    """How many decisions the ledger has for these requests."""
    connection = await asyncpg.connect(ledger.url)
    try:
        found = await connection.fetchval(
            "SELECT count(*) FROM jitway.decision "
            "WHERE request::jsonb->>'network_reference' = ANY ($1)",
            keys,
        )
        return int(found)
    finally:
        await connection.close()
