"""`rate_limits.py`: how often a key may ask, and how often an address may show a bad key.

Counted in this process, in fixed windows; where there is Redis, a task beside the requests adds up
what all gateways counted, half a second late. No request ever waits for it: without Redis, or
while it hangs, each gateway holds its own limit and nobody else is refused. Money is not guarded
here; the valve and the deadlines are what keep a flood away from it.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from jitway.errors import JitwayError
from jitway.web.addresses import Networks, caller_source
from jitway.web.exchange import Fields
from jitway.web.problems import Refused

REQUESTS, AUTHORIZATIONS, FAILED_KEYS = "requests", "authorizations", "failed_keys"

WINDOW_S = 10
SHARE_S = 0.5
# Of one kind in one window; who comes later is not counted, rather than counted with others.
NAMES_MAX = 10_000
# Told to Redis in one round.
SHARED_MAX = 500

_NS = 1_000_000_000
_DETAILS = {
    REQUESTS: "this key asks more often than it may",
    AUTHORIZATIONS: "this key authorizes more often than it may",
    FAILED_KEYS: "too many bad keys from this address",
}

_log = structlog.get_logger("jitway.web.rate_limits")


class Counters(Protocol):
    """What all gateways add to: Redis."""

    async def increment_counter(
        self, name: str, amount: int = 1, window_s: int | None = None
    ) -> int:
        """Adds to a counter that ends with its window; what it then stands at."""


class RateLimits:
    """Counts by kind and name.

    Args:
        rates: a second, by kind, over a window of ten; 0 for no limit.
        monotonic_ns: nanoseconds of a clock that never goes back.
        wall_s: seconds of the clock that all gateways share, so that their windows are the same.
        counters: of all gateways; None when there is only this process.
    """

    def __init__(
        self,
        rates: Mapping[str, int],
        *,
        monotonic_ns: Callable[[], int],
        wall_s: Callable[[], float],
        counters: Counters | None = None,
    ) -> None:
        self._allowed = {kind: rate * WINDOW_S for kind, rate in rates.items()}
        self._now = monotonic_ns
        self._wall_s = wall_s
        self._counters = counters
        self._task: asyncio.Task[None] | None = None
        self._window = 0
        self._ends_ns = 0
        self._counts: dict[str, dict[str, int]] = {}
        self._told: dict[tuple[str, str], int] = {}
        self._elsewhere: dict[tuple[str, str], int] = {}
        self.refused = dict.fromkeys(rates, 0)
        """Requests that were refused, by kind."""
        self._turn(monotonic_ns())

    def start(self) -> None:
        """Begins to add up with other gateways, if there is a way to."""
        if self._counters is not None and self._task is None:
            self._task = asyncio.create_task(self._share(self._counters), name="rate-limits")

    async def stop(self) -> None:
        """Ends that; may be called twice, or before `start`."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def spend(self, kind: str, name: str) -> None:
        """Counts once, and refuses what is beyond the limit.

        Raises:
            Refused: 429, with the seconds until the window ends.
        """
        if self._allowed[kind]:
            self.note(kind, name)
            self._check(kind, name, over=self._allowed[kind])

    def check(self, kind: str, name: str) -> None:
        """Refuses whoever has used up the limit, without counting.

        Raises:
            Refused: 429.
        """
        if self._allowed[kind]:
            self._check(kind, name, over=self._allowed[kind] - 1)

    def note(self, kind: str, name: str) -> None:
        """Counts once."""
        now = self._now()
        if now >= self._ends_ns:
            self._turn(now)
        counts = self._counts[kind]
        if name in counts:
            counts[name] += 1
        elif len(counts) < NAMES_MAX:
            counts[name] = 1

    def _check(self, kind: str, name: str, *, over: int) -> None:
        spent = self._counts[kind].get(name, 0)
        if self._elsewhere:
            spent += self._elsewhere.get((kind, name), 0)
        if spent <= over:
            return
        now = self._now()
        if now >= self._ends_ns:
            return
        self.refused[kind] += 1
        wait_s = -(-(self._ends_ns - now) // _NS)
        raise Refused(429, "too_many_requests", _DETAILS[kind], {"Retry-After": str(wait_s)})

    def _turn(self, now: int) -> None:
        wall_s = self._wall_s()
        self._window = int(wall_s // WINDOW_S)
        self._ends_ns = now + int(((self._window + 1) * WINDOW_S - wall_s) * _NS)
        self._counts = {kind: {} for kind in self._allowed}
        self._told = {}
        self._elsewhere = {}

    async def _share(self, counters: Counters) -> None:
        while True:
            await asyncio.sleep(SHARE_S)
            try:
                await self.share_once(counters)
            except JitwayError as error:
                # A warning of every round would say nothing that the health of Redis does not.
                _log.debug("rates_not_shared", cause=str(error))

    async def share_once(self, counters: Counters) -> None:
        """Tells what was counted since the last time, and learns what others did.

        Raises:
            CacheUnavailable: the rest is told the next time.
        """
        window = self._window
        untold = [
            (kind, name, count)
            for kind, counts in self._counts.items()
            if self._allowed[kind]
            for name, count in counts.items()
            if count > self._told.get((kind, name), 0)
        ]
        for kind, name, count in untold[:SHARED_MAX]:
            amount = count - self._told.get((kind, name), 0)
            # Told, whatever comes back: after a failure it may have been added all the same, and
            # nobody is to be counted twice.
            self._told[kind, name] = count
            total = await counters.increment_counter(
                f"rate:{kind}:{window}:{name}", amount, 2 * WINDOW_S
            )
            if self._window != window:
                return
            self._elsewhere[kind, name] = max(total - count, 0)


class FailedKeys:
    """Bad keys by the address they come from.

    Args:
        rates: where they are counted.
        trusted: networks of proxies whose word about addresses counts.
    """

    def __init__(self, rates: RateLimits, trusted: Networks) -> None:
        self._rates = rates
        self._trusted = trusted

    def check(self, address: str, fields: Fields) -> None:
        """Refuses an address that showed too many.

        Raises:
            Refused: 429.
        """
        self._rates.check(FAILED_KEYS, self._source(address, fields))

    def note(self, address: str, fields: Fields) -> None:
        """One more."""
        self._rates.note(FAILED_KEYS, self._source(address, fields))

    def _source(self, address: str, fields: Fields) -> str:
        forwarded = fields.get(b"x-forwarded-for")
        return caller_source(address, () if forwarded is None else (forwarded,), self._trusted)
