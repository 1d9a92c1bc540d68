"""`reader.py`: bytes of a connection to whole requests, or to the one refusal that ends it. No I/O.

Owns every rule about what a request may look like before it is whole: its limits in bytes, one
Host, no upgrade, nothing that could be read in two ways. httptools does the parsing and refuses
contradicting lengths, folded headers and line ends of other kinds by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

import httptools

from jitway.web.addresses import Networks
from jitway.web.exchange import Header, Request
from jitway.web.problems import Problem

# For each byte of a body that comes in chunks, what the lines of its chunks may take: five bytes
# for chunks of one byte, more for who pads their sizes.
_LINES_PER_BYTE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeLimits:
    """What one connection may take.

    Args:
        head_bytes_max: request line and headers together; trailers and chunk extensions too.
        fields_max: headers.
        body_bytes_max: of one request.
        head_s: from a request's first byte to the end of its headers.
        body_s: from there to the end of its body.
        first_byte_s: how long a new connection may send nothing.
        keep_alive_s: how long a connection may be idle between two requests.
        write_s: how long a caller may leave its answers unread.
        pipelined_max: requests that may wait on a connection before no more are read.
        connections_max: at a time; the next one is told to come back.
        per_address_max: of one address; the same.
        trusted: networks of proxies, whose connections are those of many.
        backlog: connections that may wait to be accepted.
    """

    head_bytes_max: int = 16_384
    fields_max: int = 64
    body_bytes_max: int = 65_536
    head_s: float = 2.0
    body_s: float = 3.0
    first_byte_s: float = 10.0
    keep_alive_s: float = 15.0
    write_s: float = 10.0
    pipelined_max: int = 32
    connections_max: int = 8_192
    per_address_max: int = 2_048
    trusted: Networks = ()
    backlog: int = 2_048


class Phase(Enum):
    """What a connection waits for."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    ENDED = auto()  # nothing more is read as a request


class RequestReader:
    """Reads the requests of one connection.

    Args:
        limits: of each request.
    """

    def __init__(self, limits: EdgeLimits) -> None:
        self._limits = limits
        self._parser = httptools.HttpRequestParser(self)
        self._found: list[Request | Problem] = []
        self._refusal: Problem | None = None
        self._is_continue_asked = False
        self.phase = Phase.IDLE
        self.steps = 0
        """How often the phase changed: a deadline holds for one step."""
        self._url = b""
        self._headers: list[Header] = []
        self._head_size = 0
        self._head_pending = 0
        self._pieces: list[bytes] = []
        self._body_size = 0
        # What came with a body and is none of it: in all, and since its last byte.
        self._around = self._around_now = 0

    @property
    def has_begun(self) -> bool:
        """Whether a part of a request is there that may be answered with a refusal."""
        return self.phase is Phase.BODY or bool(self._url)

    def feed(self, data: bytes) -> Sequence[Request | Problem]:
        """What became whole with these bytes, in order; a refusal is the last that ever comes.

        Args:
            data: the next bytes of the connection, in pieces of any size.
        """
        if self.phase is Phase.IDLE:
            self._step(Phase.HEAD)
        self._found = []
        steps, body_size = self.steps, self._body_size
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(self._refusal or _bad("the bytes are no HTTP/1.1 request"))
        if self.phase is Phase.HEAD and not self._found:
            # The parser keeps an unfinished header to itself, so its pieces are counted here.
            self._head_pending += len(data)
            if self._head_pending > self._limits.head_bytes_max:
                self._refuse(_head_too_large())
        elif self.phase is Phase.BODY and self.steps == steps:
            self._count_around(len(data), self._body_size - body_size)
        return self._found

    def end(self) -> None:
        """Reads no more requests."""
        self._step(Phase.ENDED)

    def continue_asked(self) -> bool:
        """Whether the caller waits to be told to send the body; true once for each request."""
        asked, self._is_continue_asked = self._is_continue_asked, False
        return asked and self.phase is Phase.BODY

    # Of httptools ----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url = b""
        self._headers = []
        self._head_size = self._head_pending = self._body_size = 0
        self._around = self._around_now = 0
        self._pieces = []
        self._step(Phase.HEAD)

    def on_url(self, url: bytes) -> None:
        """The target, or a piece of it."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; after the body come trailers, which mean nothing here."""
        if self.phase is Phase.HEAD:
            self._headers.append((name.lower(), value))
            self._head_size += len(name) + len(value)

    def on_headers_complete(self) -> None:
        """The head is whole: what it announces may be refused before it is sent."""
        size = self._head_size + len(self._url)
        if size > self._limits.head_bytes_max or len(self._headers) > self._limits.fields_max:
            self._stop(_head_too_large())
        if self._parser.should_upgrade():
            self._stop(_bad("connections are not upgraded here"))
        version = self._parser.get_http_version()
        if version not in {"1.1", "1.0"}:
            self._stop(_bad("the version is not HTTP/1.1"))
        if self._url[:1] != b"/":
            self._stop(_bad("the target is no path"))
        hosts = 0
        for name, value in self._headers:
            if name == b"host":
                hosts += 1
            elif name == b"content-length" and int(value) > self._limits.body_bytes_max:
                self._stop(self._body_too_large())
            elif name == b"expect" and value.lower() == b"100-continue":
                self._is_continue_asked = True
        if hosts > 1 or (not hosts and version == "1.1"):
            self._stop(_bad("there must be one Host header"))
        self._step(Phase.BODY)

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        self._pieces.append(piece)
        self._body_size += len(piece)
        if self._body_size > self._limits.body_bytes_max:
            self._stop(self._body_too_large())

    def on_message_complete(self) -> None:
        """The request is whole."""
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        keeps_alive = self._parser.should_keep_alive()
        method = self._parser.get_method().decode()
        self._found.append(Request(method, self._url, self._headers, body, keeps_alive))
        self._url = b""
        self._step(Phase.IDLE if keeps_alive else Phase.ENDED)

    # Ours --------------------------------------------------------------------------------------

    def _count_around(self, came: int, of_body: int) -> None:
        """Bounds trailers and chunk extensions: the parser copies what it has with each piece."""
        self._around += came - of_body
        self._around_now = 0 if of_body else self._around_now + came
        limit = self._limits.head_bytes_max
        allowed = limit + _LINES_PER_BYTE * self._body_size
        if self._around > allowed or self._around_now > limit:
            self._refuse(_around_too_large())

    def _step(self, phase: Phase) -> None:
        self.phase = phase
        self.steps += 1

    def _stop(self, refusal: Problem) -> None:
        """Leaves the parser from within one of its callbacks."""
        self._refusal = refusal
        raise _Stopped

    def _refuse(self, problem: Problem) -> None:
        # After a request that closes the connection, whatever follows means nothing.
        if self.phase is not Phase.ENDED:
            self._found.append(problem)
            self.end()

    def _body_too_large(self) -> Problem:
        detail = f"a body has at most {self._limits.body_bytes_max} bytes"
        return Problem(413, "body_too_large", detail)


class _Stopped(Exception):
    """Ends the parsing; the parser wraps it into an error of its own."""


def _bad(detail: str) -> Problem:
    return Problem(400, "malformed_request", detail)


def _head_too_large() -> Problem:
    return Problem(431, "headers_too_large", "the headers are too many or too large")


def _around_too_large() -> Problem:
    return Problem(431, "headers_too_large", "trailers or chunk extensions are too large")
