"""`L1Cache`: bounds, deadlines, versions and single flight."""

import asyncio
from typing import NamedTuple

import pytest

from jitway.cache.l1 import L1Cache, TooManyLoads

TTL_S = 100.0
# Every deadline is a tenth earlier or later.
SURELY_ALIVE_S, SURELY_OVER_S = TTL_S * 0.89, TTL_S * 1.11


class Dated(NamedTuple):
    version: int
    text: str = ""


class Clock:
    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns

    def pass_s(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)


class Source:
    """A loader that answers when it is told to."""

    def __init__(self, value: Dated | None = None) -> None:
        self.asked: list[str] = []
        self.value = value
        self.answers = asyncio.Event()

    async def __call__(self, key: str) -> Dated | None:
        self.asked.append(key)
        await self.answers.wait()
        return self.value


@pytest.fixture
def clock() -> Clock:
    return Clock()


def cache(clock: Clock, entries_max: int = 3, **more: float) -> L1Cache[Dated]:
    return L1Cache(
        entries_max,
        ttl_s=TTL_S,
        negative_ttl_s=1.0,
        monotonic_ns=clock,
        version_of=lambda dated: dated.version,
        **more,  # type: ignore[arg-type]  # loading_max and load_limit_s, by name
    )


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_the_least_recently_used_leaves_first(clock: Clock) -> None:
    kept = cache(clock)
    for key in "abc":
        kept.store(key, Dated(1, key))
    kept.get("a")
    kept.store("d", Dated(1, "d"))
    assert [key for key in "abcd" if kept.get(key)] == ["a", "c", "d"]
    assert len(kept) == 3


def test_what_does_not_exist_pushes_nothing_out(clock: Clock) -> None:
    kept = cache(clock)
    for key in "abc":
        kept.store(key, Dated(1))
    for number in range(100):
        kept.store(f"none-{number}", None)
    assert all(kept.get(key) for key in "abc")
    assert len(kept) == 6
    assert kept.peek("none-99") == (True, None)
    assert kept.peek("none-0") == (False, None)


def test_deadlines_are_spread(clock: Clock) -> None:
    kept = cache(clock, 1000)
    for number in range(1000):
        kept.store(str(number), Dated(1))

    def alive() -> int:
        return sum(kept.get(str(number)) is not None for number in range(1000))

    clock.pass_s(SURELY_ALIVE_S)
    assert alive() == 1000
    clock.pass_s(TTL_S - SURELY_ALIVE_S)
    assert 350 < alive() < 650
    clock.pass_s(SURELY_OVER_S - TTL_S)
    assert alive() == 0


def test_absence_is_forgotten_soon_and_gives_way_at_once(clock: Clock) -> None:
    kept = cache(clock)
    kept.store("a", None)
    assert kept.is_absent("a")
    clock.pass_s(1.2)
    assert kept.peek("a") == (False, None)
    kept.store("a", None)
    kept.store("a", Dated(1))
    assert kept.peek("a") == (True, Dated(1))


def test_an_older_version_replaces_nothing(clock: Clock) -> None:
    kept = cache(clock)
    kept.store("a", Dated(7, "new"))
    assert kept.store("a", Dated(6, "old")) == Dated(7, "new")
    assert kept.store("a", None) == Dated(7, "new")
    assert kept.get("a") == Dated(7, "new")
    # The same version read again: a damaged value must not outlive its reload.
    kept.store("a", Dated(7, "read again"))
    assert kept.get("a") == Dated(7, "read again")


def test_what_is_equal_stays_the_same_object_and_lives_again(clock: Clock) -> None:
    kept = cache(clock)
    first = Dated(7, "a")
    kept.store("a", first)
    clock.pass_s(SURELY_ALIVE_S)
    kept.store("a", Dated(7, "a"))
    clock.pass_s(SURELY_ALIVE_S)
    assert kept.get("a") is first


