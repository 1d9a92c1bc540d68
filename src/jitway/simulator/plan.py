"""The schedule of a run, drawn before it begins: when, what, on which card, how much, where.

Owns every random draw but the ones that need an answer first (which authorization to capture or
to repeat); for these it leaves a number to choose by. The same seed draws the same plan.
"""

import random
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate
from typing import NamedTuple

from jitway.simulator.merchants import BOOKMAKER, MERCHANTS, Merchant
from jitway.simulator.population import Population

PLANNED_MAX = 5_000_000
ROLE_SHARE = 0.004
ROLES_SHARE_MAX = 0.3
REPLAY_SHARE = 0.02
CONFLICT_SHARE = 0.005
FOLLOW_UP_SHARE = 0.25
CARD_ID_DIGITS = 32


class Kind(IntEnum):
    """What to send. A follow-up is a capture or a reversal of something approved earlier."""

    FRESH = 0
    FRESH_TO_KEEP = 1
    """A fresh authorization whose hold is left alone, as reversing it would lift a limit again."""
    REPLAY = 2
    CONFLICT = 3
    FOLLOW_UP = 4


class Send(NamedTuple):
    """One entry of the plan; `at_ns` counts from the beginning of the run.

    Card, amount, currency and merchant are those of an authorization, also where the kind is
    another: when there is nothing to repeat or to capture yet, an authorization is sent instead.
    `choice` is uniform in [0, 1).
    """

    at_ns: int
    kind: Kind
    card: str
    amount_minor: int
    currency: str
    merchant: Merchant
    choice: float


class Part(NamedTuple):
    """A role played once: an authorization drawn apart from the ordinary ones."""

    card: str
    amount_minor: int
    currency: str
    merchant: Merchant


@dataclass(frozen=True, slots=True)
class Plan:
    """Sends in order of time, held compactly: a million takes some 30 MB."""

    population: Population
    at_ns: "array[int]"
    kinds: bytearray
    cards: "array[int]"
    amounts_minor: "array[int]"
    merchants: bytearray
    choices: "array[float]"
    special: dict[int, Part]

    def __len__(self) -> int:
        """How many requests, follow-ups included."""
        return len(self.at_ns)

    @property
    def authorizations(self) -> int:
        """How many of them are not follow-ups."""
        return len(self) - self.kinds.count(Kind.FOLLOW_UP)

    def send(self, index: int) -> Send:
        """One entry."""
        part = self.special.get(index) or Part(
            self.population.ordinary[self.cards[index]],
            self.amounts_minor[index],
            self.population.currency,
            MERCHANTS[self.merchants[index]],
        )
        kind = Kind.FRESH_TO_KEEP if index in self.special else Kind(self.kinds[index])
        return Send(self.at_ns[index], kind, *part, self.choices[index])


def draw_plan(population: Population, *, rate: float, seconds: float, seed: int | None) -> Plan:
    """Draw the whole schedule.

    Arrivals are Poisson, given their number: `rate * seconds` authorizations, and a quarter as
    many follow-ups on top.

    Args:
        population: the cards.
        rate: authorizations a second.
        seconds: for how long.
        seed: the same seed draws the same plan; None draws another one each time.

    Raises:
        ValueError: nothing or too much would be sent, or there is no ordinary card.
    """
    authorizations = round(rate * seconds)
    if not 1 <= authorizations <= PLANNED_MAX:
        raise ValueError(f"rate * seconds must be 1 to {PLANNED_MAX}, not {authorizations}")
    if not population.ordinary:
        raise ValueError("there must be an ordinary card")
    draw = random.Random(seed)  # noqa: S311 - traffic must be repeatable, not unpredictable
    kinds = _draw_kinds(draw, authorizations)
    total = len(kinds)
    merchants = draw.choices(
        range(len(MERCHANTS)), cum_weights=list(accumulate(m.weight for m in MERCHANTS)), k=total
    )
    plan = Plan(
        population=population,
        at_ns=array("Q", sorted(int(draw.random() * seconds * 1e9) for _ in range(total))),
        kinds=kinds,
        cards=array("L", _draw_zipf(draw, cards=len(population.ordinary), count=total)),
        amounts_minor=array("L", (MERCHANTS[m].draw_amount_minor(draw) for m in merchants)),
        merchants=bytearray(merchants),
        choices=array("d", (draw.random() for _ in range(total))),
        special={},
    )
    _cast_roles(plan, draw, authorizations)
    return plan


