"""How PostgreSQL failed, in our own words.

Owns the table from SQLSTATE to the failure tree. Knows no driver: it is given the five characters
and the sentence, and never repeats a value out of it.
"""

import re
import socket
import ssl

from jitway.adapters.postgresql.gate import Refusal
from jitway.errors import (
    JitwayError,
    LedgerUnavailable,
    LockTimeout,
    QueryTimeout,
    StatementRefused,
    TransactionConflict,
)

# Nothing is wrong with the statement: the server, its disk or the way to it is.
_UNAVAILABLE_CLASSES = frozenset({"08", "53", "57", "58"})
_READ_ONLY = "25006"
_IDLE_OR_TOO_LONG = frozenset({"57014", "25P03", "25P04"})
_REPEATABLE = frozenset({"40001", "40P01"})
# After these the same attempt can succeed a moment later; after others it cannot.
_PASSING = frozenset({"53300", "57P01", "57P02", "57P03"})
_REFUSED_WHOLE = frozenset({"22", "23", "25", "40", "42", "44", "P0"})
_COMPLETION_UNKNOWN = "40003"
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")


def statement_failure(
    sqlstate: str, message: str, *, constraint: str | None = None, address: str = ""
) -> JitwayError:
    """What a refused or ended statement means to the caller.

    Args:
        sqlstate: the five characters of the SQL standard.
        message: the server's first sentence; bad values it quotes are left out.
        constraint: the broken constraint, if one was.
        address: the masked address, for failures of the server itself.
    """
    if sqlstate in _IDLE_OR_TOO_LONG:
        return QueryTimeout(f"PostgreSQL ended the statement at its limit: {message}")
    if sqlstate == "55P03":
        return LockTimeout("a row or table stayed locked elsewhere until the limit")
    if sqlstate in _REPEATABLE:
        return TransactionConflict(message, sqlstate, constraint)
    if sqlstate == _READ_ONLY:
        return LedgerUnavailable(
            f"PostgreSQL at {address} is read-only (a standby, or default_transaction_read_only); "
            "point DATABASE_URL at the primary"
        )
    if sqlstate[:2] in _UNAVAILABLE_CLASSES:
        return LedgerUnavailable(f"PostgreSQL at {address} cannot serve: {message} ({sqlstate})")
    # Class 22 is about values, and quotes them.
    detail = _QUOTED.sub("(value)", message) if sqlstate[:2] == "22" else message
    return StatementRefused(detail, sqlstate, constraint)


def commit_was_refused(sqlstate: str, severity: str) -> bool:
    """Whether an error in answer to COMMIT proves that nothing stands."""
    return (
        severity == "ERROR" and sqlstate[:2] in _REFUSED_WHOLE and sqlstate != _COMPLETION_UNKNOWN
    )


def refusal(sqlstate: str, message: str, *, address: str) -> Refusal:
    """Why the server turned a new connection away, and what to do."""
    if sqlstate[:2] == "28":
        say = "refused the user name or password; check them in DATABASE_URL"
    elif sqlstate == "3D000":
        say = "has no such database; create it (createdb) or correct its name in DATABASE_URL"
    elif sqlstate == "53300":
        say = "has no connection left; raise max_connections or make the pools smaller"
    elif sqlstate == "57P03":
        say = "is starting up or shutting down; try again in a moment"
    elif "startup parameter" in message or sqlstate in {"22023", "42704"}:
        say = (
            f"refused a setting of the connection ({message}); behind pgbouncer list it in "
            "ignore_startup_parameters, or use send_settings=False"
        )
    else:
        say = f"refused the connection: {message} ({sqlstate})"
    return Refusal(f"PostgreSQL at {address} {say}", passing=sqlstate in _PASSING)


def no_answer(cause: BaseException, *, address: str, limit_ms: int) -> Refusal:
    """Why nothing answered at the address, and what to do."""
    if isinstance(cause, TimeoutError):
        say = f"did not answer within {limit_ms} ms; is it hung, or behind a firewall?"
    elif isinstance(cause, ssl.SSLError):
        say = f"failed at TLS ({_tls_reason(cause)}); check sslmode and the certificates"
    elif isinstance(cause, socket.gaierror):
        say = "cannot be found: its host name has no address; check DATABASE_URL"
    elif isinstance(cause, ConnectionRefusedError | FileNotFoundError):
        say = "refuses connections; is it running, and are host and port in DATABASE_URL right?"
    else:
        reason = getattr(cause, "strerror", None) or type(cause).__name__
        say = f"cannot be reached ({reason}); check that it runs, and DATABASE_URL"
    return Refusal(f"PostgreSQL at {address} {say}", passing=isinstance(cause, ConnectionError))


def _tls_reason(cause: ssl.SSLError) -> str:
    return str(getattr(cause, "verify_message", None) or cause.reason or "handshake")
