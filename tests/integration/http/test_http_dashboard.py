"""The live page over HTTP: login, the cookie, what it may do and for whom, the stream."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from jitway.clock import SystemClock
from jitway.gateway.keys import list_keys, revoke_key
from jitway.gateway.sessions import make_login_link
from tests.integration.http.gateway import US, Gateway, Response, serving

BURY = """
    INSERT INTO dead_letter (queue, id, routing_key, body, cause, attempts, replays, history,
        first_failed_at, last_failed_at)
    VALUES ('jit-funding-queue', $1, 'jit-funding.approved', $2, 'ValueError: no such thing', 4, 0,
        '[]', now(), now())
"""
HOST = "jitway.test"
# What a browser adds to whatever the page itself sends.
OWN = {"Origin": f"http://{HOST}", "Authorization": "", "Idempotency-Key": ""}


@dataclass
class Browser:
    """One that is logged in, or not yet."""

    gateway: Gateway
    cookie: str = ""
    page_token: str = ""
    who: dict[str, Any] = field(default_factory=dict)

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Response:
        sent = OWN | {"Cookie": self.cookie, "X-Jitway-Page": self.page_token}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.gateway.call(method, f"/dashboard{path}", body, sent)

    async def log_in(self, **secret: str) -> Response:
        response = await self.call("POST", "/login", secret)
        if response.status == 200:
            self.cookie = response.headers["set-cookie"].split(";")[0]
            self.who = response.json
            self.page_token = self.who["page_token"]
        return response

    @asynccontextmanager
    async def stream(self) -> AsyncIterator["Events"]:
        """The open stream."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port)
        head = {"Host": HOST, "Cookie": self.cookie, "Accept": "text/event-stream"}
        lines = ["GET /dashboard/stream HTTP/1.1", *(f"{k}: {v}" for k, v in head.items())]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
        try:
            async with asyncio.timeout(20):
                said = await reader.readuntil(b"\r\n\r\n")
                yield Events(said, reader)
        finally:
            writer.close()


@dataclass
class Events:
    """Server-sent events as they come."""

    head: bytes
    reader: asyncio.StreamReader

    async def next(self, name: str) -> dict[str, Any]:
        """The next event of a name."""
        while True:
            text = (await self.reader.readuntil(b"\n\n")).decode()
            lines = dict(line.split(": ", 1) for line in text.strip().splitlines())
            if lines.get("event") == name:
                data: dict[str, Any] = json.loads(lines["data"])
                return data

    async def until(self, name: str, found: Any) -> dict[str, Any]:
        """The first event that is as it should be."""
        while not found(event := await self.next(name)):
            pass
        return event


@pytest.fixture
async def browser(shared: Gateway) -> Browser:
    browser = Browser(shared)
    assert (await browser.log_in(key=shared.key)).status == 200
    return browser


async def audit(gateway: Gateway) -> list[dict[str, Any]]:
    return await gateway.services.postgres.execute_query(
        "SELECT actor, action, subject, reason FROM audit ORDER BY id DESC LIMIT 1"
    )


# Login -----------------------------------------------------------------------------------------


async def test_the_page_is_there_for_everybody_and_nothing_in_it(shared: Gateway) -> None:
    response = await Browser(shared).call("GET", "")
    assert response.status == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["cache-control"] == "no-store"
    head = await Browser(shared).call("HEAD", "")
    assert (head.status, head.body) == (200, b"")
    assert (await Browser(shared).call("GET", "/assets/none/page.js")).code == "route_not_found"
    assert (await Browser(shared).call("GET", "/nothing")).code == "route_not_found"
    assert (await Browser(shared).call("POST", "")).status == 405


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "http://\u2100", "null"])
async def test_an_origin_that_is_no_url_is_another_site(shared: Gateway, origin: str) -> None:
    text = origin.encode("utf-8").decode("latin-1")
    response = await Browser(shared).call("POST", "/login", {"key": shared.key}, Origin=text)
    assert (response.status, response.code) == (403, "cross_site")


async def test_a_key_opens_a_session_and_logout_ends_it(shared: Gateway) -> None:
    browser = Browser(shared)
    assert (await browser.call("GET", "/session")).code == "unauthenticated"
    response = await browser.log_in(key=shared.key)
    assert response.status == 200
    cookie = response.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Secure" not in cookie
    assert shared.key not in cookie + response.body.decode()
    assert browser.who["program"] is None
    assert "card_frozen" in browser.who["reasons"]
    assert (await browser.call("GET", "/session")).json == browser.who

    ended = await browser.call("POST", "/logout")
    assert ended.status == 200
    assert "Max-Age=0" in ended.headers["set-cookie"]
    assert (await browser.call("GET", "/session")).status == 401
    assert (await browser.call("GET", "/v1/authorizations")).status == 401


