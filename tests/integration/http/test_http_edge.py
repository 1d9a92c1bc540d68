"""The edge over real sockets: slow, silent, greedy and guessing callers, and who must not notice.

Faults S9, S11, S12, N6, O1, O3 in small; `scripts/bench overload` has them in large.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jitway.adapters.redis import RedisAdapter
from jitway.web.problems import Refused
from jitway.web.rate_limits import REQUESTS, RateLimits
from tests.integration.http.gateway import Gateway, serving
from tests.integration.private_redis import private_redis

HEAD = b"POST /v1/authorizations HTTP/1.1\r\nHost: a\r\n"
CROWD = 150


@pytest.fixture
async def strict(database: str, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway whose limits a test can reach."""
    limits = {
        "JITWAY_HEAD_TIMEOUT_S": "300ms",
        "JITWAY_BODY_TIMEOUT_S": "300ms",
        "JITWAY_FIRST_BYTE_TIMEOUT_S": "300ms",
        "JITWAY_KEEP_ALIVE_S": "10s",
        "JITWAY_HEAD_BYTES_MAX": "2KiB",
        "JITWAY_HEADERS_MAX": "12",
        "JITWAY_BODY_BYTES_MAX": "4KiB",
        "JITWAY_CONNECTIONS_PER_ADDRESS_MAX": str(CROWD + 10),
        "JITWAY_KEY_RATE_MAX": "5",
        "JITWAY_FAILED_KEYS_RATE_MAX": "1",
        "JITWAY_TRUSTED_PROXIES": "127.0.0.1",
        "JITWAY_QUERIES_MAX": "1",
    }
    async with serving(database, tmp_path, furnished=False, **limits) as gateway:
        yield gateway


async def until_hung_up(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            return await reader.read()
    return b""


async def test_a_crowd_of_slow_callers_is_sent_away_and_others_are_served(strict: Gateway) -> None:
    async def trickle(kind: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", strict.port)
        # Silent; a head that never ends; a body that never ends.
        beginning = (b"", HEAD + b"X: ", HEAD + b"Content-Length: 4000\r\n\r\n")[kind % 3]
        ended = asyncio.create_task(until_hung_up(reader))
        with contextlib.suppress(ConnectionError):
            writer.write(beginning)
            while beginning and not ended.done():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)
        said = await ended
        writer.close()
        return said

    crowd = [asyncio.create_task(trickle(number)) for number in range(CROWD)]
    while len(strict.server.connections) < CROWD:
        await asyncio.sleep(0.01)
    while not all(task.done() for task in crowd):
        assert (await strict.get("/live")).status == 200
    said = await asyncio.gather(*crowd)
    assert all(answer == b"" for answer in said[0::3])
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in [*said[1::3], *said[2::3]])
    async with asyncio.timeout(10):
        while strict.server.connections or strict.server.sources:
            await asyncio.sleep(0.01)


async def test_heads_and_bodies_beyond_the_settings(strict: Gateway) -> None:
    many = b"".join(b"X-%d: 1\r\n" % number for number in range(12))
    (response,) = await strict.send(HEAD + many + b"\r\n")
    assert (response.status, response.code) == (431, "headers_too_large")
    (response,) = await strict.send(HEAD + b"X: " + b"x" * 3_000)
    assert (response.status, response.code) == (431, "headers_too_large")
    (response,) = await strict.send(HEAD + b"Content-Length: 4097\r\n\r\n")
    assert (response.status, response.code) == (413, "body_too_large")


async def test_a_hundred_thousand_chunks_of_one_byte_end_at_the_limit(strict: Gateway) -> None:
    bomb = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 100_000
    (response,) = await strict.send(bomb)
    assert (response.status, response.code) == (413, "body_too_large")
    assert (await strict.get("/live")).status == 200


async def test_trailers_without_an_end_are_refused(strict: Gateway) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", strict.port)
    writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ")
    ended = asyncio.create_task(until_hung_up(reader))
    with contextlib.suppress(ConnectionError):
        while not ended.done():
            writer.write(b"x" * 10_000)
            await writer.drain()
            await asyncio.sleep(0.001)
    assert (await ended).startswith(b"HTTP/1.1 431 ")
    writer.close()