def _draw_kinds(draw: random.Random, authorizations: int) -> bytearray:
    replays = max(round(authorizations * REPLAY_SHARE), min(authorizations // 20, 1))
    conflicts = max(round(authorizations * CONFLICT_SHARE), min(authorizations // 20, 1))
    others = (
        [Kind.REPLAY] * replays
        + [Kind.CONFLICT] * conflicts
        + [Kind.FOLLOW_UP] * round(authorizations * FOLLOW_UP_SHARE)
    )
    kinds = bytearray(authorizations - replays - conflicts + len(others))
    # The first tenth only asks, so that there is something to repeat and to capture.
    for index, kind in zip(
        draw.sample(range(len(kinds) - len(kinds) * 9 // 10, len(kinds)), len(others)),
        others,
        strict=True,
    ):
        kinds[index] = kind
    return kinds


def _draw_zipf(draw: random.Random, *, cards: int, count: int) -> list[int]:
    """Indexes of cards with exponent 1.0: the second is used half as often as the first."""
    weights = list(accumulate(1 / rank for rank in range(1, cards + 1)))
    return draw.choices(range(cards), cum_weights=weights, k=count)


def _cast_roles(plan: Plan, draw: random.Random, authorizations: int) -> None:
    """Let some fresh authorizations be ones that must be declined."""
    fresh = [index for index, kind in enumerate(plan.kinds) if kind == Kind.FRESH]
    parts = _parts(plan.population, draw, times=max(round(authorizations * ROLE_SHARE), 1))
    room = int(len(fresh) * ROLES_SHARE_MAX)
    if len(parts) > room:
        # Too short a run for every role in full: their first appearances are at random.
        draw.shuffle(parts)
    # In the order of the parts: a limit by count is reached by its last part.
    for index, part in zip(sorted(draw.sample(fresh, min(room, len(parts)))), parts, strict=False):
        plan.special[index] = part


def _parts(population: Population, draw: random.Random, *, times: int) -> list[Part]:
    """Each role `times` times; the first part of each already meets its decline."""
    usual = population.currency
    other = "EUR" if usual != "EUR" else "USD"

    def part(card: str, least: int, most: int, currency: str = usual) -> Part:
        return Part(card, draw.randint(least, most), currency, draw.choice(MERCHANTS))

    def limited(card: str, limit_minor: int, number: int) -> Part:
        # The first is above the limit at once; later ones fit until the window is used up.
        if number % 3 == 0:
            return part(card, limit_minor + 1, limit_minor * 2)
        return part(card, 1, limit_minor)

    one = population
    roles: list[tuple[Sequence[str], Callable[[str, int], Part]]] = [
        (one.frozen, lambda card, _: part(card, 1_00, 60_00)),
        (one.closed, lambda card, _: part(card, 1_00, 60_00)),
        (one.ordinary[:50], lambda card, _: part(card, 1_00, 60_00, other)),
        (one.mcc_blocked, lambda card, _: part(card, 5_00, 90_00)._replace(merchant=BOOKMAKER)),
        (one.transaction_limited, lambda card, n: limited(card, one.transaction_limit_minor, n)),
        (one.day_limited, lambda card, n: limited(card, one.day_limit_minor, n)),
        (one.month_limited, lambda card, n: limited(card, one.month_limit_minor, n)),
        (one.poorly_funded, lambda card, _: part(card, one.poorly_funded_minor + 1, 90_00)),
    ]
    parts: list[Part] = []
    for number in range(times):
        unknown = f"crd_{draw.getrandbits(4 * CARD_ID_DIGITS):0{CARD_ID_DIGITS}x}"
        parts.append(part(unknown, 1_00, 60_00))
        for cards, play in roles:
            if cards:
                parts.append(play(cards[number % len(cards)], number))
    # A count is reached by repetition: as often as it takes on one card, then on the next.
    per_card = population.day_count + 1
    for number in range(max(times, per_card) if population.count_limited else 0):
        card = population.count_limited[number // per_card % len(population.count_limited)]
        parts.append(part(card, 1_00, 9_00))
    return parts
