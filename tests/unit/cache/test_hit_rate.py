"""How often this process knows a card, when a few cards pay most of the time: Zipf's law, s = 1."""

import random
from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from zoneinfo import ZoneInfo

from jitway.cache.views import CardViews
from jitway.domain.card import CardView, Level
from jitway.domain.limits import NO_CONTROLS

CARDS = 600
PER_SECOND = 200
# Of a card; what matters is how often it is asked for in its life.
LIFE_S = 90
PROGRAM = Level("program", "prg_1", "active", 1, NO_CONTROLS)
UTC = ZoneInfo("UTC")


class Traffic:
    """Cards that pay by Zipf's law, at a steady rate on a clock of their own."""

    def __init__(self, views_max: int) -> None:
        self.now_ns = 0
        self.lookups: Counter[str] = Counter()
        self.loads = 0
        self.views = CardViews(
            self._load,
            entries_max=views_max,
            ttl_s=LIFE_S,
            monotonic_ns=lambda: self.now_ns,
            count=self._count,
        )
        self._dice = random.Random(20261122)
        self._weights = list(accumulate(1 / rank for rank in range(1, CARDS + 1)))
        self._ids = [f"crd_{number:032x}" for number in range(CARDS)]

    async def _load(self, card_ids: Iterable[str]) -> dict[str, CardView]:
        self.loads += 1
        return {card_id: _view(card_id) for card_id in card_ids}

    def _count(self, level: str, kind: str, *, hit: bool, span_ns: int | None = None) -> None:
        self.lookups[f"{kind} {'hit' if hit else 'miss'}"] += level == "l1"

    async def flow(self, seconds: int) -> None:
        for card_id in self._dice.choices(
            self._ids, cum_weights=self._weights, k=seconds * PER_SECOND
        ):
            self.now_ns += 1_000_000_000 // PER_SECOND
            if not self.views.peek(card_id)[0]:
                assert await self.views.card(card_id) is not None

    def hit_rate(self, kind: str) -> float:
        hits, misses = self.lookups[f"{kind} hit"], self.lookups[f"{kind} miss"]
        return hits / (hits + misses)


def _view(card_id: str) -> CardView:
    user = Level("cardholder", f"chd_{card_id[4:]}", "active", 1, NO_CONTROLS)
    card = Level("card", card_id, "active", 1, NO_CONTROLS)
    return CardView(PROGRAM, user, card, "acc_1", UTC)


async def test_it_knows_95_in_100_also_while_entries_end_and_begin_again() -> None:
    traffic = Traffic(views_max=CARDS)
    await traffic.flow(LIFE_S)
    traffic.lookups.clear()
    await traffic.flow(LIFE_S)
    assert traffic.hit_rate("card") >= 0.95
    assert traffic.hit_rate("user") >= 0.95
    assert traffic.hit_rate("limits") >= 0.99


async def test_with_room_for_a_third_of_the_cards_it_keeps_those_that_pay() -> None:
    """Least recently used is not far from the best that could be kept: the most frequent."""
    traffic = Traffic(views_max=CARDS // 3)
    await traffic.flow(LIFE_S)
    traffic.lookups.clear()
    await traffic.flow(LIFE_S)
    best = sum(1 / rank for rank in range(1, CARDS // 3 + 1)) / traffic._weights[-1]
    assert traffic.hit_rate("card") >= 0.9 * best