def test_a_replaced_value_lives_no_longer_for_it(clock: Clock) -> None:
    kept = cache(clock)
    first = Dated(7, "a")
    kept.store("a", first)
    clock.pass_s(SURELY_ALIVE_S)
    kept.replace("a", Dated(7, "b"), instead_of=first)
    assert kept.get("a") == Dated(7, "b")
    kept.replace("a", Dated(7, "c"), instead_of=first)
    assert kept.get("a") == Dated(7, "b")
    clock.pass_s(SURELY_OVER_S - SURELY_ALIVE_S)
    assert kept.get("a") is None


async def test_many_who_ask_make_one_load(clock: Clock) -> None:
    kept, source = cache(clock), Source(Dated(1))
    waiting = [asyncio.create_task(kept.load("a", source)) for _ in range(100)]
    await turn()
    assert kept.loading == 1
    source.answers.set()
    assert await asyncio.gather(*waiting) == [Dated(1)] * 100
    assert source.asked == ["a"]
    assert kept.loading == 0


async def test_one_who_gives_up_takes_the_load_from_nobody(clock: Clock) -> None:
    kept, source = cache(clock), Source(Dated(1))
    first, second = (asyncio.create_task(kept.load("a", source)) for _ in range(2))
    await turn()
    first.cancel()
    await turn()
    source.answers.set()
    assert await second == Dated(1)
    assert first.cancelled()
    assert source.asked == ["a"]


async def test_what_was_evicted_meanwhile_is_told_and_not_kept(clock: Clock) -> None:
    kept, source = cache(clock), Source(Dated(1, "old"))
    waiting = asyncio.create_task(kept.load("a", source))
    beside = asyncio.create_task(kept.load("b", source))
    await turn()
    kept.evict("a")
    # Who asks after the eviction does not join the load from before it.
    later = Source(Dated(2, "new"))
    later.answers.set()
    assert await kept.load("a", later) == Dated(2, "new")
    source.answers.set()
    assert await waiting == Dated(1, "old")
    assert kept.get("a") == Dated(2, "new")
    assert await beside == kept.get("b") == Dated(1, "old")


async def test_clearing_spares_no_load(clock: Clock) -> None:
    kept, source = cache(clock), Source(Dated(1))
    waiting = asyncio.create_task(kept.load("a", source))
    await turn()
    kept.clear()
    source.answers.set()
    assert await waiting == Dated(1)
    assert len(kept) == 0


async def test_a_failure_is_told_to_all_and_not_kept(clock: Clock) -> None:
    kept = cache(clock)

    async def fail(_key: str) -> Dated | None:
        await asyncio.sleep(0)
        raise OSError("away")

    told = await asyncio.gather(*(kept.load("a", fail) for _ in range(3)), return_exceptions=True)
    assert [str(one) for one in told] == ["away"] * 3
    assert kept.peek("a") == (False, None)
    # Nobody waits for this one: its failure must not be reported as nobody's.
    abandoned = asyncio.create_task(kept.load("b", fail))
    await asyncio.sleep(0)
    abandoned.cancel()
    await turn()


async def test_a_load_that_hangs_ends_by_a_limit_of_its_own(clock: Clock) -> None:
    kept, source = cache(clock, load_limit_s=0.01), Source()
    with pytest.raises(TimeoutError):
        await kept.load("a", source)
    assert kept.loading == 0
    assert kept.peek("a") == (False, None)


async def test_loads_are_bounded_and_those_under_way_may_be_joined(clock: Clock) -> None:
    kept, source = cache(clock, loading_max=2), Source(Dated(1))
    waiting = [asyncio.create_task(kept.load(key, source)) for key in "ab"]
    await turn()
    with pytest.raises(TooManyLoads):
        await kept.load("c", source)
    # An eviction opens no door: the load it detached still counts.
    kept.evict("a")
    with pytest.raises(TooManyLoads):
        await kept.load("a", source)
    joined = asyncio.create_task(kept.load("b", source))
    await turn()
    source.answers.set()
    assert await asyncio.gather(*waiting, joined) == [Dated(1)] * 3
    assert await kept.load("c", source) == Dated(1)


async def test_closing_ends_what_hangs(clock: Clock) -> None:
    kept, source = cache(clock), Source()
    waiting = asyncio.create_task(kept.load("a", source))
    await turn()
    await kept.close()
    await kept.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert kept.loading == 0
