"""`keys.py`: the routes of API keys and of the audit, which need the scope `admin`.

A secret stands in one answer only, so that answer is never kept for a repetition: these routes do
not look at `Idempotency-Key`.
"""

from jitway.gateway import keys
from jitway.gateway.caller import Answer
from jitway.gateway.documents import Document, text_of
from jitway.gateway.trail import ActsAsked, list_acts
from jitway.web.administration import list_of
from jitway.web.call import ADMIN, Call, Route, found, instant_of, limit_of
from jitway.wire import administration, bodies

_ACT_FILTERS = frozenset({"program", "subject", "actor", "action", "from", "to", "limit", "cursor"})


async def post_key(call: Call) -> Answer:
    """`POST /v1/keys`."""
    body = call.body(administration.Key)
    made, secret = await keys.create_key(
        call.services.postgres,
        call.services.clock,
        call.caller,
        scopes=body.scopes,
        program_id=body.program,
        name=body.name,
        expires_at=body.expires_at,
        reason=body.reason,
    )
    return _shown_once(made, secret)


async def get_key(call: Call) -> Answer:
    """`GET /v1/keys/{id}`."""
    return found(await keys.key(call.services.postgres, call.caller, call.id))


async def rotate_key(call: Call) -> Answer:
    """`POST /v1/keys/{id}/rotate`."""
    body = call.body(administration.Rotation)
    after, secret = await keys.rotate_key(
        call.services.postgres,
        call.services.clock,
        call.caller,
        call.id,
        until=body.until,
        reason=body.reason,
    )
    return _shown_once(after, secret)


async def revoke_key(call: Call) -> Answer:
    """`POST /v1/keys/{id}/revoke`."""
    body = call.body(bodies.CardState)
    return found(
        await keys.revoke_key(
            call.services.postgres, call.services.clock, call.caller, call.id, reason=body.reason
        )
    )


async def list_audit(call: Call) -> Answer:
    """`GET /v1/audit`."""
    filters = call.filters(_ACT_FILTERS)
    asked = ActsAsked(
        program=filters.get("program"),
        subject=filters.get("subject"),
        actor=filters.get("actor"),
        action=filters.get("action"),
        from_=instant_of(filters, "from"),
        to=instant_of(filters, "to"),
        limit=limit_of(filters),
        cursor=filters.get("cursor"),
    )
    return found(await list_acts(call.services.postgres, call.caller, asked))


def _shown_once(key: Document, secret: str) -> Answer:
    return Answer(201, text_of({"id": key["id"], "key": secret, **key}))


KEY_ROUTES: tuple[Route, ...] = (
    ("/v1/keys", "GET", ADMIN, list_of("keys")),
    ("/v1/keys", "POST", ADMIN, post_key),
    ("/v1/keys/{id}", "GET", ADMIN, get_key),
    ("/v1/keys/{id}/rotate", "POST", ADMIN, rotate_key),
    ("/v1/keys/{id}/revoke", "POST", ADMIN, revoke_key),
    ("/v1/audit", "GET", ADMIN, list_audit),
)
