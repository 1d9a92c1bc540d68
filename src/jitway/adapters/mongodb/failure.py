"""How MongoDB failed, in our own words, and what to do about it.

Knows no driver: it is given error codes and the server's sentence, and repeats no value out of it.
"""

import re
import socket
import ssl
from collections.abc import Mapping
from typing import Any

from jitway.adapters.reachability import why_unreachable
from jitway.errors import (
    ArchiveUnavailable,
    JitwayError,
    QueryTimeout,
    StatementRefused,
)

GENERAL_ERROR = "HY000"
UNIQUE_VIOLATION = "23505"
CHECK_VIOLATION = "23514"
NO_PERMISSION = "42501"

DUPLICATE_KEY = 11000
# Certain refusals of a server that is not the primary: nothing was written.
NOT_PRIMARY = frozenset({10107, 13435, 10058})
# The way to the server or its role failed; the same operation may succeed in a moment.
PASSING = NOT_PRIMARY | frozenset({6, 7, 89, 91, 189, 262, 9001, 11600, 11602, 13436})
_AUTHENTICATION = frozenset({18, 8000})
_UNAUTHORIZED = 13
_OVER_TIME = 50
_VALIDATION = 121
# `... index: y_1 dup key: ...`; servers with another storage say it in other words.
_INDEX = re.compile(r"index:? '?([^\s']+)|(?<=\.)(_id)$")
_DETAIL_MAX = 200
_UNTRUSTED = re.compile(r"certificate verify failed: (.+?)\.? \(_ssl")
_TLS = re.compile(r"\[SSL(?:: (\w+))?\]|SSL handshake failed")
_ERRNO = re.compile(r"\[Errno (-?\d+)\] ([^(\[]*)")


def refused(code: int | None, message: str, *, address: str) -> JitwayError:
    """What an error reply means to the caller.

    Args:
        code: MongoDB's error code.
        message: the server's sentence.
        address: the masked address.
    """
    if code in _AUTHENTICATION or code in PASSING:
        return _not_served(code, address)
    if code == _UNAUTHORIZED:
        return StatementRefused(
            f"MongoDB at {address} does not permit this to the user of MONGODB_URI", NO_PERMISSION
        )
    if code == _OVER_TIME:
        return QueryTimeout(f"MongoDB at {address} ended the operation at its limit")
    if code == DUPLICATE_KEY:
        return duplicate(message)
    if code == _VALIDATION:
        return StatementRefused("the collection's rules refuse the document", CHECK_VIOLATION)
    detail = message[:_DETAIL_MAX]
    return StatementRefused(f"MongoDB refused the operation: {detail}", GENERAL_ERROR)


def _not_served(code: int | None, address: str) -> ArchiveUnavailable:
    if code in PASSING:
        return ArchiveUnavailable(
            f"MongoDB at {address} has no primary that can serve this now (code {code})"
        )
    return ArchiveUnavailable(
        f"MongoDB at {address} refused the user name or password; check them in MONGODB_URI, "
        "and authSource if the user belongs to another database"
    )


def first_refusal(details: Mapping[str, Any]) -> tuple[int | None, str]:
    """Code and sentence of the first refusal of a bulk write."""
    refusals = details.get("writeErrors") or details.get("writeConcernErrors") or [{}]
    return refusals[0].get("code"), str(refusals[0].get("errmsg", ""))


def is_only_collisions(details: Mapping[str, Any]) -> bool:
    """Whether nothing went wrong in a bulk write but that `_id`s were there."""
    refusals = details.get("writeErrors", [])
    return not details.get("writeConcernErrors") and all(
        refusal.get("code") == DUPLICATE_KEY
        and _broken_index(str(refusal.get("errmsg", ""))) == "_id_"
        for refusal in refusals
    )


def duplicate(message: str) -> StatementRefused:
    """Another document has the value of a unique index; the value is not repeated."""
    index = _broken_index(message)
    return StatementRefused(
        f"another document has this value of the unique index {index or '(not named)'}",
        UNIQUE_VIOLATION,
        index,
    )


def _broken_index(message: str) -> str | None:
    found = _INDEX.search(message)
    if found is None:
        return None
    return found.group(1) or "_id_"


def unreachable(cause: BaseException | None, *, address: str) -> ArchiveUnavailable:
    """Why there is no server to talk to, and what to do."""
    tls = "tls=true with tlsCAFile=/path/ca.pem"
    return ArchiveUnavailable(
        f"MongoDB at {address} {why_unreachable(cause, variable='MONGODB_URI', tls=tls)}"
    )


def cause_in(said: str) -> OSError:
    """The error that a driver's sentence tells of; it keeps only the text of what it met."""
    if found := _UNTRUSTED.search(said):
        untrusted = ssl.SSLCertVerificationError(1, said)
        untrusted.verify_message = found.group(1)
        return untrusted
    if found := _TLS.search(said):
        failed = ssl.SSLError(1, said)
        failed.reason = found.group(1)
        return failed
    if found := _ERRNO.search(said):
        number, meaning = int(found.group(1)), found.group(2).strip()
        return socket.gaierror(number, meaning) if number < 0 else OSError(number, meaning)
    return ConnectionResetError() if "closed" in said else TimeoutError()


def broken_off(*, address: str) -> ArchiveUnavailable:
    """The connection failed after a write had been sent."""
    return ArchiveUnavailable(
        f"MongoDB at {address} broke off or fell silent; whether the write was done is unknown"
    )
