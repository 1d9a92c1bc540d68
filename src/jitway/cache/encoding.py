"""`encoding.py`: levels of a card view as few bytes, sealed for one ledger; and back.

Owns the format of what several processes share. Opens only what was sealed for the same key and
version, by the same ledger, by a release that knows the same controls; anything else is foreign.
A forged value could loosen limits at a version that is right, so the seal is keyed with what only
those can know who read the ledger.
"""

import hmac
from dataclasses import dataclass, fields
from functools import lru_cache
from hashlib import blake2b
from types import GenericAlias
from typing import Any, get_type_hints
from zoneinfo import ZoneInfo

import msgspec

from jitway.domain.card import CardView, Level
from jitway.domain.limits import NO_CONTROLS, Limit, SpendControls

SEAL_BYTES = 16
CONTROLS_SHARED_MAX = 1024


class Foreign(Exception):
    """The bytes are no value of ours for this key and version."""


@dataclass(frozen=True, slots=True)
class CardEntry:
    """What of a view belongs to the card alone.

    Args:
        card: the card's level.
        cardholder_id: whose level is above it.
        program_id: whose level is above that.
        rest: the view's other fields, in the order of `CARD_FIELDS`.
    """

    card: Level
    cardholder_id: str
    program_id: str
    rest: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class ProgramEntry:
    """A program's level with its calendar, which every card under it shares."""

    program: Level
    zone: ZoneInfo


_LEVEL_FIELDS = ("name", "id", "state", "version", "controls")
_COMPOSED = ("program", "cardholder", "card", "zone")
_HINTS = get_type_hints(CardView)

CARD_FIELDS = tuple(
    field.name for field in fields(CardView) if field.init and field.name not in _COMPOSED
)
"""What a view says of its card beside the levels; a field that is new is carried by itself."""

assert tuple(field.name for field in fields(Level)) == _LEVEL_FIELDS


class _StoredLevel(msgspec.Struct, array_like=True, frozen=True):
    state: str
    version: int
    controls: msgspec.Raw


class _StoredProgram(msgspec.Struct, array_like=True, frozen=True):
    level: _StoredLevel
    zone: str


class _StoredCard(msgspec.Struct, array_like=True, frozen=True):
    level: _StoredLevel
    cardholder_id: str
    program_id: str
    rest: msgspec.Raw


def _shape() -> bytes:
    """A digest of every field with its type: releases that differ in one do not share values.

    A value written by a release that knows fewer controls would read as one without limits.
    """
    shapes = [
        (kind.__name__, [(field.name, str(field.type)) for field in fields(kind)])
        for kind in (Level, SpendControls, Limit, CardView)
    ]
    return blake2b(f"1 {shapes}".encode(), digest_size=SEAL_BYTES).digest()


_SHAPE = _shape()
_encode = msgspec.msgpack.Encoder().encode
_open_level = msgspec.msgpack.Decoder(_StoredLevel).decode
_open_program = msgspec.msgpack.Decoder(_StoredProgram).decode
_open_card = msgspec.msgpack.Decoder(_StoredCard).decode
_open_rest = msgspec.msgpack.Decoder(
    GenericAlias(tuple, tuple(_HINTS[name] for name in CARD_FIELDS))
).decode
_open_controls = msgspec.msgpack.Decoder(SpendControls).decode


class Sealer:
    """Encodes levels for one ledger, and opens what it or another process of it encoded.

    Args:
        ledger: what tells this ledger from others and is known to its readers only.
    """

    def __init__(self, ledger: bytes) -> None:
        self._key = blake2b(_SHAPE + ledger, digest_size=32).digest()

    def card(self, view: CardView) -> bytes:
        """The card of a view, without what is above it."""
        rest = msgspec.Raw(_encode(tuple(getattr(view, name) for name in CARD_FIELDS)))
        stored = _StoredCard(_stored(view.card), view.cardholder.id, view.program.id, rest)
        return self._sealed(view.card, stored)

    def cardholder(self, view: CardView) -> bytes:
        """The cardholder's level of a view."""
        return self._sealed(view.cardholder, _stored(view.cardholder))

    def program(self, view: CardView) -> bytes:
        """The program's level of a view, with its calendar."""
        stored = _StoredProgram(_stored(view.program), view.zone.key)
        return self._sealed(view.program, stored)

    def open_card(self, id_: str, version: int, sealed: bytes) -> CardEntry:
        """The card that was sealed under this id and version.

        Raises:
            Foreign: it was not.
        """
        try:
            stored = _open_card(self._opened(id_, version, sealed))
            level = _level("card", id_, version, stored.level)
            return CardEntry(
                level, stored.cardholder_id, stored.program_id, tuple(_open_rest(stored.rest))
            )
        except msgspec.MsgspecError as error:
            raise Foreign from error

    def open_cardholder(self, id_: str, version: int, sealed: bytes) -> Level:
        """The cardholder that was sealed under this id and version.

        Raises:
            Foreign: it was not.
        """
        try:
            return _level(
                "cardholder", id_, version, _open_level(self._opened(id_, version, sealed))
            )
        except msgspec.MsgspecError as error:
            raise Foreign from error

    def open_program(self, id_: str, version: int, sealed: bytes) -> ProgramEntry:
        """The program that was sealed under this id and version.

        Raises:
            Foreign: it was not.
        """
        try:
            stored = _open_program(self._opened(id_, version, sealed))
            level = _level("program", id_, version, stored.level)
            return ProgramEntry(level, ZoneInfo(stored.zone))
        except (msgspec.MsgspecError, KeyError, ValueError) as error:
            raise Foreign from error

    def _sealed(self, level: Level, stored: object) -> bytes:
        payload = _encode(stored)
        return self._seal(level.id, level.version, payload) + payload

    def _opened(self, id_: str, version: int, sealed: bytes) -> bytes:
        seal, payload = sealed[:SEAL_BYTES], sealed[SEAL_BYTES:]
        if not hmac.compare_digest(seal, self._seal(id_, version, payload)):
            raise Foreign
        return payload

    def _seal(self, id_: str, version: int, payload: bytes) -> bytes:
        head = b"%d %b\n" % (version, id_.encode())
        return blake2b(head + payload, digest_size=SEAL_BYTES, key=self._key).digest()


def _stored(level: Level) -> _StoredLevel:
    return _StoredLevel(level.state, level.version, _controls_stored(level.controls))


def _level(name: str, id_: str, version: int, stored: _StoredLevel) -> Level:
    if stored.version != version:
        raise Foreign
    return Level(name, id_, stored.state, version, _controls_opened(bytes(stored.controls)))


# Many cards have few different controls: what they share is encoded once, and here once.
@lru_cache(maxsize=CONTROLS_SHARED_MAX)
def _controls_stored(controls: SpendControls) -> msgspec.Raw:
    said = {
        field.name: value
        for field in fields(SpendControls)
        if (value := getattr(controls, field.name)) != field.default
    }
    return msgspec.Raw(_encode(said))


@lru_cache(maxsize=CONTROLS_SHARED_MAX)
def _controls_opened(stored: bytes) -> SpendControls:
    controls = _open_controls(stored)
    return NO_CONTROLS if controls == NO_CONTROLS else controls
