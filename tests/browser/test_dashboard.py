"""The live page in a real browser: as an operator sees it, with keyboard and mouse."""

import re
from pathlib import Path
from urllib.parse import urlsplit

from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import expect

from jitway.gateway.sessions import make_login_link
from tests.browser.conftest import Visit
from tests.browser.visitor import Visitor, deposit
from tests.integration.http.gateway import Gateway, serving
from tests.integration.private_redis import private_redis
from tests.integration.tcp_front import TcpFront

BURY = """
    INSERT INTO dead_letter (queue, id, routing_key, body, cause, attempts, replays, history,
        first_failed_at, last_failed_at)
    VALUES ('jit-funding-queue', 'evt-7', 'jit-funding.approved', '{"id": "evt-7"}',
        'KeyError: no such account', 4, 0, '[]', now(), now())
"""
BYTES_MAX = 200_000


async def test_live_values_move_and_a_decline_says_why(gateway: Gateway, visit: Visit) -> None:
    visitor = await visit(gateway.port)
    await visitor.log_in(gateway.key)
    await expect(visitor.at("#verdict-title")).to_have_text("Ready")
    for _ in range(5):
        assert (await gateway.authorize(amount=100)).json["decision"] == "approved"
    await expect(visitor.at("#verdict-title")).to_contain_text("Money flows")
    await expect(visitor.at("#n-rate-more")).to_have_text("5 decided in the last minute")
    await expect(visitor.at("#n-approval")).to_have_text("100.0")

    declined = (await gateway.authorize(amount=20_000)).json
    await expect(visitor.at("#n-rate-more")).to_have_text("6 decided in the last minute")
    await expect(visitor.at("#n-approval")).to_have_text("83.3")
    row = visitor.at(
        "#decisions tbody tr",
    ).filter(has_text="insufficient available balance")
    await expect(row).to_contain_text("200.00 USD")
    await row.get_by_role("button").click()
    detail = visitor.at("#detail")
    await expect(detail).to_contain_text("fails by 105.00")
    await expect(detail).to_contain_text(declined["id"])
    await expect(detail.locator("[data-outcome=broken]")).to_contain_text("available balance")
    await expect(visitor.at("#latency-chart svg")).to_have_attribute(
        "aria-label", re.compile("p99")
    )


async def test_decisions_are_searched(gateway: Gateway, visit: Visit) -> None:
    approved = (await gateway.authorize(amount=700)).json
    await gateway.authorize(amount=30_000)
    visitor = await visit(gateway.port)
    await visitor.log_in(gateway.key)
    rows = visitor.at("#decisions tbody tr")
    await expect(rows).to_have_count(2)
    await visitor.at("#search select[name=decision]").select_option("declined")
    await expect(rows).to_have_count(1)
    await expect(rows).to_contain_text("300.00 USD")
    await visitor.at("#search select[name=decision]").select_option("")
    await expect(rows).to_have_count(2)
    await visitor.at("#search input[name=text]").fill(gateway.card["id"])
    await visitor.at("#search select[name=reason]").select_option("card_frozen")
    await expect(visitor.at("#decisions-note")).to_have_text("0 found")
    await expect(rows).to_have_count(0)
    await visitor.at("#search-live").click()
    await expect(rows).to_have_count(2)
    await visitor.at("#search input[name=text]").fill(approved["id"])
    await visitor.at("#search input[name=text]").press("Enter")
    await expect(visitor.at("#detail-title")).to_have_text("Why was 7.00 USD approved?")


async def test_a_card_is_frozen_and_unfrozen_with_a_reason(gateway: Gateway, visit: Visit) -> None:
    await gateway.authorize(amount=700)
    visitor = await visit(gateway.port)
    await visitor.log_in(gateway.key)
    await visitor.at("#decisions tbody tr button").first.click()
    await visitor.at("#detail").get_by_role("button", name="Freeze the card").click()
    await visitor.give_reason("reported lost")
    await expect(visitor.at("#detail")).to_contain_text("frozen")
    assert (await gateway.authorize()).json["reason"] == "card_frozen"
    await visitor.at("#detail").get_by_role("button", name="Unfreeze the card").click()
    await visitor.give_reason("found again")
    await expect(
        visitor.at("#detail").get_by_role("button", name="Freeze the card")
    ).to_be_visible()
    trail = await gateway.services.postgres.execute_query(
        "SELECT action, reason FROM audit WHERE reason IS NOT NULL ORDER BY id"
    )
    assert [tuple(row.values()) for row in trail] == [
        ("card.frozen", "reported lost"),
        ("card.unfrozen", "found again"),
    ]


