"""`webhooks.py`: `POST /v1/webhooks/{source}`: signed by the processor, or sent with our key.

Owns who may send: the signature is looked at before anything is parsed, and every refusal says the
same. A webhook of an unknown source is refused like one with a bad signature.
"""

import hashlib
from typing import Final

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.clock import Clock
from jitway.errors import InvalidRequest
from jitway.gateway.caller import Caller
from jitway.gateway.webhook import Received, receive
from jitway.web.authentication import Authenticator, demand
from jitway.web.exchange import Fields, Reply, Request, answer_reply, check_json
from jitway.web.problems import Refused
from jitway.web.rate_limits import REQUESTS, RateLimits
from jitway.wire.card_numbers import has_card_number
from jitway.wire.opaque import redacted_json
from jitway.wire.standard_webhooks import Secrets, is_signed, is_source

PREFIX: Final = "/v1/webhooks/"
SCOPES: Final = frozenset({"authorize", "operate"})

_SIGNED_WITH = (b"webhook-id", b"webhook-timestamp", b"webhook-signature")
_MESSAGE_ID_MAX = 255


class WebhookRoute:
    """Takes in what processors tell us.

    Args:
        postgres: the ledger.
        clock: for ids, and for the age of a signature.
        authenticator: says whose key it is.
        secrets: by source.
        rates: how often a key may ask.
    """

    def __init__(
        self,
        postgres: PostgreSQLAdapter,
        clock: Clock,
        authenticator: Authenticator,
        secrets: Secrets,
        *,
        rates: RateLimits,
    ) -> None:
        self._postgres = postgres
        self._clock = clock
        self._authenticator = authenticator
        self._secrets = secrets
        self._rates = rates

    async def answer(self, request: Request, source: str, request_id: str) -> Reply:
        """Answers one webhook.

        Args:
            request: whole.
            source: as the path names it.
            request_id: what it is called in logs.

        Raises:
            Refused: 401, 403, 404 or 415.
            MalformedMessage, InvalidRequest, Conflict, StoreUnavailable.
        """
        if not is_source(source) or has_card_number(source):
            raise Refused(404, "route_not_found", "a source has letters, digits, - and _")
        fields = request.fields()
        caller = await self._sender(request, fields, source)
        check_json(fields)
        received = Received(
            source, _message_id(fields, request.body), request.body, redacted_json(request.body)
        )
        answer = await receive(self._postgres, self._clock, caller, received)
        return answer_reply(answer, request_id)

    async def _sender(self, request: Request, fields: Fields, source: str) -> Caller:
        if b"webhook-signature" in fields:
            names = [name for name, _ in request.headers]
            once = all(names.count(name) == 1 for name in _SIGNED_WITH)
            secrets = self._secrets.get(source, ())
            signed = is_signed(fields, request.body, secrets, now=self._clock.now())
            if not (once and signed):
                raise Refused(401, "unauthenticated", "the webhook's signature is not good")
            return Caller(f"webhook:{source}", None, frozenset())
        caller = self._authenticator.peek(fields)
        if caller is None:
            caller = await self._authenticator.caller(fields, request.address)
        self._rates.spend(REQUESTS, caller.key_id)
        demand(caller, SCOPES)
        return caller


def _message_id(fields: Fields, raw: bytes) -> str:
    """The sender's name for the message; without one, the same bytes are the same message."""
    given = fields.get(b"webhook-id") or fields.get(b"idempotency-key")
    if given is None:
        return f"sha256:{hashlib.sha256(raw).hexdigest()}"
    text = given.decode("latin-1")
    if len(text) > _MESSAGE_ID_MAX or not (text.isascii() and text.isprintable()) or " " in text:
        raise InvalidRequest(
            f"webhook-id has 1 to {_MESSAGE_ID_MAX} visible ASCII characters",
            code="idempotency_key_invalid",
        )
    if has_card_number(text):
        raise InvalidRequest(
            "webhook-id looks like a card number, and it would be kept", code="card_number_refused"
        )
    return text
