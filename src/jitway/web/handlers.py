"""`handlers.py`: every route but the hot one: decode, call one verb, encode. No try, no rule."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias
from urllib.parse import parse_qsl

from jitway.archive.store import AUTHORIZATIONS, TRANSACTIONS, WEBHOOKS
from jitway.compose import Services
from jitway.domain.instant import parse_instant
from jitway.errors import InvalidRequest, NotFound
from jitway.gateway import read
from jitway.gateway.administer import (
    close_card,
    create_account,
    create_card,
    create_cardholder,
    create_program,
    freeze_card,
    unfreeze_card,
)
from jitway.gateway.caller import Answer, Caller, Idempotency
from jitway.gateway.capture import capture
from jitway.gateway.controls import OwnerKind, set_controls
from jitway.gateway.documents import Document, text_of
from jitway.gateway.explain import explained
from jitway.gateway.fund import deposit, withdraw
from jitway.gateway.release import reverse
from jitway.web.archive import search_archive
from jitway.web.dead_letters import act_on_dead_letter, get_dead_letter, list_dead_letters
from jitway.web.exchange import Fields, check_json
from jitway.web.problems import Refused
from jitway.wire import bodies

QUERY_BYTES_MAX = 8_192


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

_FILTERS = frozenset({"card", "account", "decision", "reason", "from", "to", "limit", "cursor"})


def _found(document: Document) -> Answer:
    return Answer(200, text_of(document))


async def get_authorization(call: Call) -> Answer:
    """`GET /v1/authorizations/{id}`."""
    return _found(await explained(call.services.postgres, call.caller, call.id))


async def list_authorizations(call: Call) -> Answer:
    """`GET /v1/authorizations`."""
    filters = call.filters(_FILTERS)
    asked = read.AuthorizationsAsked(
        card=filters.get("card"),
        account=filters.get("account"),
        decision=filters.get("decision"),
        reason=filters.get("reason"),
        from_=_instant(filters, "from"),
        to=_instant(filters, "to"),
        limit=_limit(filters),
        cursor=filters.get("cursor"),
    )
    return _found(await read.list_authorizations(call.services.postgres, call.caller, asked))


def _instant(filters: dict[str, str], name: str) -> datetime | None:
    if name not in filters:
        return None
    try:
        return parse_instant(filters[name])
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{name} is no RFC 3339 instant", f"/{name}") from None


def _limit(filters: dict[str, str]) -> int:
    text = filters.get("limit", str(read.PAGE_DEFAULT))
    if not (text.isascii() and text.isdecimal() and len(text) <= 4):
        raise InvalidRequest(f"limit is from 1 to {read.PAGE_MAX}", "/limit")
    return int(text)


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


async def post_program(call: Call) -> Answer:
    """`POST /v1/programs`."""
    body = call.body(bodies.Program)
    return await create_program(
        call.services.postgres,
        call.services.clock,
        call.caller,
        call.maybe_keyed(body),
        name=body.name,
        currency=body.currency,
        time_zone=body.time_zone,
        reason=body.reason,
    )


async def get_program(call: Call) -> Answer:
    """`GET /v1/programs/{id}`."""
    return _found(await read.program(call.services.postgres, call.caller, call.id))


async def post_cardholder(call: Call) -> Answer:
    """`POST /v1/cardholders`."""
    body = call.body(bodies.Cardholder)
    return await create_cardholder(
        call.services.postgres,
        call.services.clock,
        call.caller,
        call.maybe_keyed(body),
        program=body.program,
        external_id=body.external_id,
        name=body.name,
        reason=body.reason,
    )


async def get_cardholder(call: Call) -> Answer:
    """`GET /v1/cardholders/{id}`."""
    return _found(await read.cardholder(call.services.postgres, call.caller, call.id))


async def post_account(call: Call) -> Answer:
    """`POST /v1/accounts`."""
    body = call.body(bodies.Account)
    return await create_account(
        call.services.postgres,
        call.services.clock,
        call.caller,
        call.maybe_keyed(body),
        currency=body.currency,
        cardholder=body.cardholder,
        program=body.program,
        credit_line=body.credit_line,
        reason=body.reason,
    )


async def get_account(call: Call) -> Answer:
    """`GET /v1/accounts/{id}`."""
    return _found(await read.account(call.services.postgres, call.caller, call.id))


async def post_deposit(call: Call) -> Answer:
    """`POST /v1/accounts/{id}/deposits`."""
    body = call.body(bodies.Movement)
    return await deposit(
        call.services.postgres,
        call.services.clock,
        call.caller,
        call.keyed(body),
        call.id,
        amount=body.amount,
        description=body.description,
    )


async def post_withdrawal(call: Call) -> Answer:
    """`POST /v1/accounts/{id}/withdrawals`."""
    body = call.body(bodies.Movement)
    return await withdraw(
        call.services.postgres,
        call.services.clock,
        call.caller,
        call.keyed(body),
        call.id,
        amount=body.amount,
        description=body.description,
    )


async def post_card(call: Call) -> Answer:
    """`POST /v1/cards`."""
    body = call.body(bodies.Card)
    return await create_card(
        call.services.postgres,
        call.services.clock,
        call.caller,
        call.maybe_keyed(body),
        cardholder=body.cardholder,
        account=body.account,
        external_id=body.external_id,
        last4=body.last4,
        reason=body.reason,
    )


async def get_card(call: Call) -> Answer:
    """`GET /v1/cards/{id}`."""
    return _found(await read.card(call.services.postgres, call.caller, call.id))


def change_card(verb: Callable[..., Awaitable[Answer]]) -> Handler:
    """The handler of `POST /v1/cards/{id}/freeze`, `/unfreeze` or `/close`."""

    async def handler(call: Call) -> Answer:
        body = call.body(bodies.CardState)
        answer = await verb(
            call.services.postgres,
            call.services.clock,
            call.caller,
            call.id,
            idempotency=call.maybe_keyed(body),
            reason=body.reason,
        )
        call.services.views.evict(call.id)
        return answer

    return handler


def put_controls(owner_kind: OwnerKind) -> Handler:
    """The handler of `PUT /v1/cards/{id}/controls`, and of cardholders and programs."""

    async def handler(call: Call) -> Answer:
        body = call.body(bodies.Controls)
        answer = await set_controls(
            call.services.postgres,
            call.services.clock,
            call.caller,
            owner_kind,
            call.id,
            bodies.controls_of(body),
            idempotency=call.maybe_keyed(body),
            reason=body.reason,
        )
        if owner_kind == "card":
            call.services.views.evict(call.id)
        else:
            call.services.views.clear()
        return answer

    return handler


async def get_profile(call: Call) -> Answer:
    """`GET /v1/profile`: where this process's milliseconds went; for operators."""
    if call.caller.program_id is not None:
        raise NotFound("a key of one program sees no other, and this is about all of them")
    return _found(call.services.profiler.statistics())


