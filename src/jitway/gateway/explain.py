"""`explain.py`: why an authorization was decided so, in words, and what became of its money.

Everything is told from stored rows: the findings as the rules saw them under the lock, never what
limits or balances are now.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.clock import id_digits
from jitway.domain.instant import instant_text
from jitway.domain.money import FRACTION_DIGITS, minor_to_major
from jitway.domain.transfer import transfer_body
from jitway.errors import NotFound
from jitway.gateway.caller import Caller
from jitway.gateway.documents import (
    Document,
    authorization_document,
    circumstances_document,
    explanation_document,
)
from jitway.sql import statements

_SQL = statements("explaining")

_PERIODS = {
    "transaction": "transaction limit",
    "day": "daily limit",
    "week": "weekly limit",
    "month": "monthly limit",
    "year": "yearly limit",
    "lifetime": "lifetime limit",
}
_LISTED = {
    "mcc": "merchant category",
    "merchant": "merchant",
    "country": "country",
    "entry_mode": "way of reading the card",
    "card_presence": "presence of the card",
}


async def explained(postgres: PostgreSQLAdapter, caller: Caller, id_: str) -> Document:
    """One authorization as it is now, why it was decided so, and its later life.

    Returns:
        The authorization's document with `explanation` (each rule with a `text`), `summary`,
        `balance` (`before` and `after` the decision: what was available, in minor units; None
        when the card was not known), `versions` of program, cardholder, card and account,
        `timings` (milliseconds by stage until it was written) and `transfers`, the oldest first.

    Raises:
        NotFound: there is no such authorization for this caller.
        StoreUnavailable: PostgreSQL cannot be asked.
    """
    digits = id_digits(id_, "aut")
    rows: list[dict[str, Any]] = []
    if digits is not None:
        rows = await postgres.execute_query(_SQL["explained"], [digits], repeatable=True)
    program_id = f"prg_{rows[0]['program_id'].hex}" if rows and rows[0]["program_id"] else None
    if not rows or not caller.may_see(program_id):
        raise NotFound("there is no authorization with this id")
    row = rows[0]
    document = authorization_document(row)
    currency = document["currency"]
    findings = explanation_document(row["explanation"])
    for finding in findings:
        finding["text"] = finding_text(finding, currency)
    after = document["available"]
    before = None if after is None else after + row["approved_amount"]
    return document | {
        "explanation": findings,
        **circumstances_document(row["circumstances"], document["account_version"]),
        "summary": _summary(document, findings, row),
        "balance": None if after is None else {"before": before, "after": after},
        "transfers": [_transfer(one) for one in rows if one["transfer_id"] is not None],
    }


def amount_text(amount: int, currency: str) -> str:
    """An amount in major units, such as `1,234.50`; in minor units where the currency is not known.

    Args:
        amount: minor units.
        currency: ISO 4217.
    """
    if currency not in FRACTION_DIGITS:
        return f"{amount:,} minor units"
    return f"{minor_to_major(amount, currency):,}"


def finding_text(finding: Mapping[str, Any], currency: str) -> str:
    """What one rule saw, and its headroom, in words.

    Args:
        finding: as the API shows it.
        currency: of its amounts.
    """
    return _TEXTS[finding["rule"]](finding, currency)


def _state(finding: Mapping[str, Any], _: str) -> str:
    who = finding["rule"].removesuffix("_active")
    passed = finding["outcome"] == "passed"
    return f"the {who} is {finding['fact']}" + ("" if passed else ", and must be active")


def _card_known(_finding: Mapping[str, Any], _: str) -> str:
    return "there is no such card for this caller"


def _currency(finding: Mapping[str, Any], _: str) -> str:
    asked, accounts = finding["fact"], finding["limit"]
    if finding["outcome"] == "passed":
        return f"asked in {asked}, as the account is"
    return f"asked in {asked}, and the account is in {accounts}"


def _list(finding: Mapping[str, Any], _: str) -> str:
    name = finding["rule"].removesuffix("_allowed")
    allows = name != finding["rule"]
    stands = "is among" if (finding["outcome"] == "passed") is allows else "is not among"
    those = f"{stands} those that the {finding['level']} {'allows' if allows else 'blocks'}"
    if finding["fact"] is None:
        return f"the {_LISTED[name]} is not known, so it {those}"
    return f"the {_LISTED[name]} {finding['fact']} {those}"


def _valid_from(finding: Mapping[str, Any], _: str) -> str:
    told = "is" if finding["outcome"] == "passed" else "is not"
    return f"the card {told} valid yet at {finding['fact']}: it is from {finding['limit']} on"


def _valid_until(finding: Mapping[str, Any], _: str) -> str:
    told = "still" if finding["outcome"] == "passed" else "no longer"
    return f"the card is {told} valid at {finding['fact']}: it is until {finding['limit']}"


def _partial(finding: Mapping[str, Any], currency: str) -> str:
    asked = amount_text(finding["fact"], currency)
    part = f"{amount_text(finding['limit'], currency)} {currency}"
    if finding["level"] is None:
        by = "available balance"
    else:
        by = f"{_PERIODS[finding['period']]} of the {finding['level']}"
    return f"the merchant takes a part: {part} of the {asked} asked fits, by the {by}"


def _amount_limit(finding: Mapping[str, Any], currency: str) -> str:
    asked = amount_text(finding["fact"], currency)
    limit = amount_text(finding["limit"], currency)
    return f"{_limit(finding, currency)}: {asked} asked, {limit} {currency} allowed"


def _spend_limit(finding: Mapping[str, Any], currency: str) -> str:
    spent = amount_text(finding["fact"], currency)
    limit = amount_text(finding["limit"], currency)
    return f"{_limit(finding, currency)}: {spent} spent before, {limit} {currency} allowed"


def _count_limit(finding: Mapping[str, Any], _: str) -> str:
    told = _limit(finding, None)
    return f"{told}: {finding['fact']:,} approved before, {finding['limit']:,} allowed"


def _limit(finding: Mapping[str, Any], currency: str | None) -> str:
    period = _PERIODS[finding["period"]]
    if currency is None:
        period = period.replace("limit", "count limit")
    return f"{_headroom(finding, currency)}, {period} of the {finding['level']}"


def _balance(finding: Mapping[str, Any], currency: str) -> str:
    available = amount_text(finding["fact"], currency)
    asked = amount_text(finding["limit"], currency)
    told = _headroom(finding, currency)
    return f"{told}, available balance: {available} available, {asked} {currency} asked"


def _headroom(finding: Mapping[str, Any], currency: str | None) -> str:
    headroom = finding["headroom"]
    size = abs(headroom)
    text = f"{size:,}" if currency is None else amount_text(size, currency)
    return f"passes with {text} left" if headroom >= 0 else f"fails by {text}"


_TEXTS: dict[str, Callable[[Mapping[str, Any], str], str]] = {
    "card_known": _card_known,
    "card_active": _state,
    "cardholder_active": _state,
    "account_active": _state,
    "program_active": _state,
    "card_valid_from": _valid_from,
    "card_valid_until": _valid_until,
    "currency": _currency,
    "mcc": _list,
    "merchant": _list,
    "country": _list,
    "entry_mode": _list,
    "card_presence": _list,
    "mcc_allowed": _list,
    "merchant_allowed": _list,
    "country_allowed": _list,
    "entry_mode_allowed": _list,
    "card_presence_allowed": _list,
    "partial_approval": _partial,
    "amount_limit": _amount_limit,
    "spend_limit": _spend_limit,
    "count_limit": _count_limit,
    "available_balance": _balance,
}


def _summary(document: Document, findings: list[Document], row: Mapping[str, Any]) -> str:
    """The decision and the fate of its money, in one or two sentences."""
    currency = document["currency"]
    asked = f"{amount_text(document['amount'], currency)} {currency}"
    if document["decision"] == "declined" and row["state"] is None:
        broken = findings[-1]
        return f"Declined {asked}, {document['reason']}: {broken['text']}."
    if row["state"] is None:
        return f"Approved: all {len(findings)} rules passed. Of this kind nothing is reserved."
    told = f"Approved {amount_text(row['approved_amount'], currency)} {currency}"
    if row["approved_amount"] != document["amount"]:
        (cut,) = [one for one in findings if one["rule"] == "partial_approval"]
        told += f" of {asked}, since {cut['text']}"
    return f"{told}: all {len(findings)} rules passed. {_fate(document, row)}."


def _fate(document: Document, row: Mapping[str, Any]) -> str:
    currency, status = document["currency"], document["status"]
    if status == "abandoned":
        return "Nobody was answered in time, so all of it was given back: to retries it is declined"
    parts = [
        f"{amount_text(document[name], currency)} {name}"
        for name in ("captured", "released")
        if document[name]
    ]
    if status == "open":
        remaining = amount_text(document["remaining"], currency)
        parts.append(f"{remaining} held until {instant_text(row['expires_at'])}")
        return "Open: " + ", ".join(parts)
    return f"Ended as {status} at {instant_text(row['closed_at'])}: " + ", ".join(parts)


def _transfer(row: Mapping[str, Any]) -> Document:
    body = transfer_body(
        id=f"trf_{row['transfer_id'].hex}",
        kind=row["kind"],
        authorization=f"aut_{row['id'].hex}",
        account=f"acc_{row['account_id'].hex}",
        amount=row["transfer_amount"],
        currency=row["currency"],
        account_version=row["account_version"],
        created_at=row["recorded_at"],
        description=row["description"],
    )
    transfer: Document = json.loads(body)
    return transfer
