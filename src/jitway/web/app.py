"""`app.py`: from a request to its reply: the hot route, then the table, and the one try.

Owns the order in which a request is looked at, its id, and what a failure becomes. Knows the
routes by their table and no business word.
"""

from collections.abc import Callable
from functools import partial
from urllib.parse import unquote

import structlog

from jitway.compose import Services
from jitway.compose.alerting import services_watched
from jitway.gateway.caller import Answer, Caller
from jitway.gateway.keys import authenticate
from jitway.health import HealthWatch
from jitway.supervisor.families import Family
from jitway.web import health
from jitway.web.addresses import read_networks
from jitway.web.authentication import Authenticator, demand
from jitway.web.authorizations import PATH, AuthorizationRoute
from jitway.web.call import Call, Handler, demand_method
from jitway.web.dashboard.entrance import PATH as PAGE
from jitway.web.dashboard.route import Dashboard
from jitway.web.exchange import Reply, Request, answer_reply, problem_reply, request_id_of
from jitway.web.handlers import ROUTES
from jitway.web.metrics import Metrics, metrics_reply
from jitway.web.openapi.route import PAGES, page_reply
from jitway.web.problems import INTERNAL, Refused, is_bad_value, problem_of
from jitway.web.queries import Queries
from jitway.web.rate_limits import (
    AUTHORIZATIONS,
    FAILED_KEYS,
    REQUESTS,
    FailedKeys,
    RateLimits,
)
from jitway.web.reader import EdgeLimits
from jitway.web.valve import Valve
from jitway.web.webhooks import PREFIX as WEBHOOKS
from jitway.web.webhooks import WebhookRoute
from jitway.wire.standard_webhooks import read_secrets

_log = structlog.get_logger("jitway.web")

_HOT = PATH.encode()
# In every route that has one, the id is the third part: /v1/cards/{id}/freeze.
_ID_AT = 3
# Lines a second for each code; every other refusal is in the metrics.
_WARNINGS_MAX = 10