AUTHORIZE = frozenset({"authorize"})
OPERATE = frozenset({"operate"})
# Until scopes are complete, either of the first and third also reads.
READ = frozenset({"authorize", "read", "operate"})

# Path, method, the scopes of which one is needed, and who answers.
ROUTES: tuple[tuple[str, str, frozenset[str], Handler], ...] = (
    ("/v1/authorizations", "GET", READ, list_authorizations),
    ("/v1/authorizations/{id}", "GET", READ, get_authorization),
    ("/v1/authorizations/{id}/captures", "POST", AUTHORIZE, post_capture),
    ("/v1/authorizations/{id}/reversals", "POST", AUTHORIZE, post_reversal),
    ("/v1/programs", "POST", OPERATE, post_program),
    ("/v1/programs/{id}", "GET", READ, get_program),
    ("/v1/programs/{id}/controls", "PUT", OPERATE, put_controls("program")),
    ("/v1/cardholders", "POST", OPERATE, post_cardholder),
    ("/v1/cardholders/{id}", "GET", READ, get_cardholder),
    ("/v1/cardholders/{id}/controls", "PUT", OPERATE, put_controls("cardholder")),
    ("/v1/accounts", "POST", OPERATE, post_account),
    ("/v1/accounts/{id}", "GET", READ, get_account),
    ("/v1/accounts/{id}/deposits", "POST", OPERATE, post_deposit),
    ("/v1/accounts/{id}/withdrawals", "POST", OPERATE, post_withdrawal),
    ("/v1/cards", "POST", OPERATE, post_card),
    ("/v1/cards/{id}", "GET", READ, get_card),
    ("/v1/cards/{id}/freeze", "POST", OPERATE, change_card(freeze_card)),
    ("/v1/cards/{id}/unfreeze", "POST", OPERATE, change_card(unfreeze_card)),
    ("/v1/cards/{id}/close", "POST", OPERATE, change_card(close_card)),
    ("/v1/cards/{id}/controls", "PUT", OPERATE, put_controls("card")),
    ("/v1/dead-letters", "GET", READ, list_dead_letters),
    ("/v1/dead-letters/{id}", "GET", READ, get_dead_letter),
    ("/v1/dead-letters/{id}/replay", "POST", OPERATE, act_on_dead_letter("replay")),
    ("/v1/dead-letters/{id}/discard", "POST", OPERATE, act_on_dead_letter("discard")),
    ("/v1/profile", "GET", READ, get_profile),
    ("/v1/archive/authorizations", "GET", READ, search_archive(AUTHORIZATIONS)),
    ("/v1/archive/transactions", "GET", READ, search_archive(TRANSACTIONS)),
    ("/v1/archive/webhooks", "GET", READ, search_archive(WEBHOOKS)),
)
