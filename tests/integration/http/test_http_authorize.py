"""`POST /v1/authorizations` over HTTP: answers, replays, keys, ids, timings."""

import asyncio
import json
import re

from tests.integration.http.gateway import Gateway, Response

FIELDS = [
    "id",
    "decision",
    "reason",
    "card",
    "account",
    "amount",
    "approved_amount",
    "currency",
    "available",
    "account_version",
    "decided_at",
    "expires_at",
    "status",
]


async def test_an_approval_to_the_letter(gateway: Gateway) -> None:
    response = await gateway.authorize(merchant={"mcc": "5942"}, deadline_ms=900)
    assert response.status == 200
    assert response.headers["content-type"] == "application/json"
    decision = response.json
    assert list(decision) == FIELDS
    assert decision["id"].startswith("aut_")
    assert decision["decision"] == "approved"
    assert decision["reason"] is None
    assert decision["card"] == gateway.card["id"]
    assert decision["account"] == gateway.account["id"]
    assert decision["amount"] == decision["approved_amount"] == 1250
    assert decision["available"] == 8750
    assert decision["account_version"] == 2
    assert decision["status"] == "open"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", decision["decided_at"])
    assert decision["expires_at"] > decision["decided_at"]


async def test_timings_are_in_a_header_and_nowhere_else(gateway: Gateway) -> None:
    response = await gateway.authorize()
    stages = {
        name: float(milliseconds)
        for name, milliseconds in re.findall(
            r"(\w+);dur=([\d.]+)", response.headers["server-timing"]
        )
    }
    assert {"decode", "card_lookup", "commit", "total"} <= set(stages)
    total = stages.pop("total")
    assert abs(sum(stages.values()) - total) < 0.02
    assert b"dur" not in response.body


async def test_a_card_of_nobody_and_of_another_program(gateway: Gateway) -> None:
    other = (
        await gateway.post("/v1/programs", {"name": "O", "currency": "USD", "time_zone": "UTC"})
    ).json
    key = await gateway.new_key("authorize", program=other["id"])
    body = {"card": gateway.card["id"], "amount": 5, "currency": "USD"}
    theirs = await gateway.post("/v1/authorizations", body, Authorization=f"Bearer {key}")
    for response in (theirs, await gateway.authorize(card="nobody")):
        assert response.status == 200
        assert response.json["reason"] == "card_not_found"
        assert response.json["approved_amount"] == 0
        for name in ("account", "available", "account_version", "expires_at"):
            assert response.json[name] is None


async def test_the_same_key_gets_the_same_bytes(gateway: Gateway) -> None:
    body = {"card": gateway.card["id"], "amount": 99, "currency": "USD"}
    first = await gateway.post("/v1/authorizations", body, Idempotency_Key="k")
    shuffled = {"currency": "USD", "deadline_ms": 700, "amount": 99, "card": gateway.card["id"]}
    second = await gateway.post("/v1/authorizations", shuffled, Idempotency_Key="k")
    assert second.body == first.body
    assert second.status == 200
    assert second.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    third = await gateway.post("/v1/authorizations", body | {"amount": 98}, Idempotency_Key="k")
    assert (third.status, third.code) == (409, "idempotency_conflict")


async def test_a_decline_is_kept_too(gateway: Gateway) -> None:
    body = {"card": gateway.card["id"], "amount": 10**9, "currency": "USD"}
    first = await gateway.post("/v1/authorizations", body, Idempotency_Key="d")
    await gateway.post(f"/v1/accounts/{gateway.account['id']}/deposits", {"amount": 2 * 10**9})
    second = await gateway.post("/v1/authorizations", body, Idempotency_Key="d")
    assert first.json["reason"] == "insufficient_available_balance"
    assert second.body == first.body


