"""Everything that is not deterministic: instants, deadlines, ids. Injected, so that tests decide.

An id is 128 bits ordered by time (RFC 9562, version 7), written as a prefix and 32 hexadecimal
digits: `aut_0199...`. The digits are the `uuid` that PostgreSQL stores, so an operator can paste
one into psql.
"""

import os
import re
import time
from datetime import UTC, datetime
from typing import Protocol

ID_DIGITS = 32
_is_digits = re.compile(rf"[0-9a-f]{{{ID_DIGITS}}}", re.ASCII).fullmatch


class Clock(Protocol):
    """What the product asks of time."""

    def now(self) -> datetime:
        """The instant by the wall, in UTC."""

    def monotonic_ns(self) -> int:
        """Nanoseconds on a clock that never goes back; only differences mean anything."""

    def new_id(self, prefix: str) -> str:
        """A fresh id: the prefix, an underscore and 32 hexadecimal digits, ordered by time."""


class SystemClock:
    """The machine's own clock and its random source."""

    def __init__(self) -> None:
        self._last_tick = 0

    def now(self) -> datetime:
        """The instant by the wall, in UTC."""
        return datetime.now(UTC)

    # Not wrapped: every authorization asks a dozen times.
    monotonic_ns = staticmethod(time.perf_counter_ns)

    def new_id(self, prefix: str) -> str:
        """A fresh id, greater than every earlier one of this process.

        Forty-eight bits of Unix milliseconds, then twelve bits that count sub-milliseconds
        (RFC 9562, section 6.2, method 3), then 62 random bits.
        """
        tick = time.time_ns() * 4096 // 1_000_000
        # Two ids of one tick, or a wall clock that stepped back: stay ahead of the last one.
        tick = max(tick, self._last_tick + 1)
        self._last_tick = tick
        head = (tick >> 12 << 16) | 0x7000 | (tick & 0xFFF)
        tail = int.from_bytes(os.urandom(8), "big") >> 2 | 0x8000_0000_0000_0000
        return f"{prefix}_{head:016x}{tail:016x}"


def id_digits(prefixed: str, prefix: str) -> str | None:
    """The hexadecimal digits of an id, or None when it is not one of that prefix.

    Args:
        prefixed: what a caller sent, such as `crd_0199...`.
        prefix: the kind it must be of, without the underscore.
    """
    head, _, digits = prefixed.partition("_")
    # `int(..., 16)` would also take underscores, signs and blanks.
    return digits if head == prefix and _is_digits(digits) else None
