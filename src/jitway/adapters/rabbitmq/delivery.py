"""What travels: a publication on its way in, a delivery on its way out, a dead letter at its end.

Owns our headers, so also how often a delivery has failed. The broker's own counter is not used for
that: it counts other things on 3.10, 4.0 and 4.3. This module talks to nobody.

    x-attempt                             counted failures; the first is 1
    x-cause                               the last failure, `Type: text`
    x-history                             the last failures: attempt, at, cause
    x-first-failed-at, x-last-failed-at   RFC 3339
    x-exchange, x-routing-key             as first published: a copy travels under a queue's name
    x-replays                             how often an operator sent it back from the dead letters
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NoReturn

from jitway.errors import InvalidRequest, MalformedMessage

CAUSE_LENGTH_MAX = 500
HISTORY_MAX = 10
ATTEMPT_MAX = 1_000
BODY_BYTES_MAX = 4 * 1024 * 1024
SHORT_STRING_BYTES_MAX = 255
HEADERS_LENGTH_MAX = 32 * 1024

# What the broker writes into a message that died once; a copy of ours starts without a past.
_BROKERS_HEADERS = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-")
_OUR_HEADERS = (
    "x-attempt",
    "x-cause",
    "x-history",
    "x-first-failed-at",
    "x-last-failed-at",
    "x-exchange",
    "x-routing-key",
    "x-replays",
)


@dataclass(frozen=True, slots=True)
class Publication:
    """A message on its way to an exchange.

    Args:
        exchange: its name; `""` is the default exchange, where a routing key is a queue's name.
        routing_key: at most 255 bytes.
        body: the JSON.
        message_id: by which consumers recognise a second delivery; at most 255 bytes.
        headers: strings, integers, lists and tables of them.
        mandatory: whether a message that no queue takes is an error.

    Raises:
        InvalidRequest: one of them is too long or empty.
    """

    exchange: str
    routing_key: str
    body: bytes
    message_id: str
    headers: Mapping[str, Any] = field(default_factory=dict)
    mandatory: bool = True

    def __post_init__(self) -> None:
        for name in ("exchange", "routing_key", "message_id"):
            if len(getattr(self, name).encode()) > SHORT_STRING_BYTES_MAX:
                raise InvalidRequest(f"{name} has more than {SHORT_STRING_BYTES_MAX} bytes")
        if not self.message_id:
            raise InvalidRequest("message_id is empty")


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message as the broker hands it over; `tag` acknowledges it on its channel."""

    tag: int
    body: bytes
    exchange: str
    routing_key: str
    message_id: str | None
    headers: Mapping[str, Any]
    redelivered: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """One counted failure of a delivery."""

    attempt: int
    at: datetime | None
    cause: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One arrival at a consumer.

    Args:
        queue: it came from.
        exchange, routing_key: as first published, also on a retry.
        message_id: by which a second delivery is recognised; None when its publisher set none.
        body: the bytes.
        headers: as published, without the broker's and ours.
        attempts: counted failures so far; 0 on the first arrival.
        redelivered: whether the broker may have delivered it before without an acknowledgement.
        history: the last failures, oldest first.
        replays: how often an operator sent it back from the dead letters.
    """

    queue: str
    exchange: str
    routing_key: str
    message_id: str | None
    body: bytes
    headers: Mapping[str, Any]
    attempts: int
    redelivered: bool
    history: tuple[Failure, ...] = ()
    replays: int = 0
    first_failed_at: datetime | None = None

    def decode(self) -> dict[str, Any]:
        """The body as a JSON object.

        Raises:
            MalformedMessage: it is none; no retry can help.
        """
        return decode_object(self.body)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A buried delivery.

    Args:
        id: its message id, or a digest of its content when its publisher set none.
        delivery: what was buried.
        cause: why, in one line.
        last_failed_at: when it was buried.
    """

    id: str
    delivery: Delivery
    cause: str
    last_failed_at: datetime | None


def encode_object(message: Mapping[str, Any]) -> bytes:
    """A message as JSON.

    Raises:
        InvalidRequest: it holds what JSON cannot say, or is longer than 4 MiB.
    """
    try:
        text = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        body = text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"the message cannot be written as JSON: {error}") from None
    if len(body) > BODY_BYTES_MAX:
        raise InvalidRequest(f"the message has more than {BODY_BYTES_MAX} bytes")
    return body


def decode_object(body: bytes) -> dict[str, Any]:
    """A body as a JSON object.

    Raises:
        MalformedMessage: it is none.
    """
    try:
        decoded = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"the body is not JSON: {error}") from None
    if not isinstance(decoded, dict):
        raise MalformedMessage(f"the body is JSON but no object: {type(decoded).__name__}")
    return decoded


def read_delivery(queue: str, incoming: Incoming) -> Delivery:
    """What arrived, as first published. Headers of strangers are not trusted to have our types."""
    headers = incoming.headers
    death = _first_death_in(queue, headers)
    keys = death.get("routing-keys")
    died_under = keys[0] if isinstance(keys, list) and keys else incoming.routing_key
    return Delivery(
        queue=queue,
        exchange=_text(headers.get("x-exchange", death.get("exchange", incoming.exchange))),
        routing_key=_text(headers.get("x-routing-key", died_under)),
        message_id=incoming.message_id or None,
        body=incoming.body,
        headers={name: value for name, value in headers.items() if not _is_reserved(name)},
        attempts=_count(headers.get("x-attempt")),
        redelivered=incoming.redelivered,
        history=_history(headers.get("x-history")),
        replays=_count(headers.get("x-replays")),
        first_failed_at=_instant(headers.get("x-first-failed-at")),
    )


