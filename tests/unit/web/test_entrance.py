"""Cookies: looked up once, few at a time, and those that open nothing counted by address."""

import asyncio
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.errors import LedgerUnavailable
from jitway.gateway.sessions import Session, Sessions
from jitway.web.dashboard.entrance import LOADING_MAX, REMEMBERED_S, Entrance
from jitway.web.exchange import Fields
from jitway.web.problems import Refused
from jitway.web.rate_limits import FAILED_KEYS, FailedKeys, RateLimits

KEY = "key_" + "0" * 32
HERE, THERE = "192.0.2.1", "192.0.2.2"
_OF_KEY = {"id": type("Id", (), {"hex": "0" * 32}), "program_id": None, "scopes": ["read"]}


class Ledger:
    """Knows one session and its key, and counts who asks."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.asked: list[str] = []
        self.opened = asyncio.Event()
        self.opened.set()
        rates = RateLimits(
            {FAILED_KEYS: 1}, monotonic_ns=lambda: self.now_ns, wall_s=lambda: self.now_ns / 1e9
        )
        self.entrance = Entrance(
            cast(PostgreSQLAdapter, self),
            cast(Sessions, self),
            monotonic_ns=lambda: self.now_ns,
            failed=FailedKeys(rates, ()),
        )

    async def find(self, token: str) -> Session | None:
        self.asked.append(token)
        await self.opened.wait()
        return Session("5e", KEY, datetime.max.replace(tzinfo=UTC)) if token == "good" else None

    async def execute_query(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
        return [_OF_KEY]

    async def refusal(self, token: str, address: str = HERE) -> Refused:
        with pytest.raises(Refused) as refused:
            await self.entrance.visitor(cookie(token), address)
        return refused.value


def cookie(token: str) -> Fields:
    return {b"cookie": f"jitway_session={token}".encode()}


@pytest.fixture
async def ledger() -> Ledger:
    return Ledger()


async def test_a_guess_is_not_looked_up_again_at_once(ledger: Ledger) -> None:
    for _ in range(5):
        assert (await ledger.refusal("bad")).status == 401
    assert ledger.asked == ["bad"]
    ledger.now_ns = int(REMEMBERED_S * 1.2e9)
    assert (await ledger.refusal("bad")).status == 401
    assert ledger.asked == ["bad", "bad"]


async def test_an_address_that_guesses_has_to_wait_and_others_have_not(ledger: Ledger) -> None:
    assert (await ledger.entrance.visitor(cookie("good"), HERE)).caller.key_id == KEY
    for number in range(10):
        assert (await ledger.refusal(f"bad{number}")).status == 401
    refused = await ledger.refusal("bad")
    assert (refused.status, refused.code) == (429, "too_many_requests")
    assert refused.headers["Retry-After"] == "10"
    assert "bad" not in ledger.asked
    assert (await ledger.refusal("bad", THERE)).status == 401
    # Looked up again, and let in from where others guess.
    ledger.now_ns = 2_000_000_000
    assert (await ledger.entrance.visitor(cookie("good"), HERE)).caller.key_id == KEY
    assert ledger.asked.count("good") == 2


async def test_guesses_do_not_push_a_session_out(ledger: Ledger) -> None:
    await ledger.entrance.visitor(cookie("good"), HERE)
    for number in range(3_000):
        source = f"192.0.{number >> 8}.{number & 255}"
        assert (await ledger.refusal(f"bad{number}", source)).status == 401
    await ledger.entrance.visitor(cookie("good"), HERE)
    assert ledger.asked.count("good") == 1


async def test_few_are_looked_up_at_a_time(ledger: Ledger) -> None:
    ledger.opened.clear()
    waiting = [asyncio.create_task(ledger.refusal(f"bad{n}", f"::{n}")) for n in range(LOADING_MAX)]
    async with asyncio.timeout(10):
        while len(ledger.asked) < LOADING_MAX:
            await asyncio.sleep(0)
    refused = await ledger.refusal("one more", THERE)
    assert (refused.status, refused.code) == (429, "too_many_requests")
    assert len(ledger.asked) == LOADING_MAX
    ledger.opened.set()
    assert {one.status for one in await asyncio.gather(*waiting)} == {401}


async def test_a_ledger_that_hangs_is_away(ledger: Ledger) -> None:
    ledger.opened.clear()
    with pytest.raises(LedgerUnavailable):
        await ledger.entrance.visitor(cookie("good"), HERE)
