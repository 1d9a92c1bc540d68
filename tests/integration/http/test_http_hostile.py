"""Hostile input: refused by a status below 500, in the documented form, and nothing is kept.

Faults X1, S2, S4, S9, S10, S12, S13.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.http.gateway import Gateway, serving

REFUSALS = {400, 401, 403, 404, 405, 408, 409, 411, 413, 415, 422, 429, 431, 503}
DEEP = b"[" * 100_000

LEAST = b'"amount":5,"currency":"USD"'
BAD_BODIES = [
    b"{",
    b"[]",
    b"null",
    b'""',
    b"0",
    b"NaN",
    b"\x00",
    b"\xff\xfe",
    b"{'a':1}",
    b"{}",
    b"{" + LEAST + b"}",
    b"\xef\xbb\xbf{" + LEAST + b',"card":"x"}',
    b"{" + LEAST + b',"card":"x"} trailing',
    b"{" + LEAST + b',"card":"x"}{}',
    b"{" + LEAST + b',"card":"x",}',
    b"{" + LEAST + b',"card":"x"/**/}',
    b"{" + LEAST + b',"card":"x","amount":6}',
    b"{" + LEAST + b',"card":"x","am\\u006funt":6}',
    b"{" + LEAST + b',"card":"x","extra":1}',
    b"{" + LEAST + b',"card":"x","posted":1}',
    b"{" + LEAST + b',"card":"x\\u0000"}',
    b"{" + LEAST + b',"card":"\\ud800"}',
    b"{" + LEAST + b',"card":"\xff"}',
    b"{" + LEAST + b',"card":"\xc0\xaf"}',
    b"{" + LEAST + b',"card":"a\\r\\nSet-Cookie: x"}',
    b"{" + LEAST + b',"card":null}',
    b"{" + LEAST + b',"card":["x"]}',
    b"{" + LEAST + b',"card":{"x":1}}',
    b"{" + LEAST + b',"card":"x","metadata":{"a":' + b"9" * 5000 + b"}}",
    b"{" + LEAST + b',"card":"x","merchant":{"name":"\\u0000"}}',
    b"{" + LEAST + b',"card":"x","merchant":{"name":"\\u001b[2J"}}',
    b"{" + LEAST + b',"card":"' + b"x" * 60_000 + b'"}',
    *(
        b'{"card":"x","currency":"USD","amount":' + amount + b"}"
        for amount in (
            *(b"NaN", b"Infinity", b"-Infinity", b"1e400", b"1e2", b"1.0", b"0.30000000000000004"),
            *(b"9007199254740993", b"9223372036854775808", b"9" * 5000, b"-1", b"0", b"-0"),
            *(b'"5"', b"true", b"null", b"[]", b"{}", b"1_000", b"+12", b"0x10", b"012", b" "),
            *(b"\xd9\xa3", b'"\xef\xbc\x91"', b"1/2"),
        )
    ),
    *(
        b'{"card":"x","amount":5,"currency":' + currency + b"}"
        for currency in (b'"usd"', b'"US"', b'"USDX"', b'"ZZZ"', b"840", b"null", b'"U$D"')
    ),
    DEEP[:60_000],
    b'{"card":' + DEEP[:60_000],
    b'{"a":' * 10_000,
    b"{" + b",".join(b'"k%d":1' % number for number in range(5_000)) + b"}",
]
NAMES = [body[:40].decode("latin-1").encode("unicode_escape").decode() for body in BAD_BODIES]


@pytest.mark.parametrize("body", BAD_BODIES, ids=NAMES)
async def test_bodies_that_cannot_be_meant(shared: Gateway, body: bytes) -> None:
    before = await shared.rows()
    response = await shared.call("POST", "/v1/authorizations", body)
    assert response.status == 400
    assert response.code
    assert await shared.rows() == before


OTHER_ROUTES = [
    ("POST", "/v1/programs"),
    ("POST", "/v1/cards"),
    ("POST", "/v1/accounts/{account}/deposits"),
    ("PUT", "/v1/cards/{card}/controls"),
    ("POST", "/v1/cards/{card}/freeze"),
]


@pytest.mark.parametrize(("method", "path"), OTHER_ROUTES)
async def test_the_same_on_other_routes(shared: Gateway, method: str, path: str) -> None:
    before = await shared.rows()
    path = path.format(card=shared.card["id"], account=shared.account["id"])
    # An empty object is a whole body where every member may be left out.
    may_be_empty = path.endswith(("/controls", "/freeze"))
    for body in BAD_BODIES:
        if body == b"{}" and may_be_empty:
            continue
        response = await shared.call(method, path, body)
        assert response.status == 400, body[:80]
        assert response.code
    assert await shared.rows() == before


def good(gateway: Gateway) -> dict[str, Any]:
    return {"card": gateway.card["id"], "amount": 5, "currency": "USD"}


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Authorization": ""}, 401, "unauthenticated"),
        ({"Authorization": "Bearer"}, 401, "unauthenticated"),
        ({"Authorization": "Bearer "}, 401, "unauthenticated"),
        ({"Authorization": "Bearer jw_" + "x" * 43}, 401, "unauthenticated"),
        ({"Authorization": "Bearer jw_" + "x" * 4_000}, 401, "unauthenticated"),
        ({"Authorization": "Bearer \x80\xff\xfe"}, 401, "unauthenticated"),
        ({"Authorization": "Basic dXNlcjpwYXNz"}, 401, "unauthenticated"),
        ({"Authorization": "Bearer ' OR 1=1 --"}, 401, "unauthenticated"),
        ({"Idempotency-Key": ""}, 400, "idempotency_key_required"),
        ({"Idempotency-Key": "x" * 256}, 400, "idempotency_key_invalid"),
        ({"Idempotency-Key": "a b"}, 400, "idempotency_key_invalid"),
        ({"Idempotency-Key": "\xe9"}, 400, "idempotency_key_invalid"),
        ({"Content-Type": ""}, 415, "unsupported_media_type"),
        ({"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        ({"Content-Type": "application/jsonp"}, 415, "unsupported_media_type"),
        ({"Content-Type": "application/json; charset=utf-7"}, 415, "unsupported_media_type"),
        ({"Content-Type": "application/json, text/plain"}, 415, "unsupported_media_type"),
        ({"Content-Encoding": "gzip"}, 415, "unsupported_media_type"),
        ({"X-Large": "x" * 20_000}, 431, "headers_too_large"),
    ],
)
async def test_headers_that_cannot_be_meant(
    shared: Gateway, headers: dict[str, str], status: int, code: str
) -> None:
    before = await shared.rows()
    response = await shared.call("POST", "/v1/authorizations", good(shared), headers)
    assert (response.status, response.code) == (status, code)
    assert await shared.rows() == before
    if status == 401:
        assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"']
)
async def test_other_spellings_of_json(shared: Gateway, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    body = good(shared)
    assert (await shared.call("POST", "/v1/authorizations", body, headers)).status == 200


@pytest.mark.parametrize(
    ("name", "status"),
    [("Authorization", 401), ("Idempotency-Key", 400), ("Content-Type", 400)],
)
async def test_headers_that_are_there_twice(shared: Gateway, name: str, status: int) -> None:
    raw = shared.encoded("POST", "/v1/authorizations", json.dumps(good(shared)).encode())
    (line,) = (part for part in raw.split(b"\r\n") if part.startswith(name.encode() + b":"))
    (response,) = await shared.send(raw.replace(line, line + b"\r\n" + line))
    assert response.status == status


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "//v1//authorizations", 404),
        ("GET", "/v1/authorizations/", 404),
        ("POST", "/v1/authorizations/", 404),
        ("GET", "/v1/%61uthorizations", 200),
        ("GET", "/v1/authorizations;x=1", 404),
        ("GET", "/v1/../v1/authorizations", 404),
        ("GET", "/v1/%2e%2e/authorizations", 404),
        ("GET", "/v1/cards/%00", 404),
        ("GET", "/v1/cards/%ff%fe", 404),
        ("GET", "/v1/cards/crd_%27%20OR%201=1", 404),
        ("GET", "/v1/cards/crd_0199a0b0c0d0e0f0010203040506070", 404),
        ("GET", "/v1/cards/CRD_0199A0B0C0D0E0F00102030405060708", 404),
        ("GET", "/v1/cards/{id}", 404),
        ("GET", "/v1/cards/" + "x" * 4_000, 404),
        ("GET", "/v1/authorizations/aut_" + "0" * 32, 404),
        ("POST", "/v1/authorizations/aut_" + "0" * 32 + "/captures", 404),
        ("POST", "/v1/accounts/acc_" + "f" * 32 + "/deposits", 404),
        ("DELETE", "/v1/cards/x", 405),
        ("PATCH", "/v1/authorizations", 405),
        ("OPTIONS", "/v1/authorizations", 405),
        ("TRACE", "/v1/authorizations", 405),
        ("POST", "/health", 405),
        ("GET", "/v1/authorizations?limit=0", 400),
        ("GET", "/v1/authorizations?limit=1000", 400),
        ("GET", "/v1/authorizations?limit=1e1", 400),
        ("GET", "/v1/authorizations?limit=%D9%A3", 400),
        ("GET", "/v1/authorizations?limit=1&limit=2", 400),
        ("GET", "/v1/authorizations?unknown=1", 400),
        ("GET", "/v1/authorizations?card=%00", 400),
        ("GET", "/v1/authorizations?card=%ff", 400),
        ("GET", "/v1/authorizations?card=nobody", 400),
        ("GET", "/v1/authorizations?cursor=aut_zz", 400),
        ("GET", "/v1/authorizations?from=yesterday", 400),
        ("GET", "/v1/authorizations?from=0001-01-01T00:00:00%2B14:00", 400),
        ("GET", "/v1/authorizations?to=2026-01-01", 400),
        ("GET", "/v1/authorizations?decision=maybe", 400),
        ("GET", "/v1/authorizations?" + "a=1&" * 3_000, 400),
    ],
)
async def test_targets(shared: Gateway, method: str, path: str, status: int) -> None:
    body = {"amount": 5} if method == "POST" else None
    response = await shared.call(method, path, body)
    assert response.status == status
    if status != 200:
        assert response.code
    if status == 405:
        assert response.headers["allow"]


async def test_sizes(shared: Gateway) -> None:
    before = await shared.rows()
    body = json.dumps(good(shared)).encode()
    at_limit = body + b" " * (65_536 - len(body))
    assert (await shared.call("POST", "/v1/authorizations", at_limit)).status == 200
    after = await shared.rows()
    assert after["decision"] == before["decision"] + 1
    for path in ("/v1/authorizations", "/v1/programs"):
        response = await shared.call("POST", path, at_limit + b" ")
        assert (response.status, response.code) == (413, "body_too_large")
    head = b"POST /v1/authorizations HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    (chunked,) = await shared.send(
        head + b"8000\r\n" + b"x" * 0x8000 + b"\r\n" * 1 + b"ffff\r\n" + b"x" * 0xFFFF
    )
    assert chunked.status == 413
    assert await shared.rows() == after


async def test_a_chunked_authorization_is_as_good_as_any(shared: Gateway) -> None:
    body = json.dumps(good(shared)).encode()
    raw = shared.encoded(
        "POST",
        "/v1/authorizations",
        b"",
        {"Content-Length": "", "Transfer-Encoding": "chunked", "Content-Type": "application/json"},
    )
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    (response,) = await shared.send(raw + chunks)
    assert response.status == 200


async def test_an_authorization_cut_at_every_byte_books_nothing(shared: Gateway) -> None:
    raw = shared.encoded("POST", "/v1/authorizations", json.dumps(good(shared)).encode())
    before = await shared.rows()

    async def cut(place: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", shared.port)
        writer.write(raw[:place])
        writer.close()
        await writer.wait_closed()

    for place in range(0, len(raw), 32):
        await asyncio.gather(*(cut(at) for at in range(place, min(place + 32, len(raw)))))
    async with asyncio.timeout(10):
        while shared.server.connections or shared.server.tasks:
            await asyncio.sleep(0.01)
    assert await shared.rows() == before
    (response,) = await shared.send(raw)
    assert response.status == 200


async def test_a_caller_who_hangs_up_early_may_ask_again(gateway: Gateway) -> None:
    """N1: whatever became of the request, the same key gets one answer."""
    body = json.dumps(good(gateway)).encode()
    raw = gateway.encoded("POST", "/v1/authorizations", body, {"Idempotency-Key": "gone"})
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(raw)
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    (response,) = await gateway.send(raw)
    assert response.status == 200
    account = (await gateway.get(f"/v1/accounts/{gateway.account['id']}")).json
    assert account["held"] == 5


async def test_a_slow_body_is_told_so(database: str, tmp_path: Path) -> None:
    async with serving(database, tmp_path, JITWAY_BODY_TIMEOUT_S="300ms") as gateway:
        before = await gateway.rows()
        body = json.dumps(good(gateway)).encode()
        raw = gateway.encoded("POST", "/v1/authorizations", body)
        (response,) = await gateway.send(raw[:-3])
        assert (response.status, response.code) == (408, "request_timeout")
        assert await gateway.rows() == before


async def test_whatever_text_is_accepted_comes_back_as_it_was(shared: Gateway) -> None:
    for text in (
        "%s %n {0} ${jndi:ldap://x}",
        "'; DROP TABLE card; --",
        "{{7*7}} <script>",
        "\u202eright\u200dto left",
        "\\u0000 not a NUL",
        '"quoted" \\ back',
        "\U0001f600",
    ):
        made = await shared.post("/v1/cardholders", {"program": shared.program["id"], "name": text})
        assert made.status == 201, text
        found = await shared.get(f"/v1/cardholders/{made.json['id']}")
        assert found.json["name"] == text


async def test_hundreds_of_mutated_requests(shared: Gateway) -> None:
    """Every byte of a good request replaced by bytes that parsers stumble over."""
    raw = shared.encoded("POST", "/v1/authorizations", json.dumps(good(shared)).encode())
    head_end = raw.index(b"\r\n\r\n") + 4

    async def attempt(place: int, byte: bytes) -> None:
        mutated = raw[:place] + byte + raw[place + 1 :]
        responses = await shared.send(mutated)
        assert len(responses) <= 2
        for response in responses:
            assert response.status in REFUSALS | {200}, (place, byte, response.body)

    places = [*range(60), *range(head_end, len(raw))]
    for byte in (b"\x00", b"\xff", b'"', b"\n", b"{"):
        for start in range(0, len(places), 24):
            await asyncio.gather(*(attempt(place, byte) for place in places[start : start + 24]))
    health = await shared.get("/health")
    assert health.json["status"] == "healthy"
