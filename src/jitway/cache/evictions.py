"""`evictions.py`: which ids were evicted lately, so that what was read before is not kept.

A bounded memory: what it no longer remembers counts as evicted, which costs a read and no more.
"""

from collections import OrderedDict

REMEMBERED_MAX = 10_000


class Evictions:
    """Evictions in the order in which they came.

    Args:
        remembered_max: how many ids are remembered.
    """

    def __init__(self, remembered_max: int = REMEMBERED_MAX) -> None:
        self._numbers: OrderedDict[str, int] = OrderedDict()
        self._remembered_max = remembered_max
        self._forgotten = 0
        self.number = 0
        """Of the last one; note it before a read."""

    def add(self, id_: str) -> None:
        """An id was evicted."""
        self.number += 1
        self._numbers[id_] = self.number
        self._numbers.move_to_end(id_)
        if len(self._numbers) > self._remembered_max:
            _, self._forgotten = self._numbers.popitem(last=False)

    def add_all(self) -> None:
        """Every id was evicted."""
        self.number += 1
        self._forgotten = self.number
        self._numbers.clear()

    def met(self, id_: str, since: int) -> bool:
        """Whether the id was, or may have been, evicted after that number."""
        return self._forgotten > since or self._numbers.get(id_, 0) > since
