"""`administration.py`: the routes of programs, cardholders, accounts and cards.

Every handler decodes, calls one verb and encodes. No try, no rule.
"""

from collections.abc import Awaitable, Callable

import msgspec

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
from jitway.gateway.caller import Answer
from jitway.gateway.changes import change
from jitway.gateway.controls import OwnerKind, set_controls
from jitway.gateway.fund import deposit, withdraw
from jitway.gateway.headroom import controls_now
from jitway.gateway.lists import LISTS, Page, list_things
from jitway.gateway.states import TURNS, Kind, turn
from jitway.web.call import OPERATE, READ, Call, Handler, Route, found, limit_of
from jitway.wire import administration, bodies

_OF_EVERY_LIST = frozenset({"program", "limit", "cursor"})


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
    return found(await read.program(call.services.postgres, call.caller, call.id))


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
    return found(await read.cardholder(call.services.postgres, call.caller, call.id))


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
    return found(await read.account(call.services.postgres, call.caller, call.id))


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
        reason=body.reason,
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
        reason=body.reason,
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
        valid_from=bodies.validity_of(body.valid_from, "valid_from"),
        valid_until=bodies.validity_of(body.valid_until, "valid_until"),
        reason=body.reason,
    )


async def get_card(call: Call) -> Answer:
    """`GET /v1/cards/{id}`."""
    return found(await read.card(call.services.postgres, call.caller, call.id))


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
        _evict(call, answer)
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
        _evict(call, answer)
        return answer

    return handler


def get_controls(owner_kind: OwnerKind) -> Handler:
    """The handler of `GET /v1/cards/{id}/controls`, and of cardholders and programs."""

    async def handler(call: Call) -> Answer:
        return found(await controls_now(call.services.postgres, call.caller, owner_kind, call.id))

    return handler


def list_of(kind: str) -> Handler:
    """The handler of `GET /v1/programs`, `/cardholders`, `/accounts`, `/cards` or `/keys`."""
    known = _OF_EVERY_LIST | LISTS[kind].filters.keys()

    async def handler(call: Call) -> Answer:
        filters = call.filters(frozenset(known))
        page = Page(limit_of(filters), filters.get("cursor"))
        things = await list_things(call.services.postgres, call.caller, kind, filters, page)
        return found(things)

    return handler


def patch(kind: str, form: type[administration.Change]) -> Handler:
    """The handler of `PATCH /v1/programs/{id}`, and of cardholders, accounts and cards."""

    async def handler(call: Call) -> Answer:
        body = call.body(form)
        answer = await change(
            call.services.postgres,
            call.services.clock,
            call.caller,
            kind,
            call.id,
            body.changes(),
            idempotency=call.maybe_keyed(body),
            reason=body.reason,
        )
        if kind != "account":
            _evict(call, answer)
        return answer

    return handler


def turn_of(kind: Kind, verb: str) -> Handler:
    """The handler of `POST /v1/programs/{id}/suspend` and its like."""

    async def handler(call: Call) -> Answer:
        body = call.body(bodies.CardState)
        answer = await turn(
            call.services.postgres,
            call.services.clock,
            call.caller,
            kind,
            call.id,
            verb,
            idempotency=call.maybe_keyed(body),
            reason=body.reason,
        )
        if kind != "account":
            _evict(call, answer)
        return answer

    return handler


class _Changed(msgspec.Struct):
    version: int


def _evict(call: Call, answer: Answer) -> None:
    """What changed is remembered nowhere; nothing older than the change comes back."""
    version = msgspec.json.decode(answer.body, type=_Changed).version
    call.services.views.evict(call.id, version=version)


_FORMS: dict[str, type[administration.Change]] = {
    "program": administration.ProgramChange,
    "cardholder": administration.CardholderChange,
    "account": administration.AccountChange,
    "card": administration.CardChange,
}

ADMINISTRATION_ROUTES: tuple[Route, ...] = (
    *((f"/v1/{kind}s", "GET", READ, list_of(f"{kind}s")) for kind in _FORMS),
    *(
        (f"/v1/{kind}s/{{id}}", "PATCH", OPERATE, patch(kind, form))
        for kind, form in _FORMS.items()
    ),
    *(
        (f"/v1/{kind}s/{{id}}/{verb}", "POST", OPERATE, turn_of(kind, verb))
        for kind, verbs in TURNS.items()
        for verb in verbs
    ),
    ("/v1/programs", "POST", OPERATE, post_program),
    ("/v1/programs/{id}", "GET", READ, get_program),
    ("/v1/programs/{id}/controls", "GET", READ, get_controls("program")),
    ("/v1/programs/{id}/controls", "PUT", OPERATE, put_controls("program")),
    ("/v1/cardholders", "POST", OPERATE, post_cardholder),
    ("/v1/cardholders/{id}", "GET", READ, get_cardholder),
    ("/v1/cardholders/{id}/controls", "GET", READ, get_controls("cardholder")),
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
    ("/v1/cards/{id}/controls", "GET", READ, get_controls("card")),
    ("/v1/cards/{id}/controls", "PUT", OPERATE, put_controls("card")),
)
