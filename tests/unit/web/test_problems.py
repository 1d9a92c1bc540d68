"""The error catalogue: what the code raises, what the table says and what the docs list agree."""

import ast
import json
from pathlib import Path

import pytest

from jitway.errors import (
    ArchiveUnavailable,
    Conflict,
    IdempotencyConflict,
    InvalidRequest,
    JitwayError,
    LedgerUnavailable,
    LockTimeout,
    MalformedMessage,
    NoDecision,
    NotFound,
    OutcomeUnknown,
    PoolExhausted,
    QueryTimeout,
    StatementRefused,
    TransactionConflict,
)
from jitway.web.problems import CATALOGUE, Refused, problem_of

ROOT = Path(__file__).parents[3]
# Where each of these takes its code: by position, and by name.
_CODE_AT = {"InvalidRequest": 2, "Conflict": 1, "Refused": 1, "Problem": 1}


def raised_codes() -> set[str]:
    """Every code that is written in a call of one of our failures."""
    codes = {"malformed_message", "idempotency_conflict", "invalid_request", "conflict"}
    for room in ("domain", "events", "gateway", "ledger", "web", "wire"):
        for path in (ROOT / "src" / "jitway" / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    codes |= _codes_of(node.func.id, node)
    return codes


def _codes_of(name: str, call: ast.Call) -> set[str]:
    if name not in _CODE_AT:
        return set()
    found = [keyword.value for keyword in call.keywords if keyword.arg == "code"]
    found += call.args[_CODE_AT[name] : _CODE_AT[name] + 1]
    return {
        node.value
        for node in found
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_every_code_that_is_raised_is_in_the_catalogue() -> None:
    assert raised_codes() <= set(CATALOGUE)


def test_every_code_of_the_catalogue_is_raised() -> None:
    from_table = {"no_decision", "account_busy", "outcome_unknown"}
    from_table |= {f"{store}_unavailable" for store in ("ledger", "broker", "archive")}
    assert set(CATALOGUE) <= raised_codes() | from_table | {"not_found", "unauthenticated"}


def test_the_docs_list_the_catalogue() -> None:
    docs = (ROOT / "docs" / "http_api.md").read_text()
    rows = docs.partition("| code | status | title |\n|---|---|---|\n")[2]
    assert rows == "".join(
        f"| `{code}` | {status} | {title} |\n" for code, (status, title) in CATALOGUE.items()
    )


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (MalformedMessage("x"), 400, "malformed_message"),
        (InvalidRequest("x", "/a", "unknown_field"), 400, "unknown_field"),
        (StatementRefused("timestamp out of range: (value)", "22008"), 400, "invalid_request"),
        (NotFound("x"), 404, "not_found"),
        (Conflict("x", "card_closed"), 409, "card_closed"),
        (IdempotencyConflict(), 409, "idempotency_conflict"),
        (Refused(413, "body_too_large", "x"), 413, "body_too_large"),
        (NoDecision("x"), 503, "no_decision"),
        (LockTimeout("x"), 503, "account_busy"),
        (TransactionConflict("x", "40001"), 503, "account_busy"),
        (OutcomeUnknown("x"), 503, "outcome_unknown"),
        (LedgerUnavailable("x"), 503, "ledger_unavailable"),
        (PoolExhausted("x"), 503, "ledger_unavailable"),
        (QueryTimeout("x"), 503, "ledger_unavailable"),
        (ArchiveUnavailable("x"), 503, "archive_unavailable"),
    ],
)
def test_each_failure_has_its_answer(error: JitwayError, status: int, code: str) -> None:
    problem = problem_of(error)
    assert problem is not None
    assert (problem.status, problem.code) == (status, code)
    assert CATALOGUE[problem.code][0] == status
    body = json.loads(problem.body("req_1"))
    assert body["type"] == f"urn:jitway:problem:{code}"
    assert body["request_id"] == "req_1"
    assert ("Retry-After" in problem.headers) == (status == 503)


@pytest.mark.parametrize("error", [StatementRefused("x", "23505"), KeyError("x"), JitwayError("x")])
def test_what_nobody_foresaw_is_ours(error: Exception) -> None:
    assert problem_of(error) is None


def test_a_caller_is_not_told_where_the_ledger_is() -> None:
    cause = "PostgreSQL at postgresql://ada:***@db.internal/jitway refuses connections"
    for error in (LedgerUnavailable(cause), NoDecision(f"the ledger is away: {cause}")):
        problem = problem_of(error)
        assert problem is not None
        assert "db.internal" not in problem.body("r").decode()
