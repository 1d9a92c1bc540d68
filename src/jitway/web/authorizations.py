"""`authorizations.py`: `POST /v1/authorizations`, before any other route.

Authenticate, decode, authorize, answer: nothing else happens on this path, and nothing is
logged when it goes well.
"""

import asyncio
from contextlib import suppress

from jitway.errors import IdempotencyConflict, InvalidRequest, NoDecision, StoreUnavailable
from jitway.gateway.authorize import Asked, Authorizer
from jitway.gateway.caller import Answer, Caller, Idempotency
from jitway.profiler.profiler import Profiler
from jitway.profiler.spans import Spans
from jitway.profiler.trace import STAGES, Stage, Trace
from jitway.web.authentication import Authenticator, demand
from jitway.web.exchange import Fields, Reply, Request, answer_reply, check_json
from jitway.web.problems import Refused
from jitway.web.rate_limits import AUTHORIZATIONS, RateLimits
from jitway.web.traceparent import parent_of
from jitway.wire import native
from jitway.wire.bodies import check_idempotency_key

PATH = "/v1/authorizations"
SCOPES = frozenset({"authorize"})

_TIMING = (", ".join(f"{stage.label};dur=%.3f" for stage in STAGES) + ", total;dur=%.3f").encode()
_NS_PER_MS = 1_000_000


class AuthorizationRoute:
    """The hot route.

    Args:
        authorizer: decides.
        authenticator: says who asks.
        profiler: times every request that is decided.
        rates: how often a key may ask.
        budget_ms: how long a caller whose key must be looked up waits for that.
        spans: what finished requests are handed to, if anything.
    """

    def __init__(
        self,
        authorizer: Authorizer,
        authenticator: Authenticator,
        profiler: Profiler,
        *,
        rates: RateLimits,
        budget_ms: int,
        spans: Spans | None = None,
    ) -> None:
        self._authorizer = authorizer
        self._authenticator = authenticator
        self._profiler = profiler
        self._rates = rates
        self._budget_ms = budget_ms
        self._spans = spans

    async def answer(self, request: Request, request_id: str) -> Reply:
        """Answers one request.

        Args:
            request: whole.
            request_id: what it is called in logs and traces.

        Raises:
            Refused, InvalidRequest, IdempotencyConflict, NoDecision.
        """
        trace = self._profiler.start(request_id)
        try:
            answer = await self._decide(request, trace)
        except IdempotencyConflict:
            self._finish(request, trace, "conflict")
            raise
        except NoDecision:
            self._finish(request, trace, "no_decision")
            raise
        trace.mark(Stage.ENCODE)
        decision, reason = _outcome(answer)
        total_ns = self._finish(request, trace, decision, reason=reason)
        spans_ms = [span_ns / _NS_PER_MS for span_ns in trace.spans_ns]
        timing = _TIMING % (*spans_ms, total_ns / _NS_PER_MS)
        return answer_reply(answer, request_id, timing=timing)

    async def _decide(self, request: Request, trace: Trace) -> Answer:
        fields = request.fields()
        caller = self._authenticator.peek(fields)
        if caller is None:
            caller = await self._look_up(request, fields)
        self._rates.spend(AUTHORIZATIONS, caller.key_id)
        demand(caller, SCOPES)
        check_json(fields)
        key = fields.get(b"idempotency-key")
        if key is None:
            raise Refused(
                400, "idempotency_key_required", "this route needs an Idempotency-Key header"
            )
        key_text = check_idempotency_key(key.decode("latin-1"))
        decoded = native.decode(request.body)
        asked = Asked(
            decoded.request,
            caller,
            Idempotency.of(key_text, "POST", PATH, decoded.canonical),
            decoded.canonical.decode(),
            decoded.deadline_ms,
            trace,
        )
        trace.mark(Stage.DECODE)
        return await self._authorizer.authorize(asked)

    async def _look_up(self, request: Request, fields: Fields) -> Caller:
        """The caller, read from the ledger: within the deadline, although nobody is known yet."""
        budget_ms = self._budget_ms
        with suppress(InvalidRequest):
            budget_ms = min(native.decode(request.body).deadline_ms or budget_ms, budget_ms)
        try:
            async with asyncio.timeout(budget_ms / 1000):
                return await self._authenticator.caller(fields, request.address)
        except (TimeoutError, StoreUnavailable) as error:
            raise NoDecision("the key could not be checked in time") from error

    def _finish(
        self, request: Request, trace: Trace, decision: str, *, reason: str | None = None
    ) -> int:
        total_ns = self._profiler.finish(trace, decision, reason=reason)
        if self._spans is not None:
            parent = parent_of(request.headers)
            self._spans.take(trace, total_ns, decision=decision, reason=reason, parent=parent)
        return total_ns


def _outcome(answer: Answer) -> tuple[str, str | None]:
    """Decision and reason: what the body says, without reading all of it."""
    if answer.replayed:
        return "replayed", None
    # Both members stand before the first one with a caller's own text.
    if '"decision":"approved"' in answer.body:
        return "approved", None
    return "declined", answer.body.partition('"reason":"')[2].partition('"')[0]
