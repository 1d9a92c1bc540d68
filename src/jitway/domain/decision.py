"""`decision.py`: the rules, in order, and the first one broken. Pure: no clock, no I/O."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

from jitway.domain.card import Standing, Validity
from jitway.domain.instant import instant_text
from jitway.domain.message import PURCHASE, RESERVES_NOTHING, Authorization


class DeclineReason(StrEnum):
    """The rule that was broken; the members stand in the order in which rules are evaluated."""

    CARD_NOT_FOUND = "card_not_found"
    CARD_NOT_ACTIVE = "card_not_active"
    CARD_FROZEN = "card_frozen"
    CARDHOLDER_NOT_ACTIVE = "cardholder_not_active"
    ACCOUNT_NOT_ACTIVE = "account_not_active"
    PROGRAM_NOT_ACTIVE = "program_not_active"
    CARD_NOT_YET_VALID = "card_not_yet_valid"
    CARD_EXPIRED = "card_expired"
    CURRENCY_MISMATCH = "currency_mismatch"
    MCC_BLOCKED = "mcc_blocked"
    MERCHANT_BLOCKED = "merchant_blocked"
    COUNTRY_BLOCKED = "country_blocked"
    ENTRY_MODE_BLOCKED = "entry_mode_blocked"
    CARD_PRESENCE_BLOCKED = "card_presence_blocked"
    MCC_NOT_ALLOWED = "mcc_not_allowed"
    MERCHANT_NOT_ALLOWED = "merchant_not_allowed"
    COUNTRY_NOT_ALLOWED = "country_not_allowed"
    ENTRY_MODE_NOT_ALLOWED = "entry_mode_not_allowed"
    CARD_PRESENCE_NOT_ALLOWED = "card_presence_not_allowed"
    AMOUNT_OVER_LIMIT = "amount_over_limit"
    SPEND_LIMIT_EXCEEDED = "spend_limit_exceeded"
    COUNT_LIMIT_EXCEEDED = "count_limit_exceeded"
    INSUFFICIENT_AVAILABLE_BALANCE = "insufficient_available_balance"
    # Not a rule: an approval that was never answered and is therefore void.
    ABANDONED = "abandoned"

    @property
    def transient(self) -> bool:
        """Whether the same request may be approved later without anybody's intervention."""
        return self in _TRANSIENT


_TRANSIENT = frozenset(
    {
        DeclineReason.CARD_NOT_YET_VALID,
        DeclineReason.SPEND_LIMIT_EXCEEDED,
        DeclineReason.COUNT_LIMIT_EXCEEDED,
        DeclineReason.INSUFFICIENT_AVAILABLE_BALANCE,
        DeclineReason.ABANDONED,
    }
)

# One rule as it was evaluated: rule, level, period, fact, limit, headroom, passed.
# A plain tuple, since one authorization makes a handful of them.
Finding: TypeAlias = tuple[str, str | None, str | None, Any, Any, int | None, bool]

FINDING_FIELDS = ("rule", "level", "period", "fact", "limit", "headroom", "passed")


@dataclass(slots=True)
class Decision:
    """Our answer.

    Args:
        reason: None when approved.
        approved_amount: minor units; zero when declined, and when the kind reserves nothing.
        findings: the rules that were evaluated, in order; the last one is the broken one.
    """

    reason: DeclineReason | None
    approved_amount: int
    findings: list[Finding]

    @property
    def approved(self) -> bool:
        """Whether the amount may be funded."""
        return self.reason is None


@dataclass(slots=True)
class LimitsCheck:
    """How a request stands against the limits of every level.

    Args:
        reason: the kind of the first broken limit, or None.
        findings: the limits up to that one, each with its headroom.
        amount: what was checked, in minor units: less than was asked when only that much fits.
            None is all of it.
    """

    reason: DeclineReason | None
    findings: list[Finding]
    amount: int | None = None


NO_LIMITS = LimitsCheck(None, [])