class Application:
    """Everything that this gateway answers over HTTP.

    Args:
        services: what runs.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._watch = HealthWatch(services.manager.get_health_report)
        services.alerts.watch(services_watched(self._watch))
        settings = services.settings
        self._rates = _rates(services)
        self._queries = Queries(
            max(1, min(settings.queries_max, settings.pool_max // 2)),
            lambda: services.authorizer.admission.under_way > 0,
        )
        failed = FailedKeys(self._rates, read_networks(settings.trusted_proxies))
        self._authenticator = Authenticator(
            self._load_caller, monotonic_ns=services.clock.monotonic_ns, failed=failed
        )
        self._authorization = AuthorizationRoute(
            services.authorizer,
            self._authenticator,
            services.profiler,
            rates=self._rates,
            budget_ms=services.settings.decision_budget_ms,
            spans=services.spans,
        )
        self._webhooks = WebhookRoute(
            services.postgres,
            services.clock,
            self._authenticator,
            read_secrets(services.settings.webhook_secrets or ""),
            rates=self._rates,
        )
        self._metrics = Metrics(services, self._watch, refused=self._turned_away)
        self._dashboard = Dashboard(
            services,
            self._watch,
            self._match,
            rates=self._rates,
            failed=failed,
            queries=self._queries,
        )
        self._open: dict[str, Callable[[str], Reply]] = {
            "/health": lambda id_: answer_reply(health.health(self._watch, services.crew), id_),
            "/ready": lambda id_: answer_reply(self._ready(), id_),
            "/live": lambda id_: answer_reply(health.live(), id_),
            **{path: partial(page_reply, path) for path in PAGES},
        }
        self._routes: dict[str, dict[str, tuple[frozenset[str], Handler]]] = {}
        for path, method, scopes, handler in ROUTES:
            self._routes.setdefault(path, {})[method] = (scopes, handler)
        self.valve = Valve(services.authorizer.admission, _HOT)
        """For the server: turns authorizations away that could not be answered in time."""
        # By code: the second of the last warning, and how many it had.
        self._warned: dict[str, tuple[int, int]] = {}
        self.draining = False
        """Set when the process is about to stop: no new requests should be sent here."""

    @property
    def limits(self) -> EdgeLimits:
        """For the server: what one connection may take."""
        settings = self._services.settings
        return EdgeLimits(
            head_bytes_max=settings.head_bytes_max,
            fields_max=settings.headers_max,
            body_bytes_max=settings.body_bytes_max,
            head_s=settings.head_timeout_s,
            body_s=settings.body_timeout_s,
            first_byte_s=settings.first_byte_timeout_s,
            keep_alive_s=settings.keep_alive_s,
            write_s=settings.write_timeout_s,
            pipelined_max=settings.pipelined_max,
            connections_max=settings.connections_max,
            per_address_max=settings.connections_per_address_max,
            trusted=read_networks(settings.trusted_proxies),
        )

    async def start(self) -> None:
        """Looks at the stores once, so that readiness is known, and begins to watch them."""
        await self._watch.look()
        self._watch.start()
        self._rates.start()
        self._dashboard.start()

    async def stop(self) -> None:
        """Ends the watch; may be called twice, or before `start`."""
        await self._dashboard.stop()
        await self._rates.stop()
        await self._watch.stop()
        await self._metrics.close()

    def _turned_away(self) -> dict[str, int]:
        overload = {"overload": self.valve.admission.refused}
        return overload | self._rates.refused | {"queries": self._queries.refused}

    async def families(self) -> list[Family]:
        """What this process counted, as metrics."""
        return await self._metrics.families()

    async def answer(self, request: Request) -> Reply:
        """Answers one request; whatever a caller can send ends in a reply below 500."""
        request_id = request_id_of(request.headers)
        try:
            if request.target == _HOT and request.method == "POST":
                return await self._authorization.answer(request, request_id)
            return await self._route(request, request_id)
        except Exception as error:
            return self._failed(error, request_id)

    def _failed(self, error: Exception, request_id: str) -> Reply:
        problem = problem_of(error)
        if problem is None:
            _log.exception("request_failed", request_id=request_id)
            problem = INTERNAL
        elif problem.status >= 500 or is_bad_value(error):
            self._warn(problem.code, request_id, cause=str(error))
        return problem_reply(problem, request_id)

    def _warn(self, code: str, request_id: str, *, cause: str) -> None:
        """A few lines a second for each code: under overload a line costs more than a refusal."""
        second = self._services.clock.monotonic_ns() // 1_000_000_000
        at, told = self._warned.get(code, (second, 0))
        if at != second:
            if told > _WARNINGS_MAX:
                _log.warning(code, not_logged=told - _WARNINGS_MAX)
            told = 0
        self._warned[code] = (second, told + 1)
        if told < _WARNINGS_MAX:
            _log.warning(code, request_id=request_id, cause=cause)

    async def _route(self, request: Request, request_id: str) -> Reply:
        raw_path, _, query = request.target.partition(b"?")
        path = unquote(raw_path.decode("ascii"))
        method = "GET" if request.method == "HEAD" else request.method
        if path in self._open:
            demand_method(method, {"GET"})
            return self._open[path](request_id)
        if path == "/metrics":
            demand_method(method, {"GET"})
            return metrics_reply(await self._metrics.text(), request_id)
        if path == PATH and method == "POST":
            return await self._authorization.answer(request, request_id)
        if path.startswith(WEBHOOKS):
            demand_method(method, {"POST"})
            return await self._webhooks.answer(request, path.removeprefix(WEBHOOKS), request_id)
        if path == PAGE or path.startswith(f"{PAGE}/"):
            return await self._dashboard.answer(request, path, query, request_id)
        return answer_reply(await self._call(request, method, path, query=query), request_id)

    async def _call(self, request: Request, method: str, path: str, *, query: bytes) -> Answer:
        """Answers by the table; who only reads waits their turn."""
        by_method, id_ = self._match(path)
        methods = set(by_method) | ({"POST"} if path == PATH else set())
        demand_method(method, methods)
        scopes, handler = by_method[method]
        fields = request.fields()
        caller = self._authenticator.peek(fields)
        if caller is None:
            caller = await self._authenticator.caller(fields, request.address)
        self._rates.spend(REQUESTS, caller.key_id)
        demand(caller, scopes)
        call = Call(self._services, caller, method, path, id_, query, fields, request.body)
        if method != "GET":
            return await handler(call)
        async with self._queries.turn():
            return await handler(call)

    def _ready(self) -> Answer:
        return health.ready(self._watch, self._services.crew, draining=self.draining)

    def _match(self, path: str) -> tuple[dict[str, tuple[frozenset[str], Handler]], str]:
        if path in self._routes and "{" not in path:
            return self._routes[path], ""
        parts = path.split("/")
        if len(parts) > _ID_AT and parts[_ID_AT]:
            id_, parts[_ID_AT] = parts[_ID_AT], "{id}"
            if (found := self._routes.get("/".join(parts))) is not None:
                return found, id_
        raise Refused(404, "route_not_found", "there is no such route")

    async def _load_caller(self, key: str) -> Caller | None:
        return await authenticate(self._services.postgres, key)


def _rates(services: Services) -> RateLimits:
    settings = services.settings
    return RateLimits(
        {
            REQUESTS: settings.key_rate_max,
            AUTHORIZATIONS: settings.key_authorizations_rate_max,
            FAILED_KEYS: settings.failed_keys_rate_max,
        },
        monotonic_ns=services.clock.monotonic_ns,
        wall_s=lambda: services.clock.now().timestamp(),
        counters=services.manager.redis,
    )
