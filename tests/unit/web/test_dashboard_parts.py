"""The live page's parts: who may log in, how pieces are handed out, what a second was."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from jitway.clock import SystemClock
from jitway.profiler.histogram import BUCKETS, bucket_of
from jitway.profiler.profiler import Profiler
from jitway.profiler.trace import Stage
from jitway.supervisor import Crew
from jitway.web.dashboard.assets import PAGE, PREFIX, Assets
from jitway.web.dashboard.broadcast import ENDED, Broadcast, Watcher
from jitway.web.dashboard.entrance import check_own, cookie_header
from jitway.web.dashboard.pulse import Pulse, StageWindow, percentiles_ms
from jitway.web.dashboard.whole import Whole
from jitway.web.problems import Refused
from tests.tidy.sources import PACKAGE

# What came from the page itself --------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {b"host": b"gw.test"},
        {b"host": b"gw.test", b"origin": b"null"},
        {b"host": b"gw.test", b"origin": b"http://evil.test"},
        {b"host": b"gw.test", b"origin": b"http://gw.test.evil.test"},
        {b"host": b"gw.test", b"origin": b"http://gw.test:81"},
        {b"host": b"gw.test", b"origin": b"http://gw.test", b"sec-fetch-site": b"same-site"},
        {b"host": b"gw.test", b"origin": b"http://gw.test", b"sec-fetch-site": b"cross-site"},
        {b"host": b"gw.test", b"origin": b"ftp://gw.test"},
        {b"host": b"gw.test", b"origin": b"http://gw.test/login"},
        {b"host": b"gw.test", b"origin": b"http://["},
        {b"host": b"gw.test", b"origin": b"http://\xff"},
        {b"origin": b"http://"},
    ],
)
def test_other_sites_are_refused(fields: dict[bytes, bytes]) -> None:
    with pytest.raises(Refused) as refused:
        check_own(fields)
    assert (refused.value.status, refused.value.code) == (403, "cross_site")


def test_the_page_itself_is_let_through() -> None:
    check_own({b"host": b"GW.test:3000", b"origin": b"http://gw.test:3000"})
    check_own(
        {b"host": b"gw.test", b"origin": b"https://gw.test", b"sec-fetch-site": b"same-origin"}
    )


@pytest.mark.parametrize(
    ("fields", "is_secure"),
    [
        ({b"origin": b"http://gw.test"}, False),
        ({b"origin": b"https://gw.test"}, True),
        ({b"origin": b"http://gw.test", b"x-forwarded-proto": b"https"}, True),
    ],
)
def test_the_cookie_is_only_for_our_own_requests(
    fields: dict[bytes, bytes], is_secure: bool
) -> None:
    name, value = cookie_header(fields, "secret", seconds=60)
    assert name == b"set-cookie"
    parts = [part.strip() for part in value.decode().split(";")]
    assert parts[0] == "jitway_session=secret"
    assert {"HttpOnly", "SameSite=Strict", "Path=/dashboard", "Max-Age=60"} <= set(parts)
    assert ("Secure" in parts) is is_secure


# The broadcast -------------------------------------------------------------------------------


async def always() -> bool:
    return True


class Pieces:
    """What a broadcast is made of, and what was asked of it."""

    def __init__(self, *, watchers_max: int = 64) -> None:
        self.made = self.beats = self.rests = 0
        self.fails = False
        self.broadcast = Broadcast(
            self.make,
            rest=self.rest,
            beat=self.beat,
            watchers_max=watchers_max,
            interval_s=0.01,
        )

    def make(self) -> bytes:
        self.made += 1
        if self.fails:
            raise RuntimeError("a bug")
        return b"%d" % self.made

    def rest(self) -> None:
        self.rests += 1

    def beat(self) -> None:
        self.beats += 1

    async def until(self, met: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not met():
                await asyncio.sleep(0.005)


async def test_a_piece_is_made_once_for_all_and_not_at_all_for_nobody() -> None:
    pieces = Pieces()
    pieces.broadcast.start()
    try:
        await pieces.until(lambda: pieces.beats > 3)
        assert pieces.made == 0
        watchers = [pieces.broadcast.watch(always) for _ in range(20)]
        got = await asyncio.gather(*(anext(watcher) for watcher in watchers))
        assert len(set(got)) == 1
        for watcher in watchers:
            watcher.close()
        assert pieces.rests == 1
        made = pieces.made
        beats = pieces.beats
        await pieces.until(lambda: pieces.beats > beats + 3)
        assert pieces.made == made
    finally:
        await pieces.broadcast.stop()


async def test_who_does_not_read_gets_the_latest_and_nothing_is_queued() -> None:
    pieces = Pieces()
    pieces.broadcast.start()
    try:
        watcher = pieces.broadcast.watch(always)
        await pieces.until(lambda: pieces.made >= 5)
        assert int(await anext(watcher)) >= 5
    finally:
        await pieces.broadcast.stop()


async def test_there_are_only_so_many_pages() -> None:
    pieces = Pieces(watchers_max=2)
    first = pieces.broadcast.watch(always)
    pieces.broadcast.watch(always)
    with pytest.raises(Refused) as refused:
        pieces.broadcast.watch(always)
    assert refused.value.status == 503
    first.close()
    pieces.broadcast.watch(always)
    assert pieces.broadcast.watched == 2


async def test_a_figure_that_fails_does_not_end_the_broadcast() -> None:
    pieces = Pieces()
    pieces.fails = True
    pieces.broadcast.start()
    try:
        watcher = pieces.broadcast.watch(always)
        await pieces.until(lambda: pieces.made > 2)
        pieces.fails = False
        async with asyncio.timeout(10):
            assert int(await anext(watcher)) > 2
    finally:
        await pieces.broadcast.stop()


async def test_a_page_whose_session_ended_is_told_and_gets_nothing_more() -> None:
    stays = True

    async def ask() -> bool:
        return stays

    left: list[Watcher] = []
    watcher = Watcher(ask, left.append)
    watcher.offer(b"one")
    assert await anext(watcher) == b"one"
    stays = False
    watcher.offer(b"two")
    assert await anext(watcher) == ENDED
    with pytest.raises(StopAsyncIteration):
        await anext(watcher)
    watcher.close()
    assert left == [watcher]


# Figures -------------------------------------------------------------------------------------


def request(profiler: Profiler, decision: str, reason: str | None = None) -> None:
    trace = profiler.start("r")
    trace.add(Stage.WRITE, 2_000_000)
    profiler.finish(trace, decision, reason=reason)


def test_a_second_is_what_was_answered_in_it() -> None:
    profiler = Profiler(SystemClock())
    request(profiler, "approved")
    pulse = Pulse(profiler.counted)
    pulse.beat(at_ms=1_000, now_s=1.0)
    for _ in range(6):
        request(profiler, "approved")
    request(profiler, "declined", "card_frozen")
    request(profiler, "no_decision")
    point = pulse.beat(at_ms=3_000, now_s=3.0)
    assert (point.approved, point.declined, point.other) == (3.0, 0.5, 0.5)
    assert point.p50 is not None
    assert point.p99 is not None
    assert 0 <= point.p50 <= point.p99
    quiet = pulse.beat(at_ms=4_000, now_s=4.0)
    assert (quiet.approved, quiet.p99) == (0.0, None)
    minute = pulse.minute()
    assert minute["decisions"] == {"approved": 6, "declined": 1, "no_decision": 1, "other": 1}
    assert minute["reasons"] == {"card_frozen": 1}
    assert len(pulse.points) == 3


def test_percentiles_are_by_nearest_rank() -> None:
    counts = [0] * BUCKETS
    counts[bucket_of(1_000_000)], counts[bucket_of(9_000_000)] = 99, 1
    p50, p99, p100 = percentiles_ms(counts, (50, 99, 100))
    assert p50 == p99 == pytest.approx(1.0, rel=0.01)
    assert p100 == pytest.approx(9.0, rel=0.01)
    assert percentiles_ms([0] * BUCKETS, (50,)) == [None]


def test_stages_are_those_of_the_profiler_and_total_comes_first() -> None:
    profiler = Profiler(SystemClock())
    window = StageWindow(profiler.counted)
    window.rows()
    request(profiler, "approved")
    rows: dict[str, dict[str, object]] = {}
    for _ in range(4):
        rows = {row["name"]: row for row in window.rows()}
    total, *stages = rows
    assert total == "total"
    assert stages == [stage.label for stage in Stage]
    assert rows["write"]["count"] == 1
    assert rows["write"]["average"] == pytest.approx(2.0)
    assert rows["write"]["budget"] == 3.0
    assert rows["commit"]["average"] is None
    window.forget()
    assert {row["name"]: row for row in window.rows()}["write"]["count"] == 0


def test_a_point_may_be_the_average_of_several_beats() -> None:
    profiler = Profiler(SystemClock())
    pulse = Pulse(profiler.counted, over=3)
    rates = []
    for second in range(1, 8):
        # What is told in steps: six every third second.
        for _ in range(6 if second % 3 == 0 else 0):
            request(profiler, "approved")
        rates.append(pulse.beat(at_ms=second * 1000, now_s=float(second)).approved)
    assert rates[-4:] == [2.0, 2.0, 2.0, 2.0]


# Of several workers --------------------------------------------------------------------------

TOLD = """
# HELP jitway_decisions_total x
jitway_decisions_total{outcome="approved",reason=""} 90.0
jitway_decisions_total{outcome="declined",reason="card_frozen"} 10.0
jitway_authorization_requests_total{result="approved"} 90.0
jitway_authorization_requests_total{result="no_decision"} 3.0
jitway_authorization_seconds_bucket{le="0.001"} 0.0
jitway_authorization_seconds_bucket{le="0.003"} 60.0
jitway_authorization_seconds_bucket{le="0.01"} 98.0
jitway_authorization_seconds_bucket{le="+Inf"} 100.0
jitway_authorization_seconds_sum 0.4
jitway_stage_seconds_bucket{le="0.001",stage="write"} 100.0
jitway_stage_seconds_bucket{le="+Inf",stage="write"} 100.0
jitway_stage_seconds_sum{stage="write"} 0.05
jitway_cache_lookups_total{kind="card",level="l1",result="hit"} 7.0
jitway_postgres_connections{state="in_use"} 4.0
jitway_group_commit_batch_size_average 2.5
"""


class Telling:
    """A worker's word with a supervisor that says this."""

    async def exposition(self, others: list[object]) -> bytes:
        assert others == []
        return TOLD.encode()

    async def profile(self) -> bytes:
        return b'{"slowest": [{"total_ms": 9.0}]}'


