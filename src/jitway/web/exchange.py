"""`exchange.py`: one request and its answer over ASGI: headers, body, limits, request ids.

Owns what HTTP asks of every route. The time a request may take to arrive is the server's to
bound: it sees the bytes first and closes the connection.
"""

import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from itertools import count
from typing import Any, TypeAlias

from jitway.gateway.caller import Answer
from jitway.web.problems import CONTENT_TYPE, ClientGone, Problem, Refused

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Header: TypeAlias = tuple[bytes, bytes]
Fields: TypeAlias = dict[bytes, bytes]

JSON: Header = (b"content-type", b"application/json")
REPLAYED: Header = (b"idempotent-replayed", b"true")
CLOSE: Header = (b"connection", b"close")

# Whoever sends one of these twice may be read in two ways.
_SENT_ONCE = (
    b"authorization",
    b"content-encoding",
    b"content-length",
    b"content-type",
    b"idempotency-key",
)
_is_request_id = re.compile(rb"[A-Za-z0-9._:-]{1,128}").fullmatch
_PROCESS = secrets.token_hex(8)
_numbers = count(1)


def fields_of(headers: Sequence[Header]) -> Fields:
    """The headers by name, in small letters as ASGI has them.

    Raises:
        Refused: 401 or 400, one that may be sent once is there twice.
    """
    fields = dict(headers)
    if len(fields) != len(headers):
        names = [name for name, _ in headers]
        for name in _SENT_ONCE:
            if names.count(name) > 1:
                refusal = (401, "unauthenticated") if name == b"authorization" else _BAD
                raise Refused(*refusal, f"the header {name.decode()} is there twice")
    return fields


_BAD = (400, "invalid_request")


def request_id_of(headers: Sequence[Header]) -> str:
    """The caller's `X-Request-Id` where it is harmless, else one of ours."""
    for name, value in headers:
        if name == b"x-request-id" and _is_request_id(value):
            return value.decode()
    return f"req_{_PROCESS}{next(_numbers):08x}"


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


async def read_body(receive: Receive, fields: Fields, *, bytes_max: int) -> bytes:
    """The whole body.

    Args:
        receive: of ASGI.
        fields: of the request; a length that is announced is believed when it is too large.
        bytes_max: the largest body.

    Raises:
        Refused: 413.
        ClientGone: the caller hung up before the end.
    """
    announced = fields.get(b"content-length", b"0")
    # The server has checked that it is digits; more of them than any size has are too many.
    if len(announced) > 18 or int(announced) > bytes_max:
        raise _too_large(bytes_max)
    message = await _next(receive)
    body: bytes = message.get("body", b"")
    if message.get("more_body", False):
        body = await _rest(receive, body, bytes_max=bytes_max)
    if len(body) > bytes_max:
        raise _too_large(bytes_max)
    return body


async def _rest(receive: Receive, first: bytes, *, bytes_max: int) -> bytes:
    parts = bytearray(first)
    more = True
    while more and len(parts) <= bytes_max:
        message = await _next(receive)
        parts += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(parts)


async def _next(receive: Receive) -> Message:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message


def _too_large(bytes_max: int) -> Refused:
    return Refused(413, "body_too_large", f"a body has at most {bytes_max} bytes")


async def send_answer(
    send: Send, answer: Answer, request_id: str, *, timing: str = "", closing: bool = False
) -> None:
    """Sends what a verb answered.

    Args:
        send: of ASGI.
        answer: status and body.
        request_id: of this request.
        timing: the value of `Server-Timing`, if any.
        closing: whether the connection is to end after it.
    """
    body = answer.body.encode()
    headers = [
        JSON,
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
    ]
    if timing:
        headers.append((b"server-timing", timing.encode()))
    if answer.replayed:
        headers.append(REPLAYED)
    if closing:
        headers.append(CLOSE)
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_problem(
    send: Send, problem: Problem, request_id: str, *, closing: bool = False
) -> None:
    """Sends a failure as `application/problem+json`."""
    body = problem.body(request_id)
    headers = [
        (b"content-type", CONTENT_TYPE),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
        (b"cache-control", b"no-store"),
        *((name.lower().encode(), value.encode()) for name, value in problem.headers.items()),
    ]
    if closing:
        headers.append(CLOSE)
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
