"""Rates: by key and by address, in windows, over several gateways, and never waited for."""

import asyncio
from dataclasses import dataclass, field

import pytest

from jitway.errors import CacheUnavailable
from jitway.gateway.caller import Caller
from jitway.web import rate_limits
from jitway.web.addresses import caller_source, read_networks, source_of
from jitway.web.authentication import Authenticator
from jitway.web.problems import Refused
from jitway.web.rate_limits import FAILED_KEYS, REQUESTS, FailedKeys, RateLimits

S = 1_000_000_000


@dataclass
class Redis:
    """Counters of all gateways, which can be away."""

    totals: dict[str, int] = field(default_factory=dict)
    is_away: bool = False

    async def increment_counter(
        self, name: str, amount: int = 1, window_s: int | None = None
    ) -> int:
        assert window_s == 2 * rate_limits.WINDOW_S
        if self.is_away:
            raise CacheUnavailable("away")
        self.totals[name] = self.totals.get(name, 0) + amount
        return self.totals[name]


@dataclass
class Hours:
    """Time that a test turns; the wall clock began at 1,000,003 s."""

    now_ns: int = 0

    def rates(self, **rates: int) -> RateLimits:
        return RateLimits(
            rates, monotonic_ns=lambda: self.now_ns, wall_s=lambda: 1_000_003 + self.now_ns / S
        )


def refusal(rates: RateLimits, kind: str, name: str) -> Refused:
    with pytest.raises(Refused) as refused:
        rates.spend(kind, name)
    assert refused.value.status == 429
    return refused.value


def test_so_many_in_a_window_and_then_after_so_long() -> None:
    hours = Hours()
    rates = hours.rates(requests=2)
    for _ in range(20):
        rates.spend(REQUESTS, "key_1")
    # The window of all gateways ends at 1,000,010 s.
    assert refusal(rates, REQUESTS, "key_1").headers == {"Retry-After": "7"}
    hours.now_ns = int(6.5 * S)
    assert refusal(rates, REQUESTS, "key_1").headers == {"Retry-After": "1"}
    rates.spend(REQUESTS, "key_2")
    assert rates.refused == {REQUESTS: 2}
    hours.now_ns = 7 * S
    rates.spend(REQUESTS, "key_1")


def test_zero_is_no_limit_and_counts_nothing() -> None:
    rates = Hours().rates(requests=0)
    for _ in range(100_000):
        rates.spend(REQUESTS, "key_1")
    assert rates.refused == {REQUESTS: 0}


def test_names_are_bounded_and_those_that_are_known_stay_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rate_limits, "NAMES_MAX", 3)
    rates = Hours().rates(requests=1)
    for number in range(100):
        rates.spend(REQUESTS, f"key_{number}")
    for _ in range(9):
        rates.spend(REQUESTS, "key_0")
    refusal(rates, REQUESTS, "key_0")


async def test_gateways_add_up_what_they_counted() -> None:
    hours, redis = Hours(), Redis()
    here, there = hours.rates(requests=1), hours.rates(requests=1)
    for _ in range(6):
        here.spend(REQUESTS, "key_1")
        there.spend(REQUESTS, "key_1")
    await here.share_once(redis)
    await there.share_once(redis)
    await here.share_once(redis)
    refusal(there, REQUESTS, "key_1")
    # What was told once is not told again.
    assert list(redis.totals.values()) == [12]
    hours.now_ns = 8 * S
    here.spend(REQUESTS, "key_1")
    await here.share_once(redis)
    assert sorted(redis.totals.values()) == [1, 12]


async def test_without_redis_each_gateway_holds_its_own_limit() -> None:
    hours, redis = Hours(), Redis(is_away=True)
    rates = hours.rates(requests=1)
    for _ in range(10):
        rates.spend(REQUESTS, "key_1")
    with pytest.raises(CacheUnavailable):
        await rates.share_once(redis)
    redis.is_away = False
    await rates.share_once(redis)
    assert not redis.totals
    refusal(rates, REQUESTS, "key_1")


async def test_the_sharing_goes_on_after_a_failure_and_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rate_limits, "SHARE_S", 0.001)
    redis = Redis(is_away=True)
    rates = RateLimits({REQUESTS: 100}, monotonic_ns=lambda: 0, wall_s=lambda: 0.0, counters=redis)
    await rates.stop()
    rates.start()
    rates.spend(REQUESTS, "key_1")
    await asyncio.sleep(0.02)
    redis.is_away = False
    async with asyncio.timeout(10):
        while not redis.totals:
            rates.spend(REQUESTS, "key_1")
            await asyncio.sleep(0.001)
    await rates.stop()
    await rates.stop()


@pytest.mark.parametrize(
    ("peer", "forwarded", "source"),
    [
        ("192.0.2.1", b"198.51.100.9", "192.0.2.1"),
        ("10.1.2.3", b"198.51.100.9", "198.51.100.9"),
        ("10.1.2.3", b"1.2.3.4, 198.51.100.9", "198.51.100.9"),
        ("10.1.2.3", b"1.2.3.4, 198.51.100.9, 10.9.9.9", "198.51.100.9"),
        ("10.1.2.3", b"10.1.1.1", "10.1.2.3"),
        ("10.1.2.3", b"\xff<script>", "unknown"),
        ("10.1.2.3", b"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:10.1.2.3", b"198.51.100.9", "198.51.100.9"),
        ("::1", b"198.51.100.9", "198.51.100.9"),
        ("2001:db8::1", b"198.51.100.9", "2001:db8::/64"),
        ("", b"198.51.100.9", "unknown"),
    ],
)
def test_who_is_counted(peer: str, forwarded: bytes, source: str) -> None:
    trusted = read_networks("10.0.0.0/8, ::1")
    assert caller_source(peer, [forwarded], trusted) == source


def test_without_trusted_proxies_the_header_is_anybodys_text() -> None:
    assert caller_source("10.1.2.3", [b"198.51.100.9"], ()) == "10.1.2.3"
    assert caller_source("10.1.2.3", [], read_networks("10.0.0.0/8")) == "10.1.2.3"
    assert source_of("fe80::1%eth0") == "fe80::/64"


async def test_guessing_is_slowed_down_and_good_keys_are_not() -> None:
    hours, looked_up = Hours(), list[str]()

    async def load(key: str) -> Caller | None:
        looked_up.append(key)
        return Caller("key_1", None, frozenset()) if key == "good" else None

    rates = hours.rates(failed_keys=1)
    authenticator = Authenticator(
        load, monotonic_ns=lambda: hours.now_ns, failed=FailedKeys(rates, ())
    )

    async def ask(key: str, address: str = "192.0.2.1") -> int:
        fields = {b"authorization": f"Bearer {key}".encode()}
        try:
            await authenticator.caller(fields, address)
        except Refused as refused:
            return refused.status
        return 200

    assert await ask("good") == 200
    assert [await ask(f"bad{n}") for n in range(12)] == [401] * 10 + [429] * 2
    assert looked_up == ["good", *(f"bad{n}" for n in range(10))]
    # Looked up again after a second, although others at its address are refused.
    hours.now_ns = 2 * S
    assert await ask("good") == 200
    assert await ask("bad", "192.0.2.2") == 401
    hours.now_ns = 7 * S
    assert await ask("bad") == 401
    assert rates.refused == {FAILED_KEYS: 2}
