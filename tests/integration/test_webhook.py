"""Webhooks: who may send them, what is kept of them, and that a repetition changes nothing."""

import asyncio
import base64
import hmac
import json
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from jitway.clock import SystemClock
from jitway.ledger.audit import verify
from tests.integration.http.gateway import Gateway, Response, serving

KEY, OLD_KEY, ENDED_KEY = b"n" * 32, b"o" * 32, b"e" * 32
EVENT = {"type": "card.activated", "data": {"id": "tok-1", "amount": 1250}}


def secret(key: bytes) -> str:
    return "whsec_" + base64.b64encode(key).decode()


@pytest.fixture
async def gateway(database: str, tmp_path: Path) -> AsyncIterator[Gateway]:
    secrets = (
        f"acme={secret(KEY)},{secret(OLD_KEY)}@2999-01-01T00:00:00Z;"
        f"other={secret(ENDED_KEY)}@2020-01-01T00:00:00Z"
    )
    async with serving(
        database,
        tmp_path,
        furnished=False,
        JITWAY_WEBHOOK_SECRETS=secrets,
        JITWAY_WORK="none",
    ) as gateway:
        yield gateway


async def send(
    gateway: Gateway,
    body: Any = EVENT,
    *,
    source: str = "acme",
    key: bytes | None = KEY,
    id_: str = "msg_1",
    **headers: str,
) -> Response:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    signed = {"Authorization": "", "Idempotency-Key": "", "webhook-id": id_}
    if key is not None:
        at = str(int(SystemClock().now().timestamp()))
        digest = hmac.digest(key, f"{id_}.{at}.".encode() + raw, sha256)
        signed["webhook-timestamp"] = at
        signed["webhook-signature"] = "v1," + base64.b64encode(digest).decode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await gateway.call("POST", f"/v1/webhooks/{source}", raw, signed | named)


async def kept(gateway: Gateway) -> tuple[int, int]:
    rows = await gateway.services.postgres.execute_query(
        "SELECT (SELECT count(*) FROM webhook) AS webhooks,"
        " (SELECT count(*) FROM outbox WHERE type = 'webhook.received') AS events"
    )
    return rows[0]["webhooks"], rows[0]["events"]


async def test_a_signed_webhook_is_kept_and_announced(gateway: Gateway) -> None:
    response = await send(gateway)
    assert response.status == 200
    answer = response.json
    assert list(answer) == ["id", "program", "source", "message_id", "payload", "received_at"]
    assert (answer["source"], answer["message_id"], answer["program"]) == ("acme", "msg_1", None)
    assert json.loads(answer["payload"]) == EVENT
    rows = await gateway.services.postgres.execute_query("SELECT * FROM outbox")
    assert [(row["type"], row["body"]) for row in rows] == [
        ("webhook.received", response.body.decode())
    ]
    assert "evt_" + rows[0]["id"].hex == answer["id"]
    assert (await verify(gateway.services.postgres)).ok


async def test_a_repetition_gets_the_same_bytes_and_changes_nothing(gateway: Gateway) -> None:
    """S3, one after the other and at once."""
    first = await send(gateway)
    again = await asyncio.gather(*(send(gateway) for _ in range(10)))
    assert {response.body for response in again} == {first.body}
    assert {response.headers["idempotent-replayed"] for response in again} == {"true"}
    assert "idempotent-replayed" not in first.headers
    together = await asyncio.gather(*(send(gateway, id_="msg_2") for _ in range(10)))
    assert len({response.body for response in together}) == 1
    assert await kept(gateway) == (2, 2)


async def test_other_content_under_the_same_id_is_a_conflict(gateway: Gateway) -> None:
    await send(gateway)
    response = await send(gateway, EVENT | {"type": "card.closed"})
    assert (response.status, response.code) == (409, "webhook_conflict")
    assert await kept(gateway) == (1, 1)


async def test_the_same_id_of_another_source_is_another_message(gateway: Gateway) -> None:
    key = await gateway.new_key("operate")
    await send(gateway)
    other = await send(gateway, source="other", key=None, Authorization=f"Bearer {key}")
    assert other.status == 200
    assert await kept(gateway) == (2, 2)


@pytest.mark.parametrize(
    ("source", "key", "headers"),
    [
        ("acme", b"x" * 32, {}),
        ("nobody", KEY, {}),
        ("other", KEY, {}),
        ("other", ENDED_KEY, {}),
        ("acme", None, {}),
        ("acme", None, {"webhook_signature": "v1,AAAA", "webhook_timestamp": "1"}),
        ("acme", None, {"Authorization": "Bearer jw_" + "x" * 43}),
        ("acme", KEY, {"webhook_timestamp": "1732290000"}),
    ],
)
async def test_who_is_not_known_is_refused(
    gateway: Gateway, source: str, key: bytes | None, headers: dict[str, str]
) -> None:
    """S1: wrong, foreign, ended, missing."""
    response = await send(gateway, source=source, key=key, **headers)
    assert (response.status, response.code) == (401, "unauthenticated")
    assert await kept(gateway) == (0, 0)


