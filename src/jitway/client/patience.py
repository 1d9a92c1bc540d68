"""`patience.py`: when a call is sent again, and when it is given up. Pure: waits for nothing."""

import random
from dataclasses import dataclass

# Busy, overloaded, or the ledger is away: the key was left unused, or names what was done.
_WORTH_REPEATING = frozenset({408, 429, 502, 503, 504})
_RETRY_AFTER_MAX_S = 3600.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a caller tries.

    Args:
        total_s: for one call, with every repetition and every pause.
        attempt_s: for one attempt.
        attempts: how often at most.
        pause_s: before the first repetition; doubles each time, with jitter.
        pause_max_s: the longest.
    """

    total_s: float = 10.0
    attempt_s: float = 3.0
    attempts: int = 4
    pause_s: float = 0.1
    pause_max_s: float = 2.0

    def __post_init__(self) -> None:
        if not (self.total_s > 0 and self.attempt_s > 0 and self.attempts >= 1):
            raise ValueError("total_s and attempt_s must be above 0, and attempts at least 1")

    def attempt_within_s(self, elapsed_s: float) -> float:
        """How long the next attempt may take."""
        return max(0.0, min(self.attempt_s, self.total_s - elapsed_s))

    def pause_before_next(
        self, *, attempt: int, elapsed_s: float, status: int | None, retry_after: str | None
    ) -> float | None:
        """Seconds to wait before the next attempt, or None when there is none.

        Args:
            attempt: how many were made.
            elapsed_s: since the first began.
            status: that was answered; None when nothing was.
            retry_after: the answer's header, in seconds.
        """
        if attempt >= self.attempts or (status is not None and status not in _WORTH_REPEATING):
            return None
        longest = min(self.pause_max_s, self.pause_s * 2 ** (attempt - 1))
        pause_s = longest * random.uniform(0.5, 1.0)  # noqa: S311 spreads callers, guards nothing
        if retry_after is not None and retry_after.isascii() and retry_after.isdigit():
            pause_s = max(pause_s, min(float(retry_after), _RETRY_AFTER_MAX_S))
        return pause_s if elapsed_s + pause_s < self.total_s else None
