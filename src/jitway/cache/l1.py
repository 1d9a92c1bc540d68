"""`l1.py`: a bounded map in this process, with deadlines and single flight. Never holds balances.

A value may be stale by its time to live; whoever decides about money compares versions under the
lock. What was evicted while it was being loaded is handed to those who wait, but not kept.
"""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")

_JITTER = 0.1


class L1Cache(Generic[Value]):
    """Values by key; the oldest entry leaves when the map is full.

    Args:
        entries_max: how many entries at most.
        ttl_s: seconds a value lives, give or take a tenth, so that equals do not expire together.
        negative_ttl_s: seconds the absence of a value is remembered.
        monotonic_ns: nanoseconds of a clock that never goes back.
    """

    def __init__(
        self,
        entries_max: int,
        *,
        ttl_s: float,
        negative_ttl_s: float,
        monotonic_ns: Callable[[], int],
    ) -> None:
        self._entries: OrderedDict[str, tuple[Value | None, int]] = OrderedDict()
        self._entries_max = entries_max
        self._ttl_ns = ttl_s * 1e9
        self._negative_ttl_ns = negative_ttl_s * 1e9
        self._monotonic_ns = monotonic_ns
        self._loading: dict[str, asyncio.Task[Value | None]] = {}
        self._generation = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        """How many entries there are, absent values included."""
        return len(self._entries)

    def peek(self, key: str) -> tuple[bool, Value | None]:
        """Whether the key is known, and its value; None is a known absence."""
        entry = self._entries.get(key)
        if entry is not None and entry[1] > self._monotonic_ns():
            self.hits += 1
            return True, entry[0]
        self.misses += 1
        return False, None

    async def load(
        self, key: str, loader: Callable[[str], Awaitable[Value | None]]
    ) -> Value | None:
        """The value, loaded once however many ask for it meanwhile.

        Raises:
            Exception: what the loader raised; failures are not kept.
        """
        task = self._loading.get(key)
        if task is None:
            task = asyncio.ensure_future(self._load(key, loader))
            self._loading[key] = task
            task.add_done_callback(lambda _: self._loading.pop(key, None))
        # A caller that gives up must not take the load from those who still wait.
        return await asyncio.shield(task)

    async def _load(
        self, key: str, loader: Callable[[str], Awaitable[Value | None]]
    ) -> Value | None:
        generation = self._generation
        value = await loader(key)
        if generation == self._generation:
            self.store(key, value)
        return value

    def store(self, key: str, value: Value | None) -> None:
        """Keeps a value, or its absence."""
        ttl_ns = self._negative_ttl_ns if value is None else self._ttl_ns
        jitter = 1 + random.uniform(-_JITTER, _JITTER)  # noqa: S311 spreads expiry, guards nothing
        self._entries[key] = (value, self._monotonic_ns() + int(ttl_ns * jitter))
        self._entries.move_to_end(key)
        while len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)

    def evict(self, key: str) -> None:
        """Forgets one key; a load under way is not kept."""
        self._generation += 1
        self._entries.pop(key, None)

    def clear(self) -> None:
        """Forgets everything."""
        self._generation += 1
        self._entries.clear()