async def test_the_old_secret_is_good_until_it_ends(gateway: Gateway) -> None:
    assert (await send(gateway, key=OLD_KEY)).status == 200


async def test_a_signature_that_stands_twice_is_refused(gateway: Gateway) -> None:
    raw = b"{}"
    at = str(int(SystemClock().now().timestamp()))
    digest = hmac.digest(KEY, f"msg_1.{at}.".encode() + raw, sha256)
    signature = base64.b64encode(digest).decode()
    request = (
        f"POST /v1/webhooks/acme HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
        f"webhook-id: msg_1\r\nwebhook-timestamp: {at}\r\nwebhook-signature: v1,AAAA\r\n"
        f"webhook-signature: v1,{signature}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
    )
    (response,) = await gateway.send(request.encode() + raw)
    assert response.status == 401


async def test_a_key_needs_the_scope_and_gives_its_program(gateway: Gateway) -> None:
    program = (
        await gateway.post("/v1/programs", {"name": "P", "currency": "USD", "time_zone": "UTC"})
    ).json["id"]
    bound = await gateway.new_key("authorize", program=program)
    response = await send(gateway, key=None, Authorization=f"Bearer {bound}")
    assert (response.status, response.json["program"]) == (200, program)
    reader = await gateway.new_key("read")
    response = await send(gateway, key=None, Authorization=f"Bearer {reader}")
    assert (response.status, response.code) == (403, "insufficient_scope")


async def test_without_an_id_the_same_bytes_are_the_same_message(gateway: Gateway) -> None:
    key = await gateway.new_key("operate")
    bearer = {"Authorization": f"Bearer {key}"}
    first = await send(gateway, key=None, id_="", **bearer)
    again = await send(gateway, key=None, id_="", **bearer)
    assert first.json["message_id"].startswith("sha256:")
    assert again.body == first.body
    assert await kept(gateway) == (1, 1)


async def test_card_data_is_never_kept(gateway: Gateway) -> None:
    """S17, I-26."""
    canary = {"pan": "4111111111111111", "note": "card 4111 1111 1111 1111", "cvv": "123"}
    response = await send(gateway, {"data": canary, "cvc2": 987, "n": 4111111111111111})
    assert response.status == 200
    rows = await gateway.services.postgres.execute_query(
        "SELECT webhook::text || (SELECT string_agg(outbox::text, '') FROM outbox) AS all_of_it"
        " FROM webhook"
    )
    said = rows[0]["all_of_it"] + response.body.decode()
    for canary_text in ("411111111111", "4111 1111", '"123"', ":987"):
        assert canary_text not in said.replace("\\", "")
    payload = json.loads(response.json["payload"])
    assert payload["data"] == {
        "pan": "[redacted]",
        "note": "card ************1111",
        "cvv": "[redacted]",
    }


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "malformed_message"),
        (b"not json", "malformed_message"),
        (b'"text"', "malformed_message"),
        (b'{"a":1,"a":2}', "malformed_message"),
        (b"[NaN]", "malformed_message"),
        (b'{"a":"\xff"}', "malformed_message"),
        (b"[" * 30_000, "malformed_message"),
        (b"[" + b"9" * 5_000 + b"]", "malformed_message"),
    ],
)
async def test_what_cannot_be_read_is_400(gateway: Gateway, raw: bytes, code: str) -> None:
    key = await gateway.new_key("operate")
    response = await send(
        gateway, raw, key=None, Authorization=f"Bearer {key}", Content_Type="application/json"
    )
    assert (response.status, response.code) == (400, code)
    assert await kept(gateway) == (0, 0)


@pytest.mark.parametrize(
    "raw", [b'{"a":"\\u0000"}', b'{"a":"\\ud800"}', b'["\xf0\x9f\x92\xb3"]', b"[1e400,-0,1e2]"]
)
async def test_hostile_text_can_be_kept(gateway: Gateway, raw: bytes) -> None:
    key = await gateway.new_key("operate")
    response = await send(gateway, raw, key=None, Authorization=f"Bearer {key}")
    assert response.status in (200, 400)
    assert (await kept(gateway))[0] == (response.status == 200)


async def test_only_a_post_to_a_source(gateway: Gateway) -> None:
    assert (await gateway.get("/v1/webhooks/acme")).status == 405
    for path in ("/v1/webhooks/", "/v1/webhooks/a/b", "/v1/webhooks/A", "/v1/webhooks/" + "a" * 65):
        assert (await gateway.post(path, {})).status == 404
