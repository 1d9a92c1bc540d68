"""Keys: looked up once, remembered below a second, and guesses remembered apart."""

import asyncio

import pytest

from jitway.gateway.caller import Caller
from jitway.web.authentication import REMEMBERED_S, Authenticator, demand
from jitway.web.problems import Refused

ADA = Caller("key_1", None, frozenset({"authorize"}))
GOOD = {b"authorization": b"Bearer good"}
BAD = {b"authorization": b"Bearer bad"}


class Ledger:
    """Knows one key, until it is revoked, and counts who asks."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.now_ns = 0
        self.is_revoked = False
        self.authenticator = Authenticator(self.load, monotonic_ns=lambda: self.now_ns)

    async def load(self, key: str) -> Caller | None:
        self.asked.append(key)
        await asyncio.sleep(0)
        return ADA if key == "good" and not self.is_revoked else None


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


async def test_a_key_is_looked_up_once_however_many_ask(ledger: Ledger) -> None:
    authenticator = ledger.authenticator
    assert authenticator.peek(GOOD) is None
    callers = await asyncio.gather(*(authenticator.caller(GOOD) for _ in range(50)))
    assert set(callers) == {ADA}
    assert authenticator.peek(GOOD) is ADA
    assert ledger.asked == ["good"]


async def test_a_revoked_key_is_forgotten_within_a_second(ledger: Ledger) -> None:
    await ledger.authenticator.caller(GOOD)
    ledger.is_revoked = True
    ledger.now_ns = 999_000_000
    assert ledger.authenticator.peek(GOOD) is None
    with pytest.raises(Refused) as refused:
        await ledger.authenticator.caller(GOOD)
    assert refused.value.status == 401
    assert REMEMBERED_S * 1.1 < 1


async def test_guesses_are_not_looked_up_again_at_once(ledger: Ledger) -> None:
    for _ in range(10):
        with pytest.raises(Refused):
            await ledger.authenticator.caller(BAD)
    assert ledger.asked == ["bad"]
    ledger.now_ns = 1_000_000_000
    with pytest.raises(Refused):
        await ledger.authenticator.caller(BAD)
    assert ledger.asked == ["bad", "bad"]


async def test_guesses_do_not_push_good_keys_out(ledger: Ledger) -> None:
    await ledger.authenticator.caller(GOOD)
    for number in range(20_000):
        with pytest.raises(Refused):
            await ledger.authenticator.caller({b"authorization": b"Bearer x%d" % number})
    assert ledger.authenticator.peek(GOOD) is ADA


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic good",
        b"Bearer good good",
        b"Bearer \xff",
        b"Bearer a\x00b",
        b"Bearer " + b"x" * 129,
        b"good",
    ],
)
async def test_what_is_no_key_is_refused_without_asking(
    ledger: Ledger, header: bytes | None
) -> None:
    fields = {} if header is None else {b"authorization": header}
    for look in (ledger.authenticator.caller(fields),):
        with pytest.raises(Refused) as refused:
            await look
        assert refused.value.status == 401
        assert refused.value.headers == {"WWW-Authenticate": "Bearer"}
    with pytest.raises(Refused):
        ledger.authenticator.peek(fields)
    assert ledger.asked == []


def test_scopes() -> None:
    demand(ADA, frozenset({"authorize", "read"}))
    with pytest.raises(Refused) as refused:
        demand(ADA, frozenset({"operate"}))
    assert refused.value.status == 403
