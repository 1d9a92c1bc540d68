"""`queries.py`: the low class: whoever only reads waits their turn.

Few are answered at a time, so that lists and searches leave the pool and the processor to those
who move money; a bounded number waits, for a bounded time.
"""

import asyncio
from types import TracebackType

from jitway.web.problems import RETRY_AFTER_S, Refused

WAITING_MAX = 64
WAIT_S = 2.0


class Queries:
    """Turns of those who only read; `async with` takes one.

    Args:
        at_once: how many are answered at a time.
        waiting_max: how many may wait.
        wait_s: for how long.
    """

    def __init__(
        self, at_once: int, *, waiting_max: int = WAITING_MAX, wait_s: float = WAIT_S
    ) -> None:
        self._turns = asyncio.Semaphore(at_once)
        self._waiting = 0
        self._waiting_max = waiting_max
        self._wait_s = wait_s
        self.refused = 0
        """How many were told to come back."""

    async def __aenter__(self) -> None:
        """Waits for a turn.

        Raises:
            Refused: 503, too many wait, or for too long.
        """
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

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        """Gives the turn to the next."""
        self._turns.release()

    def _refusal(self) -> Refused:
        self.refused += 1
        detail = "more is read at once than there is room for; authorizations go first"
        return Refused(503, "too_many_queries", detail, {"Retry-After": RETRY_AFTER_S})
