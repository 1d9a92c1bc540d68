"""The circuit breaker, on a clock that the test moves."""

from jitway.adapters.breaker import NS_PER_MS, BreakerState, CircuitBreaker
from jitway.clock import SystemClock


class HandClock(SystemClock):
    """Moves only when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 0.0

    def monotonic_ns(self) -> int:
        return int(self.now_ms * NS_PER_MS)


def a_breaker(draw: float = 0.0) -> tuple[CircuitBreaker, HandClock]:
    clock = HandClock()
    return CircuitBreaker(clock, draw=lambda: draw), clock


def opened(draw: float = 0.0) -> tuple[CircuitBreaker, HandClock]:
    breaker, clock = a_breaker(draw)
    for _ in range(5):
        breaker.record_failure()
    return breaker, clock


def test_five_failures_in_a_second_open_it() -> None:
    breaker, clock = a_breaker()
    for _ in range(4):
        breaker.record_failure()
        clock.now_ms += 250
    assert breaker.admits()
    breaker.record_failure()
    assert breaker.state is BreakerState.OPEN
    assert not breaker.admits()
    assert (breaker.opened_count, breaker.rejected_count) == (1, 1)


def test_failures_spread_over_more_than_a_second_do_not_open_it() -> None:
    breaker, clock = a_breaker()
    for _ in range(50):
        breaker.record_failure()
        clock.now_ms += 251
    assert breaker.state is BreakerState.CLOSED


def test_no_probe_before_the_pause_is_over_then_exactly_one() -> None:
    breaker, clock = opened()
    clock.now_ms += 249.9
    assert not breaker.claim_probe()
    clock.now_ms += 0.1
    assert breaker.claim_probe()
    assert not breaker.claim_probe()
    assert breaker.state is BreakerState.HALF_OPEN
    assert not breaker.admits(), "a caller is not the one to find out"


def test_a_successful_probe_closes_it_and_forgets_the_failures() -> None:
    breaker, clock = opened()
    clock.now_ms += 250
    assert breaker.claim_probe()
    breaker.reset()
    assert breaker.admits()
    for _ in range(4):
        breaker.record_failure()
    assert breaker.admits()


def test_each_failed_probe_doubles_the_pause_up_to_a_bound() -> None:
    breaker, clock = opened()
    for pause_ms in (250, 500, 1000, 2000, 2000, 2000):
        clock.now_ms += pause_ms - 1
        assert not breaker.claim_probe(), pause_ms
        clock.now_ms += 1
        assert breaker.claim_probe(), pause_ms
        breaker.probe_failed()


def test_the_pause_begins_small_again_after_a_recovery() -> None:
    breaker, clock = opened()
    for _ in range(4):
        clock.now_ms += 2000
        assert breaker.claim_probe()
        breaker.probe_failed()
    clock.now_ms += 2000
    assert breaker.claim_probe()
    breaker.reset()
    for _ in range(5):
        breaker.record_failure()
    clock.now_ms += 250
    assert breaker.claim_probe()


def test_jitter_shortens_a_pause_by_a_fifth_at_most() -> None:
    breaker, clock = opened(draw=1.0)
    clock.now_ms += 199
    assert not breaker.claim_probe()
    clock.now_ms += 1
    assert breaker.claim_probe()


def test_calls_that_were_under_way_when_it_opened_change_nothing() -> None:
    breaker, clock = opened()
    clock.now_ms += 249
    for _ in range(20):
        breaker.record_failure()
    clock.now_ms += 1
    assert breaker.claim_probe(), "late failures must not push the probe away"
    breaker.record_failure()
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.opened_count == 1


def test_a_probe_that_ends_after_a_reset_does_not_open_it_again() -> None:
    breaker, clock = opened()
    clock.now_ms += 250
    assert breaker.claim_probe()
    breaker.reset()
    breaker.probe_failed()
    assert breaker.admits()


def test_a_closed_breaker_has_nothing_to_probe() -> None:
    breaker, _ = a_breaker()
    assert not breaker.claim_probe()