def decide(request: Authorization, standing: Standing | None, limits: LimitsCheck) -> Decision:
    """Approves or declines one request.

    Args:
        request: what the caller asks.
        standing: what was seen under the lock; None when there is no such card for this caller.
        limits: how the request stands against the limits, at the same instant.

    Returns:
        The decision with its explanation: every rule up to the first one broken.
    """
    findings: list[Finding] = []
    if standing is None:
        findings.append(("card_known", None, None, False, None, None, False))
        return Decision(DeclineReason.CARD_NOT_FOUND, 0, findings)
    reason = (
        _broken_state(standing, findings)
        or _broken_currency(request, standing, findings)
        or _broken_list(request, standing, findings)
    )
    if reason is not None:
        return Decision(reason, 0, findings)
    if request.kind in RESERVES_NOTHING:
        return Decision(None, 0, findings)
    findings += limits.findings
    amount = request.amount if limits.amount is None else limits.amount
    reason = limits.reason or _broken_balance(amount, standing, findings)
    return Decision(reason, 0 if reason else amount, findings)


# Whose state must be active, in the order of evaluation.
_STATE_RULES = (
    ("card_active", DeclineReason.CARD_NOT_ACTIVE),
    ("cardholder_active", DeclineReason.CARDHOLDER_NOT_ACTIVE),
    ("account_active", DeclineReason.ACCOUNT_NOT_ACTIVE),
    ("program_active", DeclineReason.PROGRAM_NOT_ACTIVE),
)
_ACTIVE_FINDINGS: list[Finding] = [
    (rule, None, None, "active", "active", None, True) for rule, _ in _STATE_RULES
]


def _broken_state(standing: Standing, findings: list[Finding]) -> DeclineReason | None:
    view = standing.view
    account_state = standing.account.state
    if view.is_active and account_state == "active":
        # Nearly always.
        findings += _ACTIVE_FINDINGS
        return None
    states = (view.card.state, view.cardholder.state, account_state, view.program.state)
    for state, (rule, reason) in zip(states, _STATE_RULES, strict=True):
        passed = state == "active"
        findings.append((rule, None, None, state, "active", None, passed))
        if not passed:
            is_frozen_card = rule == "card_active" and state == "frozen"
            return DeclineReason.CARD_FROZEN if is_frozen_card else reason
    return None if view.validity is None else _broken_validity(view.validity, standing.at, findings)


def _broken_validity(
    validity: Validity, at: datetime, findings: list[Finding]
) -> DeclineReason | None:
    valid_from, valid_until = validity
    if valid_from is not None:
        passed = valid_from <= at
        bounds = (instant_text(at), instant_text(valid_from))
        findings.append(("card_valid_from", "card", None, *bounds, None, passed))
        if not passed:
            return DeclineReason.CARD_NOT_YET_VALID
    if valid_until is not None:
        passed = at < valid_until
        bounds = (instant_text(at), instant_text(valid_until))
        findings.append(("card_valid_until", "card", None, *bounds, None, passed))
        if not passed:
            return DeclineReason.CARD_EXPIRED
    return None


def _broken_currency(
    request: Authorization, standing: Standing, findings: list[Finding]
) -> DeclineReason | None:
    passed = request.currency == standing.account.currency
    findings.append(
        ("currency", None, None, request.currency, standing.account.currency, None, passed)
    )
    return None if passed else DeclineReason.CURRENCY_MISMATCH


def _broken_list(
    request: Authorization, standing: Standing, findings: list[Finding]
) -> DeclineReason | None:
    for rule, level, values, allows in standing.view.lists:
        fact, reason = _LISTED[rule](request)
        passed = (fact in values) is allows
        findings.append((rule, level, None, fact, None, None, passed))
        if not passed:
            return reason
    return None


