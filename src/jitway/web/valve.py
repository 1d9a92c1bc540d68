"""`valve.py`: turns authorizations away while too many are under way, for a few microseconds each.

Under overload most of what arrives is refused, so what a refusal costs decides what is left for
the rest: no task is made for it, its headers are not read one by one, its key and body are not
looked at. The bytes are still parsed by the same parser as ever: where a request ends is never
guessed.
"""

from itertools import count

import httptools

from jitway.gateway.admission import Admission
from jitway.web.exchange import PROCESS, Header, Request, problem_reply
from jitway.web.problems import RETRY_AFTER_S, Problem

METHOD = "POST"
_ID_DIGITS = 8
# Nothing else in an answer has it.
_MARK = "#" * _ID_DIGITS
# A caller who names their request gets that name back, and one who waits for 100 Continue that.
_NAMED = b"x-request-id:"
_EXPECTANT = b"expect:"

REFUSAL = Problem(
    503,
    "no_decision",
    "more requests arrive than can be decided in time",
    headers={"Retry-After": RETRY_AFTER_S},
)


class Valve:
    """Lets authorizations in or not.

    Args:
        admission: whether there is room.
        target: of the route it guards; only a POST there is ever turned away.
    """

    def __init__(self, admission: Admission, target: bytes) -> None:
        self.admission = admission
        self._target = target
        self._numbers = count(1)
        self._glance = _Glance(b"%b %b HTTP/1.1\r\n" % (METHOD.encode(), target))
        self._date: Header = (b"date", b"")
        self._template = b""

    def guards(self, request: Request) -> bool:
        """Whether this is a request that may be turned away."""
        return request.target == self._target and request.method == METHOD

    def refuse(self, data: bytes, date: Header) -> bytes | None:
        """The refusal of exactly one whole request, or None when it must be read properly.

        Args:
            data: what arrived on a connection that had nothing begun.
            date: the header of this second.
        """
        if not self._glance.is_one_request(data):
            return None
        return self.refusal(date)

    def refusal(self, date: Header) -> bytes:
        """The whole answer to one more request that is turned away."""
        self.admission.refused += 1
        if date is not self._date:
            self._prepare(date)
        number = next(self._numbers) & 0xFFFFFFFF
        return self._template % (number, number)

    def _prepare(self, date: Header) -> None:
        reply = problem_reply(REFUSAL, f"{PROCESS}v{_MARK}")
        lines = [b"%b: %b\r\n" % header for header in (*reply.headers, date)]
        text = b"HTTP/1.1 503 Service Unavailable\r\n%bcontent-length: %d\r\n\r\n%b" % (
            b"".join(lines),
            len(reply.body),
            reply.body,
        )
        self._template = text.replace(b"%", b"%%").replace(_MARK.encode(), b"%08x")
        self._date = date


class _Glance:
    """Looks whether bytes are one whole request that begins with a line, and nothing after it."""

    def __init__(self, line: bytes) -> None:
        self._line = line
        self._begun = 0
        self._ended = 0
        self._parser = httptools.HttpRequestParser(self)

    def is_one_request(self, data: bytes) -> bool:
        """Whether that is all they are, on a connection that goes on."""
        if not data.startswith(self._line):
            return False
        small = data.lower()
        if _NAMED in small or _EXPECTANT in small:
            return False
        self._begun = self._ended = 0
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._ended = 0
        if self._ended == 1 and self._begun == 1:
            return True
        # What is not whole would be read on with somebody else's bytes.
        self._parser = httptools.HttpRequestParser(self)
        return False

    def on_message_begin(self) -> None:
        """A request begins."""
        self._begun += 1

    def on_message_complete(self) -> None:
        """It is whole."""
        if self._parser.should_keep_alive():
            self._ended += 1
