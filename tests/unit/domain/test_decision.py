"""The rules: each alone, in their order, and what lowering a limit can never do."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitway.domain.card import Account, CardView, Level, Standing, Validity
from jitway.domain.decision import (
    FINDING_FIELDS,
    NO_LIMITS,
    Decision,
    DeclineReason,
    check_limits,
    decide,
)
from jitway.domain.limits import Limit, Period, SpendControls, SpendWindow, window_starts
from jitway.domain.message import RESERVES_NOTHING, Authorization, CardPresence, Merchant

AT = datetime(2026, 6, 17, tzinfo=UTC)
STARTS = window_starts(AT, ZoneInfo("UTC"))
MOMENT = timedelta(microseconds=1)
LEVELS = ("program", "cardholder", "card")
SHOP = Merchant("m-1", "Shop", "5942", "US")
REQUEST = Authorization(
    "crd_1", 100, "USD", SHOP, entry_mode="chip", card_presence=CardPresence.PRESENT
)


def standing(
    *,
    levels: dict[str, dict[str, Any]] | None = None,
    spent: int = 0,
    validity: Validity | None = None,
    **account: Any,
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
    view = CardView(
        made["program"], made["cardholder"], made["card"], "acc_1", ZoneInfo("UTC"), validity
    )
    return Standing(view, funds, windows, STARTS, AT)


def decided(seen: Standing | None, request: Authorization = REQUEST) -> Decision:
    return decide(request, seen, check_limits(request, seen) if seen else NO_LIMITS)


def limited(*limits: Limit) -> dict[str, Any]:
    return {"controls": SpendControls(limits)}


def blocked(**lists: set[str]) -> dict[str, Any]:
    kinds = {f"blocked_{name}": frozenset(values) for name, values in lists.items()}
    return {"controls": SpendControls((), **kinds)}


def allowed(**lists: set[str]) -> dict[str, Any]:
    kinds = {f"allowed_{name}": frozenset(values) for name, values in lists.items()}
    return {"controls": SpendControls((), **kinds)}


BREAKS: list[tuple[DeclineReason, dict[str, Any]]] = [
    (DeclineReason.CARD_NOT_ACTIVE, {"levels": {"card": {"state": "closed"}}}),
    (DeclineReason.CARD_FROZEN, {"levels": {"card": {"state": "frozen"}}}),
    (DeclineReason.CARDHOLDER_NOT_ACTIVE, {"levels": {"cardholder": {"state": "suspended"}}}),
    (DeclineReason.ACCOUNT_NOT_ACTIVE, {"state": "frozen"}),
    (DeclineReason.PROGRAM_NOT_ACTIVE, {"levels": {"program": {"state": "suspended"}}}),
    (DeclineReason.CARD_NOT_YET_VALID, {"validity": Validity(AT + MOMENT, None)}),
    (DeclineReason.CARD_EXPIRED, {"validity": Validity(None, AT)}),
    (DeclineReason.CURRENCY_MISMATCH, {"currency": "EUR"}),
    (DeclineReason.MCC_BLOCKED, {"levels": {"card": blocked(mccs={"5942"})}}),
    (DeclineReason.MERCHANT_BLOCKED, {"levels": {"card": blocked(merchants={"m-1"})}}),
    (DeclineReason.COUNTRY_BLOCKED, {"levels": {"card": blocked(countries={"US"})}}),
    (DeclineReason.ENTRY_MODE_BLOCKED, {"levels": {"card": blocked(entry_modes={"chip"})}}),
    (
        DeclineReason.CARD_PRESENCE_BLOCKED,
        {"levels": {"card": blocked(card_presences={"present"})}},
    ),
    (DeclineReason.MCC_NOT_ALLOWED, {"levels": {"card": allowed(mccs={"5943"})}}),
    (DeclineReason.MERCHANT_NOT_ALLOWED, {"levels": {"card": allowed(merchants={"m-2"})}}),
    (DeclineReason.COUNTRY_NOT_ALLOWED, {"levels": {"card": allowed(countries={"CA"})}}),
    (DeclineReason.ENTRY_MODE_NOT_ALLOWED, {"levels": {"card": allowed(entry_modes={"manual"})}}),
    (
        DeclineReason.CARD_PRESENCE_NOT_ALLOWED,
        {"levels": {"card": allowed(card_presences={"not_present"})}},
    ),
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
    """Everything from one rule on is broken at once; a card cannot be closed and frozen.

    So a list that blocks speaks before one that does not allow.
    """
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
    lists = [
        getattr(one, field.name) | getattr(other, field.name)
        for field in fields(SpendControls)
        if field.name != "limits"
    ]
    return SpendControls(one.limits + other.limits, *lists)


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


@pytest.mark.parametrize("level", LEVELS)
def test_an_allow_list_lets_nothing_else_pass(level: str) -> None:
    """Nor what is not known. An empty one says nothing."""
    lists = allowed(mccs={"5942"}, merchants={"m-1"}, countries={"US"}, entry_modes={"chip"})
    seen = standing(levels={level: lists})
    assert decided(seen).approved
    for merchant, reason in (
        (SHOP._replace(mcc="7995"), DeclineReason.MCC_NOT_ALLOWED),
        (SHOP._replace(mcc=None), DeclineReason.MCC_NOT_ALLOWED),
        (SHOP._replace(id=None), DeclineReason.MERCHANT_NOT_ALLOWED),
        (SHOP._replace(country="CA"), DeclineReason.COUNTRY_NOT_ALLOWED),
    ):
        assert decided(seen, replace(REQUEST, merchant=merchant)).reason is reason
    unread = replace(REQUEST, entry_mode=None)
    assert decided(seen, unread).reason is DeclineReason.ENTRY_MODE_NOT_ALLOWED


def test_every_level_must_allow_and_none_may_block() -> None:
    program, card = allowed(mccs={"5942", "5943"}), allowed(mccs={"5942", "7995"})
    levels = {"program": program, "card": card}
    assert decided(standing(levels=levels)).approved
    for mcc, level in (("5943", "card"), ("7995", "program")):
        request = replace(REQUEST, merchant=SHOP._replace(mcc=mcc))
        decision = decided(standing(levels=levels), request)
        assert decision.reason is DeclineReason.MCC_NOT_ALLOWED
        assert decision.findings[-1][1] == level
    levels["cardholder"] = blocked(mccs={"5942"})
    assert decided(standing(levels=levels)).reason is DeclineReason.MCC_BLOCKED


@pytest.mark.parametrize(
    ("validity", "reason"),
    [
        (Validity(AT, AT + MOMENT), None),
        (Validity(None, AT + MOMENT), None),
        (Validity(AT, None), None),
        (Validity(AT + MOMENT, AT + 2 * MOMENT), DeclineReason.CARD_NOT_YET_VALID),
        (Validity(AT - MOMENT, AT), DeclineReason.CARD_EXPIRED),
    ],
)
def test_a_card_is_valid_from_one_instant_until_before_another(
    validity: Validity, reason: DeclineReason | None
) -> None:
    assert decided(standing(validity=validity)).reason is reason
    # A state speaks first.
    frozen = standing(validity=validity, levels={"card": {"state": "frozen"}})
    assert decided(frozen).reason is DeclineReason.CARD_FROZEN


PARTIAL = replace(REQUEST, partial_approval=True)


@pytest.mark.parametrize(
    ("seen", "amount", "level", "period"),
    [
        ({"posted": 60}, 60, None, None),
        ({"levels": {"card": limited(Limit(Period.TRANSACTION, 30))}}, 30, "card", "transaction"),
        (
            {"levels": {"program": limited(Limit(Period.WEEK, 90))}, "spent": 50},
            40,
            "program",
            "week",
        ),
        (
            {
                "levels": {
                    "program": limited(Limit(Period.WEEK, 90)),
                    "card": limited(Limit(Period.TRANSACTION, 70), Limit(Period.DAY, 60, 9)),
                },
                "spent": 50,
                "posted": 11,
            },
            10,
            "card",
            "day",
        ),
    ],
)
def test_a_part_is_the_most_that_every_rule_leaves(
    seen: dict[str, Any], amount: int, level: str | None, period: str | None
) -> None:
    decision = decided(standing(**seen), PARTIAL)
    assert (decision.approved, decision.approved_amount) == (True, amount)
    (cut,) = [finding for finding in decision.findings if finding[0] == "partial_approval"]
    assert cut == ("partial_approval", level, period, 100, amount, None, True)
    assert all(finding[6] and (finding[5] or 0) >= 0 for finding in decision.findings)
    # Whoever does not take a part gets nothing, and a machine that pays out gives all of it.
    assert not decided(standing(**seen)).approved
    assert not decided(standing(**seen), replace(PARTIAL, kind="cash_withdrawal")).approved


def test_what_fits_is_approved_whole() -> None:
    decision = decided(standing(posted=100), PARTIAL)
    assert (decision.approved, decision.approved_amount) == (True, 100)
    assert decision.findings == decided(standing(posted=100)).findings


def test_there_is_no_part_of_nothing() -> None:
    for seen, reason in (
        ({"posted": 0}, DeclineReason.INSUFFICIENT_AVAILABLE_BALANCE),
        ({"posted": -5}, DeclineReason.INSUFFICIENT_AVAILABLE_BALANCE),
        (
            {"levels": {"card": limited(Limit(Period.DAY, 50))}, "spent": 50},
            DeclineReason.SPEND_LIMIT_EXCEEDED,
        ),
        (
            {"levels": {"card": limited(Limit(Period.TRANSACTION, 0))}},
            DeclineReason.AMOUNT_OVER_LIMIT,
        ),
    ):
        decision = decided(standing(**seen), PARTIAL)
        assert (decision.reason, decision.approved_amount) == (reason, 0)
        assert decision.findings == decided(standing(**seen)).findings


def test_there_is_no_part_of_a_count() -> None:
    levels = {"card": limited(Limit(Period.DAY, 80, 1))}
    decision = decided(standing(levels=levels, spent=50), PARTIAL)
    assert decision.reason is DeclineReason.COUNT_LIMIT_EXCEEDED
    assert [finding[6] for finding in decision.findings].count(False) == 1


@pytest.mark.parametrize("kind", RESERVES_NOTHING)
def test_what_reserves_nothing_is_checked_for_all_but_money(kind: str) -> None:
    request = replace(REQUEST, kind=kind, amount=0)
    money = [
        DeclineReason.AMOUNT_OVER_LIMIT,
        DeclineReason.SPEND_LIMIT_EXCEEDED,
        DeclineReason.COUNT_LIMIT_EXCEEDED,
        DeclineReason.INSUFFICIENT_AVAILABLE_BALANCE,
    ]
    for reason, broken in BREAKS:
        decision = decided(standing(**broken), request)
        assert decision.reason is (None if reason in money else reason)
        assert decision.approved_amount == 0
    # Of an inquiry the amount is not looked at.
    rich = decided(standing(), replace(request, amount=10_000, partial_approval=True))
    assert (rich.approved, rich.approved_amount) == (True, 0)


def test_which_declines_may_pass() -> None:
    transient = {reason for reason in DeclineReason if reason.transient}
    assert transient == {
        DeclineReason.CARD_NOT_YET_VALID,
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


@given(
    st.lists(limits, max_size=4),
    st.integers(0, 300),
    st.integers(1, 300),
    st.integers(-50, 400),
    st.sampled_from(LEVELS),
)
def test_a_part_is_what_would_be_approved_whole_and_one_more_would_not(
    chosen: list[Limit], spent: int, amount: int, posted: int, level: str
) -> None:
    seen = standing(levels={level: limited(*chosen)}, spent=spent, posted=posted)
    whole = decided(seen, replace(REQUEST, amount=amount))
    part = decided(seen, replace(REQUEST, amount=amount, partial_approval=True))
    if whole.approved:
        assert part.approved_amount == amount
    elif part.approved:
        approved = part.approved_amount
        assert 0 < approved < amount
        assert decided(seen, replace(REQUEST, amount=approved)).approved
        assert not decided(seen, replace(REQUEST, amount=approved + 1)).approved
    else:
        assert not decided(seen, replace(REQUEST, amount=1)).approved


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
