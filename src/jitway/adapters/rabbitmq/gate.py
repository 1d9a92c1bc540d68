"""The pause of a queue whose handler's dependency is away.

Open, everybody passes. Once a handler has postponed, one delivery at a time tries again, each
after a longer pause, and the first that succeeds opens the gate for all. The others wait in order,
so a delivery that postpones for reasons of its own does not keep its neighbours for ever.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

PAUSE_MIN_S = 0.1
PAUSE_MAX_S = 5.0


@dataclass(slots=True)
class Turn:
    """Leave to try, if `granted`; who gets it says at the end whether it `postponed`."""

    granted: bool
    postponed: bool = False


class Gate:
    """Lets deliveries pass, one by one while their dependency is away."""

    def __init__(self) -> None:
        self._pause_s = 0.0
        self._prober = asyncio.Lock()

    @property
    def is_closed(self) -> bool:
        """Whether a dependency was found to be away and has not come back yet."""
        return self._pause_s > 0

    @asynccontextmanager
    async def turn(self, *, until: float) -> AsyncIterator[Turn]:
        """Leave to try: at once when open, else after a pause.

        Args:
            until: by `time.monotonic()`, when to give up waiting: then it is not granted.
        """
        probing = await self._becomes_prober()
        try:
            if probing:
                await asyncio.sleep(max(0.0, min(self._pause_s, until - time.monotonic())))
            turn = Turn(granted=not probing or time.monotonic() < until)
            yield turn
            if turn.granted:
                self._learn(turn, probing=probing)
        finally:
            if probing:
                self._prober.release()

    async def _becomes_prober(self) -> bool:
        """Wait for the one place to try from; false when the gate is open by then."""
        if not self.is_closed:
            return False
        await self._prober.acquire()
        opened_meanwhile = self._pause_s == 0.0
        if opened_meanwhile:
            self._prober.release()
        return not opened_meanwhile

    def _learn(self, turn: Turn, *, probing: bool) -> None:
        if not turn.postponed:
            # What began before the gate was closed proves nothing about the time since.
            self._pause_s = 0.0 if probing else self._pause_s
        elif not self.is_closed:
            self._pause_s = PAUSE_MIN_S
        elif probing:
            self._pause_s = min(PAUSE_MAX_S, 2 * self._pause_s)
