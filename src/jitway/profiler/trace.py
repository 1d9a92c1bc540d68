"""The stages of one authorization and the time one request spent in each.

Owns the names, their order and their budgets. A trace belongs to one request (or, while shared
work is timed, to one batch) and to nobody else; it is cheap enough to be made for every request.
"""

from collections.abc import Callable
from enum import IntEnum


class Stage(IntEnum):
    """Where time goes, in the order of the path; the lower-case names are public."""

    budget_ms: float

    DECODE = (0, 0.5)
    CARD_LOOKUP = (1, 1.0)
    USER_LOOKUP = (2, 1.0)
    BATCH_WAIT = (3, 6.0)
    ACCOUNT_LOCK = (4, 2.0)
    REFRESH = (5, 2.0)
    LIMITS_CHECK = (6, 1.0)
    DECISION = (7, 1.0)
    WRITE = (8, 3.0)
    COMMIT = (9, 5.0)
    ENCODE = (10, 1.0)
    OTHER = (11, 1.0)
    """What no stage was charged with, so that the stages always add up to the total."""

    def __new__(cls, position: int, budget_ms: float) -> "Stage":
        """A member that counts as its position, and knows its budget."""
        member = int.__new__(cls, position)
        member._value_ = position
        member.budget_ms = budget_ms
        return member

    @property
    def label(self) -> str:
        """The public name: `card_lookup`."""
        return self.name.lower()


STAGES = tuple(Stage)
_NO_SPANS = [0] * len(STAGES)


class Trace:
    """Nanoseconds by stage of one request, charged as they pass.

    `mark` charges what passed since the last mark. `add` charges what somebody else measured and
    moves the last mark forward by as much, so that the next `mark` charges only the rest: after
    adding the shared stages of a batch, `mark(Stage.BATCH_WAIT)` charges the pure waiting.
    """

    __slots__ = ("_now", "last_ns", "request_id", "spans_ns", "started_ns")

    def __init__(self, now: Callable[[], int], request_id: str = "") -> None:
        self._now = now
        self.request_id = request_id
        self.spans_ns = _NO_SPANS[:]
        self.started_ns = self.last_ns = now()

    def mark(self, stage: Stage) -> None:
        """Charge the time since the last mark to a stage."""
        now = self._now()
        self.spans_ns[stage] += now - self.last_ns
        self.last_ns = now

    def add(self, stage: Stage, span_ns: int) -> None:
        """Charge a stage with nanoseconds that were measured elsewhere."""
        self.spans_ns[stage] += span_ns
        self.last_ns += span_ns

    def join(self, batch: "Trace") -> None:
        """Charge the stages of the batch that decided this request.

        The batch's trace starts when its members are fixed, so after this request's last mark: the
        time between is `batch_wait`. The next mark counts from the batch's last one. The batch's
        trace is read, not changed, and what it left unmarked is not charged.
        """
        spans_ns = self.spans_ns
        spans_ns[Stage.BATCH_WAIT] += batch.started_ns - self.last_ns
        for stage in _SHARED:
            spans_ns[stage] += batch.spans_ns[stage]
        self.last_ns = batch.last_ns


_SHARED = (
    Stage.ACCOUNT_LOCK,
    Stage.REFRESH,
    Stage.LIMITS_CHECK,
    Stage.DECISION,
    Stage.WRITE,
    Stage.COMMIT,
)
