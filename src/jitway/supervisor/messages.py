"""`messages.py`: what a supervisor and its workers say to each other, and its bytes.

A message is a length of four bytes and msgpack of one of these structs; a longer one than
`FRAME_BYTES_MAX` is neither sent nor read.

    supervisor -> worker     Brief, Collect, Roll, Told, Stop
    worker -> supervisor     Serving, Failed, Pulse, Collected, Ask
"""

from enum import StrEnum
from typing import TypeAlias

import msgspec

from jitway.profiler.profile import Profile
from jitway.supervisor.families import Family

FRAME_BYTES_MAX = 8 * 1024**2
LENGTH_BYTES = 4


class What(StrEnum):
    """What can be told about all workers."""

    METRICS = "metrics"
    PROFILE = "profile"


class Message(msgspec.Struct, frozen=True, tag=True):
    """One of those below."""


class Brief(Message, frozen=True):
    """The first that a worker hears: its number, from 1, of how many, and its settings."""

    number: int
    workers: int
    settings: bytes


class Roll(Message, frozen=True):
    """How many workers there are, by state."""

    serving: int = 0
    starting: int = 0
    missing: int = 0


class Collect(Message, frozen=True):
    """Say what you counted."""

    number: int
    what: What


class Told(Message, frozen=True):
    """The answer to an `Ask`; None when there is none."""

    number: int
    document: bytes | None


class Stop(Message, frozen=True):
    """Answer what is under way, and end."""


class Serving(Message, frozen=True):
    """It accepts connections."""


class Failed(Message, frozen=True):
    """It cannot start, and why; `may_pass` when that is a store's fault and not its own."""

    sentence: str
    may_pass: bool


class Pulse(Message, frozen=True):
    """A sign of life with what was counted until now; a profile only now and then."""

    families: list[Family] | None = None
    profile: Profile | None = None


class Collected(Message, frozen=True):
    """The answer to a `Collect`."""

    number: int
    families: list[Family] | None = None
    profile: Profile | None = None


class Ask(Message, frozen=True):
    """What did all workers count? `families` are of no worker, but of all."""

    number: int
    what: What
    families: list[Family] = []


AnyMessage: TypeAlias = (
    Brief | Collect | Roll | Told | Stop | Serving | Failed | Pulse | Collected | Ask
)
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AnyMessage)


def encode(message: AnyMessage) -> bytes:
    """The bytes of one message.

    Raises:
        ValueError: it is too long.
    """
    body = _encoder.encode(message)
    if len(body) > FRAME_BYTES_MAX:
        raise ValueError(f"a {type(message).__name__} of {len(body)} bytes is too long to be sent")
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def decode(body: bytes) -> AnyMessage:
    """The message of a frame without its length.

    Raises:
        msgspec.DecodeError, msgspec.ValidationError: it is none.
    """
    message: AnyMessage = _decoder.decode(body)
    return message
