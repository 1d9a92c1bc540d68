"""`call.py`: one authenticated request as a handler gets it: its body, its key, its query.

Owns what every route reads in the same way, and the scopes that routes ask for. Knows no route.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias
from urllib.parse import parse_qsl

from jitway.compose import Services
from jitway.domain.instant import parse_instant
from jitway.errors import InvalidRequest
from jitway.gateway import read
from jitway.gateway.caller import Answer, Caller, Idempotency
from jitway.gateway.documents import Document, text_of
from jitway.web.exchange import Fields, check_json
from jitway.web.problems import Refused
from jitway.wire import bodies

QUERY_BYTES_MAX = 8_192

AUTHORIZE = frozenset({"authorize"})
OPERATE = frozenset({"operate"})
ADMIN = frozenset({"admin"})
# Whoever may authorize or operate also reads.
READ = frozenset({"authorize", "read", "operate"})


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated request.

    Args:
        services: what runs.
        caller: who asks.
        method: in capitals.
        path: of the URL, decoded.
        id: the id in the path, if the route has one.
        query: of the URL, as it was sent.
        fields: the headers.
        raw: the body's bytes.
    """

    services: Services
    caller: Caller
    method: str
    path: str
    id: str
    query: bytes
    fields: Fields
    raw: bytes

    def body(self, kind: type[bodies.AnyBody]) -> bodies.AnyBody:
        """The body.

        Raises:
            MalformedMessage, InvalidRequest, Refused.
        """
        if self.raw:
            check_json(self.fields)
        return bodies.decode_body(kind, self.raw)

    def keyed(self, body: bodies.Body) -> Idempotency:
        """The key and content of a request that moves money.

        Raises:
            Refused, InvalidRequest: there is no key, or it is none.
        """
        idempotency = self.maybe_keyed(body)
        if idempotency is None:
            raise Refused(
                400, "idempotency_key_required", "this route needs an Idempotency-Key header"
            )
        return idempotency

    def maybe_keyed(self, body: bodies.Body) -> Idempotency | None:
        """The same where a key may be left out."""
        key = self.fields.get(b"idempotency-key")
        if key is None:
            return None
        text = bodies.check_idempotency_key(key.decode("latin-1"))
        return Idempotency.of(text, self.method, self.path, body.canonical())

    def filters(self, known: frozenset[str]) -> dict[str, str]:
        """The parameters of the query.

        Raises:
            InvalidRequest: one is not known, is there twice, or is no text.
        """
        if len(self.query) > QUERY_BYTES_MAX:
            raise InvalidRequest(f"a query has at most {QUERY_BYTES_MAX} bytes")
        try:
            pairs = parse_qsl(
                self.query.decode("ascii"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=64,
            )
        except ValueError:
            raise InvalidRequest("the query is not in the form of name=value&...") from None
        found: dict[str, str] = {}
        for name, value in pairs:
            if name not in known:
                shown = name[:64].encode("ascii", "replace").decode()
                raise InvalidRequest(f"{shown!r} is no parameter here", code="unknown_field")
            if name in found or not value.isprintable() or not 0 < len(value) <= 128:
                raise InvalidRequest(f"{name} needs one plain value", f"/{name}")
            found[name] = value
        return found


Handler: TypeAlias = Callable[[Call], Awaitable[Answer]]
# Path, method, the scopes of which one is needed, and who answers.
Route: TypeAlias = tuple[str, str, frozenset[str], Handler]


def demand_method(method: str, methods: set[str]) -> None:
    """Refuses a method that a route does not know.

    Raises:
        Refused: 405, naming those it knows.
    """
    if method in methods:
        return
    allowed = sorted(methods | ({"HEAD"} if "GET" in methods else set()))
    raise Refused(
        405,
        "method_not_allowed",
        f"this route knows {', '.join(allowed)}",
        {"Allow": ", ".join(allowed)},
    )


def found(document: Document) -> Answer:
    """200 and the document."""
    return Answer(200, text_of(document))


def instant_of(filters: dict[str, str], name: str) -> datetime | None:
    """A parameter of the query as an instant, if it is there.

    Raises:
        InvalidRequest: it is none.
    """
    if name not in filters:
        return None
    try:
        return parse_instant(filters[name])
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{name} is no RFC 3339 instant", f"/{name}") from None


def limit_of(filters: dict[str, str]) -> int:
    """How many things a page may have.

    Raises:
        InvalidRequest: it is no number; the verb says which numbers it may be.
    """
    text = filters.get("limit", str(read.PAGE_DEFAULT))
    if not (text.isascii() and text.isdecimal() and len(text) <= 4):
        raise InvalidRequest(f"limit is from 1 to {read.PAGE_MAX}", "/limit")
    return int(text)
