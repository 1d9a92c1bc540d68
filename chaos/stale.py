"""`stale.py`: a card is frozen at one gateway while the other believes an old view of it.

freeze: both know the card -> authorizations || freeze -> the old view is written back everywhere
        -> authorizations -> unfreeze

Each authorization beside or after a freeze is a race.

No eviction is told to anybody. The views are what they were before the freeze, or before an earlier
one, in Redis and in both processes. What was asked after a freeze had returned must be declined,
and in the rows no approval may lie between a freeze and its end.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from unittest.mock import patch

from chaos.violation import Violation
from jitway.adapters.redis import RedisAdapter
from jitway.cache.views import CardViews
from jitway.compose import Services
from jitway.domain.card import CardView
from jitway.domain.message import Authorization
from jitway.errors import JitwayError, LockTimeout
from jitway.gateway import administer, fund
from jitway.gateway.authorize import Asked
from jitway.gateway.batch import Batch
from jitway.gateway.caller import Answer, Caller, Idempotency
from jitway.gateway.waiting import Waiting
from jitway.ledger.record import Refreshed
from jitway.profiler.trace import Trace

US = Caller("key_" + "0" * 32, None, frozenset({"operate", "authorize"}))
LEVEL_KEYS = ("card", "user", "limits")
PLENTY = 1_000_000_000
OLD_VIEWS_MAX = 4
BESIDE_MAX, AFTER_MAX = 3, 10
YIELDS_MAX = 9
INSIST_MAX = 100

_CHANGES = """
    SELECT action = 'card.frozen' AS frozen, recorded_at AS at FROM audit
    WHERE subject = $1 AND action IN ('card.frozen', 'card.unfrozen') ORDER BY recorded_at
"""
_APPROVALS = """
    SELECT id, decided_at AS at FROM decision
    WHERE card_id = $1 AND outcome = 'approved' ORDER BY decided_at
