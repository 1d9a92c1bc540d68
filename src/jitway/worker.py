"""`worker.py`: `jitway work`: moves events until it is told to stop, and answers nobody.

Owns what one such process does: the relay, the consumers, or both. Several may run beside each
other, and beside gateways that do the same.

    stopping -> relay and consumers finish what they have begun, or hand it back (at most 10 s)
             -> batches drained -> stores closed -> embedded PostgreSQL left to others, or stopped
"""

import asyncio
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from jitway.errors import SettingsError
from jitway.events.consumer import Subscription
from jitway.events.work import EventWork

_log = structlog.get_logger("jitway.work")

REPORT_EVERY_S = 60.0


async def work(
    moving: EventWork, stopping: asyncio.Event, *, announce: Callable[[str], None]
) -> None:
    """Moves events until `stopping` is set.

    Args:
        moving: the relay, the consumers, or both; started.
        stopping: set by whoever ends it.
        announce: is told one line when it works.
    """
    names = [consumer.subscription.queue.name for consumer in moving.consumers]
    does = [*(["relay"] if moving.relays else []), *names]
    announce(f"jitway works: {', '.join(does)} over {moving.broker.address}")
    while not stopping.is_set():
        try:
            async with asyncio.timeout(REPORT_EVERY_S):
                await stopping.wait()
        except TimeoutError:
            _log.info("events_moved", **moving.statistics())
    _log.info("draining", **moving.statistics())
    await moving.stop()


def load_consumers(module: str) -> list[Subscription]:
    """The consumers that somebody's module offers as `CONSUMERS`.

    Args:
        module: its dotted name; the working directory is looked in too.

    Raises:
        SettingsError: there is no such module, or it offers none.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        offered: Any = getattr(importlib.import_module(module), "CONSUMERS", None)
    except ImportError as error:
        raise SettingsError(f"the consumers in {module} cannot be imported: {error}") from error
    found = list(offered) if isinstance(offered, list | tuple) else []
    if not found or not all(isinstance(one, Subscription) for one in found):
        raise SettingsError(f"{module} must have CONSUMERS, a list of what subscribe() returns")
    return found