async def test_the_figures_of_several_workers_are_read_back() -> None:
    whole = Whole(cast(Crew, Telling()), Profiler(SystemClock()).counted())
    assert whole.counted().histograms["total"].count == 0
    told = await whole.ask()
    assert whole.is_new
    assert told["pool"]["in_use"] == 4
    assert told["batch"] == {"average": 2.5, "waiting": 0}
    counted = whole.counted()
    assert counted.outcomes == {
        ("approved", ""): 90,
        ("declined", "card_frozen"): 10,
        ("no_decision", ""): 3,
    }
    assert counted.lookups == {("l1", "card", "hit"): 7}
    total = counted.histograms["total"]
    assert total.count == 100
    p50, p90, p99 = percentiles_ms(total.counts, (50, 90, 99))
    assert p50 is not None
    assert p90 is not None
    assert p99 is not None
    assert 1 < p50 < 3 < p90 < 10 < p99
    assert counted.histograms["write"].mean_ns == pytest.approx(500_000)
    assert counted.histograms["commit"].count == 0
    assert await whole.slowest() == [{"total_ms": 9.0}]


# The page's files ----------------------------------------------------------------------------


def test_the_page_is_light_and_asks_nobody_else() -> None:
    assets = Assets()
    assert assets.size <= 200_000
    page = assets.page().body.decode()
    assert "{assets}" not in page
    folder = PACKAGE / "web" / "dashboard" / "page"
    for path in folder.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, path.name
        assert "https://" not in text, path.name
        assert "//cdn" not in text, path.name
        if path.name != PAGE:
            reply = assets.file(f"{assets.version}/{path.name}")
            assert reply.body == path.read_bytes()
            assert f"{PREFIX}{assets.version}/" in page
    with pytest.raises(Refused):
        assets.file(f"{assets.version}/../route.py")


def test_the_page_has_no_inline_script_or_style() -> None:
    page = (PACKAGE / "web" / "dashboard" / "page" / PAGE).read_text()
    assert " style=" not in page
    assert "<style" not in page
    assert " onclick" not in page
    assert page.count("<script") == 1