async def test_behind_tls_the_cookie_never_goes_without_it(shared: Gateway) -> None:
    body = {"key": shared.key}
    response = await Browser(shared).call("POST", "/login", body, Origin=f"https://{HOST}")
    assert response.headers["set-cookie"].endswith("; Secure")


async def test_bad_keys_are_refused_and_their_address_has_to_wait(
    database: str, tmp_path: Path
) -> None:
    rates = {"JITWAY_FAILED_KEYS_RATE_MAX": "1"}
    async with serving(database, tmp_path, furnished=False, **rates) as gateway:
        browser = Browser(gateway)
        for wrong in ({}, {"key": gateway.key, "link": "x"}):
            assert (await browser.call("POST", "/login", wrong)).code == "invalid_request"
        wordless = await gateway.new_key("admin")
        assert (await browser.log_in(key=wordless)).code == "insufficient_scope"
        # Ten may be bad in a window of ten seconds; the next one may end between two of them.
        refused = await browser.log_in(key="jw_" + "A" * 43)
        codes = {refused.code}
        for _ in range(40):
            if refused.status == 429:
                break
            refused = await browser.log_in(key="jw_" + "A" * 43)
            codes.add(refused.code)
        assert codes == {"unauthenticated", "too_many_requests"}
        assert 0 < int(refused.headers["retry-after"]) <= 10
        assert (await browser.log_in(key=gateway.key)).status in {200, 429}


async def test_cookies_that_open_nothing_are_bad_keys_of_their_address(
    database: str, tmp_path: Path
) -> None:
    rates = {"JITWAY_FAILED_KEYS_RATE_MAX": "5"}
    async with serving(database, tmp_path, furnished=False, **rates) as gateway:
        browser = Browser(gateway)
        assert (await browser.log_in(key=gateway.key)).status == 200

        async def guess(number: int) -> str:
            cookie = f"jitway_session={number:043}"
            return (await Browser(gateway, cookie).call("GET", "/session")).code

        assert await guess(0) == "unauthenticated"
        codes: set[str] = set()
        for at in range(1, 1_001, 100):
            codes |= set(await asyncio.gather(*map(guess, range(at, at + 100))))
        assert codes == {"unauthenticated", "too_many_requests"}
        # Who was let in before is no guess, also when the session is to be looked up again.
        gateway.application._dashboard._entrance._found.clear()
        assert (await browser.call("GET", "/session")).json == browser.who


async def test_a_login_link_lets_one_browser_in_once(shared: Gateway) -> None:
    link, caller = await make_login_link(shared.services.postgres)
    browser = Browser(shared)
    assert (await browser.log_in(link=link)).status == 200
    assert browser.who["key"] == caller.key_id
    assert (await Browser(shared).log_in(link=link)).code == "unauthenticated"


async def test_the_command_line_prints_a_link(database: str, tmp_path: Path) -> None:
    async with serving(database, tmp_path, furnished=False) as gateway:

        async def run(*more: str) -> tuple[int | None, str]:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "jitway", "dashboard-link", *more),
                env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DATABASE_URL": database},
                cwd=tmp_path,
                stdout=asyncio.subprocess.PIPE,
            )
            said, _ = await process.communicate()
            return process.returncode, said.decode().strip()

        code, said = await run("--url", "http://gw.test:81/", "--json")
        made = json.loads(said)
        address, _, link = made["url"].partition("#login=")
        assert (code, address, made["minutes"]) == (0, "http://gw.test:81/dashboard", 10)
        browser = Browser(gateway)
        assert (await browser.log_in(link=link)).status == 200
        assert browser.who["key"] == made["key"]

        code, said = await run()
        assert (code, said.partition("#")[0]) == (0, "http://127.0.0.1:3000/dashboard")
        assert await run("--key-id", "key_" + "0" * 32) == (1, "")


