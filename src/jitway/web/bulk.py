"""`bulk.py`: `POST /v1/bulk/cards` and `/funding`: a file as the body, a report as the answer.

The form is that of the media type. A file is as long as a body may be; a longer one is sent in
parts, and what was sent twice counts once.
"""

from hashlib import sha256

from jitway.errors import InvalidRequest
from jitway.gateway.bulk import answer_file
from jitway.gateway.bulk_cards import CardWork
from jitway.gateway.bulk_chunk import Work
from jitway.gateway.bulk_funding import FundingWork
from jitway.gateway.bulk_lines import Line, Ordered
from jitway.gateway.caller import Answer, Idempotency
from jitway.web.call import OPERATE, Call, Handler, Route
from jitway.web.problems import Refused
from jitway.wire.bodies import Body
from jitway.wire.bulk import CSV, NDJSON, read_lines
from jitway.wire.card_numbers import CARD_NUMBER_SAID, has_card_number

_PARAMETERS = frozenset({"program", "dry_run", "strict", "reason"})
_FORMS = {"text/csv": CSV, "application/x-ndjson": NDJSON, "application/ndjson": NDJSON}


class _Sent(Body, frozen=True):
    """What makes one request the same as another."""

    program: str | None
    strict: bool
    reason: str | None
    sha256: str


def take_file(work: Work) -> Handler:
    """The handler of `POST /v1/bulk/cards` or `/funding`."""

    async def handler(call: Call) -> Answer:
        parameters = call.filters(_PARAMETERS)
        ordered = Ordered(
            program=parameters.get("program"),
            dry_run=_flag(parameters, "dry_run"),
            strict=_flag(parameters, "strict"),
            reason=_reason(parameters),
        )
        read = read_lines(work.kind, _form(call), call.raw)
        return await answer_file(
            call.services.postgres,
            call.services.clock,
            call.caller,
            work,
            [Line(*one) for one in read],
            ordered,
            idempotency=_idempotency(call, work, ordered),
        )

    return handler


def _idempotency(call: Call, work: Work, ordered: Ordered) -> Idempotency | None:
    """The request's; money needs one, unless it only tries."""
    digest = sha256(call.raw).hexdigest()
    sent = _Sent(ordered.program, ordered.strict, ordered.reason, digest)
    if work.kind == "funding" and not ordered.dry_run:
        return call.keyed(sent)
    return call.maybe_keyed(sent)


def _form(call: Call) -> str:
    given = call.fields.get(b"content-type", b"").decode("latin-1").lower()
    form = _FORMS.get(given.partition(";")[0].strip())
    if form is None or call.fields.get(b"content-encoding", b"identity") != b"identity":
        raise Refused(
            415,
            "unsupported_media_type",
            "send Content-Type: text/csv or application/x-ndjson, without Content-Encoding",
        )
    return form


def _reason(parameters: dict[str, str]) -> str | None:
    """For the audit, so what no body may say, this must not either."""
    text = parameters.get("reason")
    if text is not None and has_card_number(text):
        raise InvalidRequest(CARD_NUMBER_SAID, "/reason", "card_number_refused")
    return text


def _flag(parameters: dict[str, str], name: str) -> bool:
    text = parameters.get(name, "false")
    if text not in ("true", "false"):
        raise InvalidRequest(f"{name} is true or false", f"/{name}")
    return text == "true"


BULK_ROUTES: tuple[Route, ...] = (
    ("/v1/bulk/cards", "POST", OPERATE, take_file(CardWork())),
    ("/v1/bulk/funding", "POST", OPERATE, take_file(FundingWork())),
)
