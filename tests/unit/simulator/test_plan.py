"""What is drawn before a run begins."""

import random
from collections import Counter

import pytest

from jitway.simulator.merchants import AMOUNT_MAX_MINOR, BOOKMAKER, MERCHANTS
from jitway.simulator.plan import Kind, Plan, draw_plan
from jitway.simulator.population import Population

CARDS = [f"crd_{number:032x}" for number in range(500)]
EVERYBODY = Population(
    ordinary=CARDS,
    frozen=["crd_frozen"],
    closed=["crd_closed"],
    poorly_funded=["crd_poor"],
    mcc_blocked=["crd_blocked"],
    transaction_limited=["crd_transaction"],
    day_limited=["crd_day"],
    month_limited=["crd_month"],
    count_limited=["crd_count", "crd_count_2"],
)


def drawn(*, rate: float = 1_000, seconds: float = 10, seed: int | None = 1) -> Plan:
    return draw_plan(EVERYBODY, rate=rate, seconds=seconds, seed=seed)


def test_a_seed_draws_the_same_plan_again_and_another_seed_another() -> None:
    def sends(seed: int) -> list[object]:
        plan = drawn(rate=100, seed=seed)
        return [plan.send(index) for index in range(len(plan))]

    assert sends(3) == sends(3)
    assert sends(3) != sends(4)


def test_as_many_authorizations_as_asked_for_in_order_and_in_time() -> None:
    plan = drawn()
    assert plan.authorizations == 10_000
    assert len(plan) == 12_500
    assert list(plan.at_ns) == sorted(plan.at_ns)
    assert plan.at_ns[0] >= 0
    assert plan.at_ns[-1] < 10e9


def test_arrivals_are_poisson() -> None:
    plan = drawn()
    per_100_ms = Counter(at_ns // 100_000_000 for at_ns in plan.at_ns)
    counts = [per_100_ms[slot] for slot in range(100)]
    mean = sum(counts) / 100
    variance = sum((each - mean) ** 2 for each in counts) / 100
    assert mean == 125
    # A Poisson count varies by its mean; a metronome would show 0, bursts several times as much.
    assert 0.6 < variance / mean < 1.6


def test_cards_are_used_by_zipf() -> None:
    plan = drawn(rate=10_000)
    used = Counter(plan.cards)
    assert used[0] / len(plan) == pytest.approx(1 / sum(1 / n for n in range(1, 501)), rel=0.1)
    assert used[0] / used[1] == pytest.approx(2, rel=0.1)
    assert used[0] / used[9] == pytest.approx(10, rel=0.2)


def test_every_role_is_played_and_the_count_reaches_its_limit() -> None:
    plan = drawn(rate=20)
    played = Counter(part.card for part in plan.special.values())
    for card in ("frozen", "closed", "poor", "blocked", "transaction", "day", "month"):
        assert played[f"crd_{card}"] >= 1
    assert played["crd_count"] == EVERYBODY.day_count + 1
    by_card = {part.card: part for part in plan.special.values()}
    assert by_card["crd_blocked"].merchant == BOOKMAKER
    assert by_card["crd_poor"].amount_minor > EVERYBODY.poorly_funded_minor
    assert by_card["crd_transaction"].amount_minor > EVERYBODY.transaction_limit_minor
    assert by_card["crd_day"].amount_minor > EVERYBODY.day_limit_minor
    assert by_card["crd_month"].amount_minor > EVERYBODY.month_limit_minor
    assert any(part.currency == "EUR" for part in plan.special.values())
    assert set(played) - set(CARDS) - {f"crd_{name}" for name in (
        "frozen", "closed", "poor", "blocked", "transaction", "day", "month", "count",
    )}, "a card that nobody has"  # fmt: skip


def test_roles_are_never_most_of_a_short_run() -> None:
    plan = drawn(rate=2)
    assert plan.authorizations == 20
    assert 1 <= len(plan.special) <= 6


def test_repetitions_come_after_something_to_repeat() -> None:
    plan = drawn()
    kinds = Counter(plan.kinds)
    assert kinds[Kind.REPLAY] == 200
    assert kinds[Kind.CONFLICT] == 50
    assert kinds[Kind.FOLLOW_UP] == 2_500
    assert set(plan.kinds[: len(plan) // 10]) == {Kind.FRESH}


def test_the_shortest_run_is_one_authorization() -> None:
    plan = drawn(rate=1, seconds=1)
    assert plan.authorizations == 1
    assert plan.send(0).kind == Kind.FRESH


@pytest.mark.parametrize("rate", [0, -1, 0.01, 1e9])
def test_nothing_and_too_much_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        drawn(rate=rate)


def test_cards_are_required() -> None:
    with pytest.raises(ValueError, match="ordinary card"):
        draw_plan(Population(ordinary=[]), rate=1, seconds=1, seed=1)


def test_amounts_are_log_normal_around_the_category() -> None:
    draw = random.Random(1)
    for merchant in MERCHANTS:
        amounts = sorted(merchant.draw_amount_minor(draw) for _ in range(2_001))
        assert amounts[0] >= 1
        assert amounts[-1] <= AMOUNT_MAX_MINOR
        assert amounts[1_000] == pytest.approx(merchant.category.median_minor, rel=0.15)


def test_merchants_are_told_apart_and_have_four_digits_and_a_country() -> None:
    assert len({merchant.json for merchant in MERCHANTS}) == len(MERCHANTS)
    for merchant in (*MERCHANTS, BOOKMAKER):
        assert len(merchant.category.mcc) == 4
        assert merchant.category.mcc.isdigit()
        assert len(merchant.country) == 2
    assert BOOKMAKER.category.mcc == EVERYBODY.blocked_mcc
    assert EVERYBODY.blocked_mcc not in {merchant.category.mcc for merchant in MERCHANTS}