def read_dead_letter(queue: str, incoming: Incoming) -> DeadLetter:
    """A message of `<queue>.dead`, buried by a consumer of ours or by the broker itself."""
    delivery = read_delivery(queue, incoming)
    cause = incoming.headers.get("x-cause")
    buried_at = _instant(incoming.headers.get("x-last-failed-at"))
    if not isinstance(cause, str):
        death = _first_death_in(queue, incoming.headers)
        buried_at = _instant(death.get("time"))
        cause = "buried by the broker: " + _REASONS.get(
            _text(death.get("reason")), "no cause is recorded"
        )
    return DeadLetter(delivery.message_id or _digest(delivery), delivery, cause, buried_at)


def headers_unchanged(delivery: Delivery) -> dict[str, Any]:
    """The headers of a copy that has not failed once more: put off, or handed on."""
    headers = dict(delivery.headers)
    if len(repr(headers)) > HEADERS_LENGTH_MAX:
        # They travel in one frame. A copy that breaks its limit costs the whole connection.
        headers = {"x-headers-dropped": len(headers)}
    headers |= {"x-exchange": delivery.exchange, "x-routing-key": delivery.routing_key}
    headers["x-attempt"] = delivery.attempts
    if delivery.replays:
        headers["x-replays"] = delivery.replays
    if delivery.first_failed_at is not None:
        headers["x-first-failed-at"] = _rfc3339(delivery.first_failed_at)
    if delivery.history:
        headers["x-history"] = [_failure_table(failure) for failure in delivery.history]
        headers["x-cause"] = delivery.history[-1].cause
    return headers


def only_ours(headers: Mapping[str, Any]) -> dict[str, Any]:
    """A copy's headers without those of strangers, where theirs cannot be written again."""
    return {name: value for name, value in headers.items() if name in _OUR_HEADERS}


def headers_after_failure(delivery: Delivery, cause: str, *, at: datetime) -> dict[str, Any]:
    """The headers of a copy that has failed once more: retried, or buried.

    Args:
        delivery: what failed.
        cause: why; cut to 500 characters.
        at: when.
    """
    failure = Failure(min(delivery.attempts + 1, ATTEMPT_MAX), at, cause[:CAUSE_LENGTH_MAX])
    headers = headers_unchanged(delivery)
    headers["x-attempt"] = failure.attempt
    headers["x-cause"] = failure.cause
    headers["x-last-failed-at"] = _rfc3339(at)
    headers.setdefault("x-first-failed-at", _rfc3339(at))
    history = (*delivery.history, failure)[-HISTORY_MAX:]
    headers["x-history"] = [_failure_table(entry) for entry in history]
    return headers


def headers_of_replay(delivery: Delivery) -> dict[str, Any]:
    """The headers of a dead letter that is sent back: all attempts are granted again."""
    headers = headers_unchanged(delivery)
    headers["x-attempt"] = 0
    headers["x-replays"] = min(delivery.replays + 1, ATTEMPT_MAX)
    return headers


def cause_of(error: BaseException) -> str:
    """One line for a failure: its type, and its text if it has one."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {text}"[:CAUSE_LENGTH_MAX] if text else name


_REASONS = {
    "delivery_limit": "its consumers died or lost their connection too often while holding it",
    "rejected": "a consumer refused it",
    "expired": "it grew too old",
    "maxlen": "its queue was full",
}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _is_reserved(name: str) -> bool:
    return name in _OUR_HEADERS or name.startswith(_BROKERS_HEADERS)


def _first_death_in(queue: str, headers: Mapping[str, Any]) -> Mapping[str, Any]:
    """The broker's record of the message leaving that queue, or an empty one."""
    deaths = headers.get("x-death")
    for death in deaths if isinstance(deaths, list) else []:
        if isinstance(death, dict) and death.get("queue") == queue:
            return death
    return {}


def _history(value: object) -> tuple[Failure, ...]:
    entries = value if isinstance(value, list) else []
    return tuple(
        Failure(
            _count(entry.get("attempt")),
            _instant(entry.get("at")),
            _text(entry.get("cause"))[:CAUSE_LENGTH_MAX],
        )
        for entry in entries[-HISTORY_MAX:]
        if isinstance(entry, dict)
    )


def _failure_table(failure: Failure) -> dict[str, Any]:
    at = _rfc3339(failure.at) if failure.at is not None else ""
    return {"attempt": failure.attempt, "at": at, "cause": failure.cause}


def _digest(delivery: Delivery) -> str:
    content = delivery.routing_key.encode() + b"\0" + delivery.body
    return "sha256:" + hashlib.sha256(content).hexdigest()[:32]


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return max(0, min(value, ATTEMPT_MAX))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _instant(value: object) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


def _rfc3339(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
