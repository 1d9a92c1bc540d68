"""`problems.py`: the one table from failure to answer, in the form of RFC 9457.

Owns every status and code that a caller can see; `docs/http_api.md` lists the same, and a test
holds both against what the code raises.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from jitway.errors import (
    ArchiveUnavailable,
    BrokerUnavailable,
    Conflict,
    FiguresUnavailable,
    InvalidRequest,
    JitwayError,
    LockTimeout,
    NoDecision,
    NotFound,
    OutcomeUnknown,
    ScopeExceeded,
    StatementRefused,
    StoreUnavailable,
    TransactionConflict,
)

CONTENT_TYPE = b"application/problem+json"
TYPE_PREFIX = "urn:jitway:problem:"
RETRY_AFTER_S = "1"


class Refused(JitwayError):
    """HTTP itself refuses the request, before any verb has seen it.

    Args:
        status: of HTTP.
        code: the stable code of the catalogue.
        detail: one sentence for the caller.
        headers: to be sent with it.
    """

    def __init__(
        self, status: int, code: str, detail: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.headers = headers or {}


@dataclass(frozen=True, slots=True)
class Problem:
    """What a caller is told of a failure."""

    status: int
    code: str
    detail: str
    pointer: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    existing: str | None = None

    def body(self, request_id: str) -> bytes:
        """The problem as JSON."""
        members: dict[str, Any] = {
            "type": TYPE_PREFIX + self.code,
            "title": CATALOGUE[self.code][1],
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        if self.pointer is not None:
            members["pointer"] = self.pointer
        if self.existing is not None:
            members["existing"] = self.existing
        members["request_id"] = request_id
        return msgspec.json.encode(members)


# Every code a caller can meet: its status, and what it says in a few words.
CATALOGUE: dict[str, tuple[int, str]] = {
    "malformed_request": (400, "The request is no HTTP"),
    "malformed_message": (400, "The body cannot be read"),
    "invalid_request": (400, "A value is wrong"),
    "unknown_field": (400, "A field is not known"),
    "missing_field": (400, "A field is missing"),
    "card_number_refused": (400, "Card numbers are refused"),
    "idempotency_key_required": (400, "An idempotency key is required"),
    "idempotency_key_invalid": (400, "The idempotency key is invalid"),
    "unauthenticated": (401, "No or bad key"),
    "insufficient_scope": (403, "The key lacks the scope"),
    "cross_site": (403, "Not sent by the page itself"),
    "not_found": (404, "Not there, or not yours"),
    "route_not_found": (404, "No such route"),
    "method_not_allowed": (405, "The method is not allowed here"),
    "request_timeout": (408, "The request did not arrive in time"),
    "idempotency_conflict": (409, "The idempotency key was used with other content"),
    "key_used": (409, "The key was used, and its answer is gone"),
    "authorization_not_open": (409, "The authorization is not open"),
    "capture_over_remaining": (409, "More than remains of the authorization"),
    "insufficient_available_balance": (409, "More than is available"),
    "account_not_active": (409, "The account is not active"),
    "account_not_empty": (409, "The account is not empty"),
    "account_of_another": (409, "The account belongs to another cardholder"),
    "balance_out_of_bounds": (409, "The balance would leave its bounds"),
    "card_closed": (409, "The card is closed"),
    "cardholder_not_active": (409, "The cardholder is not active"),
    "program_not_active": (409, "The program is not active"),
    "currency_mismatch": (409, "The currencies differ"),
    "key_not_active": (409, "The key is revoked or over"),
    "rotation_under_way": (409, "The key has two secrets already"),
    "external_id_taken": (409, "The external id is taken"),
    "webhook_conflict": (409, "The webhook's id was used with other content"),
    "queue_required": (409, "Several queues have it"),
    "conflict": (409, "Not possible in this state"),
    "body_too_large": (413, "The body is too large"),
    "unsupported_media_type": (415, "Not JSON"),
    "too_many_requests": (429, "Too many requests"),
    "headers_too_large": (431, "The headers are too large"),
    "internal_error": (500, "A bug of ours"),
    "no_decision": (503, "No decision"),
    "account_busy": (503, "The account is busy"),
    "ledger_unavailable": (503, "The ledger is away"),
    "archive_unavailable": (503, "The archive is away"),
    "broker_unavailable": (503, "The broker is away"),
    "outcome_unknown": (503, "The outcome is not known"),
    "too_many_connections": (503, "Too many connections"),
    "too_many_queries": (503, "Too many reads at once"),
    "figures_unavailable": (503, "What all workers counted is not known now"),
}

_AGAIN = {"Retry-After": RETRY_AFTER_S}
# The first that fits: the last one is what all of them are.
_AWAY: tuple[tuple[type[StoreUnavailable], str, str], ...] = (
    (
        ArchiveUnavailable,
        "archive_unavailable",
        "the archive does not answer; decisions do not need it",
    ),
    (BrokerUnavailable, "broker_unavailable", "the message broker is away"),
    (StoreUnavailable, "ledger_unavailable", "the ledger is away"),
)


def problem_of(error: Exception) -> Problem | None:
    """What the caller is told; None for a failure that nobody foresaw.

    Args:
        error: whatever a route raised.
    """
    if isinstance(error, Refused):
        return Problem(error.status, error.code, str(error), headers=error.headers)
    if isinstance(error, InvalidRequest):
        return Problem(400, error.code, str(error), error.pointer)
    if isinstance(error, NotFound):
        return Problem(404, "not_found", str(error))
    if isinstance(error, Conflict):
        return Problem(409, error.code, str(error), existing=error.existing)
    if isinstance(error, ScopeExceeded):
        return Problem(403, "insufficient_scope", str(error))
    return _of_stores(error)


def is_bad_value(error: Exception) -> bool:
    """Whether the ledger refused a value that no check of ours did; worth a line in the log."""
    return isinstance(error, StatementRefused) and error.sqlstate[:2] == "22"


def _of_stores(error: Exception) -> Problem | None:
    """What a store's failure says, without its address: callers are not operators."""
    if is_bad_value(error):
        return Problem(400, "invalid_request", "a value is out of the bounds of what can be kept")
    return _unavailable(error)


def _unavailable(error: Exception) -> Problem | None:
    """What is away now, and may be back in a moment."""
    if isinstance(error, FiguresUnavailable):
        return Problem(503, "figures_unavailable", str(error), headers=_AGAIN)
    if isinstance(error, NoDecision):
        return Problem(503, "no_decision", str(error).partition(":")[0], headers=_AGAIN)
    if isinstance(error, LockTimeout | TransactionConflict):
        detail = "the account is in use elsewhere; nothing was changed"
        return Problem(503, "account_busy", detail, headers=_AGAIN)
    if isinstance(error, OutcomeUnknown):
        detail = "the change may stand or not; repeat it with the same Idempotency-Key"
        return Problem(503, "outcome_unknown", detail, headers=_AGAIN)
    for kind, code, detail in _AWAY:
        if isinstance(error, kind):
            return Problem(503, code, detail, headers=_AGAIN)
    return None


INTERNAL = Problem(500, "internal_error", "the failure was logged under this request_id")
