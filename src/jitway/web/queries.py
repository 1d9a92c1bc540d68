"""`queries.py`: the low class: whoever only reads waits their turn.

Few are answered at a time, so that lists and searches leave the pool to those who move money. They
share the one processor core with them too: while authorizations are under way, a turn is followed
by a rest, so that all turns together are busy for a quarter of the time. A bounded number waits,
for a bounded time.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic

from jitway.web.problems import RETRY_AFTER_S, Refused

WAITING_MAX = 64
WAIT_S = 2.0
BUSY_PART = 4
REST_S_MAX = 1.0


class Queries:
    """Turns of those who only read.

    Args:
        at_once: how many are answered at a time.
        is_busy: whether authorizations are under way.
        waiting_max: how many may wait.
        wait_s: for how long.
    """

    def __init__(
        self,
        at_once: int,
        is_busy: Callable[[], bool] = lambda: False,
        *,
        waiting_max: int = WAITING_MAX,
        wait_s: float = WAIT_S,
    ) -> None:
        self._at_once = at_once
        self._is_busy = is_busy
        self._turns = asyncio.Semaphore(at_once)
        self._waiting = 0
        self._waiting_max = waiting_max
        self._wait_s = wait_s
        self.refused = 0
        """How many were told to come back."""

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Waits for a turn, and gives it to the next at the end.

        Raises:
            Refused: 503, too many wait, or for too long.
        """
        await self._take()
        began_s = monotonic()
        try:
            yield
        finally:
            self._give(monotonic() - began_s)

    async def _take(self) -> None:
        if not self._turns.locked():
            await self._turns.acquire()
            return
        if self._waiting >= self._waiting_max:
            raise self._refusal()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_s):
                await self._turns.acquire()
        except TimeoutError:
            raise self._refusal() from None
        finally:
            self._waiting -= 1

    def _give(self, span_s: float) -> None:
        if not self._is_busy():
            self._turns.release()
            return
        rest_s = min(span_s * (self._at_once * BUSY_PART - 1), REST_S_MAX)
        asyncio.get_running_loop().call_later(rest_s, self._turns.release)

    def _refusal(self) -> Refused:
        self.refused += 1
        detail = "more is read at once than there is room for; authorizations go first"
        return Refused(503, "too_many_queries", detail, {"Retry-After": RETRY_AFTER_S})
