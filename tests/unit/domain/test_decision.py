"""The rules: each alone, in their order, and what lowering a limit can never do."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitway.domain.card import Account, CardView, Level, Standing
from jitway.domain.decision import (
    FINDING_FIELDS,
    NO_LIMITS,
    Decision,
    DeclineReason,
    check_limits,
    decide,
)
from jitway.domain.limits import Limit, Period, SpendControls, SpendWindow, window_starts
from jitway.domain.message import Authorization, Merchant

STARTS = window_starts(datetime(2026, 6, 17, tzinfo=UTC), ZoneInfo("UTC"))
LEVELS = ("program", "cardholder", "card")
REQUEST = Authorization("crd_1", 100, "USD", Merchant("m-1", "Shop", "5942", "US"))


def standing(
    *, levels: dict[str, dict[str, Any]] | None = None, spent: int = 0, **account: Any
) -> Standing:
    made = {}
    for name in LEVELS:
        changes = (levels or {}).get(name, {})
        state = changes.get("state", "active")
        made[name] = Level(name, name, state, 1, changes.get("controls", SpendControls()))
    windows = {name: SpendWindow(name) for name in LEVELS}
    if spent:
        for window in windows.values():
            window.add(spent, STARTS)
    funds = Account("acc_1", "USD", "active", 1000, 0, 0, 0, 1)
    for name, value in account.items():
        setattr(funds, name, value)
    view = CardView(made["program"], made["cardholder"], made["card"], "acc_1", ZoneInfo("UTC"))
    return Standing(view, funds, windows, STARTS)


def decided(seen: Standing | None, request: Authorization = REQUEST) -> Decision:
    return decide(request, seen, check_limits(request, seen) if seen else NO_LIMITS)


def limited(*limits: Limit) -> dict[str, Any]:
    return {"controls": SpendControls(limits)}


def blocked(**lists: set[str]) -> dict[str, Any]:
    kinds = {f"blocked_{name}": frozenset(values) for name, values in lists.items()}
    return {"controls": SpendControls((), **kinds)}


BREAKS: list[tuple[DeclineReason, dict[str, Any]]] = [
    (DeclineReason.CARD_NOT_ACTIVE, {"levels": {"card": {"state": "closed"}}}),
    (DeclineReason.CARD_FROZEN, {"levels": {"card": {"state": "frozen"}}}),
    (DeclineReason.CARDHOLDER_NOT_ACTIVE, {"levels": {"cardholder": {"state": "suspended"}}}),
    (DeclineReason.ACCOUNT_NOT_ACTIVE, {"state": "frozen"}),
    (DeclineReason.PROGRAM_NOT_ACTIVE, {"levels": {"program": {"state": "suspended"}}}),
    (DeclineReason.CURRENCY_MISMATCH, {"currency": "EUR"}),
    (DeclineReason.MCC_BLOCKED, {"levels": {"card": blocked(mccs={"5942"})}}),
    (DeclineReason.MERCHANT_BLOCKED, {"levels": {"card": blocked(merchants={"m-1"})}}),
    (DeclineReason.COUNTRY_BLOCKED, {"levels": {"card": blocked(countries={"US"})}}),
    (
        DeclineReason.AMOUNT_OVER_LIMIT,
        {"levels": {"card": limited(Limit(Period.TRANSACTION, 99))}},
    ),
    (
        DeclineReason.SPEND_LIMIT_EXCEEDED,
        {"levels": {"program": limited(Limit(Period.MONTH, 149))}, "spent": 50},
    ),
    (
        DeclineReason.COUNT_LIMIT_EXCEEDED,
        {"levels": {"card": limited(Limit(Period.DAY, None, 1))}, "spent": 50},
    ),
    (DeclineReason.INSUFFICIENT_AVAILABLE_BALANCE, {"posted": 99}),
]


@pytest.mark.parametrize(("reason", "broken"), BREAKS)
def test_each_rule_alone(reason: DeclineReason, broken: dict[str, Any]) -> None:
    decision = decided(standing(**broken))
    assert not decision.approved
    assert (decision.reason, decision.approved_amount) == (reason, 0)
    *passed, last = (dict(zip(FINDING_FIELDS, one, strict=True)) for one in decision.findings)
    assert all(finding["passed"] for finding in passed)
    assert not last["passed"]


def test_every_rule_is_tried_here() -> None:
    assert [reason for reason, _ in BREAKS] == [
        reason
        for reason in DeclineReason
        if reason not in (DeclineReason.CARD_NOT_FOUND, DeclineReason.ABANDONED)
    ]


@pytest.mark.parametrize("first", range(len(BREAKS)))
def test_the_reason_is_the_first_rule_broken(first: int) -> None:
    """Everything from one rule on is broken at once; a card cannot be closed and frozen."""
    levels: dict[str, dict[str, Any]] = {}
    more: dict[str, Any] = {}
    for _, broken in reversed(BREAKS[first:]):
        for name, change in broken.get("levels", {}).items():
            level = levels.setdefault(name, {"controls": SpendControls()})
            if "controls" in change:
                level["controls"] = merged(level["controls"], change["controls"])
            else:
                level.update(change)
        more |= {name: value for name, value in broken.items() if name != "levels"}
    assert decided(standing(levels=levels, **more)).reason is BREAKS[first][0]


def merged(one: SpendControls, other: SpendControls) -> SpendControls:
    return SpendControls(
        one.limits + other.limits,
        one.blocked_mccs | other.blocked_mccs,
        one.blocked_merchants | other.blocked_merchants,
        one.blocked_countries | other.blocked_countries,
    )


def test_nobodys_card() -> None:
    decision = decided(None)
    assert decision.reason is DeclineReason.CARD_NOT_FOUND
    assert decision.findings == [("card_known", None, None, False, None, None, False)]


def test_the_last_cent_may_be_spent() -> None:
    for posted, held, floor in ((100, 0, 0), (150, 50, 0), (-20, 0, -120)):
        seen = standing(posted=posted, held=held, floor=floor)
        assert decided(seen).approved
        assert not decided(seen, replace(REQUEST, amount=101)).approved


def test_an_approval_shows_every_headroom() -> None:
    seen = standing(
        levels={
            "program": limited(Limit(Period.DAY, 500)),
            "card": limited(Limit(Period.TRANSACTION, 100), Limit(Period.LIFETIME, 200, 5)),
        },
        spent=50,
    )
    decision = decided(seen)
    assert decision.approved
    assert decision.approved_amount == 100
    shown = [(one[0], one[1], one[2], one[5]) for one in decision.findings if one[5] is not None]
    assert shown == [
        ("amount_limit", "card", "transaction", 0),
        ("spend_limit", "program", "day", 350),
        ("spend_limit", "card", "lifetime", 50),
        ("count_limit", "card", "lifetime", 3),
        ("available_balance", None, None, 900),
    ]


@pytest.mark.parametrize("level", LEVELS)
def test_lists_of_every_level(level: str) -> None:
    lists = blocked(mccs={"5942"}, merchants={"m-1"}, countries={"US"})
    for merchant, reason in (
        (Merchant(mcc="5942"), DeclineReason.MCC_BLOCKED),
        (Merchant(id="m-1"), DeclineReason.MERCHANT_BLOCKED),
        (Merchant(country="US"), DeclineReason.COUNTRY_BLOCKED),
    ):
        request = replace(REQUEST, merchant=merchant)
        assert decided(standing(levels={level: lists}), request).reason is reason


def test_lists_are_checked_in_the_order_of_their_reasons_whatever_level_they_stand_on() -> None:
    levels = {"program": blocked(merchants={"m-1"}), "card": blocked(mccs={"5942"})}
    assert decided(standing(levels=levels)).reason is DeclineReason.MCC_BLOCKED


def test_unknown_facts_are_in_no_list() -> None:
    levels = {"card": blocked(mccs={"5942"}, merchants={"m-1"}, countries={"US"})}
    assert decided(standing(levels=levels), replace(REQUEST, merchant=Merchant())).approved


def test_which_declines_may_pass() -> None:
    transient = {reason for reason in DeclineReason if reason.transient}
    assert transient == {
        DeclineReason.SPEND_LIMIT_EXCEEDED,
        DeclineReason.COUNT_LIMIT_EXCEEDED,
        DeclineReason.INSUFFICIENT_AVAILABLE_BALANCE,
        DeclineReason.ABANDONED,
    }


limits = st.builds(
    Limit,
    st.sampled_from([period for period in Period if period is not Period.TRANSACTION]),
    st.one_of(st.none(), st.integers(0, 400)),
    st.one_of(st.none(), st.integers(0, 3)),
)


@given(
    st.lists(limits, max_size=4),
    st.integers(0, 300),
    st.integers(1, 300),
    st.integers(0, 100),
    st.sampled_from(LEVELS),
)
def test_lowering_a_limit_never_approves(
    chosen: list[Limit], spent: int, amount: int, cut: int, level: str
) -> None:
    lower = [
        Limit(
            one.period,
            None if one.amount is None else max(0, one.amount - cut),
            None if one.count is None else max(0, one.count - cut),
        )
        for one in chosen
    ]
    request = replace(REQUEST, amount=amount)
    before = decided(standing(levels={level: limited(*chosen)}, spent=spent), request)
    after = decided(standing(levels={level: limited(*lower)}, spent=spent), request)
    assert before.approved or not after.approved


@given(st.integers(1, 2000), st.integers(0, 1500), st.integers(0, 500), st.integers(-300, 0))
def test_an_approval_is_always_covered(amount: int, posted: int, held: int, floor: int) -> None:
    seen = standing(posted=posted, held=held, floor=floor)
    decision = decided(seen, replace(REQUEST, amount=amount))
    assert decision.approved is (posted - held - floor >= amount)
    seen.account.hold(decision.approved_amount)
    assert decision.approved is False or seen.account.available >= 0


def test_a_view_knows_its_versions_and_its_wide_owners() -> None:
    view = standing(
        levels={
            "program": limited(Limit(Period.DAY, 1)),
            "cardholder": limited(Limit(Period.TRANSACTION, 1)),
            "card": limited(Limit(Period.DAY, 1)),
        }
    ).view
    assert view.versions == (1, 1, 1)
    assert view.wide_owners == ("program",)
    assert [level.name for level in view.levels] == list(LEVELS)