async def test_a_dead_letter_is_looked_at_and_replayed(gateway: Gateway, visit: Visit) -> None:
    postgres = gateway.services.postgres
    await postgres.execute_query(
        "INSERT INTO subscription (queue, binding_keys, patterns, retry_delays_ms, declared_at)"
        " VALUES ('jit-funding-queue', '{jit-funding.*}', '{x}', '{1}', now())"
        " ON CONFLICT DO NOTHING"
    )
    visitor = await visit(gateway.port)
    await visitor.log_in(gateway.key)
    await expect(visitor.at("#n-dead")).to_have_text("0")
    await postgres.execute_query(BURY)
    row = visitor.at("#dead tbody tr")
    await expect(row).to_contain_text("KeyError: no such account")
    await expect(visitor.at("#n-dead")).to_have_text("1")
    await row.get_by_role("button", name="Look at").click()
    await expect(visitor.at("#detail")).to_contain_text('"id": "evt-7"')
    await visitor.page.keyboard.press("Escape")
    await expect(visitor.at("#detail")).to_be_hidden()
    await row.get_by_role("button", name="Replay").click()
    await visitor.give_reason("the account is there now")
    await expect(row).to_have_count(0)
    await expect(visitor.at("#n-dead")).to_have_text("0")
    waiting = await postgres.execute_query("SELECT id FROM delivery WHERE id = 'evt-7'")
    assert len(waiting) == 1
    trail = await postgres.execute_query(
        "SELECT action, reason FROM audit WHERE action LIKE 'dead_letter.%'"
    )
    assert trail == [{"action": "dead_letter.replayed", "reason": "the account is there now"}]


async def test_login_logout_and_a_session_that_ends(gateway: Gateway, visit: Visit) -> None:
    visitor = await visit(gateway.port)
    await visitor.open()
    await visitor.at("#login-key").fill("jw_" + "A" * 43)
    await visitor.at("#login-key").press("Enter")
    await expect(visitor.at("#login-error")).to_contain_text("not known")
    await visitor.log_in(gateway.key)
    await visitor.page.reload()
    await visitor.is_live()
    await visitor.at("#logout").click()
    await visitor.is_asked_to_log_in("logged out")
    assert await visitor.page.context.cookies() == []
    await visitor.page.reload()
    await visitor.is_asked_to_log_in("API key")

    await visitor.log_in(gateway.key)
    await gateway.services.postgres.execute_query("DELETE FROM session")
    await visitor.is_asked_to_log_in("has ended")


async def test_a_one_time_link_logs_in_and_leaves_the_address(
    gateway: Gateway, visit: Visit
) -> None:
    link, _ = await make_login_link(gateway.services.postgres)
    visitor = await visit(gateway.port)
    await visitor.open(f"#login={link}")
    await visitor.is_live()
    assert urlsplit(visitor.page.url).fragment == ""
    stranger = await visit(gateway.port)
    await stranger.open(f"#login={link}")
    await expect(stranger.at("#login-error")).to_contain_text("used already")


async def test_a_server_that_restarts_is_found_again(
    database: str, tmp_path: Path, visit: Visit
) -> None:
    async with TcpFront(0) as front:
        async with serving(database, tmp_path, JITWAY_WORK="none") as first:
            front._upstream_port = first.port
            visitor = await visit(front.port)
            await visitor.log_in(first.key)
        await expect(visitor.at("#verdict-title")).to_have_text("No news from the gateway")
        async with serving(database, tmp_path, furnished=False, JITWAY_WORK="none") as second:
            front._upstream_port = second.port
            await visitor.is_live()
            await expect(visitor.at("#verdict-title")).to_have_text("Ready")


async def test_a_hidden_page_pauses(gateway: Gateway, visit: Visit) -> None:
    broadcast = gateway.application._dashboard._broadcast
    visitor = await visit(gateway.port)
    await visitor.log_in(gateway.key)
    watched = [broadcast.watched]
    await _hide(visitor, hidden=True)
    await expect(visitor.at("#connection")).to_have_text("Paused while hidden")
    while broadcast.watched:
        await visitor.page.wait_for_timeout(20)
    await _hide(visitor, hidden=False)
    await visitor.is_live()
    watched.append(broadcast.watched)
    assert watched == [1, 1]


async def _hide(visitor: Visitor, *, hidden: bool) -> None:
    await visitor.page.evaluate(
        "hidden => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true"
        " }); document.dispatchEvent(new Event('visibilitychange')); }",
        hidden,
    )


