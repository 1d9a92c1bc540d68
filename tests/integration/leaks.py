"""What a test must find unchanged after many failures: files, tasks; and a wait with a limit."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Holdings:
    """What this process holds of the machine."""

    files: int
    tasks: int


def holdings() -> Holdings:
    """Open file descriptors and tasks of the running loop."""
    return Holdings(len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks()))


async def eventually(
    holds: Callable[[], bool] | Callable[[], Awaitable[bool]], *, within_s: float = 5.0
) -> float:
    """Seconds until it held; fails the test when it does not in time."""
    started = time.monotonic()
    while True:
        held = holds()
        if not isinstance(held, bool):
            held = await held
        elapsed = time.monotonic() - started
        if held:
            return elapsed
        assert elapsed < within_s, f"did not hold within {within_s} s"
        await asyncio.sleep(0.01)
