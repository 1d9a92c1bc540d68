"""`admission.py`: how many authorizations may be under way, so that each can be answered in time.

What arrives above that is refused at once, before anything is spent on it. The limit is no setting:
it is what the batches of late can decide within a share of the decision budget (Little's law). A
burst may fill most of the budget, for it passes. Where there is more than a burst, a long queue
would only add its length to every answer; so as soon as anybody is refused, and for a while after,
it is kept just long enough that no batch lacks members.

    batch ends -> how many were decided, in what time? -> `limit`
    arrival -> `is_full`? -> no decision, come again | under way
"""

from collections.abc import Callable

# Of the decision budget: what a burst may wait; and what everybody waits while some are refused: as
# short as the first, but so many batches long that each is full before the last one ends, where
# batches are slow, up to the second. Shorter, small slow batches would make the limit small, and a
# small limit the batches. The rest is for decoding, for the batch itself and for the answer.
_BURST_SHARE = 0.6
_STRICT_SHARES = (0.1, 0.5)
_STRICT_BATCHES = 3
# How long it stays strict after the last refusal.
_STRICT_NS = 1_000_000_000
# Always let in, however long batches take: after a stall somebody must show that it is over.
_LEAST = 16
# Of the last batch in the running means.
_WEIGHT = 0.2


class Admission:
    """Counts the requests under way and says when there are enough.

    Args:
        budget_ms: the decision budget.
        batch_size_max: members of one batch at most.
        lanes: batches in flight at a time.
        waiting_max: requests that may wait in one lane, whatever the batches take.
        monotonic_ns: nanoseconds of a clock that never goes back.
    """

    def __init__(
        self,
        *,
        budget_ms: int,
        batch_size_max: int,
        lanes: int,
        waiting_max: int,
        monotonic_ns: Callable[[], int],
    ) -> None:
        self._batch_size_max = batch_size_max
        self._lanes = lanes
        self.now_ns = monotonic_ns
        self._burst_ns = budget_ms * 1e6 * _BURST_SHARE
        self._strict_ns = [budget_ms * 1e6 * share for share in _STRICT_SHARES]
        self._most = lanes * (waiting_max + batch_size_max)
        self._span_ns = 0.0
        self._size = 0.0
        # What one member adds to a full batch, as far as batches were full enough to tell.
        self._each_ns = 0.0
        self._refused_before = 0
        self._strict_until_ns = 0
        self.limit = self._most
        """Requests that may be under way."""
        self.under_way = 0
        """Requests that are, as whoever lets them in counts them."""
        self.parked = 0
        """Those of them that wait for a lock held elsewhere: they keep nobody else waiting."""
        self.refused = 0
        """Requests that were turned away."""

    @property
    def is_full(self) -> bool:
        """Whether one more would make all of them wait too long."""
        return self.under_way - self.parked >= self.limit

    def observe(self, size: int, span_ns: int) -> None:
        """Learns from a batch that ended.

        Args:
            size: its members.
            span_ns: how long it took.
        """
        weight = _WEIGHT if self._span_ns else 1
        self._span_ns += (max(span_ns, 1) - self._span_ns) * weight
        self._size += (size - self._size) * weight
        each_ns = span_ns / max(size, 1)
        if 2 * size >= self._batch_size_max or each_ns < self._each_ns:
            self._each_ns += (each_ns - self._each_ns) * (_WEIGHT if self._each_ns else 1)
        now = self.now_ns()
        if self.refused != self._refused_before:
            self._refused_before = self.refused
            self._strict_until_ns = now + _STRICT_NS
        if now < self._strict_until_ns:
            shortest_ns, longest_ns = self._strict_ns
            wait_ns = min(max(_STRICT_BATCHES * self._span_ns, shortest_ns), longest_ns)
            fitting = self._size * wait_ns / self._span_ns
        else:
            full_ns = max(self._span_ns, self._batch_size_max * self._each_ns)
            fitting = self._batch_size_max * self._burst_ns / full_ns
        self.limit = int(min(max(fitting * self._lanes, _LEAST), self._most))

    def wait_ns(self, ahead: int) -> int:
        """How long somebody with so many ahead in their lane waits for a batch; zero for the next.

        Args:
            ahead: who waits already.
        """
        return int(ahead // self._batch_size_max * self._span_ns)
