"""`decision.py`: the rules, in order, and the first one broken. Pure: no clock, no I/O."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from jitway.domain.card import Level, Standing
from jitway.domain.limits import Limit, Period
from jitway.domain.message import Authorization


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


def _broken_state(standing: Standing, findings: list[Finding]) -> DeclineReason | None:
    view = standing.view
    card_reason = (
        DeclineReason.CARD_FROZEN if view.card.state == "frozen" else DeclineReason.CARD_NOT_ACTIVE
    )
    for rule, state, reason in (
        ("card_active", view.card.state, card_reason),
        ("cardholder_active", view.cardholder.state, DeclineReason.CARDHOLDER_NOT_ACTIVE),
        ("account_active", standing.account.state, DeclineReason.ACCOUNT_NOT_ACTIVE),
        ("program_active", view.program.state, DeclineReason.PROGRAM_NOT_ACTIVE),
    ):
        passed = state == "active"
        findings.append((rule, None, None, state, "active", None, passed))
        if not passed:
            return reason
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
    merchant = request.merchant
    for level in standing.view.levels:
        controls = level.controls
        for rule, fact, blocked, reason in (
            ("mcc", merchant.mcc, controls.blocked_mccs, DeclineReason.MCC_BLOCKED),
            ("merchant", merchant.id, controls.blocked_merchants, DeclineReason.MERCHANT_BLOCKED),
            (
                "country",
                merchant.country,
                controls.blocked_countries,
                DeclineReason.COUNTRY_BLOCKED,
            ),
        ):
            if not blocked:
                continue
            passed = fact not in blocked
            findings.append((rule, level.name, None, fact, None, None, passed))
            if not passed:
                return reason
    return None


def check_limits(request: Authorization, standing: Standing) -> LimitsCheck:
    """The headroom of every limit, up to the first broken one.

    Amounts per transaction come first, then amounts of windows, then counts; in each, the
    program before the cardholder before the card.
    """
    limited = [(level, limit) for level in standing.view.levels for limit in level.controls.limits]
    if not limited:
        return NO_LIMITS
    findings: list[Finding] = []
    for rule, reason, facts in (
        ("amount_limit", DeclineReason.AMOUNT_OVER_LIMIT, _transaction_facts),
        ("spend_limit", DeclineReason.SPEND_LIMIT_EXCEEDED, _spend_facts),
        ("count_limit", DeclineReason.COUNT_LIMIT_EXCEEDED, _count_facts),
    ):
        for level, limit in limited:
            seen = facts(request, standing, level, limit)
            if seen is None:
                continue
            fact, bound, headroom = seen
            passed = headroom >= 0
            findings.append((rule, level.name, limit.period.label, fact, bound, headroom, passed))
            if not passed:
                return LimitsCheck(reason, findings)
    return LimitsCheck(None, findings)


# What a kind of limit looks at: the fact, its bound and what is left after this request.
_Facts: TypeAlias = tuple[int, int, int] | None


def _transaction_facts(
    request: Authorization, _standing: Standing, _level: Level, limit: Limit
) -> _Facts:
    if limit.period is not Period.TRANSACTION or limit.amount is None:
        return None
    return request.amount, limit.amount, limit.amount - request.amount


def _spend_facts(request: Authorization, standing: Standing, level: Level, limit: Limit) -> _Facts:
    if limit.period is Period.TRANSACTION or limit.amount is None:
        return None
    spent, _ = standing.windows[level.id].spent(limit.period, standing.starts)
    return spent, limit.amount, limit.amount - spent - request.amount


def _count_facts(_request: Authorization, standing: Standing, level: Level, limit: Limit) -> _Facts:
    if limit.period is Period.TRANSACTION or limit.count is None:
        return None
    _, count = standing.windows[level.id].spent(limit.period, standing.starts)
    return count, limit.count, limit.count - count - 1


def _broken_balance(
    request: Authorization, standing: Standing, findings: list[Finding]
) -> DeclineReason | None:
    available = standing.account.available
    headroom = available - request.amount
    findings.append(
        ("available_balance", None, None, available, request.amount, headroom, headroom >= 0)
    )
    return None if headroom >= 0 else DeclineReason.INSUFFICIENT_AVAILABLE_BALANCE
