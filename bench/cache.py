"""The cache: lookups of both levels, how often they know, and authorizations without Redis.

One run on a PostgreSQL and a Redis of its own. Lookups are timed in this process, as the gateway
makes them: counted, sealed and decoded. The gateway of the authorizations remembers a hundred cards
of some thousands, so that nearly each of them needs Redis; then Redis hangs, and then it is dead.
"""

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate, count
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from zoneinfo import ZoneInfo

from bench import ceiling
from bench.gateway import ask_once_about, jitway, postgresql, serving
from bench.loads import Target, closed_loop
from bench.open_loop import Traffic, open_loop
from bench.processes import machine
from bench.tables import markdown, write_json
from jitway.adapters.redis import RedisAdapter
from jitway.cache.encoding import Sealer
from jitway.cache.shared import CARD_TTL_S, SharedLevel
from jitway.cache.views import CardViews
from jitway.domain.card import CardView, Level
from jitway.domain.limits import NO_CONTROLS
from jitway.profiler.profiler import Profiler
from tests.servers.redis import RedisServer

L1_P99_US, L2_P99_MS, HIT_RATE, P99_MORE_MS = 5.0, 2.0, 0.95, 5.0
ZIPF_CARDS, ZIPF_PER_SECOND = 10_000, 300
# Of ten lookups one has to ask further: Redis where it is well, else PostgreSQL.
REMEMBERED_SHARE = 0.9
CONNECTIONS = 16
SHARE_OF_PEAK = 1 / 3
BREAKER_S = 2
MODES = ("healthy", "hung", "dead")
PROGRAM = Level("program", "prg_" + "0" * 32, "active", 1, NO_CONTROLS)


@dataclass(frozen=True)
class Effort:
    """How much of everything."""

    cards: int
    rounds: int
    seconds: int
    turns: int


WHOLE = Effort(cards=10_000, rounds=5, seconds=10, turns=3)
QUICK = Effort(cards=2_000, rounds=2, seconds=4, turns=1)


@dataclass(slots=True)
class Measured:
    """What came of it; lookups in microseconds, authorizations in milliseconds.

    Args:
        l1: of a card that this process knows.
        l2: of a card's entry in Redis.
        hit_rate: share of lookups that this process answers, by data type, on Zipf(1.0) traffic.
        traffic: by how Redis was.
        rate: authorizations a second of all of them.
        verified: whether the books are right.
    """

    l1: dict[str, float] = field(default_factory=dict)
    l2: dict[str, float] = field(default_factory=dict)
    hit_rate: dict[str, float] = field(default_factory=dict)
    traffic: dict[str, list[Traffic]] = field(default_factory=lambda: {mode: [] for mode in MODES})
    rate: float = 0.0
    verified: bool = False

    def p99(self, mode: str) -> float:
        """The median of the turns' p99."""
        return median(run.p99 for run in self.traffic[mode])


def view_of(number: int) -> CardView:
    """A card of a cardholder of its own."""
    digits = f"{number:032x}"
    user = Level("cardholder", f"chd_{digits}", "active", 1, NO_CONTROLS)
    card = Level("card", f"crd_{digits}", "active", 1, NO_CONTROLS)
    return CardView(PROGRAM, user, card, f"acc_{digits}", ZoneInfo("UTC"))


async def lookups(url: str, effort: Effort) -> tuple[dict[str, float], dict[str, float]]:
    """The spans of lookups in this process and in Redis, in microseconds."""
    profiler = Profiler()
    spans_us: dict[str, list[float]] = defaultdict(list)

    def counted(level: str, kind: str, *, hit: bool, span_ns: int | None = None) -> None:
        profiler.count_lookup(level, kind, hit=hit, span_ns=span_ns)
        if level == "l2" and hit and span_ns is not None:
            spans_us[level].append(span_ns / 1e3)

    async def load(card_ids: Iterable[str]) -> dict[str, CardView]:
        return {card_id: view_of(int(card_id[4:], 16)) for card_id in card_ids}

    # Patient, so that the slowest lookups are measured and not given up.
    redis = RedisAdapter({"REDIS_URL": url}, timeout_ms=5_000)
    shared = SharedLevel(redis, wait_s=5.0)
    views = CardViews(
        load,
        monotonic_ns=time.monotonic_ns,
        shared=(shared, Sealer(b"bench")),
        count=profiler.count_lookup,
    )
    reading = CardViews(
        load,
        monotonic_ns=time.monotonic_ns,
        shared=(shared, Sealer(b"bench")),
        count=counted,
    )
    try:
        await redis.connect()
        known = [view_of(number) for number in range(effort.cards)]
        for view in known:
            views.store(view)
            if view is known[-1] or shared.waiting > 1_000:
                await views.settled()
        for _ in range(effort.rounds):
            for view in known:
                began_ns = time.perf_counter_ns()
                views.peek(view.card.id)
                spans_us["l1"].append((time.perf_counter_ns() - began_ns) / 1e3)
            reading.clear()
            for view in known[:1_000]:
                await reading.card(view.card.id)
    finally:
        await views.close()
        await redis.close()
    return _cuts(spans_us["l1"]), _cuts(spans_us["l2"])


