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
        self._refused_at = 0.0
        self._pause_s = 0.0

    async def attempt(
        self, knock: Callable[[], Awaitable[Connection | Refusal]], *, since: float
    ) -> Connection | Refusal:
        """One attempt, or the outcome of one that others made since the caller began to wait.

        Args:
            knock: tries to connect, within a limit of its own.
            since: when the caller began to wait, in seconds of the loop's clock.
        """
        if self._refusal is None:
            return self._noted(await knock())
        async with self._turn:
            if shared := self._refusal_after(since):
                return shared
            resumes_at = self._refused_at + self._pause_s
            await asyncio.sleep(max(0.0, resumes_at - asyncio.get_running_loop().time()))
            return self._noted(await knock())

    def _refusal_after(self, since: float) -> Refusal | None:
        return self._refusal if self._refused_at >= since else None

    def _noted(self, outcome: Connection | Refusal) -> Connection | Refusal:
        if isinstance(outcome, Refusal):
            self._refused_at = asyncio.get_running_loop().time()
            self._pause_s = random.uniform(PAUSE_S_MIN, PAUSE_S_MAX)  # noqa: S311 - spreads load
            self._refusal = outcome
        else:
            self._refusal = None
            self._pause_s = 0.0
        return outcome