# What each list looks at, and what it is called when it refuses. A fact that is not known is in no
# list: it passes where something is blocked, and not where only something is allowed.
_LISTED: dict[str, Callable[[Authorization], tuple[str | None, DeclineReason]]] = {
    "mcc": lambda asked: (asked.merchant.mcc, DeclineReason.MCC_BLOCKED),
    "merchant": lambda asked: (asked.merchant.id, DeclineReason.MERCHANT_BLOCKED),
    "country": lambda asked: (asked.merchant.country, DeclineReason.COUNTRY_BLOCKED),
    "entry_mode": lambda asked: (asked.entry_mode, DeclineReason.ENTRY_MODE_BLOCKED),
    "card_presence": lambda asked: (asked.card_presence, DeclineReason.CARD_PRESENCE_BLOCKED),
    "mcc_allowed": lambda asked: (asked.merchant.mcc, DeclineReason.MCC_NOT_ALLOWED),
    "merchant_allowed": lambda asked: (asked.merchant.id, DeclineReason.MERCHANT_NOT_ALLOWED),
    "country_allowed": lambda asked: (asked.merchant.country, DeclineReason.COUNTRY_NOT_ALLOWED),
    "entry_mode_allowed": lambda asked: (asked.entry_mode, DeclineReason.ENTRY_MODE_NOT_ALLOWED),
    "card_presence_allowed": lambda asked: (
        asked.card_presence,
        DeclineReason.CARD_PRESENCE_NOT_ALLOWED,
    ),
}


def check_limits(request: Authorization, standing: Standing) -> LimitsCheck:
    """The headroom of every limit, up to the first broken one.

    Amounts per transaction come first, then amounts of windows, then counts; in each, the
    program before the cardholder before the card. Where less than the amount is welcome, it is the
    greatest amount that fits, if there is one, that is checked; a count has no part of one.
    """
    bounds = standing.view.bounds
    if not bounds and not request.partial_approval:
        return NO_LIMITS
    asked = request.amount
    findings: list[Finding] = []
    if request.partial_approval and request.kind == PURCHASE:
        cut = _cut(request, standing)
        if cut is not None:
            findings.append(cut)
            asked = cut[4]
    for rule, level, owner_id, period, label, bound in bounds:
        if rule == "amount_limit":
            fact, taken = asked, asked
        else:
            amount, count = standing.windows[owner_id].spent(period, standing.starts)
            is_amount = rule == "spend_limit"
            fact, taken = (amount, amount + asked) if is_amount else (count, count + 1)
        headroom = bound - taken
        findings.append((rule, level, label, fact, bound, headroom, headroom >= 0))
        if headroom < 0:
            return LimitsCheck(_LIMIT_REASONS[rule], findings, asked)
    return LimitsCheck(None, findings, asked)


def _cut(request: Authorization, standing: Standing) -> Finding | None:
    """Which limit, or the balance, leaves less than was asked, and how much; None when all fits.

    None also when nothing fits: then the whole amount breaks a rule, which is the reason.
    """
    least, level_cut, label_cut = request.amount, None, None
    for rule, level, owner_id, period, label, bound in standing.view.bounds:
        if rule == "count_limit":
            continue
        is_counted = rule == "spend_limit"
        spent = standing.windows[owner_id].spent(period, standing.starts)[0] if is_counted else 0
        if bound - spent < least:
            least, level_cut, label_cut = bound - spent, level, label
    if standing.account.available < least:
        least, level_cut, label_cut = standing.account.available, None, None
    if not 0 < least < request.amount:
        return None
    return ("partial_approval", level_cut, label_cut, request.amount, least, None, True)


_LIMIT_REASONS = {
    "amount_limit": DeclineReason.AMOUNT_OVER_LIMIT,
    "spend_limit": DeclineReason.SPEND_LIMIT_EXCEEDED,
    "count_limit": DeclineReason.COUNT_LIMIT_EXCEEDED,
}


def _broken_balance(
    amount: int, standing: Standing, findings: list[Finding]
) -> DeclineReason | None:
    available = standing.account.available
    headroom = available - amount
    findings.append(("available_balance", None, None, available, amount, headroom, headroom >= 0))
    return None if headroom >= 0 else DeclineReason.INSUFFICIENT_AVAILABLE_BALANCE