async def test_a_revoked_key_ends_its_sessions(shared: Gateway) -> None:
    key = await shared.new_key("read", "operate")
    browser = Browser(shared)
    await browser.log_in(key=key)
    assert (await browser.call("GET", "/v1/authorizations")).status == 200
    async with browser.stream() as events:
        await events.next("history")
        postgres = shared.services.postgres
        assert browser.who["key"] in {one["id"] for one in await list_keys(postgres, US)}
        await revoke_key(postgres, SystemClock(), US, browser.who["key"])
        await events.next("ended")
        assert await events.reader.read() == b""
    assert (await browser.call("GET", "/session")).status == 401


async def test_a_session_that_expires_ends_the_stream(database: str, tmp_path: Path) -> None:
    async with serving(database, tmp_path, furnished=False) as gateway:
        browser = Browser(gateway)
        await browser.log_in(key=gateway.key)
        async with browser.stream() as events:
            await events.next("figures")
            await gateway.services.postgres.execute_query(
                "UPDATE session SET expires_at = now() - interval '1 s'"
            )
            await events.next("ended")
        assert (await browser.call("GET", "/session")).status == 401


# What other sites cannot do ----------------------------------------------------------------------


async def test_other_sites_change_nothing(browser: Browser) -> None:
    card = browser.gateway.card["id"]
    freeze, why = f"/v1/cards/{card}/freeze", {"reason": "test"}
    for headers in (
        {"Origin": "http://evil.test"},
        {"Origin": ""},
        {"Sec_Fetch_Site": "cross-site"},
        {"X_Jitway_Page": ""},
        {"X_Jitway_Page": "0" * 64},
    ):
        assert (await browser.call("POST", freeze, why, **headers)).code == "cross_site"
        assert (await browser.call("POST", "/logout", **headers)).code == "cross_site"
    login = {"key": browser.gateway.key}
    refused = await browser.call("POST", "/login", login, Origin="http://evil.test")
    assert refused.code == "cross_site"
    form = await browser.call("POST", "/login", login, Content_Type="text/plain")
    assert form.code == "unsupported_media_type"
    assert (await browser.gateway.get(f"/v1/cards/{card}")).json["status"] == "active"


async def test_a_session_is_no_key_and_a_key_is_no_session(browser: Browser) -> None:
    gateway = browser.gateway
    api = await gateway.get("/v1/authorizations", Authorization="", Cookie=browser.cookie)
    assert api.status == 401
    page = await gateway.get("/dashboard/session")
    assert page.status == 401


# What the page does ----------------------------------------------------------------------------


async def test_it_reads_what_the_key_reads(browser: Browser) -> None:
    made = (await browser.gateway.authorize(amount=20_000)).json
    listed = (await browser.call("GET", "/v1/authorizations?decision=declined")).json["data"]
    assert made["id"] in {one["id"] for one in listed}
    why = await browser.call("GET", f"/v1/authorizations/{made['id']}")
    assert why.json["explanation"][-1]["rule"] == "available_balance"
    assert "fails by 100.00" in why.json["summary"]
    assert why.headers["cache-control"] == "no-store"
    assert (await browser.call("GET", "/v1/profile")).status == 200


async def test_it_freezes_and_unfreezes_with_a_reason(browser: Browser) -> None:
    card = browser.gateway.card["id"]
    for reason in ({}, {"reason": "  "}):
        refused = await browser.call("POST", f"/v1/cards/{card}/freeze", reason)
        assert refused.code == "missing_field"
    frozen = await browser.call("POST", f"/v1/cards/{card}/freeze", {"reason": "it was lost"})
    assert frozen.json["status"] == "frozen"
    assert (await audit(browser.gateway))[0] == {
        "actor": browser.who["key"],
        "action": "card.frozen",
        "subject": card,
        "reason": "it was lost",
    }
    assert (await browser.gateway.authorize()).json["reason"] == "card_frozen"
    again = await browser.call("POST", f"/v1/cards/{card}/unfreeze", {"reason": "it was found"})
    assert again.json["status"] == "active"


async def test_it_changes_nothing_else(browser: Browser) -> None:
    gateway, why = browser.gateway, {"reason": "test"}
    closing = await browser.call("POST", f"/v1/cards/{gateway.card['id']}/close", why)
    assert closing.code == "insufficient_scope"
    for path in ("/v1/programs", f"/v1/accounts/{gateway.account['id']}/deposits"):
        assert (await browser.call("POST", path, why)).code == "insufficient_scope"
    assert (await browser.call("POST", "/v1/authorizations", why)).status in {403, 405}
    reading = Browser(gateway)
    await reading.log_in(key=await gateway.new_key("read"))
    freeze = await reading.call("POST", f"/v1/cards/{gateway.card['id']}/freeze", why)
    assert freeze.code == "insufficient_scope"


