"""`created.py`: an authorization asked for by message: `jit-funding.created` becomes a decision.

The one message that may come without our envelope. Idempotent by its id: the sender's own, else the
message's. The answer is the event of the decision, `jit-funding.approved` or `.declined`.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.clock import Clock, id_digits
from jitway.domain.message import Authorization
from jitway.errors import InvalidRequest, MalformedMessage
from jitway.events.broker import Delivery
from jitway.events.envelope import decode, is_enveloped
from jitway.gateway.authorize import Asked
from jitway.gateway.caller import Answer, Caller, Idempotency
from jitway.profiler.trace import Trace
from jitway.sql import statements

_SQL = statements("events")

TYPE = "jit-funding.created"
# Whoever may publish to the broker may ask for every program's cards.
_SENDER = Caller("system", None, frozenset({"authorize"}))


class Handed(Protocol):
    """What a message hands in."""

    @property
    def id(self) -> str | None:
        """The sender's own."""

    @property
    def request(self) -> Authorization:
        """What is asked; an empty currency is the account's."""

    @property
    def canonical(self) -> bytes:
        """The one text of everything that was asked."""


def authorize_created(
    postgres: PostgreSQLAdapter,
    clock: Clock,
    authorize: Callable[[Asked], Awaitable[Answer]],
    decode_created: Callable[[bytes], Handed],
) -> Callable[[Delivery], Awaitable[None]]:
    """The handler of `jit-funding.created`.

    Args:
        postgres: knows the currency of a card's account.
        clock: for the time it takes.
        authorize: the verb.
        decode_created: reads the message, or its data where it has our envelope.

    Returns:
        A handler, which raises what `authorize` does, and InvalidRequest or MalformedMessage for
        what can never be decided: no card, no id, nothing that could be read.
    """

    async def handler(delivery: Delivery) -> None:
        envelope_id, raw = _unwrapped(delivery.body)
        handed = decode_created(raw)
        id_ = handed.id or envelope_id or delivery.id
        if id_ is None:
            raise InvalidRequest("it has no transaction_id, so a repetition could not be told")
        request = handed.request
        if not request.currency:
            request.currency = await _currency(postgres, request.card)
        # A blank cannot stand in a key of HTTP, so the two never meet.
        idempotency = Idempotency.of(f"{TYPE} {id_}", "MESSAGE", TYPE, handed.canonical)
        await authorize(
            Asked(
                request,
                _SENDER,
                idempotency,
                canonical=handed.canonical.decode(),
                deadline_ms=None,
                trace=Trace(clock.monotonic_ns, f"msg:{id_}"),
            )
        )

    return handler


def _unwrapped(body: bytes) -> tuple[str | None, bytes]:
    """The envelope's id and data; no id and the message itself when it came bare."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise MalformedMessage("the body is no JSON object")
    if not is_enveloped(document):
        return None, body
    event = decode(body)
    if event.type != TYPE:
        raise MalformedMessage(f"an event of type {event.type} came under {TYPE}")
    return event.id, event.data_text.encode()


async def _currency(postgres: PostgreSQLAdapter, card: str) -> str:
    digits = id_digits(card, "crd")
    if digits is not None:
        values = [digits]
        rows = await postgres.execute_query(_SQL["currency_of_card"], values, repeatable=True)
        if rows:
            currency: str = rows[0]["currency"]
            return currency
    raise InvalidRequest("there is no card of this card_id, and no currency to decline in")