async def test_one_address_does_not_take_every_connection(database: str, tmp_path: Path) -> None:
    limit = {"JITWAY_CONNECTIONS_PER_ADDRESS_MAX": "3"}
    async with serving(database, tmp_path, furnished=False, **limit) as gateway:
        held = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(3)]
        while len(gateway.server.connections) < 3:
            await asyncio.sleep(0.01)
        (refused,) = await gateway.send(gateway.encoded("GET", "/live"))
        assert (refused.status, refused.code) == (503, "too_many_connections")
        assert refused.headers["retry-after"] == "1"
        held[0][1].close()
        async with asyncio.timeout(10):
            while (await gateway.get("/live")).status != 200:
                await asyncio.sleep(0.01)
        for _, writer in held:
            writer.close()


async def test_a_key_asks_so_often_and_probes_and_authorizations_are_no_part_of_it(
    strict: Gateway,
) -> None:
    statuses = [(await strict.get("/v1/programs/prg_" + "0" * 32)).status for _ in range(51)]
    # A window may end between two of them, but not after each.
    assert set(statuses) == {404, 429} or statuses.count(404) == 51
    async with asyncio.timeout(20):
        while (refused := await strict.get("/v1/authorizations")).status != 429:
            pass
    assert refused.code == "too_many_requests"
    assert 1 <= int(refused.headers["retry-after"]) <= 10
    for path in ("/live", "/ready", "/health", "/metrics"):
        assert (await strict.get(path)).status == 200
    asked = await strict.post("/v1/authorizations", {"card": "x", "amount": 1, "currency": "USD"})
    assert asked.status == 200
    metrics = (await strict.get("/metrics")).body.decode()
    assert 'jitway_turned_away_total{why="requests"}' in metrics


async def test_guesses_from_one_address_do_not_cost_another_its_turn(strict: Gateway) -> None:
    async def guess(number: int, source: str) -> int:
        headers = {"Authorization": f"Bearer jw_{number:043}", "X-Forwarded-For": source}
        return (await strict.call("GET", "/v1/authorizations", None, headers)).status

    forwarded = {"X-Forwarded-For": "192.0.2.1"}
    assert (await strict.call("GET", "/v1/authorizations", None, forwarded)).status == 200
    async with asyncio.timeout(20):
        number = 0
        while (status := await guess(number, "1.2.3.4, 192.0.2.1")) != 429:
            assert status == 401
            number += 1
    assert number >= 10
    # What a caller writes before what the proxy wrote changes nothing; another caller is another.
    assert await guess(0, "9.9.9.9, 192.0.2.1") in {401, 429}
    assert await guess(1, "192.0.2.77") == 401
    # A key that was good lately is no guess, whoever else is at its address.
    await asyncio.sleep(1)
    good = await strict.call("GET", "/v1/authorizations", None, forwarded)
    assert good.status == 200


async def test_reads_wait_their_turn_and_authorizations_do_not(gateway: Gateway) -> None:
    queries = gateway.application._queries
    turns = [queries for _ in range(2)]
    async with contextlib.AsyncExitStack() as held:
        for turn in turns:
            await held.enter_async_context(turn.turn())
        reading = asyncio.create_task(gateway.get("/v1/authorizations"))
        scrapes = await asyncio.gather(*(gateway.get("/metrics") for _ in range(100)))
        assert {scrape.status for scrape in scrapes} == {200}
        assert (await gateway.authorize()).json["decision"] == "approved"
        assert (await gateway.post(f"/v1/cards/{gateway.card['id']}/freeze")).status == 200
        refused = await reading
        assert (refused.status, refused.code) == (503, "too_many_queries")
        assert refused.headers["retry-after"] == "1"
    assert (await gateway.get("/v1/authorizations")).status == 200


