"""`app.py`: the ASGI application: the hot route, then the router, and the one place with a try.

Owns the order in which a request is looked at, its id, and what a failure becomes. Knows the
routes by their table and no business word.
"""

from typing import Any

import structlog
from starlette.routing import Route, Router

from jitway.compose import Services
from jitway.gateway.caller import Answer, Caller
from jitway.gateway.keys import authenticate
from jitway.web import authorizations, health
from jitway.web.authentication import Authenticator, demand
from jitway.web.authorizations import AuthorizationRoute
from jitway.web.exchange import (
    Receive,
    Scope,
    Send,
    fields_of,
    read_body,
    request_id_of,
    send_answer,
    send_problem,
)
from jitway.web.handlers import ROUTES, Call, Handler
from jitway.web.problems import INTERNAL, ClientGone, problem_of

_log = structlog.get_logger("jitway.web")


class Application:
    """Everything that this gateway answers over HTTP.

    Args:
        services: what runs.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._watch = health.LedgerWatch(services.postgres)
        self._authenticator = Authenticator(
            self._load_caller, monotonic_ns=services.clock.monotonic_ns
        )
        self._authorization = AuthorizationRoute(
            services.authorizer,
            self._authenticator,
            services.profiler,
            body_bytes_max=services.settings.body_bytes_max,
            budget_ms=services.settings.decision_budget_ms,
        )
        self._router = self._routes()
        self.draining = False
        """Set when the process is about to stop: not ready; answers end their connections."""

    async def start(self) -> None:
        """Looks at the ledger once, so that readiness is known, and begins to watch it."""
        await self._watch.look()
        self._watch.start()

    async def stop(self) -> None:
        """Ends the watch; may be called twice, or before `start`."""
        await self._watch.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request of ASGI; the server runs no lifespan."""
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served")
        headers = scope["headers"]
        request_id = request_id_of(headers)
        try:
            if scope["path"] == authorizations.PATH and scope["method"] == "POST":
                await self._authorization(
                    fields_of(headers), receive, send, request_id, closing=self.draining
                )
            else:
                scope["app"] = self
                scope["jitway.request_id"] = request_id
                await self._router(scope, receive, send)
        except ClientGone:
            return
        except Exception as error:
            await self._fail(error, send, request_id)

    async def _fail(self, error: Exception, send: Send, request_id: str) -> None:
        problem = problem_of(error)
        if problem is None:
            _log.exception("request_failed", request_id=request_id)
            problem = INTERNAL
        elif problem.status >= 500:
            _log.warning(problem.code, request_id=request_id, cause=str(error))
        await send_problem(send, problem, request_id, closing=self.draining)

    async def _load_caller(self, key: str) -> Caller | None:
        return await authenticate(self._services.postgres, key)

    def _routes(self) -> Router:
        by_path: dict[str, dict[str, Any]] = {
            "/health": {"GET": self._probe(lambda: health.health(self._watch))},
            "/ready": {
                "GET": self._probe(lambda: health.ready(self._watch, draining=self.draining))
            },
            "/live": {"GET": self._probe(health.live)},
            # Answered before the router; here so that other methods learn of it.
            authorizations.PATH: {"POST": None},
        }
        for path, method, scopes, handler in ROUTES:
            by_path.setdefault(path, {})[method] = self._endpoint(scopes, handler)
        routes = [
            Route(path, _ByMethod(endpoints), methods=list(endpoints))
            for path, endpoints in by_path.items()
        ]
        return Router(routes, redirect_slashes=False)

    def _endpoint(self, scopes: frozenset[str], handler: Handler) -> Any:
        async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
            fields = fields_of(scope["headers"])
            caller = self._authenticator.peek(fields)
            if caller is None:
                caller = await self._authenticator.caller(fields)
            demand(caller, scopes)
            raw = b""
            if scope["method"] not in {"GET", "HEAD"}:
                raw = await read_body(
                    receive, fields, bytes_max=self._services.settings.body_bytes_max
                )
            call = Call(
                self._services,
                caller,
                scope["method"],
                scope["path"],
                scope["path_params"].get("id", ""),
                scope["query_string"],
                fields,
                raw,
            )
            answer = await handler(call)
            await send_answer(send, answer, scope["jitway.request_id"], closing=self.draining)

        return endpoint

    def _probe(self, look: Any) -> Any:
        async def endpoint(scope: Scope, _: Receive, send: Send) -> None:
            answer: Answer = look()
            await send_answer(send, answer, scope["jitway.request_id"], closing=self.draining)

        return endpoint


class _ByMethod:
    """One path's endpoints; the router has checked that the method is among them."""

    def __init__(self, endpoints: dict[str, Any]) -> None:
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        await self._endpoints[method](scope, receive, send)