async def test_one_key_space_over_all_routes(gateway: Gateway) -> None:
    body = {"amount": 5}
    path = f"/v1/accounts/{gateway.account['id']}"
    assert (await gateway.post(f"{path}/deposits", body, Idempotency_Key="one")).status == 201
    other_route = await gateway.post(f"{path}/withdrawals", body, Idempotency_Key="one")
    assert other_route.code == "idempotency_conflict"
    authorization = {"card": gateway.card["id"], "amount": 5, "currency": "USD"}
    hot = await gateway.post("/v1/authorizations", authorization, Idempotency_Key="one")
    assert hot.code == "idempotency_conflict"
    program_key = await gateway.new_key("authorize", program=gateway.program["id"])
    own_space = await gateway.post(
        "/v1/authorizations",
        authorization,
        Idempotency_Key="one",
        Authorization=f"Bearer {program_key}",
    )
    assert own_space.status == 200


async def test_a_refusal_leaves_the_key_free(gateway: Gateway) -> None:
    path = f"/v1/accounts/{gateway.account['id']}/withdrawals"
    refused = await gateway.post(path, {"amount": 99_999}, Idempotency_Key="w")
    assert (refused.status, refused.code) == (409, "insufficient_available_balance")
    assert (await gateway.post(path, {"amount": 1}, Idempotency_Key="w")).status == 201


async def test_request_ids(gateway: Gateway) -> None:
    ours = (await gateway.authorize()).headers["x-request-id"]
    assert re.fullmatch(r"req_[0-9a-f]{16,}", ours)
    mine = await gateway.get("/live", X_Request_Id="trace-1.a:b_c")
    assert mine.headers["x-request-id"] == "trace-1.a:b_c"
    evil = await gateway.get("/live", X_Request_Id='a"b\x1b[31m')
    assert evil.headers["x-request-id"].startswith("req_")


async def test_a_deadline_that_nobody_can_meet(gateway: Gateway) -> None:
    """The account is locked by a transaction that outlives the deadline."""
    holding, done = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async def callback(client: object) -> None:
            await client.query(  # type: ignore[attr-defined]
                "SELECT 1 FROM account WHERE id = $1 FOR UPDATE", [gateway.account["id"][4:]]
            )
            holding.set()
            await done.wait()

        await gateway.services.postgres.execute_transaction(callback)

    task = asyncio.create_task(hold())
    await holding.wait()
    response = await gateway.authorize(deadline_ms=150)
    done.set()
    await task
    assert (response.status, response.code) == (503, "no_decision")
    assert response.headers["retry-after"] == "1"


async def test_sixty_four_at_once_for_the_last_ten(gateway: Gateway) -> None:
    await gateway.post(f"/v1/accounts/{gateway.account['id']}/withdrawals", {"amount": 9_000})
    responses: list[Response] = await asyncio.gather(
        *(gateway.authorize(amount=1_000) for _ in range(64))
    )
    decisions = [response.json["decision"] for response in responses]
    assert decisions.count("approved") == 1
    assert decisions.count("declined") == 63


async def test_one_key_raced_from_many_connections(gateway: Gateway) -> None:
    body = {"card": gateway.card["id"], "amount": 77, "currency": "USD"}
    responses = await asyncio.gather(
        *(gateway.post("/v1/authorizations", body, Idempotency_Key="race") for _ in range(32))
    )
    assert {response.body for response in responses} == {responses[0].body}
    assert sum("idempotent-replayed" not in response.headers for response in responses) == 1
    assert (await gateway.get(f"/v1/accounts/{gateway.account['id']}")).json["held"] == 77


async def test_pipelined_authorizations_are_answered_in_order(gateway: Gateway) -> None:
    def asked(amount: int, *, last: bool = False) -> bytes:
        body = {"card": gateway.card["id"], "amount": amount, "currency": "USD"}
        return gateway.encoded("POST", "/v1/authorizations", json.dumps(body).encode(), last=last)

    raw = b"".join(asked(amount) for amount in range(1, 40)) + asked(40, last=True)
    responses = await gateway.send(raw)
    assert [response.json["amount"] for response in responses] == list(range(1, 41))
