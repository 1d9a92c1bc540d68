"""`shares.py`: how many connections each worker has open, in memory that all of them see.

Workers accept from one socket, and the kernel gives a connection to whoever happens to be awake:
without this one of them may get nearly all. Each writes only its own number; the supervisor crosses
out who is not there.
"""

import mmap
import os

_BYTES = 8
# More than anybody can have: nobody waits for one that is not there.
_GONE = 2**62


class Shares:
    """A number for each worker.

    Args:
        descriptor: of the memory, as `make` made it.
        workers: how many.
        own: the number of this worker, from 1; 0 for the supervisor.
    """

    def __init__(self, descriptor: int, *, workers: int, own: int = 0) -> None:
        self.descriptor = descriptor
        self._own = own - 1
        self._memory = mmap.mmap(descriptor, workers * _BYTES)
        self._counts = memoryview(self._memory).cast("q")

    @classmethod
    def make(cls, workers: int) -> "Shares":
        """The supervisor's; nobody is there yet."""
        descriptor = os.memfd_create("jitway-shares")
        os.ftruncate(descriptor, workers * _BYTES)
        shares = cls(descriptor, workers=workers)
        for number in range(1, workers + 1):
            shares.cross_out(number)
        return shares

    def tell(self, connections: int) -> None:
        """This worker has so many open."""
        self._counts[self._own] = connections

    def cross_out(self, worker: int) -> None:
        """The worker takes none for now."""
        self._counts[worker - 1] = _GONE

    def least_of_others(self) -> int:
        """How many the worker with the fewest has open, this one apart."""
        counts = self._counts.tolist()
        counts[self._own] = _GONE
        return min(counts)

    def close(self) -> None:
        """Gives the memory back; the others keep theirs. May be called twice."""
        self._counts.release()
        self._memory.close()
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
