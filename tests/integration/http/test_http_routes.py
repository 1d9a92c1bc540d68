"""Every other route: answers to the letter, scopes, other programs, revocation, health."""

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from jitway.adapters.postgresql import PostgreSQLAdapter, TransactionClient
from jitway.clock import SystemClock
from jitway.gateway.keys import list_keys, revoke_key
from tests.integration.http.gateway import US, Gateway, serving

TRANSFER = ["id", "kind", "authorization", "account", "amount", "currency", "account_version"]


async def approved(gateway: Gateway, amount: int = 1000) -> str:
    decision = (await gateway.authorize(amount=amount)).json
    assert decision["decision"] == "approved"
    return str(decision["id"])


async def account(gateway: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = (await gateway.get(f"/v1/accounts/{gateway.account['id']}")).json
    return found


async def test_capture_in_part_and_release_the_rest(gateway: Gateway) -> None:
    authorization = await approved(gateway)
    path = f"/v1/authorizations/{authorization}"
    first = await gateway.post(f"{path}/captures", {"amount": 300, "final": False})
    assert first.status == 201
    assert list(first.json)[:7] == TRANSFER
    assert first.json["kind"] == "capture"
    assert first.json["authorization"] == authorization
    found = (await gateway.get(path)).json
    assert (found["captured"], found["remaining"], found["status"]) == (300, 700, "open")
    too_much = await gateway.post(f"{path}/captures", {"amount": 701})
    assert (too_much.status, too_much.code) == (409, "capture_over_remaining")
    assert (await gateway.post(f"{path}/captures", {"amount": 500})).status == 201
    found = (await gateway.get(path)).json
    assert (found["captured"], found["released"], found["remaining"]) == (800, 200, 0)
    assert found["status"] == "captured"
    assert [rule["outcome"] for rule in found["explanation"]][-1] == "passed"
    again = await gateway.post(f"{path}/captures", {"amount": 1})
    assert (again.status, again.code) == (409, "authorization_not_open")
    books = await account(gateway)
    assert (books["posted"], books["held"], books["available"]) == (9_200, 0, 9_200)


async def test_reverse_in_part_and_then_all(gateway: Gateway) -> None:
    authorization = await approved(gateway)
    path = f"/v1/authorizations/{authorization}/reversals"
    assert (await gateway.post(path, {"amount": 250})).json["amount"] == 250
    rest = await gateway.post(path, None, Content_Length="0")
    assert (rest.status, rest.json["amount"]) == (201, 750)
    nothing = await gateway.post(path, {"amount": 1})
    assert (nothing.status, nothing.code) == (409, "authorization_not_open")
    assert (await gateway.get(path.removesuffix("/reversals"))).json["status"] == "released"


async def test_a_money_route_needs_a_key_and_replays(gateway: Gateway) -> None:
    path = f"/v1/accounts/{gateway.account['id']}/deposits"
    body = {"amount": 7, "description": "salary"}
    without = await gateway.post(path, body, Idempotency_Key="")
    assert (without.status, without.code) == (400, "idempotency_key_required")
    first = await gateway.post(path, body, Idempotency_Key="pay")
    second = await gateway.post(path, body, Idempotency_Key="pay")
    assert (second.status, second.body) == (201, first.body)
    assert second.headers["idempotent-replayed"] == "true"
    other = await gateway.post(path, body | {"amount": 8}, Idempotency_Key="pay")
    assert other.code == "idempotency_conflict"
    assert (await account(gateway))["posted"] == 10_007


async def test_an_administrative_route_may_have_one(gateway: Gateway) -> None:
    body = {"program": gateway.program["id"], "external_id": "e-1"}
    first = await gateway.post("/v1/cardholders", body, Idempotency_Key="made")
    second = await gateway.post("/v1/cardholders", body, Idempotency_Key="made")
    assert (second.status, second.body) == (201, first.body)
    third = await gateway.post("/v1/cardholders", body, Idempotency_Key="")
    assert third.status == 409


async def test_freeze_counts_at_once_and_leaves_a_trail(gateway: Gateway) -> None:
    path = f"/v1/cards/{gateway.card['id']}"
    frozen = await gateway.post(f"{path}/freeze", {"reason": "lost in Oslo"})
    assert (frozen.status, frozen.json["status"]) == (200, "frozen")
    assert (await gateway.authorize()).json["reason"] == "card_frozen"
    assert (await gateway.post(f"{path}/unfreeze")).json["status"] == "active"
    assert (await gateway.authorize()).json["decision"] == "approved"
    assert (await gateway.post(f"{path}/close")).json["status"] == "closed"
    assert (await gateway.authorize()).json["reason"] == "card_not_active"
    assert (await gateway.post(f"{path}/unfreeze")).status == 409
    rows = await gateway.services.postgres.execute_query(
        "SELECT action, actor, reason FROM audit WHERE subject = $1 ORDER BY id",
        [gateway.card["id"]],
    )
    assert [row["action"] for row in rows][-3:] == ["card.frozen", "card.unfrozen", "card.closed"]
    assert rows[-3]["reason"] == "lost in Oslo"
    keys = await list_keys(gateway.services.postgres, US)
    assert rows[-3]["actor"] == keys[0]["id"]


@pytest.mark.parametrize("owner", ["card", "cardholder", "program"])
async def test_controls_count_at_once(gateway: Gateway, owner: str) -> None:
    await gateway.authorize(amount=1)
    path = f"/v1/{owner}s/{getattr(gateway, owner)['id']}/controls"
    limits = [{"period": "transaction", "amount": 500}, {"period": "day", "amount": 700}]
    changed = await gateway.call("PUT", path, {"limits": limits, "block": {"mcc": ["7995"]}})
    assert changed.status == 200
    assert changed.json["controls"]["block"]["mcc"] == ["7995"]
    assert (await gateway.authorize(amount=501)).json["reason"] == "amount_over_limit"
    assert (await gateway.authorize(amount=500)).json["decision"] == "approved"
    assert (await gateway.authorize(amount=500)).json["reason"] == "spend_limit_exceeded"
    blocked = await gateway.authorize(amount=1, merchant={"mcc": "7995"})
    assert blocked.json["reason"] == "mcc_blocked"


async def test_lists_have_one_form_and_pages(gateway: Gateway) -> None:
    ids = [(await gateway.authorize(amount=amount)).json["id"] for amount in (1, 2, 3, 10**9)]
    card = gateway.card["id"]
    page = (await gateway.get(f"/v1/authorizations?card={card}&limit=3")).json
    assert list(page) == ["data", "next_cursor"]
    rest = (
        await gateway.get(f"/v1/authorizations?card={card}&limit=3&cursor={page['next_cursor']}")
    ).json
    assert [row["id"] for row in page["data"] + rest["data"]] == ids[::-1]
    assert rest["next_cursor"] is None
    declined = (await gateway.get("/v1/authorizations?decision=declined")).json["data"]
    assert [row["id"] for row in declined] == ids[3:]


async def test_unknown_owners_are_not_found(gateway: Gateway) -> None:
    nobody = "chd_" + "0" * 32
    of = {"cardholder": nobody, "currency": "USD"}
    assert (await gateway.post("/v1/accounts", of)).code == "not_found"
    card = {"cardholder": nobody, "account": gateway.account["id"]}
    assert (await gateway.post("/v1/cards", card)).code == "not_found"
    assert (await gateway.post("/v1/cardholders", {"program": "x"})).code == "not_found"


async def test_unknown_members_are_named(gateway: Gateway) -> None:
    """S10: nobody sets a balance by naming it."""
    body = {"cardholder": gateway.cardholder["id"], "currency": "USD", "posted": 10**6}
    response = await gateway.post("/v1/accounts", body)
    assert (response.status, response.code) == (400, "unknown_field")
    assert response.json["pointer"] == "/posted"


async def test_a_revoked_key_is_refused_within_a_second(gateway: Gateway) -> None:
    key = await gateway.new_key("authorize", "operate")
    headers = {"Authorization": f"Bearer {key}"}
    assert (await gateway.call("GET", "/v1/authorizations", None, headers)).status == 200
    postgres = gateway.services.postgres
    made = (await list_keys(postgres, US))[-1]["id"]
    await revoke_key(postgres, SystemClock(), US, made)
    async with asyncio.timeout(1.0):
        while (await gateway.call("GET", "/v1/authorizations", None, headers)).status == 200:
            await asyncio.sleep(0.02)
    assert (await gateway.authorize()).status == 200


async def test_a_deadline_holds_while_the_key_is_looked_up(database: str, tmp_path: Path) -> None:
    """Nobody is known yet, and the table of keys is locked by somebody else."""
    async with serving(database, tmp_path, JITWAY_DECISION_BUDGET_MS="30s") as gateway:
        key = await gateway.new_key("authorize")
        locked, done = asyncio.Event(), asyncio.Event()

        async def hold(client: TransactionClient) -> None:
            await client.execute("LOCK TABLE api_key IN ACCESS EXCLUSIVE MODE")
            locked.set()
            await done.wait()

        holding = asyncio.create_task(gateway.services.postgres.execute_transaction(hold))
        await locked.wait()
        loop = asyncio.get_running_loop()
        began = loop.time()
        body = {"card": gateway.card["id"], "amount": 1, "currency": "USD", "deadline_ms": 100}
        response = await gateway.post("/v1/authorizations", body, Authorization=f"Bearer {key}")
        assert 0.1 <= loop.time() - began < 10
        assert (response.status, response.code) == (503, "no_decision")
        done.set()
        await holding


async def test_probes_need_no_key(gateway: Gateway) -> None:
    for path, status in (("/live", "alive"), ("/ready", "ready"), ("/health", "healthy")):
        response = await gateway.get(path, Authorization="")
        assert (response.status, response.json["status"]) == (200, status)
    services = (await gateway.get("/health")).json["services"]
    assert services == {
        "postgres": "healthy",
        "mongodb": "disabled",
        "redis": "disabled",
        "message_queue": "disabled",
    }
    head = await gateway.send(gateway.encoded("HEAD", "/live"))
    assert head == [] or head[0].status == 200


async def test_draining_is_not_ready_but_serves(gateway: Gateway) -> None:
    gateway.application.draining = True
    gateway.server.drain()
    assert (await gateway.get("/ready")).json == {"status": "draining"}
    assert (await gateway.get("/live")).status == 200
    response = await gateway.authorize()
    assert response.status == 200
    assert response.headers["connection"] == "close"


async def test_without_its_ledger_it_decides_nothing_and_says_so(
    gateway: Gateway, server: PostgreSQLAdapter, database: str
) -> None:
    """The database refuses connections and drops those that it has; then it comes back."""
    name = urlsplit(database).path.removeprefix("/")
    await gateway.authorize()
    await server.execute_query(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    try:
        await server.execute_query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", [name]
        )
        for response in (await gateway.authorize(), await gateway.authorize()):
            assert (response.status, response.code) == (503, "no_decision")
            assert response.headers["retry-after"]
            assert name not in response.body.decode()
        async with asyncio.timeout(10):
            while (await gateway.get("/ready")).status != 503:
                await asyncio.sleep(0.05)
        assert (await gateway.get("/health")).json["status"] == "unhealthy"
        assert (await gateway.get("/live")).status == 200
        deposit = await gateway.post(
            f"/v1/accounts/{gateway.account['id']}/deposits", {"amount": 1}
        )
        assert (deposit.status, deposit.code) == (503, "ledger_unavailable")
    finally:
        await server.execute_query(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    async with asyncio.timeout(10):
        while (await gateway.get("/ready")).status != 200:
            await asyncio.sleep(0.05)
        while (await gateway.authorize()).status != 200:
            await asyncio.sleep(0.05)