async def test_beyond_what_can_be_decided_nothing_is_booked_and_the_rest_goes_on(
    gateway: Gateway,
) -> None:
    admission = gateway.services.authorizer.admission
    before = await gateway.rows()
    limit, admission.limit = admission.limit, 0
    refused = await gateway.authorize()
    assert (refused.status, refused.code) == (503, "no_decision")
    assert refused.headers["retry-after"] == "1"
    raw = gateway.encoded("POST", "/v1/authorizations", b"{}", last=False)
    last = gateway.encoded("GET", "/ready")
    many = await gateway.send(raw * 50 + last)
    assert [response.status for response in many] == [503] * 50 + [200]
    assert await gateway.rows() == before
    assert (await gateway.get("/v1/authorizations")).status == 200
    admission.limit = limit
    assert (await gateway.authorize()).status == 200
    assert admission.refused == 51
    assert admission.under_way == 0


async def test_a_burst_is_decided_by_a_few_full_batches(gateway: Gateway) -> None:
    body = b'{"card":"%b","amount":1,"currency":"USD"}' % gateway.card["id"].encode()
    raws = [gateway.encoded("POST", "/v1/authorizations", body) for _ in range(200)]
    answers = await asyncio.gather(*(gateway.send(raw) for raw in raws))
    assert {response.status for (response,) in answers} <= {200, 503}
    assert sum(response.status == 200 for (response,) in answers) >= 100
    assert gateway.services.authorizer.admission.under_way == 0


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00+14:00",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999Z",
        "9999-12-31T23:59:59-14:00",
    ],
)
async def test_instants_at_the_edge_of_the_calendar_are_no_bug_of_ours(
    gateway: Gateway, text: str
) -> None:
    admin = {"Authorization": f"Bearer {await gateway.new_key('admin')}"}
    body = {"scopes": ["admin"], "expires_at": text}
    made = await gateway.call("POST", "/v1/keys", body, admin)
    if text == "9999-12-31T23:59:59.999999Z":
        assert (made.status, made.json["expires_at"]) == (201, text)
    else:
        assert (made.code, made.json["pointer"]) == ("invalid_request", "/expires_at")
    key = (await gateway.call("POST", "/v1/keys", {"scopes": ["admin"]}, admin)).json["id"]
    rotated = await gateway.call("POST", f"/v1/keys/{key}/rotate", {"until": text}, admin)
    if text == "0001-01-01T00:00:00Z":
        assert rotated.status == 201
    else:
        assert (rotated.code, rotated.json["pointer"]) == ("invalid_request", "/until")
    for name in ("from", "to"):
        listed = await gateway.get(f"/v1/authorizations?{name}={text.replace('+', '%2B')}")
        assert listed.status in {200, 400}


async def test_answers_are_kept_in_no_cache_and_name_no_product(gateway: Gateway) -> None:
    for response in (
        await gateway.authorize(),
        await gateway.get(f"/v1/cards/{gateway.card['id']}"),
        await gateway.get("/v1/nothing"),
    ):
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "server" not in response.headers
    allowed = await gateway.call("OPTIONS", "/v1/authorizations")
    assert (allowed.status, allowed.headers["allow"]) == (405, "GET, HEAD, POST")
    raw = gateway.encoded("HEAD", "/health")
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(raw)
    said = await until_hung_up(reader)
    assert said.startswith(b"HTTP/1.1 200 ")
    assert said.endswith(b"\r\n\r\n")
    writer.close()


async def test_rates_of_two_gateways_meet_in_redis() -> None:
    async with private_redis() as server:
        redis = RedisAdapter({"REDIS_URL": server.url}, timeout_ms=1000)
        here, there = (
            RateLimits(
                {REQUESTS: 1}, monotonic_ns=time.monotonic_ns, wall_s=lambda: 5.0, counters=redis
            )
            for _ in range(2)
        )
        try:
            for _ in range(6):
                here.spend(REQUESTS, "key_1")
                there.spend(REQUESTS, "key_1")
            await here.share_once(redis)
            await there.share_once(redis)
            with pytest.raises(Refused) as refused:
                there.spend(REQUESTS, "key_1")
            assert refused.value.status == 429
        finally:
            await redis.close()
