"""`route.py`: `/dashboard` and everything below it.

    GET  /dashboard                  the page; the same for everybody
    GET  /dashboard/assets/...       its files
    POST /dashboard/login, /logout   a session begins and ends
    GET  /dashboard/session          who is logged in
    GET  /dashboard/stream           the figures, as server-sent events
         /dashboard/v1/...           what the API answers, for whoever is logged in

The page reads everything that its key may read, and changes nothing but dead letters and the freeze
of a card, each with a reason.
"""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from jitway.compose import Services
from jitway.domain.decision import DeclineReason
from jitway.domain.instant import instant_text
from jitway.errors import InvalidRequest, StoreUnavailable
from jitway.gateway.caller import Answer
from jitway.gateway.documents import text_of
from jitway.gateway.sessions import Sessions
from jitway.health import HealthWatch
from jitway.web.authentication import demand
from jitway.web.call import Call, Handler, demand_method
from jitway.web.dashboard.assets import PREFIX, SECURE, Assets
from jitway.web.dashboard.broadcast import Broadcast
from jitway.web.dashboard.entrance import (
    PATH,
    Entrance,
    Visitor,
    check_own,
    check_page_token,
    cookie_header,
)
from jitway.web.dashboard.figures import Figures
from jitway.web.exchange import Fields, Header, Reply, Request, answer_reply, check_json
from jitway.web.problems import Refused
from jitway.web.queries import Queries
from jitway.web.rate_limits import REQUESTS, FailedKeys, RateLimits
from jitway.wire import bodies

Matched: TypeAlias = tuple[dict[str, tuple[frozenset[str], Handler]], str]

# What the page may change: the room of the API, and the act.
ACTS = {
    ("dead-letters", "replay"),
    ("dead-letters", "discard"),
    ("cards", "freeze"),
    ("cards", "unfreeze"),
}
_NO_STORE: Header = (b"cache-control", b"no-store")
_EVENTS: list[Header] = [
    (b"content-type", b"text/event-stream"),
    _NO_STORE,
    (b"x-accel-buffering", b"no"),
    *SECURE,
]


