"""`counts.py`: what each worker told last, and what those who ended have counted.

Owns that a counter of the whole never goes back: who ended takes away its gauges, and leaves what
only grows. Memory is bounded: of many who ended, the earliest are added up.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import msgspec

from jitway.profiler.histogram import Histogram
from jitway.profiler.profile import Profile, WindowProfile, merge
from jitway.supervisor import families
from jitway.supervisor.families import Family

ENDED_MAX = 16
# In which windows of a profile one that ended still counts, and for how long.
FADE_S = {"minute": 60.0, "hour": 3600.0}


@dataclass(slots=True)
class Figures:
    """What one worker told last; of `profile` since `profiled_at`, on a monotonic clock."""

    families: Sequence[Family] = ()
    profile: Profile | None = None
    profiled_at: float = 0.0


class Counts:
    """The figures of all workers, those that ended included.

    Args:
        monotonic_s: seconds of a clock that never goes back.
    """

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._living: dict[int, Figures] = {}
        self._ended_families: list[Family] = []
        self._ended: deque[Figures] = deque()
        self._long_ended: Profile | None = None

    def learn(
        self, number: int, told: Sequence[Family] | None = None, profile: Profile | None = None
    ) -> None:
        """Keeps what a worker told; what it did not tell now stays as it was."""
        figures = self._living.setdefault(number, Figures())
        if told is not None:
            figures.families = told
        if profile is not None:
            figures.profile, figures.profiled_at = profile, self._monotonic_s()

    def end(self, number: int) -> None:
        """The worker has ended: what it counted stays, what it was is forgotten."""
        figures = self._living.pop(number, None)
        if figures is None:
            return
        self._ended_families = families.merge([self._ended_families, _grown(figures.families)])
        if figures.profile is not None:
            self._ended.append(figures)
        if len(self._ended) > ENDED_MAX:
            earliest = self._aged(self._ended.popleft(), fading=False)
            known = [] if self._long_ended is None else [self._long_ended]
            self._long_ended = merge([*known, earliest])

    def told(
        self, answering: Collection[int], others: Sequence[Family] = ()
    ) -> list[Sequence[Family]]:
        """The metrics of each worker and of those that ended; to be merged.

        Args:
            answering: the workers whose gauges hold now; of the others only what grows counts.
            others: metrics that are no worker's.
        """
        living = [
            figures.families if number in answering else _grown(figures.families)
            for number, figures in self._living.items()
        ]
        return [others, *living, self._ended_families]

    def profiles(self) -> list[Profile]:
        """One of each worker, and of those that ended; to be merged."""
        living = [figures.profile for figures in self._living.values() if figures.profile]
        long_ended = [] if self._long_ended is None else [self._long_ended]
        return [
            *living,
            *(self._aged(figures, fading=True) for figures in self._ended),
            *long_ended,
        ]

    def _aged(self, figures: Figures, *, fading: bool) -> Profile:
        """The profile of one that ended, without the windows in which it counts no more."""
        profile, age_s = figures.profile, self._monotonic_s() - figures.profiled_at
        assert profile is not None
        windows = {
            name: window
            if name not in FADE_S or (fading and age_s < FADE_S[name])
            else _empty(window)
            for name, window in profile.windows.items()
        }
        return msgspec.structs.replace(profile, processes=0, windows=windows)


def _grown(told: Sequence[Family]) -> list[Family]:
    return [family for family in told if family.only_grows]


def _empty(window: WindowProfile) -> WindowProfile:
    nothing = Histogram().pack()
    return WindowProfile(
        seconds=0.0,
        histograms=dict.fromkeys(window.histograms, nothing),
        outcomes=[],
        lookups=[],
    )