async def test_dead_letters_are_replayed_and_discarded_with_a_reason(browser: Browser) -> None:
    postgres = browser.gateway.services.postgres
    for name in ("one", "two"):
        await postgres.execute_query(BURY, [name, b"{}"])
    listed = (await browser.call("GET", "/v1/dead-letters")).json["data"]
    assert {one["id"] for one in listed} == {"one", "two"}
    assert (await browser.call("POST", "/v1/dead-letters/one/replay", {})).code == "missing_field"
    for name, act, done in (("one", "replay", "replayed"), ("two", "discard", "discarded")):
        path = f"/v1/dead-letters/{name}/{act}?queue=jit-funding-queue"
        assert (await browser.call("POST", path, {"reason": f"{act} it"})).status == 200
        (row,) = await audit(browser.gateway)
        assert (row["actor"], row["action"]) == (browser.who["key"], f"dead_letter.{done}")
        assert row["reason"] == f"{act} it"


async def test_a_key_of_one_program_sees_that_one_alone(browser: Browser) -> None:
    gateway = browser.gateway
    made = (await gateway.authorize(amount=1)).json["id"]
    of = {"name": "Another", "currency": "USD", "time_zone": "UTC"}
    other = (await gateway.post("/v1/programs", of)).json["id"]
    for program, seen in ((gateway.program["id"], True), (other, False)):
        visitor = Browser(gateway)
        await visitor.log_in(key=await gateway.new_key("read", program=program))
        assert visitor.who["program"] == program
        listed = (await visitor.call("GET", "/v1/authorizations")).json["data"]
        assert (made in {one["id"] for one in listed}) is seen
        why = await visitor.call("GET", f"/v1/authorizations/{made}")
        assert why.status == (200 if seen else 404)
        assert (await visitor.call("GET", "/stream")).code == "insufficient_scope"
        assert (await visitor.call("GET", "/v1/profile")).status == 404


# The stream --------------------------------------------------------------------------------------


async def test_the_stream_tells_what_happens(browser: Browser) -> None:
    async with browser.stream() as events:
        assert b"content-type: text/event-stream" in events.head
        assert b"x-accel-buffering: no" in events.head
        history = await events.next("history")
        assert history["warning_ms"] == 50
        made = (await browser.gateway.authorize(amount=30_000)).json
        figures = await events.until(
            "figures", lambda one: one["minute"]["reasons"] and one["decisions"] and one["holds"]
        )
        assert figures["minute"]["decisions"]["declined"] >= 1
        assert figures["minute"]["reasons"]["insufficient_available_balance"] >= 1
        assert figures["decisions"][0]["id"] == made["id"]
        assert [stage["name"] for stage in figures["stages"]][:2] == ["total", "decode"]
        assert {row["queue"] for row in figures["queues"]} >= {"jit-funding-queue"}
        assert figures["services"]["postgres"]["status"] == "healthy"
        assert figures["services"]["redis"]["status"] == "disabled"
        assert figures["holds"]["is_all"]
        assert figures["outbox"]["depth"] >= 0
        assert figures["pool"]["total_connections"] >= 1
        assert figures["slowest"]
        # A machine that is busy may be slow, and then it says so.
        told = {(one["alert"], one["subject"]) for one in figures["told"]}
        assert {(one["alert"], one["subject"]) for one in figures["alerts"]} <= told


async def test_pages_that_close_leave_nothing_behind(browser: Browser) -> None:
    broadcast = browser.gateway.application._dashboard._broadcast
    for _ in range(3):
        async with browser.stream() as one, browser.stream() as other:
            first, second = await asyncio.gather(one.next("figures"), other.next("figures"))
            assert first["workers"] == second["workers"] == 1
            assert broadcast.watched == 2
        async with asyncio.timeout(10):
            while broadcast.watched:
                await asyncio.sleep(0.02)


async def test_a_server_that_stops_ends_the_streams_at_once(database: str, tmp_path: Path) -> None:
    async with serving(database, tmp_path, furnished=False) as gateway:
        browser = Browser(gateway)
        await browser.log_in(key=gateway.key)
        async with browser.stream() as events:
            await events.next("figures")
            gateway.server.drain()
            await events.reader.read()
