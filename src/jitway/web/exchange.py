"""`exchange.py`: a request and its reply as values: headers, request ids, media types.

Owns what HTTP asks of every route. Does no I/O.
"""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple, Protocol, TypeAlias

from jitway.gateway.caller import Answer
from jitway.web.problems import CONTENT_TYPE, Problem, Refused
from jitway.wire.card_numbers import has_card_number

Header: TypeAlias = tuple[bytes, bytes]
Fields: TypeAlias = dict[bytes, bytes]

_JSON: Header = (b"content-type", b"application/json")
_PROBLEM: Header = (b"content-type", CONTENT_TYPE)
_REPLAYED: Header = (b"idempotent-replayed", b"true")
# Money is in no cache, and a browser does not guess what an answer might be.
_NO_STORE: Header = (b"cache-control", b"no-store")
_NO_SNIFF: Header = (b"x-content-type-options", b"nosniff")

# Whoever sends one of these twice may be read in two ways.
_SENT_ONCE = (
    b"authorization",
    b"content-encoding",
    b"content-length",
    b"content-type",
    b"idempotency-key",
)
_is_request_id = re.compile(rb"[A-Za-z0-9._:-]{1,128}").fullmatch
PROCESS = f"req_{secrets.token_hex(8)}"
_numbers = count(1)


@dataclass(slots=True)
class Request:
    """A whole request.

    Args:
        method: in capitals.
        target: path and query, as they were sent.
        headers: names in small letters.
        body: all of it.
        keeps_alive: whether the caller wants to go on with the connection.
        address: where the connection comes from; empty where that is unknown.
    """

    method: str
    target: bytes
    headers: list[Header]
    body: bytes
    keeps_alive: bool = True
    address: str = ""

    def fields(self) -> Fields:
        """The headers by name.

        Raises:
            Refused: 401 or 400, one that may be sent once is there twice.
        """
        fields = dict(self.headers)
        if len(fields) != len(self.headers):
            _refuse_repeated([name for name, _ in self.headers])
        return fields


class Stream(Protocol):
    """A body that comes piece by piece for as long as the caller listens."""

    async def __anext__(self) -> bytes:
        """The next piece.

        Raises:
            StopAsyncIteration: there is no more.
        """

    def close(self) -> None:
        """Nobody listens any more; called once, also when no piece was asked for."""


class Reply(NamedTuple):
    """What is sent back; the server adds the length and the date.

    Args:
        status: of HTTP.
        headers: names in small letters.
        body: all of it, or what comes before the stream.
        stream: the rest, if there is more; the end of the connection is its end.
    """

    status: int
    headers: list[Header]
    body: bytes
    stream: Stream | None = None


def _refuse_repeated(names: list[bytes]) -> None:
    for name in _SENT_ONCE:
        if names.count(name) > 1:
            detail = f"the header {name.decode()} is there twice"
            if name == b"authorization":
                raise Refused(401, "unauthenticated", detail)
            raise Refused(400, "invalid_request", detail)


def request_id_of(headers: Sequence[Header]) -> str:
    """The caller's `X-Request-Id` where it is harmless, else one of ours."""
    given = dict(headers).get(b"x-request-id")
    if given is not None and _is_request_id(given) and not has_card_number(given.decode()):
        return given.decode()
    return f"{PROCESS}{next(_numbers):08x}"


def check_json(fields: Fields) -> None:
    """Refuses a body that says it is not JSON in UTF-8.

    Raises:
        Refused: 415.
    """
    given = fields.get(b"content-type", b"")
    if given != b"application/json":
        kind, _, parameters = given.decode("latin-1").lower().partition(";")
        charset = parameters.strip().replace(" ", "").replace('"', "")
        if kind.strip() != "application/json" or charset not in {"", "charset=utf-8"}:
            raise Refused(415, "unsupported_media_type", "send Content-Type: application/json")
    if fields.get(b"content-encoding", b"identity") != b"identity":
        raise Refused(415, "unsupported_media_type", "send the body without Content-Encoding")


def answer_reply(answer: Answer, request_id: str, *, timing: bytes = b"") -> Reply:
    """What a verb answered, as a reply.

    Args:
        answer: status and body.
        request_id: of this request.
        timing: the value of `Server-Timing`, if any.
    """
    headers = [_JSON, (b"x-request-id", request_id.encode()), _NO_STORE, _NO_SNIFF]
    if timing:
        headers.append((b"server-timing", timing))
    if answer.replayed:
        headers.append(_REPLAYED)
    return Reply(answer.status, headers, answer.body.encode())


def problem_reply(problem: Problem, request_id: str) -> Reply:
    """A failure as a reply of `application/problem+json`."""
    more = ((name.lower().encode(), value.encode()) for name, value in problem.headers.items())
    headers = [_PROBLEM, (b"x-request-id", request_id.encode()), _NO_STORE, _NO_SNIFF, *more]
    return Reply(problem.status, headers, problem.body(request_id))
