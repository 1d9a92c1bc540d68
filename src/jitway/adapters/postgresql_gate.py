"""Who may knock at the server, and when.

While connecting works everybody connects at once. After a refusal one caller at a time tries, at
most five times a second with jitter, and all who waited meanwhile share its outcome: a server that
comes back meets no storm, and a server that is gone costs nobody a queue.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

PAUSE_S_MIN = 0.2
PAUSE_S_MAX = 0.3

Connection = TypeVar("Connection")


@dataclass(frozen=True)
class Refusal:
    """Why no connection came of an attempt.

    Args:
        text: one sentence for the caller, with what to do.
        passing: whether another attempt may succeed a moment later.
    """

    text: str
    passing: bool


class ConnectGate(Generic[Connection]):
    """Paces the attempts of one process after a refusal."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._refusal: Refusal | None = None
        self._refusal_count = 0
        self._next_attempt_at = 0.0

    async def attempt(
        self, knock: Callable[[], Awaitable[Connection | Refusal]]
    ) -> Connection | Refusal:
        """One attempt, or the outcome of the one that others were making meanwhile.

        Args:
            knock: tries to connect, within a limit of its own.
        """
        if self._standing() is None:
            return self._noted(await knock())
        refusals_before = self._refusal_count
        async with self._turn:
            standing = self._standing()
            if standing is not None and self._refusal_count != refusals_before:
                return standing
            wait_s = self._next_attempt_at - asyncio.get_running_loop().time()
            await asyncio.sleep(max(0.0, wait_s))
            return self._noted(await knock())

    def _standing(self) -> Refusal | None:
        return self._refusal

    def _noted(self, outcome: Connection | Refusal) -> Connection | Refusal:
        if isinstance(outcome, Refusal):
            self._refusal = outcome
            self._refusal_count += 1
            pause_s = random.uniform(PAUSE_S_MIN, PAUSE_S_MAX)  # noqa: S311 - spreads load only
            self._next_attempt_at = asyncio.get_running_loop().time() + pause_s
        else:
            self._refusal = None
            self._next_attempt_at = 0.0
        return outcome