async def test_a_service_that_dies_is_named_while_money_flows(
    database: str, tmp_path: Path, visit: Visit
) -> None:
    async with (
        private_redis() as redis,
        serving(database, tmp_path, JITWAY_WORK="none", REDIS_URL=redis.url) as gateway,
    ):
        visitor = await visit(gateway.port)
        await visitor.log_in(gateway.key)
        chip = visitor.at(
            "#services li",
        ).filter(has_text="Redis")
        await expect(chip).to_contain_text("healthy")
        await redis.kill()
        assert (await gateway.authorize(amount=5)).json["decision"] == "approved"
        await expect(chip).to_contain_text("unhealthy")
        await expect(visitor.at("#verdict-title")).to_have_text(
            re.compile("Money flows, without Redis|Money flows, but not all of it")
        )
        assert (await gateway.authorize(amount=5)).json["decision"] == "approved"
        # And nobody is logged out by it.
        await visitor.page.reload()
        await visitor.is_live()


async def test_a_key_of_one_program_sees_its_decisions_alone(
    gateway: Gateway, visit: Visit
) -> None:
    await gateway.authorize(amount=700)
    visitor = await visit(gateway.port)
    await visitor.open()
    key = await gateway.new_key("read", program=gateway.program["id"])
    await visitor.at("#login-key").fill(key)
    await visitor.at("#login-key").press("Enter")
    await expect(visitor.at("#decisions tbody tr")).to_have_count(1)
    await expect(visitor.at("#whole")).to_be_hidden()
    await expect(visitor.at("#verdict-title")).to_have_text("One program")


async def test_the_keyboard_is_enough(gateway: Gateway, visit: Visit) -> None:
    await gateway.authorize(amount=700)
    visitor = await visit(gateway.port, reduced_motion="reduce")
    await visitor.log_in(gateway.key)
    await expect(visitor.at("#decisions tbody tr")).to_have_count(1)
    keyboard = visitor.page.keyboard
    why = visitor.at("#decisions tbody tr button")
    for _ in range(40):
        await keyboard.press("Tab")
        if await why.evaluate("node => node === document.activeElement"):
            break
    await expect(why).to_be_focused()
    await keyboard.press("Enter")
    await expect(visitor.at("#detail")).to_be_visible()
    await keyboard.press("Escape")
    await expect(visitor.at("#detail")).to_be_hidden()
    # Figures went on meanwhile: neither they nor the dialog took the focus away.
    await expect(why).to_be_focused()


async def test_no_serious_finding_and_nothing_from_elsewhere(
    gateway: Gateway, visit: Visit
) -> None:
    await deposit(gateway, 100_000)
    for amount in (100, 5_000, 900_000):
        await gateway.authorize(amount=amount)
    await gateway.services.postgres.execute_query(BURY)
    for scheme in ("light", "dark"):
        visitor = await visit(gateway.port, color_scheme=scheme, reduced_motion="reduce")
        await visitor.open()
        await expect(visitor.at("#login")).to_be_visible()
        if scheme == "light":
            await _is_accessible(visitor)
        await visitor.log_in(gateway.key)
        await expect(visitor.at("#decisions tbody tr")).to_have_count(3)
        await expect(visitor.at("#dead tbody tr")).to_have_count(1)
        await _is_accessible(visitor)
        await visitor.at("#decisions tbody tr button").first.click()
        await expect(visitor.at("#detail")).to_be_visible()
        await _is_accessible(visitor)
        assert {urlsplit(one.url).netloc for one in visitor.requests} == {
            f"127.0.0.1:{gateway.port}"
        }
    loaded = 0
    visitor = await visit(gateway.port)
    await visitor.log_in(gateway.key)
    for request in visitor.requests:
        if "/assets/" in request.url or request.url.endswith("/dashboard"):
            response = await request.response()
            assert response is not None
            loaded += len(await response.body())
    assert 10_000 < loaded <= BYTES_MAX


async def _is_accessible(visitor: Visitor) -> None:
    results = await Axe().run(visitor.page)
    serious = [
        (one["id"], one["help"], [node["html"][:200] for node in one["nodes"]])
        for one in results.response["violations"]
        if one["impact"] in {"serious", "critical"}
    ]
    assert not serious


async def test_a_narrow_screen_scrolls_one_way_only(gateway: Gateway, visit: Visit) -> None:
    await gateway.authorize(amount=700)
    visitor = await visit(gateway.port, viewport={"width": 340, "height": 700})
    await visitor.log_in(gateway.key)
    await expect(visitor.at("#decisions tbody tr")).to_have_count(1)
    width = await visitor.page.evaluate("document.documentElement.scrollWidth")
    assert width <= 340