class Dashboard:
    """The live page of one process.

    Args:
        services: what runs.
        watch: how each store was a moment ago.
        match: finds the handlers of a path of the API.
        rates: how often a key may ask, by the page too.
        failed: bad keys by address: a login and a cookie count as one.
        queries: where those who only read wait their turn.
    """

    def __init__(
        self,
        services: Services,
        watch: HealthWatch,
        match: Callable[[str], Matched],
        *,
        rates: RateLimits,
        failed: FailedKeys,
        queries: Queries,
    ) -> None:
        self._services = services
        self._match = match
        self._rates = rates
        self._failed = failed
        self._queries = queries
        self._assets = Assets()
        settings = services.settings
        self._session_s = int(settings.session_s)
        sessions = Sessions(
            services.postgres,
            services.manager.redis,
            services.clock,
            ttl_s=settings.session_s,
            idle_s=settings.session_idle_s,
        )
        self._entrance = Entrance(
            services.postgres, sessions, monotonic_ns=services.clock.monotonic_ns, failed=failed
        )
        self._figures = Figures(services, watch)
        self._broadcast = Broadcast(
            self._figures.snapshot, rest=self._figures.rest, beat=self._figures.beat
        )
        self._routes: dict[str, tuple[str, Callable[[Request, Fields], Awaitable[Reply]]]] = {
            "/login": ("POST", self._log_in),
            "/logout": ("POST", self._log_out),
            "/session": ("GET", self._session),
            "/stream": ("GET", self._stream),
        }

    def start(self) -> None:
        """Begins to take the seconds."""
        self._broadcast.start()

    async def stop(self) -> None:
        """Ends it; may be called twice, or before `start`."""
        await self._broadcast.stop()
        await self._figures.stop()

    async def answer(self, request: Request, path: str, query: bytes, request_id: str) -> Reply:
        """Answers what came to `/dashboard` or below.

        Args:
            request: as it came.
            path: of the URL, decoded.
            query: of the URL, as it was sent.
            request_id: of this request.

        Raises:
            Refused, JitwayError: it cannot be answered.
        """
        method = "GET" if request.method == "HEAD" else request.method
        if path == PATH:
            demand_method(method, {"GET"})
            return self._assets.page()
        if path.startswith(PREFIX):
            demand_method(method, {"GET"})
            return self._assets.file(path.removeprefix(PREFIX))
        below = path.removeprefix(PATH)
        if below in self._routes:
            wanted, answer = self._routes[below]
            demand_method(method, {wanted})
            return await answer(request, request.fields())
        if below.startswith("/v1/"):
            return await self._ask(request, method, below, query, request_id)
        raise Refused(404, "route_not_found", "there is no such route")

    async def _log_in(self, request: Request, fields: Fields) -> Reply:
        check_own(fields)
        check_json(fields)
        self._failed.check(request.address, fields)
        body = bodies.decode_body(bodies.Login, request.body)
        if (body.key is None) == (body.link is None):
            raise InvalidRequest("send a key or a link", "/key")
        visitor = await self._entrance.let_in(key=body.key, link=body.link)
        if visitor is None:
            self._failed.note(request.address, fields)
            said = "the key is not known, expired or revoked"
            if body.link is not None:
                said = "the link was used already, or its time is over"
            raise Refused(401, "unauthenticated", said)
        return _told(visitor, [cookie_header(fields, visitor.token, seconds=self._session_s)])

    async def _log_out(self, request: Request, fields: Fields) -> Reply:
        check_own(fields)
        visitor = await self._entrance.visitor(fields, request.address)
        check_page_token(fields, visitor)
        await self._entrance.let_out(visitor)
        return _json({"ended": True}, [cookie_header(fields, "", seconds=0)])

    async def _session(self, request: Request, fields: Fields) -> Reply:
        return _told(await self._entrance.visitor(fields, request.address), [])

    async def _stream(self, request: Request, fields: Fields) -> Reply:
        visitor = await self._entrance.visitor(fields, request.address)
        if visitor.caller.program_id is not None:
            raise Refused(
                403, "insufficient_scope", "figures of the whole gateway need a key of the operator"
            )

        async def stays() -> bool:
            try:
                await self._entrance.visitor(fields, request.address)
            except Refused as refused:
                # Told to come back later is not logged out.
                return refused.status != 401
            except StoreUnavailable:
                # Who was good a moment ago is to see that the ledger is away.
                return True
            return True

        watcher = self._broadcast.watch(stays)
        return Reply(200, _EVENTS, b"retry: 2000\n\n" + self._figures.history(), watcher)

    async def _ask(
        self, request: Request, method: str, path: str, query: bytes, request_id: str
    ) -> Reply:
        fields = request.fields()
        visitor = await self._entrance.visitor(fields, request.address)
        by_method, id_ = self._match(path)
        demand_method(method, set(by_method))
        if method != "GET":
            check_own(fields)
            check_page_token(fields, visitor)
            _check_act(path, request, fields)
        self._rates.spend(REQUESTS, visitor.caller.key_id)
        scopes, handler = by_method[method]
        demand(visitor.caller, scopes)
        call = Call(self._services, visitor.caller, method, path, id_, query, fields, request.body)
        if method == "GET":
            async with self._queries.turn():
                answer = await handler(call)
        else:
            answer = await handler(call)
        reply = answer_reply(answer, request_id)
        return reply._replace(headers=[*reply.headers, _NO_STORE, *SECURE])


def _check_act(path: str, request: Request, fields: Fields) -> None:
    """Refuses whatever the page does not do, and what it does without a reason."""
    parts = path.split("/")
    if len(parts) != 5 or (parts[2], parts[4]) not in ACTS:
        raise Refused(403, "insufficient_scope", "the page reads; this needs the API and a key")
    check_json(fields)
    reason = bodies.decode_body(bodies.CardState, request.body).reason
    if reason is None or not reason.strip():
        raise InvalidRequest("say why: it stands in the audit", "/reason", code="missing_field")


def _told(visitor: Visitor, headers: list[Header]) -> Reply:
    """Who is logged in, as the page is told."""
    caller = visitor.caller
    return _json(
        {
            "key": caller.key_id,
            "program": caller.program_id,
            "scopes": sorted(caller.scopes),
            "expires_at": instant_text(visitor.session.expires_at),
            "page_token": visitor.page_token,
            "reasons": list(DeclineReason),
        },
        headers,
    )


def _json(document: dict[str, object], headers: list[Header]) -> Reply:
    reply = answer_reply(Answer(200, text_of(document)), "")
    plain = [(name, value) for name, value in reply.headers if name != b"x-request-id"]
    return reply._replace(headers=[*plain, _NO_STORE, *SECURE, *headers])
