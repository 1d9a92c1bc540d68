"""`handlers.py`: the route table, and the routes of authorizations but the hot one.

Every handler decodes, calls one verb and encodes. No try, no rule.
"""

from jitway.archive.store import AUTHORIZATIONS, TRANSACTIONS, WEBHOOKS
from jitway.errors import NotFound
from jitway.gateway import read
from jitway.gateway.caller import Answer
from jitway.gateway.capture import capture
from jitway.gateway.explain import explained
from jitway.gateway.release import reverse
from jitway.web.administration import ADMINISTRATION_ROUTES
from jitway.web.archive import search_archive
from jitway.web.bulk import BULK_ROUTES
from jitway.web.call import AUTHORIZE, OPERATE, READ, Call, Route, found, instant_of, limit_of
from jitway.web.dead_letters import act_on_dead_letter, get_dead_letter, list_dead_letters
from jitway.web.keys import KEY_ROUTES
from jitway.wire import bodies

_FILTERS = frozenset({"card", "account", "decision", "reason", "from", "to", "limit", "cursor"})


async def get_authorization(call: Call) -> Answer:
    """`GET /v1/authorizations/{id}`."""
    return found(await explained(call.services.postgres, call.caller, call.id))


async def list_authorizations(call: Call) -> Answer:
    """`GET /v1/authorizations`."""
    filters = call.filters(_FILTERS)
    asked = read.AuthorizationsAsked(
        card=filters.get("card"),
        account=filters.get("account"),
        decision=filters.get("decision"),
        reason=filters.get("reason"),
        from_=instant_of(filters, "from"),
        to=instant_of(filters, "to"),
        limit=limit_of(filters),
        cursor=filters.get("cursor"),
    )
    return found(await read.list_authorizations(call.services.postgres, call.caller, asked))


async def post_capture(call: Call) -> Answer:
    """`POST /v1/authorizations/{id}/captures`."""
    body = call.body(bodies.Capture)
    return await capture(
        call.services.postgres,
        call.services.clock,
        call.caller,
        call.keyed(body),
        call.id,
        amount=body.amount,
        final=body.final,
    )


async def post_reversal(call: Call) -> Answer:
    """`POST /v1/authorizations/{id}/reversals`."""
    body = call.body(bodies.Reversal)
    return await reverse(
        call.services.postgres,
        call.services.clock,
        call.caller,
        call.keyed(body),
        call.id,
        amount=body.amount,
    )


async def get_profile(call: Call) -> Answer:
    """`GET /v1/profile`: where this gateway's milliseconds went; for operators."""
    if call.caller.program_id is not None:
        raise NotFound("a key of one program sees no other, and this is about all of them")
    if call.services.crew is not None:
        return Answer(200, (await call.services.crew.profile()).decode())
    return found(await call.services.profiler.told())


ROUTES: tuple[Route, ...] = (
    ("/v1/authorizations", "GET", READ, list_authorizations),
    ("/v1/authorizations/{id}", "GET", READ, get_authorization),
    ("/v1/authorizations/{id}/captures", "POST", AUTHORIZE, post_capture),
    ("/v1/authorizations/{id}/reversals", "POST", AUTHORIZE, post_reversal),
    *ADMINISTRATION_ROUTES,
    *KEY_ROUTES,
    *BULK_ROUTES,
    ("/v1/dead-letters", "GET", READ, list_dead_letters),
    ("/v1/dead-letters/{id}", "GET", READ, get_dead_letter),
    ("/v1/dead-letters/{id}/replay", "POST", OPERATE, act_on_dead_letter("replay")),
    ("/v1/dead-letters/{id}/discard", "POST", OPERATE, act_on_dead_letter("discard")),
    ("/v1/profile", "GET", READ, get_profile),
    ("/v1/archive/authorizations", "GET", READ, search_archive(AUTHORIZATIONS)),
    ("/v1/archive/transactions", "GET", READ, search_archive(TRANSACTIONS)),
    ("/v1/archive/webhooks", "GET", READ, search_archive(WEBHOOKS)),
)
