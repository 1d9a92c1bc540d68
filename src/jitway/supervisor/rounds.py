"""`rounds.py`: asks all workers what they counted, waits a moment, and tells the whole.

Owns the wait: a worker that hangs costs it once, and is counted as missing with the last that it
told. However many ask, there is one round at a time and one in a second.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from jitway.profiler.profile import merge as merge_profiles
from jitway.supervisor import families
from jitway.supervisor.counts import Counts
from jitway.supervisor.families import Family, Sample
from jitway.supervisor.line import Line
from jitway.supervisor.messages import Collect, Collected, Roll, What

COLLECT_S = 0.2
KEPT_S = 1.0


class Rounds:
    """The figures of all workers, at most a second old.

    Args:
        counts: what each told last.
        lines: to the workers that serve, by number.
        roll: how many workers there are, given those that answered.
        restarts: how often a worker was started again.
        kept_s: how long one document serves everybody.
    """

    def __init__(
        self,
        counts: Counts,
        *,
        lines: Callable[[], Mapping[int, Line]],
        roll: Callable[[set[int]], Roll],
        restarts: Callable[[], int],
        kept_s: float = KEPT_S,
    ) -> None:
        self._counts = counts
        self._lines = lines
        self._roll = roll
        self._restarts = restarts
        self._kept_s = kept_s
        self._number = 0
        self._waiting: dict[int, set[int]] = {}
        self._complete: dict[int, asyncio.Event] = {}
        self._turn = {what: asyncio.Lock() for what in What}
        self._kept: dict[What, tuple[float, bytes]] = {}

    async def document(self, what: What, others: list[Family]) -> bytes:
        """The figures of all workers, as text or as JSON.

        Args:
            what: which figures.
            others: metrics that are no worker's.
        """
        async with self._turn[what]:
            good_until, document = self._kept.get(what, (0.0, b""))
            if time.monotonic() < good_until:
                return document
            answering = await self._collect(what)
            if what is What.METRICS:
                told = self._counts.told(answering, [*others, *self._of_workers(answering)])
                document = await asyncio.to_thread(_text, told)
            else:
                roll = msgspec.structs.asdict(self._roll(answering))
                # Many profiles take a while to add up, in which workers must still be heard.
                document = await asyncio.to_thread(_profile, self._counts.profiles(), roll)
            self._kept[what] = (time.monotonic() + self._kept_s, document)
            return document

    def collected(self, worker: int, message: Collected) -> None:
        """A worker answered."""
        self._counts.learn(worker, message.families, message.profile)
        self._no_longer_wait(worker, message.number)

    def end(self, worker: int) -> None:
        """A worker has ended; nobody waits for it."""
        for number in list(self._waiting):
            self._no_longer_wait(worker, number)

    async def _collect(self, what: What) -> set[int]:
        """Asks everybody; returns who answered in time."""
        self._number += 1
        number = self._number
        asked = {
            worker for worker, line in self._lines().items() if line.send(Collect(number, what))
        }
        waiting = self._waiting[number] = set(asked)
        complete = self._complete[number] = asyncio.Event()
        if not waiting:
            complete.set()
        try:
            async with asyncio.timeout(COLLECT_S):
                await complete.wait()
        except TimeoutError:
            pass
        finally:
            del self._waiting[number], self._complete[number]
        return asked - waiting

    def _no_longer_wait(self, worker: int, number: int) -> None:
        waiting = self._waiting.get(number)
        if waiting is None:
            # Too late for its round; what it told was kept.
            return
        waiting.discard(worker)
        if not waiting:
            self._complete[number].set()

    def _of_workers(self, answering: set[int]) -> list[Family]:
        restarts = Family(
            "jitway_worker_restarts",
            "counter",
            "How often a worker that ended was started again.",
            [Sample("jitway_worker_restarts_total", (), float(self._restarts()))],
        )
        return [workers_family(self._roll(answering)), restarts]


def workers_family(roll: Roll) -> Family:
    """How many workers there are, as a metric."""
    return Family(
        "jitway_workers",
        "gauge",
        "Processes that serve behind this port, by state; the figures of missing ones are old.",
        [
            Sample("jitway_workers", (("state", state),), float(number))
            for state, number in msgspec.structs.asdict(roll).items()
        ],
    )


def _text(told: list[Any]) -> bytes:
    return families.exposition(families.merge(told))


def _profile(profiles: list[Any], roll: dict[str, int]) -> bytes:
    return msgspec.json.encode(merge_profiles(profiles).statistics() | {"workers": roll})