"""


class Where(StrEnum):
    """Where the old view stands after the freeze."""

    PROCESS = "process"
    REDIS = "redis"
    EVERYWHERE = "everywhere"


@dataclass(frozen=True, slots=True)
class Old:
    """A view as it was while the card could spend, and its entries as they lay in Redis."""

    view: CardView
    entries: dict[str, bytes]


@dataclass(slots=True)
class Asking:
    """One authorization of the history.

    Args:
        card: about which.
        race: of which freeze.
        after: whether the freeze had returned when it was asked.
        decision: `approved`, `declined` or why there was none.
    """

    card: str
    race: int
    after: bool
    decision: str = ""


@dataclass(slots=True)
class Races:
    """What was run and what came of it; only counts, and what must not be.

    Args:
        seed: of its random choices.
        counts: freezes, races, authorizations by outcome and time, stale beginnings.
        violations: approvals after a freeze.
    """

    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)

    def note(self, asking: Asking) -> None:
        """Counts one answer, and names what must not be."""
        when = "after" if asking.after else "beside"
        outcome = asking.decision if asking.decision in ("approved", "declined") else "undecided"
        self.counts[f"{outcome}_{when}"] += 1
        if asking.after and asking.decision == "approved":
            detail = f"freeze {asking.race}: asked after the freeze had returned, and approved"
            self.violations.append(Violation("frozen_is_declined", asking.card, detail))


class StaleRaces:
    """Runs races on cards of its own over two gateways on one ledger and one Redis.

    Args:
        first: freezes; so do its own authorizations.
        second: is told of nothing.
        redis: where both share views; its entries are written back.
        seed: of the random choices.
    """

    def __init__(
        self, first: Services, second: Services, redis: RedisAdapter, *, seed: int
    ) -> None:
        self.races = Races(seed)
        self._gateways = (first, second)
        self._redis = redis
        self._dice = random.Random(seed)
        self._numbers = count(1)
        self._keys = count(1)
        self._name = f"stale-{seed}-{id(self)}"

    async def run(self, races: int, *, cards: int) -> Races:
        """Runs so many races on so many cards at a time, then looks at the rows.

        Raises:
            JitwayError: an account or a card could not be made.
        """
        made = await self._make_cards(cards)
        shares = [races // cards + (number < races % cards) for number in range(cards)]
        async with asyncio.TaskGroup() as group:
            for card, share in zip(made, shares, strict=True):
                group.create_task(self._race_on(card, share))
        self.races.violations += await self._rows(made)
        return self.races

    async def _make_cards(self, number: int) -> list[str]:
        services = self._gateways[0]
        at = (services.postgres, services.clock, US)
        program = _id(
            await administer.create_program(
                *at, None, name="Stale", currency="USD", time_zone="UTC"
            )
        )
        cardholder = _id(await administer.create_cardholder(*at, None, program=program))
        cards = []
        for _ in range(number):
            account = _id(
                await administer.create_account(*at, None, cardholder=cardholder, currency="USD")
            )
            await fund.deposit(*at, self._key(), account, amount=PLENTY)
            made = await administer.create_card(*at, None, cardholder=cardholder, account=account)
            cards.append(_id(made))
        return cards

    async def _race_on(self, card: str, races: int) -> None:
        olds: list[Old] = []
        while races > 0:
            olds.append(await self._believed(card))
            del olds[:-OLD_VIEWS_MAX]
            beside = self._dice.randint(1, BESIDE_MAX)
            after = self._dice.randint(1, AFTER_MAX)
            beside = min(beside, races)
            after = min(after, races - beside)
            await self._freeze(card, self._dice.choice(olds), beside, after)
            races -= beside + after

    async def _believed(self, card: str) -> Old:
        """The view of a card that can spend, at every level of both gateways."""
        await self._redis.call("DEL", self._redis.full_key(f"card:{card}"))
        first, second = self._gateways
        await self._known(first, card)
        view = await self._known(second, card)
        assert view.card.state == "active"
        entries: dict[str, bytes] = {}
        for level, id_ in zip(LEVEL_KEYS, _ids(view), strict=True):
            found = await self._redis.call("GET", self._redis.full_key(f"{level}:{id_}"))
            if isinstance(found, bytes):
                entries[f"{level}:{id_}"] = found
        return Old(view, entries)

    async def _known(self, services: Services, card: str) -> CardView:
        """What a gateway that has just forgotten a card reads of it, and shares."""
        services.views.hear([f"card:{card}"])
        # None also says that a crowded machine could not tell in time.
        while (view := await services.views.card(card)) is None:
            self.races.counts["read_again"] += 1
        await services.views.settled()
        return view

    async def _freeze(self, card: str, old: Old, beside: int, after: int) -> None:
        number = next(self._numbers)
        dice = self._dice
        asked = [
            asyncio.create_task(
                self._ask(
                    dice.choice(self._gateways),
                    Asking(card, number, after=False),
                    dice.randint(0, YIELDS_MAX),
                )
            )
            for _ in range(beside)
        ]
        for _ in range(dice.randint(0, YIELDS_MAX)):
            await asyncio.sleep(0)
        # The verb, and not the route: nobody evicts anything.
        await self._insist(administer.freeze_card, card)
        await self._write_back(card, old, dice.choice(list(Where)))
        await asyncio.gather(
            *(
                self._ask(dice.choice(self._gateways), Asking(card, number, after=True))
                for _ in range(after)
            )
        )
        await asyncio.gather(*asked)
        await self._insist(administer.unfreeze_card, card)
        self.races.counts["freezes"] += 1
        self.races.counts["races"] += beside + after

    async def _insist(self, change: Callable[..., Awaitable[Answer]], card: str) -> None:
        """Changes a card's state; a lock that was not given in time is asked for again."""
        first = self._gateways[0]
        for _ in range(INSIST_MAX):
            try:
                await change(first.postgres, first.clock, US, card)
            except LockTimeout:
                self.races.counts["locks_missed"] += 1
            else:
                return
        raise LockTimeout(f"{card} stayed locked")

    async def _write_back(self, card: str, old: Old, where: Where) -> None:
        """The slow reader: what it had read before the freeze it stores now."""
        if where is not Where.PROCESS:
            for key, entry in old.entries.items():
                await self._redis.call("SET", self._redis.full_key(key), entry, "EX", 60)
        for services in self._gateways:
            services.views.hear([f"card:{card}"])
            if where is not Where.REDIS:
                services.views.store(old.view)
        self.races.counts[f"old_in_{where}"] += 1

    async def _ask(self, services: Services, asking: Asking, yields: int = 0) -> None:
        for _ in range(yields):
            await asyncio.sleep(0)
        if asking.after:
            known, view = services.views.peek(asking.card)
            if known and view is not None and view.card.state == "active":
                self.races.counts["began_with_the_old_view"] += 1
        asked = Asked(
            Authorization(asking.card, 1, "USD"),
            US,
            self._key(),
            canonical="{}",
            deadline_ms=None,
            trace=Trace(services.clock.monotonic_ns),
        )
        try:
            answer = await services.authorizer.authorize(asked)
        except JitwayError as error:
            asking.decision = type(error).__name__
        else:
            asking.decision = json.loads(answer.body)["decision"]
        self.races.note(asking)

    async def _rows(self, cards: Sequence[str]) -> list[Violation]:
        """Approvals that lie between a freeze and its end; both were made under one lock."""
        postgres = self._gateways[0].postgres
        found = []
        for card in cards:
            changes = await postgres.execute_query(_CHANGES, [card])
            approvals = await postgres.execute_query(_APPROVALS, [card[4:]])
            at = -1
            for approval in approvals:
                while at + 1 < len(changes) and changes[at + 1]["at"] <= approval["at"]:
                    at += 1
                if at >= 0 and changes[at]["frozen"]:
                    detail = f"approved at {approval['at']}, frozen since {changes[at]['at']}"
                    found.append(Violation("rows_agree", card, detail))
        return found

    def _key(self) -> Idempotency:
        return Idempotency.of(f"{self._name}-{next(self._keys)}", "POST", "/chaos", b"{}")


@contextmanager
def deaf() -> Iterator[None]:
    """Gateways that are opened meanwhile never hear of an eviction."""

    async def hear_nothing(_redis: RedisAdapter, _views: CardViews) -> None:
        await asyncio.Event().wait()

    with patch("jitway.compose.card_views._hear", hear_nothing):
        yield


@contextmanager
def trusting() -> Iterator[None]:
    """Plants the bug that the races look for: a batch that takes a view as it comes."""
    reload_stale = Batch._reload_stale

    async def trust(
        batch: Batch, covered: list[Waiting], fresh: Refreshed
    ) -> dict[Waiting, CardView]:
        for at, member in enumerate(covered):
            if member.view is not None:
                fresh.versions[at] = member.view.versions
        return await reload_stale(batch, covered, fresh)

    with patch.object(Batch, "_reload_stale", trust):
        yield


def _ids(view: CardView) -> tuple[str, str, str]:
    return view.card.id, view.cardholder.id, view.program.id


def _id(answer: Answer) -> str:
    return str(json.loads(answer.body)["id"])
