"""`envelope.py`: the one form in which a fact travels, versioned; nothing of it is ever taken back.

Owns the members of the wrapper. Does not know what `data` means: it is the object that HTTP answers
for that thing at that moment.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from jitway.clock import id_digits
from jitway.domain.instant import instant_text, parse_instant
from jitway.errors import MalformedMessage

VERSION = 1
# What an administrator or an alarm says may have no reader; money always has one.
_MAY_HAVE_NO_READER = ("card.", "alert.")

_is_type = re.compile(r"[a-z][a-z-]*(\.[a-z][a-z_-]*)+").fullmatch
_MILLISECOND_BITS = 80


@dataclass(frozen=True, slots=True)
class Event:
    """A past-tense fact.

    Args:
        id: `evt_...`; its digits are those of what happened.
        type: such as `transaction.captured`; the routing key.
        occurred_at: in UTC.
        program: `prg_...`, or None.
        account: `acc_...`, or None.
        account_version: that it made, or saw.
        data_text: the thing itself, as JSON.
        version: of this form.
    """

    id: str
    type: str
    occurred_at: datetime
    program: str | None
    account: str | None
    account_version: int | None
    data_text: str
    version: int = VERSION

    @property
    def data(self) -> dict[str, Any]:
        """The thing itself; decoded at each call."""
        document: dict[str, Any] = msgspec.json.decode(self.data_text)
        return document

    @property
    def digits(self) -> str:
        """The id without its prefix, as the database has it."""
        return self.id[4:]

    @property
    def needs_reader(self) -> bool:
        """Whether it is a failure that no queue takes it."""
        return needs_reader(self.type)


class _Envelope(msgspec.Struct, frozen=True):
    """The members in their order; later versions of the product may add some."""

    id: str
    type: str
    version: int
    occurred_at: str
    program: str | None
    account: str | None
    account_version: int | None
    data: msgspec.Raw


class _Versioned(msgspec.Struct, frozen=True):
    version: int


_decode = msgspec.json.Decoder(_Envelope).decode
_decode_version = msgspec.json.Decoder(_Versioned).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


def needs_reader(type_: str) -> bool:
    """Whether it is a failure that no queue takes an event of this type."""
    return not type_.startswith(_MAY_HAVE_NO_READER)


def encode(event: Event) -> bytes:
    """The event as it travels: one JSON object."""
    return msgspec.json.encode(
        _Envelope(
            event.id,
            event.type,
            event.version,
            instant_text(event.occurred_at),
            event.program,
            event.account,
            event.account_version,
            msgspec.Raw(event.data_text.encode()),
        )
    )


def decode(body: bytes) -> Event:
    """The event of a message.

    Raises:
        MalformedMessage: it has not our envelope; the text says what of it is missing or wrong.
    """
    try:
        found = _decode(body)
        _decode_object(found.data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _no_envelope(body, error) from None
    if found.version != VERSION:
        raise MalformedMessage(f"version {found.version} of the envelope is not known here")
    for prefix, value in (("evt", found.id), ("prg", found.program), ("acc", found.account)):
        if value is not None and id_digits(value, prefix) is None:
            raise MalformedMessage(f"no envelope of ours: {value[:64]!r} is no {prefix}_ id")
    if _is_type(found.type) is None:
        raise MalformedMessage(f"no envelope of ours: {found.type[:64]!r} is no type of an event")
    try:
        occurred_at = parse_instant(found.occurred_at)
    except ValueError as error:
        raise MalformedMessage(f"no envelope of ours: occurred_at is {error}") from None
    return Event(
        found.id,
        found.type,
        occurred_at,
        found.program,
        found.account,
        found.account_version,
        bytes(found.data).decode(),
    )


def is_enveloped(body: Mapping[str, Any]) -> bool:
    """Whether a decoded message claims to have our envelope."""
    return "version" in body and "data" in body


def born_at(digits: str) -> datetime:
    """When an id was made, to the millisecond; ids are ordered by time.

    Args:
        digits: thirty-two hexadecimal ones.
    """
    milliseconds = int(digits, 16) >> _MILLISECOND_BITS
    # What is no time of this calendar is the end of it: such an id is nobody's of ours.
    return datetime.fromtimestamp(min(milliseconds / 1000, 253_402_300_799), UTC)


def _no_envelope(body: bytes, error: Exception) -> MalformedMessage:
    try:
        other = _decode_version(body).version != VERSION
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        other = False
    if other:
        return MalformedMessage("this version of the envelope is not known here")
    # msgspec quotes no values, only names and types.
    return MalformedMessage(f"no envelope of ours: {error}"[:300])
