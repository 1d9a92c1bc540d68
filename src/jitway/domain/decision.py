"""`decision.py`: the rules, in order, and the first one broken. Pure: no clock, no I/O."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from jitway.domain.card import Standing
from jitway.domain.message import Authorization, Merchant


class DeclineReason(StrEnum):
    """The rule that was broken; the members stand in the order in which rules are evaluated."""

    CARD_NOT_FOUND = "card_not_found"
    CARD_NOT_ACTIVE = "card_not_active"
    CARD_FROZEN = "card_frozen"
    CARDHOLDER_NOT_ACTIVE = "cardholder_not_active"
    ACCOUNT_NOT_ACTIVE = "account_not_active"
    PROGRAM_NOT_ACTIVE = "program_not_active"
    CURRENCY_MISMATCH = "currency_mismatch"
    MCC_BLOCKED = "mcc_blocked"
    MERCHANT_BLOCKED = "merchant_blocked"
    COUNTRY_BLOCKED = "country_blocked"
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
        approved_amount: minor units; zero when declined.
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
    """

    reason: DeclineReason | None
    findings: list[Finding]


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
    if reason is None:
        findings += limits.findings
        reason = limits.reason or _broken_balance(request, standing, findings)
    return Decision(reason, 0 if reason else request.amount, findings)


# Whose state must be active, in the order of evaluation.
_STATE_RULES = (
    ("card_active", DeclineReason.CARD_NOT_ACTIVE),
    ("cardholder_active", DeclineReason.CARDHOLDER_NOT_ACTIVE),
    ("account_active", DeclineReason.ACCOUNT_NOT_ACTIVE),
    ("program_active", DeclineReason.PROGRAM_NOT_ACTIVE),
)
_ACTIVE = ("active",) * len(_STATE_RULES)
_ACTIVE_FINDINGS: list[Finding] = [
    (rule, None, None, "active", "active", None, True) for rule, _ in _STATE_RULES
]


def _broken_state(standing: Standing, findings: list[Finding]) -> DeclineReason | None:
    view = standing.view
    states = (view.card.state, view.cardholder.state, standing.account.state, view.program.state)
    if states == _ACTIVE:
        findings += _ACTIVE_FINDINGS
        return None
    for state, (rule, reason) in zip(states, _STATE_RULES, strict=True):
        passed = state == "active"
        findings.append((rule, None, None, state, "active", None, passed))
        if not passed:
            is_frozen_card = rule == "card_active" and state == "frozen"
            return DeclineReason.CARD_FROZEN if is_frozen_card else reason
    raise AssertionError("one of the states is not active")


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
    for rule, level, values in standing.view.blocked:
        fact, reason = _LISTED[rule](request.merchant)
        passed = fact not in values
        findings.append((rule, level, None, fact, None, None, passed))
        if not passed:
            return reason
    return None


# What each list looks at, and what it is called when it refuses.
_LISTED: dict[str, Callable[[Merchant], tuple[str | None, DeclineReason]]] = {
    "mcc": lambda merchant: (merchant.mcc, DeclineReason.MCC_BLOCKED),
    "merchant": lambda merchant: (merchant.id, DeclineReason.MERCHANT_BLOCKED),
    "country": lambda merchant: (merchant.country, DeclineReason.COUNTRY_BLOCKED),
}


def check_limits(request: Authorization, standing: Standing) -> LimitsCheck:
    """The headroom of every limit, up to the first broken one.

    Amounts per transaction come first, then amounts of windows, then counts; in each, the
    program before the cardholder before the card.
    """
    bounds = standing.view.bounds
    if not bounds:
        return NO_LIMITS
    findings: list[Finding] = []
    for rule, level, owner_id, period, label, bound in bounds:
        if rule == "amount_limit":
            fact, taken = request.amount, request.amount
        else:
            amount, count = standing.windows[owner_id].spent(period, standing.starts)
            is_amount = rule == "spend_limit"
            fact, taken = (amount, amount + request.amount) if is_amount else (count, count + 1)
        headroom = bound - taken
        findings.append((rule, level, label, fact, bound, headroom, headroom >= 0))
        if headroom < 0:
            return LimitsCheck(_LIMIT_REASONS[rule], findings)
    return LimitsCheck(None, findings)


_LIMIT_REASONS = {
    "amount_limit": DeclineReason.AMOUNT_OVER_LIMIT,
    "spend_limit": DeclineReason.SPEND_LIMIT_EXCEEDED,
    "count_limit": DeclineReason.COUNT_LIMIT_EXCEEDED,
}


def _broken_balance(
    request: Authorization, standing: Standing, findings: list[Finding]
) -> DeclineReason | None:
    available = standing.account.available
    headroom = available - request.amount
    findings.append(
        ("available_balance", None, None, available, request.amount, headroom, headroom >= 0)
    )
    return None if headroom >= 0 else DeclineReason.INSUFFICIENT_AVAILABLE_BALANCE
