"""`l1.py`: a bounded map in this process: deadlines, versions, single flight. Never balances.

A value may be stale by its time to live; whoever decides about money compares versions under the
lock. What was evicted while it was being loaded is handed to those who wait, but not kept.
"""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")

ABSENT_MAX = 10_000
LOADING_MAX = 1_000
LOAD_LIMIT_S = 0.5

_JITTER = 0.1


class TooManyLoads(Exception):
    """As many values are being loaded as may be at a time."""


def _unversioned(_value: object) -> int:
    return 0


class _Load(Generic[Value]):
    """One load under way; `keeps` until its key is evicted."""

    __slots__ = ("keeps", "task")

    def __init__(self) -> None:
        self.keeps = True
        self.task: asyncio.Task[Value | None]


class L1Cache(Generic[Value]):
    """Values by key; the one that was not asked for the longest leaves when the map is full.

    Args:
        entries_max: how many values at most; absences have a smaller map of their own, so that
            asking for what does not exist pushes nothing out.
        ttl_s: seconds a value lives, give or take a tenth, so that equals do not expire together.
        negative_ttl_s: seconds the absence of a value is remembered.
        monotonic_ns: nanoseconds of a clock that never goes back.
        version_of: a value's version; an older one never replaces a newer one.
        loading_max: how many values may be loaded at a time.
        load_limit_s: seconds a load may take, whoever waits for it.
    """

    def __init__(
        self,
        entries_max: int,
        *,
        ttl_s: float,
        negative_ttl_s: float,
        monotonic_ns: Callable[[], int],
        version_of: Callable[[Value], int] = _unversioned,
        loading_max: int = LOADING_MAX,
        load_limit_s: float = LOAD_LIMIT_S,
    ) -> None:
        self._entries: OrderedDict[str, tuple[Value, int]] = OrderedDict()
        self._absent: OrderedDict[str, int] = OrderedDict()
        self._entries_max = entries_max
        self._absent_max = min(entries_max, ABSENT_MAX)
        self.ttl_s = ttl_s
        """Seconds for what is stored from now on."""
        self._negative_ttl_s = negative_ttl_s
        self._monotonic_ns = monotonic_ns
        self._version_of = version_of
        self._loading: dict[str, _Load[Value]] = {}
        self._tasks: set[asyncio.Task[Value | None]] = set()
        self._loading_max = loading_max
        self._load_limit_s = load_limit_s

    def __len__(self) -> int:
        """How many entries there are, absent values included."""
        return len(self._entries) + len(self._absent)

    @property
    def loading(self) -> int:
        """How many loads are under way."""
        return len(self._tasks)

    def get(self, key: str) -> Value | None:
        """The value, if it is here and alive."""
        return self.get_at(key, self._monotonic_ns())

    def get_at(self, key: str, now_ns: int) -> Value | None:
        """The same at an instant of the clock, for who asks for several values at once."""
        entry = self._entries.get(key)
        if entry is None or entry[1] <= now_ns:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def is_absent(self, key: str) -> bool:
        """Whether the key is known to have no value."""
        deadline_ns = self._absent.get(key)
        return deadline_ns is not None and deadline_ns > self._monotonic_ns()

    def peek(self, key: str) -> tuple[bool, Value | None]:
        """Whether the key is known, and its value; None is a known absence."""
        value = self.get(key)
        return value is not None or self.is_absent(key), value

    async def load(
        self, key: str, loader: Callable[[str], Awaitable[Value | None]]
    ) -> Value | None:
        """The value, loaded once however many ask for it meanwhile.

        Raises:
            TooManyLoads: nobody is loading it, and too many others are being loaded.
            TimeoutError: the loader took longer than `load_limit_s`.
            Exception: what the loader raised; failures are not kept.
        """
        load = self._loading.get(key)
        if load is None:
            if len(self._tasks) >= self._loading_max:
                raise TooManyLoads
            load = self._begin(key, loader)
        # A caller that gives up must not take the load from those who still wait.
        return await asyncio.shield(load.task)

    def _begin(self, key: str, loader: Callable[[str], Awaitable[Value | None]]) -> _Load[Value]:
        load: _Load[Value] = _Load()
        load.task = asyncio.create_task(self._load(key, loader, load))
        self._loading[key] = load
        self._tasks.add(load.task)

        def ended(task: asyncio.Task[Value | None]) -> None:
            self._tasks.discard(task)
            if self._loading.get(key) is load:
                del self._loading[key]
            # Whoever waited was told; if nobody did, a failure is nobody's.
            _ = task.cancelled() or task.exception()

        load.task.add_done_callback(ended)
        return load

    async def _load(
        self, key: str, loader: Callable[[str], Awaitable[Value | None]], load: _Load[Value]
    ) -> Value | None:
        async with asyncio.timeout(self._load_limit_s):
            value = await loader(key)
        if load.keeps:
            self.store(key, value)
        return value

    def store(self, key: str, value: Value | None) -> Value | None:
        """Keeps a value, or its absence.

        Returns:
            What is kept: a value that is alive and newer stays, and so does one that is equal.
        """
        kept = self.get(key)
        if value is None:
            if kept is None:
                self._store_absence(key)
            return kept
        if kept is not None and self._version_of(kept) >= self._version_of(value):
            if self._version_of(kept) > self._version_of(value):
                return kept
            if kept == value:
                # The same object: what was made from it stays good.
                value = kept
        self._absent.pop(key, None)
        self._entries[key] = (value, self._deadline_ns(self.ttl_s))
        self._entries.move_to_end(key)
        while len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)
        return value

    def replace(self, key: str, value: Value, *, instead_of: Value) -> None:
        """Puts a value in another's place, if that is still there; it lives no longer for it."""
        entry = self._entries.get(key)
        if entry is not None and entry[0] is instead_of:
            self._entries[key] = (value, entry[1])

    def _store_absence(self, key: str) -> None:
        self._entries.pop(key, None)
        self._absent[key] = self._deadline_ns(self._negative_ttl_s)
        self._absent.move_to_end(key)
        while len(self._absent) > self._absent_max:
            self._absent.popitem(last=False)

    def _deadline_ns(self, ttl_s: float) -> int:
        jitter = 1 + random.uniform(-_JITTER, _JITTER)  # noqa: S311 spreads expiry, guards nothing
        return self._monotonic_ns() + int(ttl_s * jitter * 1e9)

    def evict(self, key: str) -> None:
        """Forgets one key; a load of it that is under way is not kept, and nobody joins it."""
        load = self._loading.pop(key, None)
        if load is not None:
            load.keeps = False
        self._entries.pop(key, None)
        self._absent.pop(key, None)

    def clear(self) -> None:
        """Forgets everything; loads under way are not kept."""
        for load in self._loading.values():
            load.keeps = False
        self._loading.clear()
        self._entries.clear()
        self._absent.clear()

    async def close(self) -> None:
        """Ends the loads that are under way; may be called twice."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
