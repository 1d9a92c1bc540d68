"""`problems.py`: the one table from failure to answer, in the form of RFC 9457.

Owns every status and code that a caller can see; `docs/http_api.md` lists the same.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from jitway.errors import (
    Conflict,
    InvalidRequest,
    JitwayError,
    LockTimeout,
    NoDecision,
    NotFound,
    OutcomeUnknown,
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

    def body(self, request_id: str) -> bytes:
        """The problem as JSON."""
        members: dict[str, Any] = {
            "type": TYPE_PREFIX + self.code,
            "title": TITLES.get(self.code, self.code.replace("_", " ").capitalize()),
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        if self.pointer is not None:
            members["pointer"] = self.pointer
        members["request_id"] = request_id
        return msgspec.json.encode(members)


TITLES = {
    "malformed_request": "The request is no HTTP",
    "malformed_message": "The body cannot be read",
    "invalid_request": "A value is wrong",
    "unknown_field": "A field is not known",
    "missing_field": "A field is missing",
    "not_supported": "Not supported yet",
    "card_number_refused": "Card numbers are refused",
    "idempotency_key_required": "An idempotency key is required",
    "idempotency_key_invalid": "The idempotency key is invalid",
    "unauthenticated": "No or bad key",
    "insufficient_scope": "The key lacks the scope",
    "not_found": "Not there, or not yours",
    "route_not_found": "No such route",
    "method_not_allowed": "The method is not allowed here",
    "request_timeout": "The request did not arrive in time",
    "conflict": "Not possible in this state",
    "idempotency_conflict": "The idempotency key was used with other content",
    "authorization_not_open": "The authorization is not open",
    "capture_over_remaining": "More than remains of the authorization",
    "insufficient_available_balance": "More than is available",
    "account_not_active": "The account is not active",
    "balance_out_of_bounds": "The balance would leave its bounds",
    "body_too_large": "The body is too large",
    "unsupported_media_type": "Not JSON",
    "headers_too_large": "The headers are too large",
    "no_decision": "No decision",
    "account_busy": "The account is busy",
    "ledger_unavailable": "The ledger is away",
    "outcome_unknown": "The outcome is not known",
    "too_many_connections": "Too many connections",
    "internal_error": "Internal error",
}

_AGAIN = {"Retry-After": RETRY_AFTER_S}


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
        return Problem(409, error.code, str(error))
    return _unavailable(error)


def _unavailable(error: Exception) -> Problem | None:
    """What a store's failure says, without its address: callers are not operators."""
    if isinstance(error, NoDecision):
        return Problem(503, "no_decision", str(error).partition(":")[0], headers=_AGAIN)
    if isinstance(error, LockTimeout | TransactionConflict):
        detail = "the account is in use elsewhere; nothing was changed"
        return Problem(503, "account_busy", detail, headers=_AGAIN)
    if isinstance(error, OutcomeUnknown):
        detail = "the change may stand or not; repeat it with the same Idempotency-Key"
        return Problem(503, "outcome_unknown", detail, headers=_AGAIN)
    if isinstance(error, StoreUnavailable):
        return Problem(503, "ledger_unavailable", "the ledger is away", headers=_AGAIN)
    return None


INTERNAL = Problem(500, "internal_error", "the failure was logged under this request_id")