def _cuts(spans: Sequence[float]) -> dict[str, float]:
    hundredths = quantiles(spans, n=100)
    return {"count": len(spans), "p50": hundredths[49], "p99": hundredths[98], "max": max(spans)}


async def zipf_hit_rate(effort: Effort) -> dict[str, float]:
    """How often this process knows, once entries end and begin again; on a clock of its own."""
    now_ns = 0
    answered: Counter[tuple[str, bool]] = Counter()

    async def load(card_ids: Iterable[str]) -> dict[str, CardView]:
        return {card_id: view_of(int(card_id[4:], 16)) for card_id in card_ids}

    def counted(level: str, kind: str, *, hit: bool, span_ns: int | None = None) -> None:
        if level == "l1":
            answered[kind, hit] += 1

    views = CardViews(load, entries_max=ZIPF_CARDS, monotonic_ns=lambda: now_ns, count=counted)
    dice = random.Random(1)
    weights = list(accumulate(1 / rank for rank in range(1, ZIPF_CARDS + 1)))
    ids = [view_of(number).card.id for number in range(ZIPF_CARDS)]
    for seconds in (CARD_TTL_S, CARD_TTL_S * min(effort.rounds, 2) // 2):
        answered.clear()
        for card_id in dice.choices(ids, cum_weights=weights, k=seconds * ZIPF_PER_SECOND):
            now_ns += 1_000_000_000 // ZIPF_PER_SECOND
            if not views.peek(card_id)[0]:
                await views.card(card_id)
    return {
        kind: answered[kind, True] / (answered[kind, True] + answered[kind, False])
        for kind in ("card", "user", "limits")
    }


def authorizations(measured: Measured, server: RedisServer, effort: Effort) -> None:
    """Traffic at one rate while Redis is healthy, hung and dead, in turns."""
    with postgresql() as postgres:
        key = jitway(postgres.url, "init")["key"]
        cards = ceiling.populate(postgres.url, cards=effort.cards)
        settings = {
            "REDIS_URL": server.url,
            "JITWAY_CARD_VIEWS_MAX": str(int(REMEMBERED_SHARE * effort.cards)),
        }
        with serving(postgres.url, **settings) as gateway:
            ask_once_about(gateway, key, cards)
            pids = {"postgresql": [postgres.pid], "gateway": [gateway.pid]}
            target = Target(gateway.url, key, cards, pids)
            peak = closed_loop(target, connections=CONNECTIONS, seconds=effort.seconds, run="peak")
            measured.rate = round(peak.per_second * SHARE_OF_PEAK)
            seeds = count(1)
            for _ in range(effort.turns):
                for mode in MODES:
                    _make(server, mode)
                    # Until the breaker has opened, or the entries are back in Redis.
                    closed_loop(
                        target, connections=CONNECTIONS, seconds=BREAKER_S, run=f"{next(seeds)}"
                    )
                    traffic = open_loop(
                        target,
                        rate=measured.rate,
                        seconds=effort.seconds,
                        follow_ups=False,
                        seed=next(seeds),
                    )
                    measured.traffic[mode].append(traffic)
                    say(f"Redis {mode}: p50 {traffic.p50:.2f}  p99 {traffic.p99:.2f} ms")
            _make(server, "healthy")
        measured.verified = bool(jitway(postgres.url, "verify")["ok"])


def _make(server: RedisServer, mode: str) -> None:
    """Makes Redis healthy, hung or dead, whatever it was."""
    for process in server.processes:
        process.send(signal.SIGCONT)
        if mode == "hung":
            process.send(signal.SIGSTOP)
        elif mode == "dead":
            process.kill()
    if mode == "healthy" and not any(process.is_alive for process in server.processes):
        server.start()


def measure(effort: Effort) -> Measured:
    """Everything, on fresh servers."""
    measured = Measured()
    with tempfile.TemporaryDirectory(prefix="jitway-bench-") as place:
        server = RedisServer(Path(place))
        try:
            server.start()
            measured.l1, measured.l2 = asyncio.run(lookups(server.url, effort))
            say(f"lookups: L1 p99 {measured.l1['p99']:.2f} us, L2 p99 {measured.l2['p99']:.0f} us")
            measured.hit_rate = asyncio.run(zipf_hit_rate(effort))
            say(f"Zipf(1.0): {measured.hit_rate['card']:.1%} of cards are known")
            authorizations(measured, server, effort)
        finally:
            for process in server.processes:
                process.kill()
    return measured


def wrong(measured: Measured) -> list[str]:
    """What missed its aim, a sentence each."""
    missed = []
    if measured.l1["p99"] >= L1_P99_US:
        missed.append(f"a lookup in this process takes {measured.l1['p99']:.1f} us at p99")
    if measured.l2["p99"] >= 1_000 * L2_P99_MS:
        missed.append(f"a lookup in Redis takes {measured.l2['p99']:.0f} us at p99")
    for kind, rate in measured.hit_rate.items():
        if rate < HIT_RATE:
            missed.append(f"{rate:.1%} of lookups of {kind} are answered in this process")
    failed = sum(run.no_decision + run.errors for runs in measured.traffic.values() for run in runs)
    if failed:
        missed.append(f"{failed} authorizations were not decided")
    for mode in MODES[1:]:
        more = measured.p99(mode) - measured.p99("healthy")
        if more > P99_MORE_MS:
            missed.append(f"with Redis {mode} the p99 is {more:.1f} ms more")
    if not measured.verified:
        missed.append("the books are wrong")
    return missed


def told(measured: Measured) -> str:
    """The tables."""
    levels = [
        ["this process", measured.l1["p50"], measured.l1["p99"], f"p99 < {L1_P99_US:g} us"],
        ["Redis", measured.l2["p50"], measured.l2["p99"], f"p99 < {1_000 * L2_P99_MS:,.0f} us"],
    ]
    rates = [
        [kind, f"{rate:.2%}", f">= {HIT_RATE:.0%}"] for kind, rate in measured.hit_rate.items()
    ]
    runs = [
        [
            mode,
            sum(run.sent for run in measured.traffic[mode]),
            sum(run.no_decision + run.errors for run in measured.traffic[mode]),
            median(run.p50 for run in measured.traffic[mode]),
            measured.p99(mode),
            f"{measured.p99(mode) - measured.p99('healthy'):+.2f}",
        ]
        for mode in MODES
    ]
    return "\n\n".join(
        [
            markdown(["lookup in", "p50 us", "p99 us", "aim"], levels),
            f"Zipf(1.0) over {ZIPF_CARDS:,} cards at {ZIPF_PER_SECOND}/s, entries of {CARD_TTL_S} "
            "s:\n\n" + markdown(["data type", "known in this process", "aim"], rates),
            f"Authorizations at {measured.rate:,.0f}/s, {REMEMBERED_SHARE:.0%} of cards known:\n\n"
            + markdown(["Redis", "sent", "undecided", "p50 ms", "p99 ms", "p99 more"], runs),
        ]
    )


def say(line: str) -> None:
    """Progress, apart from the result."""
    print(line, file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Measure, print the tables, write the JSON; the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/bench cache")
    parser.add_argument("--quick", action="store_true", help="less of everything: about a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to a file")
    given = parser.parse_args(arguments)
    described = machine()
    measured = measure(QUICK if given.quick else WHOLE)
    facts = ", ".join(f"{name} {value}" for name, value in described.items())
    print(f"Machine: {facts}.\n\n{told(measured)}")
    missed = wrong(measured)
    if given.json is not None:
        document: dict[str, Any] = {"machine": described, **asdict(measured), "missed": missed}
        write_json(given.json, document)
    for sentence in missed:
        say(f"WRONG: {sentence}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
