"""`documents.py`: rows as the API shows them; the same form in answers and in events."""

from collections.abc import Mapping
from typing import Any

import msgspec

from jitway.domain.authorization import Hold, HoldState, abandoned_body, status_of
from jitway.domain.decision import FINDING_FIELDS
from jitway.domain.instant import instant_text
from jitway.domain.limits import SpendControls
from jitway.profiler.trace import STAGES

Row = Mapping[str, Any]
Document = dict[str, Any]

_LEVELS = ("program", "cardholder", "card")


def text_of(document: Document) -> str:
    """A document as compact JSON."""
    return msgspec.json.encode(document).decode()


def program_document(row: Row) -> Document:
    """A program with its controls."""
    return {
        "id": f"prg_{row['id'].hex}",
        "name": row["name"],
        "currency": row["currency"],
        "time_zone": row["time_zone"],
        "status": row["state"],
        "controls": controls_document(row["controls"]),
        "version": row["version"],
        "created_at": instant_text(row["created_at"]),
    }


def cardholder_document(row: Row) -> Document:
    """A cardholder with its controls."""
    return {
        "id": f"chd_{row['id'].hex}",
        "program": f"prg_{row['program_id'].hex}",
        "external_id": row["external_id"],
        "name": row["name"],
        "status": row["state"],
        "controls": controls_document(row["controls"]),
        "version": row["version"],
        "created_at": instant_text(row["created_at"]),
    }


def account_document(row: Row) -> Document:
    """A funding account with its balances in minor units."""
    return {
        "id": f"acc_{row['id'].hex}",
        "program": f"prg_{row['program_id'].hex}",
        "cardholder": row["cardholder_id"] and f"chd_{row['cardholder_id'].hex}",
        "currency": row["currency"],
        "status": row["state"],
        "posted": row["posted"],
        "held": row["held"],
        "available": row["posted"] - row["held"] - row["floor"],
        "credit_line": -row["floor"],
        "shortfall": row["shortfall"],
        "version": row["version"],
        "created_at": instant_text(row["created_at"]),
    }


def card_document(row: Row) -> Document:
    """A card with its controls."""
    return {
        "id": f"crd_{row['id'].hex}",
        "program": f"prg_{row['program_id'].hex}",
        "cardholder": f"chd_{row['cardholder_id'].hex}",
        "account": f"acc_{row['account_id'].hex}",
        "external_id": row["external_id"],
        "last4": row["last4"],
        "status": row["state"],
        "valid_from": row["valid_from"] and instant_text(row["valid_from"]),
        "valid_until": row["valid_until"] and instant_text(row["valid_until"]),
        "controls": controls_document(row["controls"]),
        "version": row["version"],
        "created_at": instant_text(row["created_at"]),
    }


def key_document(row: Row) -> Document:
    """An API key without its secret, which nobody has any more."""
    return {
        "id": f"key_{row['id'].hex}",
        "program": row["program_id"] and f"prg_{row['program_id'].hex}",
        "name": row["name"],
        "scopes": list(row["scopes"]),
        "created_at": instant_text(row["created_at"]),
        "expires_at": row["expires_at"] and instant_text(row["expires_at"]),
        "revoked_at": row["revoked_at"] and instant_text(row["revoked_at"]),
        "previous_secret_until": row["before_until"] and instant_text(row["before_until"]),
    }


def audit_document(row: Row) -> Document:
    """What was done: who, to what, before, after and why."""
    return {
        "id": f"adt_{row['id'].hex}",
        "actor": row["actor"],
        "action": row["action"],
        "program": row["program_id"] and f"prg_{row['program_id'].hex}",
        "subject": row["subject"],
        "before": row["before"] and msgspec.json.decode(row["before"]),
        "after": row["after"] and msgspec.json.decode(row["after"]),
        "reason": row["reason"],
        "recorded_at": instant_text(row["recorded_at"]),
    }


def controls_document(stored: str | None) -> Document:
    """Controls as the database keeps them, or those of an owner that was never given any."""
    return controls_form(SpendControls.from_document(msgspec.json.decode(stored or "{}")))


def controls_form(controls: SpendControls) -> Document:
    """Controls in the form of the API, which is also how they are stored."""
    limits = [
        {
            "period": limit.period.label,
            **({} if limit.amount is None else {"amount": limit.amount}),
            **({} if limit.count is None else {"count": limit.count}),
        }
        for limit in controls.limits
    ]
    return {
        "limits": limits,
        "allow": {name: sorted(values) for name, values in controls.allowed},
        "block": {name: sorted(values) for name, values in controls.blocked},
    }


def authorization_document(row: Row) -> Document:
    """An authorization as it is now: its answer, and what became of its funds."""
    hold = None
    if row["state"] is not None:
        hold = Hold(row["amount"], row["captured"], row["released"], HoldState(row["state"]))
    abandoned = hold is not None and hold.state is HoldState.ABANDONED
    body = abandoned_body(row["body"]) if abandoned else row["body"]
    document: Document = msgspec.json.decode(body)
    return document | {
        # What has no hold stays as it was decided.
        "status": status_of(hold) if hold else document["status"],
        "captured": hold.captured + row["captured_beyond"] if hold else 0,
        "released": hold.released if hold else 0,
        "remaining": hold.remaining if hold else 0,
    }


def explanation_document(stored: str) -> list[Document]:
    """The rules that were evaluated, in order, with what they saw."""
    findings = [
        dict(zip(FINDING_FIELDS, finding, strict=True)) for finding in msgspec.json.decode(stored)
    ]
    for finding in findings:
        finding["outcome"] = "passed" if finding.pop("passed") else "broken"
    return findings


def circumstances_document(stored: str | None, account_version: int | None) -> Document:
    """Under which versions the rules were evaluated, and what each stage until then took.

    Args:
        stored: as the decision's row has it; None where the release before wrote it.
        account_version: as the decision left it.

    Returns:
        `versions` of program, cardholder, card and account, None where the card was not known; and
        `timings`, milliseconds by stage, up to the moment at which the decision was written.
    """
    seen = msgspec.json.decode(stored) if stored else {}
    versions = seen.get("versions")
    if versions:
        versions = {**dict(zip(_LEVELS, versions, strict=True)), "account": account_version}
    return {
        "versions": versions or None,
        "timings": {
            stage.label: span_us / 1000
            for stage, span_us in zip(STAGES, seen.get("spans_us", ()), strict=False)
        },
    }
