"""`views.py`: cards with everything above them, for decisions to start from. Never balances.

    L1 in this process -> L2 in Redis, if there is one -> L3 the ledger

A view is made of three entries with versions and lives of their own: the card, its cardholder
(`user`), and its program (`limits`, which all its cards share). It is a hint: the batch compares
all three versions with the rows under the lock, so a stale entry costs a reload and never an
approval. What no level can say in time is left to the batch as well.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar

from jitway.cache.encoding import CARD_FIELDS, CardEntry, Foreign, ProgramEntry, Sealer
from jitway.cache.evictions import Evictions
from jitway.cache.l1 import LOAD_LIMIT_S, L1Cache, TooManyLoads
from jitway.cache.shared import CARD, LIMITS, USER, Kind, SharedLevel
from jitway.domain.card import CardView, Level

ENTRIES_MAX: Final = 100_000
PROGRAMS_MAX: Final = 10_000
NEGATIVE_TTL_S: Final = 1.0
UNSYNCHRONISED_TTL_S: Final = 30.0
"""What is kept while a Redis is configured whose evictions cannot be heard."""

Entry = TypeVar("Entry")
Load = Callable[[Iterable[str]], Awaitable[dict[str, CardView]]]


class CountLookup(Protocol):
    """Told of every lookup; `Profiler.count_lookup` fits."""

    def __call__(self, level: str, kind: str, *, hit: bool, span_ns: int | None = None) -> None:
        """One lookup: its level, its data type, and how long it took where that was measured."""


class _Forgets(Protocol):
    ttl_s: float

    def evict(self, key: str) -> None:
        """Forgets one key."""

    def clear(self) -> None:
        """Forgets everything."""

    async def close(self) -> None:
        """Ends the loads."""


def _uncounted(level: str, kind: str, *, hit: bool, span_ns: int | None = None) -> None:
    """Nobody asked for the count."""


class CardViews:
    """Card views by card id.

    Args:
        load: reads views of card ids from the ledger; ids it does not know are absent.
        entries_max: how many cards are remembered, and how many cardholders.
        ttl_s: seconds a card lives; cardholders and programs have the lives of their kinds.
        monotonic_ns: nanoseconds of a clock that never goes back.
        shared: what several processes remember together, and what seals it for this ledger.
        count: told of every lookup.
        load_limit_s: seconds one load may take, whoever waits for it.
    """

    def __init__(
        self,
        load: Load,
        *,
        entries_max: int = ENTRIES_MAX,
        ttl_s: float = CARD.ttl_s,
        monotonic_ns: Callable[[], int],
        shared: tuple[SharedLevel, Sealer] | None = None,
        count: CountLookup = _uncounted,
        load_limit_s: float = LOAD_LIMIT_S,
    ) -> None:
        self._load = load
        self._shared = shared
        self._count = count
        self._monotonic_ns = monotonic_ns

        def level_1(entries: int, life_s: float, of: Callable[[Entry], int]) -> L1Cache[Entry]:
            return L1Cache(
                entries,
                ttl_s=life_s,
                negative_ttl_s=NEGATIVE_TTL_S,
                monotonic_ns=monotonic_ns,
                version_of=of,
                load_limit_s=load_limit_s,
            )

        self._cards = level_1(entries_max, ttl_s, _card_version)
        self._users = level_1(entries_max, USER.ttl_s, _level_version)
        self._programs = level_1(min(entries_max, PROGRAMS_MAX), LIMITS.ttl_s, _program_version)
        self._caches: dict[str, _Forgets] = dict(
            zip(_KINDS, (self._cards, self._users, self._programs), strict=True)
        )
        self._evictions = Evictions()
        self._lives_s = ttl_s, USER.ttl_s, LIMITS.ttl_s
        self._set_lives()

    # Reading --------------------------------------------------------------------------------

    def peek(self, card_id: str) -> tuple[bool, CardView | None]:
        """Whether this process knows the card, and its view; None is a known absence."""
        now_ns = self._monotonic_ns()
        count = self._count
        view = self._cards.get_at(card_id, now_ns)
        if view is None:
            absent = self._cards.is_absent(card_id)
            count("l1", "card", hit=absent, span_ns=self._monotonic_ns() - now_ns)
            return absent, None
        user = self._users.get_at(view.cardholder.id, now_ns)
        program = self._programs.get_at(view.program.id, now_ns)
        if user is None or program is None:
            count("l1", "user", hit=user is not None)
            count("l1", "limits", hit=program is not None)
            count("l1", "card", hit=True, span_ns=self._monotonic_ns() - now_ns)
            return False, None
        if user is not view.cardholder or program.program is not view.program:
            view = self._composed(view, user, program)
        count("l1", "card", hit=True, span_ns=self._monotonic_ns() - now_ns)
        count("l1", "user", hit=True)
        count("l1", "limits", hit=True)
        return True, view

    async def card(self, card_id: str) -> CardView | None:
        """The card's view from the first level that knows it; None when there is no such card.

        None also when no level can say so in time, or too many are asked for at once: then the
        batch finds out, under its lock.

        Raises:
            StoreUnavailable: PostgreSQL cannot be asked.
        """
        if self._cards.is_absent(card_id):
            return None
        try:
            view = self._cards.get(card_id)
            if view is None:
                view = await self._cards.load(card_id, self._read_card)
                if view is None:
                    return None
            return await self._completed(card_id, view)
        except (TooManyLoads, TimeoutError):
            return None

    async def _completed(self, card_id: str, view: CardView) -> CardView:
        """The view with what is above the card as it is known now."""
        user = self._users.get(view.cardholder.id)
        if user is None:
            read_user = partial(self._read_user, card_id)
            user = await self._users.load(view.cardholder.id, read_user) or view.cardholder
        program = self._programs.get(view.program.id)
        if program is None:
            read_program = partial(self._read_program, card_id)
            program = await self._programs.load(view.program.id, read_program)
        if program is None or (user is view.cardholder and program.program is view.program):
            return view
        return self._composed(view, user, program)

    def _composed(self, view: CardView, user: Level, program: ProgramEntry) -> CardView:
        """The view with newer levels above its card, whose own life goes on."""
        rest = tuple(getattr(view, name) for name in CARD_FIELDS)
        entry = CardEntry(view.card, user.id, program.program.id, rest)
        composed = _view(entry, user, program)
        self._cards.replace(view.card.id, composed, instead_of=view)
        return composed

    async def _read_card(self, card_id: str) -> CardView | None:
        """The card from Redis with what is above it, else all of it from the ledger."""
        entry = await self._read_shared(CARD, card_id, Sealer.open_card)
        if entry is None:
            return await self._from_ledger(CARD, card_id)
        users, programs = self._users, self._programs
        user_id, program_id = entry.cardholder_id, entry.program_id
        user = users.get(user_id) or await users.load(user_id, partial(self._read_user, card_id))
        program = programs.get(program_id) or await programs.load(
            program_id, partial(self._read_program, card_id)
        )
        # A card that only Redis knows does not exist: another ledger's, or of a time that is over.
        return _view(entry, user, program) if user is not None and program is not None else None

    async def _read_user(self, card_id: str, user_id: str) -> Level | None:
        user = await self._read_shared(USER, user_id, Sealer.open_cardholder)
        if user is None:
            view = await self._from_ledger(USER, card_id)
            user = view.cardholder if view else None
        return user

    async def _read_program(self, card_id: str, program_id: str) -> ProgramEntry | None:
        program = await self._read_shared(LIMITS, program_id, Sealer.open_program)
        if program is None:
            view = await self._from_ledger(LIMITS, card_id)
            program = ProgramEntry(view.program, view.zone) if view else None
        return program

    async def _read_shared(
        self, kind: Kind, id_: str, opened: Callable[[Sealer, str, int, bytes], Entry]
    ) -> Entry | None:
        if self._shared is None:
            return None
        level, sealer = self._shared
        started_ns = self._monotonic_ns()
        found = await level.read(kind, id_)
        entry = None
        if found is not None:
            try:
                entry = opened(sealer, id_, found.version, found.value)
            except Foreign:
                level.leave_alone(kind, id_)
        span_ns = self._monotonic_ns() - started_ns
        self._count("l2", kind.name, hit=entry is not None, span_ns=span_ns)
        return entry

    async def _from_ledger(self, kind: Kind, card_id: str) -> CardView | None:
        since = self._evictions.number
        started_ns = self._monotonic_ns()
        view = (await self._load((card_id,))).get(card_id)
        span_ns = self._monotonic_ns() - started_ns
        self._count("l3", kind.name, hit=view is not None, span_ns=span_ns)
        if view is not None:
            self._store(view, since)
        return view

    # Writing --------------------------------------------------------------------------------

    def store(self, view: CardView) -> None:
        """Remembers what was read in the ledger, here and in Redis; nothing newer gives way."""
        self._store(view, self._evictions.number)

    def _store(self, view: CardView, since: int) -> None:
        """The same of what was read since a number of evictions, but for what was evicted then."""
        program = ProgramEntry(view.program, view.zone)
        met = self._evictions.met
        user_id, program_id, card_id = view.cardholder.id, view.program.id, view.card.id
        if self._users.get(user_id) != view.cardholder and not met(user_id, since):
            self._users.store(user_id, view.cardholder)
            self._share(USER, view.cardholder, Sealer.cardholder, view)
        if self._programs.get(program_id) != program and not met(program_id, since):
            self._programs.store(program_id, program)
            self._share(LIMITS, view.program, Sealer.program, view)
        if not met(card_id, since):
            known = self._cards.get(card_id)
            if known is None or known.card != view.card:
                self._share(CARD, view.card, Sealer.card, view)
            self._cards.store(card_id, view)

    def _share(
        self, kind: Kind, level: Level, sealed: Callable[[Sealer, CardView], bytes], view: CardView
    ) -> None:
        if self._shared is not None:
            shared, sealer = self._shared
            shared.write(kind, level.id, level.version, sealed(sealer, view))

    def evict(self, id_: str, *, version: int | None = None) -> None:
        """Forgets a card, a cardholder or a program that changed, at every level.

        Args:
            id_: with the prefix of its kind.
            version: the one that the change made, where it is known; nothing older comes back.
        """
        kind = _KINDS.get(id_[:4])
        if kind is None:
            return
        self._forget(id_)
        if self._shared is not None:
            self._shared[0].evict(kind, id_, version)

    def hear(self, keys: Sequence[str] | None) -> None:
        """Forgets what changed elsewhere; None = whatever there is, for nothing was heard.

        Args:
            keys: as they are in Redis, `card:crd_...` or `limits:...` of any owner of limits.
        """
        if keys is None:
            self._set_lives()
            self.clear()
            return
        for key in keys:
            self._forget(key.partition(":")[2])

    def clear(self) -> None:
        """Forgets everything that this process knows."""
        self._evictions.add_all()
        for cache in self._caches.values():
            cache.clear()

    async def settled(self) -> None:
        """Ends when all that was to be told to Redis has been tried."""
        if self._shared is not None:
            await self._shared[0].settled()

    async def close(self) -> None:
        """Ends what is being read and written; may be called twice."""
        for cache in self._caches.values():
            await cache.close()
        if self._shared is not None:
            await self._shared[0].close()

    def _forget(self, id_: str) -> None:
        cache = self._caches.get(id_[:4])
        if cache is not None:
            self._evictions.add(id_)
            cache.evict(id_)

    def _set_lives(self) -> None:
        """Entries whose evictions cannot be heard live shorter."""
        deaf = self._shared is not None and not self._shared[0].is_synchronised
        longest_s = UNSYNCHRONISED_TTL_S if deaf else float("inf")
        for cache, life_s in zip(self._caches.values(), self._lives_s, strict=True):
            cache.ttl_s = min(life_s, longest_s)


_KINDS = {"crd_": CARD, "chd_": USER, "prg_": LIMITS}


def _card_version(view: CardView) -> int:
    return view.card.version


def _level_version(level: Level) -> int:
    return level.version


def _program_version(entry: ProgramEntry) -> int:
    return entry.program.version


def _view(entry: CardEntry, user: Level, program: ProgramEntry) -> CardView:
    rest = dict(zip(CARD_FIELDS, entry.rest, strict=True))
    return CardView(
        program=program.program, cardholder=user, card=entry.card, zone=program.zone, **rest
    )
