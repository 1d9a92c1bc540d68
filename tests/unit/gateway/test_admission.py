"""How many are let in: a burst, then as few as can be answered soon, and always somebody."""

from dataclasses import dataclass, field

import pytest

from jitway.gateway.admission import Admission

MS = 1_000_000


@dataclass
class Hours:
    """A clock that a test turns."""

    now_ns: int = 0
    admission: Admission = field(init=False)

    def __post_init__(self) -> None:
        self.admission = Admission(
            budget_ms=1000,
            batch_size_max=128,
            lanes=1,
            waiting_max=4096,
            monotonic_ns=lambda: self.now_ns,
        )

    def batches(self, number: int, *, size: int, span_ms: int) -> None:
        for _ in range(number):
            self.now_ns += span_ms * MS
            self.admission.observe(size, span_ms * MS)


@pytest.fixture
def hours() -> Hours:
    return Hours()


def test_a_burst_is_let_in_as_far_as_the_budget_goes(hours: Hours) -> None:
    assert hours.admission.limit == 4096 + 128
    hours.batches(50, size=3, span_ms=2)
    assert hours.admission.limit == 4096 + 128
    hours.batches(50, size=128, span_ms=60)
    # Ten batches of 60 ms fit into six tenths of a second.
    assert hours.admission.limit == pytest.approx(10 * 128, rel=0.02)


def test_a_burst_after_quiet_traffic_is_taken_for_what_full_batches_took(hours: Hours) -> None:
    hours.batches(50, size=128, span_ms=128)
    hours.batches(50, size=3, span_ms=6)
    assert hours.admission.limit == pytest.approx(600, rel=0.02)
    # Smaller ones show as well that a member costs less by now.
    hours.batches(50, size=40, span_ms=10)
    assert hours.admission.limit == pytest.approx(2_400, rel=0.02)


def test_who_is_refused_makes_the_queue_short_for_a_while(hours: Hours) -> None:
    admission = hours.admission
    hours.batches(50, size=128, span_ms=20)
    admission.refused += 1
    hours.batches(1, size=128, span_ms=20)
    assert admission.limit == pytest.approx(5 * 128, rel=0.02)
    hours.batches(49, size=128, span_ms=20)
    assert admission.limit == pytest.approx(5 * 128, rel=0.02)
    hours.batches(1, size=128, span_ms=20)
    assert admission.limit == pytest.approx(30 * 128, rel=0.02)


@pytest.mark.parametrize(
    ("base_ms", "each_ms"), [(2, 0.1), (20, 0.15), (60, 0.1), (60, 0.5), (100, 0.8)]
)
def test_slow_batches_stay_full_while_some_are_refused(
    hours: Hours, base_ms: float, each_ms: float
) -> None:
    """A small limit makes small batches: where each takes long, nothing would be decided."""
    admission, decided, spent_ms = hours.admission, 0, 0.0
    hours.batches(1, size=8, span_ms=round(base_ms + 8 * each_ms))
    for number in range(400):
        admission.refused += 1
        # While one batch is in flight the other half of what may be under way collects.
        size = max(1, min(128, admission.limit // 2))
        span_ms = base_ms + size * each_ms
        hours.now_ns += int(span_ms * MS)
        admission.observe(size, int(span_ms * MS))
        if number >= 50:
            decided += size
            spent_ms += span_ms
    assert decided / spent_ms >= 0.9 * 128 / (base_ms + 128 * each_ms)
    assert admission.limit / (decided / spent_ms) <= 600


def test_a_stall_leaves_a_way_in_and_is_forgotten(hours: Hours) -> None:
    admission = hours.admission
    admission.refused += 1
    hours.batches(1, size=1, span_ms=30_000)
    assert admission.limit == 16
    hours.batches(40, size=16, span_ms=5)
    assert admission.limit > 16


@pytest.mark.parametrize(("more", "parked", "is_full"), [(0, 0, True), (0, 9, False), (9, 9, True)])
def test_who_waits_for_a_lock_does_not_fill_it(
    hours: Hours, more: int, parked: int, *, is_full: bool
) -> None:
    admission = hours.admission
    admission.under_way = admission.limit + more
    admission.parked = parked
    assert admission.is_full is is_full


def test_the_wait_of_the_next_batch_is_none(hours: Hours) -> None:
    hours.batches(50, size=128, span_ms=20)
    assert hours.admission.wait_ns(127) == 0
    assert hours.admission.wait_ns(3 * 128) == pytest.approx(60 * MS, rel=0.01)
