"""When a call is sent again, and when it is given up."""

import pytest

from jitway.client import Patience, authorizations, capture, set_controls

PATIENCE = Patience(total_s=10, attempt_s=3, attempts=4, pause_s=0.1, pause_max_s=2)


def pause(
    status: int | None, *, attempt: int = 1, elapsed_s: float = 0, after: str | None = None
) -> float | None:
    return PATIENCE.pause_before_next(
        attempt=attempt, elapsed_s=elapsed_s, status=status, retry_after=after
    )


@pytest.mark.parametrize("status", [None, 408, 429, 502, 503, 504])
def test_what_may_pass_is_tried_again(status: int | None) -> None:
    found = pause(status)
    assert found is not None
    assert 0.05 <= found <= 0.1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 415, 500])
def test_what_was_refused_for_good_is_not(status: int) -> None:
    assert pause(status) is None


def test_pauses_grow_to_their_bound() -> None:
    third = pause(503, attempt=3)
    assert third is not None
    assert 0.2 <= third <= 0.4
    patient = Patience(total_s=100, attempts=20)
    late = patient.pause_before_next(attempt=15, elapsed_s=0, status=503, retry_after=None)
    assert late is not None
    assert late <= patient.pause_max_s


def test_attempts_and_time_are_bounded() -> None:
    assert pause(503, attempt=4) is None
    assert pause(503, elapsed_s=9.99) is None
    assert PATIENCE.attempt_within_s(0) == 3
    assert PATIENCE.attempt_within_s(9) == 1
    assert PATIENCE.attempt_within_s(11) == 0


def test_the_gateways_own_wish_is_heard() -> None:
    assert pause(429, after="5") == 5
    assert pause(429, after="60") is None
    assert pause(429, after="soon") is not None


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="attempts"):
        Patience(attempts=0)


def test_a_call_keeps_its_key_and_reads_have_none() -> None:
    first = capture("aut_1", 100)
    assert first.idempotency_key
    assert first.idempotency_key != capture("aut_1", 100).idempotency_key
    assert first.keyed("order-7").idempotency_key == "order-7"
    listed = authorizations(card="crd_1", from_="2026-01-01T00:00:00Z", limit=5)
    assert listed.path == "/v1/authorizations?card=crd_1&from=2026-01-01T00%3A00%3A00Z&limit=5"
    assert listed.idempotency_key == ""


def test_ids_cannot_leave_their_place() -> None:
    assert capture("../keys", 1).path == "/v1/authorizations/..%2Fkeys/captures"
    with pytest.raises(ValueError, match="acc_1"):
        set_controls("acc_1")
