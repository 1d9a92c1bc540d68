"""`values.py`: how the text of a setting becomes a value: units, bounds, masking.

Knows no setting by name and reads no environment.
"""

import re
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any, TypeAlias

from jitway.wire.standard_webhooks import read_secrets

Reader: TypeAlias = Callable[[str], Any]
"""Text to value; raises ValueError whose text completes the sentence "NAME must be ..."."""

MASK = "***"

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"": 1, "b": 1, "k": 1024, "kb": 1000, "kib": 1024, "m": 1024**2, "mb": 1000**2}
_BYTES |= {"mib": 1024**2, "g": 1024**3, "gb": 1000**3, "gib": 1024**3}
_QUANTITY = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) ?([a-z]{0,3})", re.ASCII | re.IGNORECASE)
_YES = frozenset({"1", "true", "yes", "on"})
_NO = frozenset({"0", "false", "no", "off"})


def number(low: int, high: int) -> Reader:
    """Reads a whole number within bounds."""

    def read(text: str) -> int:
        if re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) is None:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(_within(int(text), low, high, ""))

    return read


def share(text: str) -> float:
    """Reads a part of a whole: 0, 0.01, 1."""
    if re.fullmatch(r"0|1|0?\.[0-9]{1,9}|[01]\.[0-9]{1,9}", text, re.ASCII) is None:
        raise ValueError("a share from 0 to 1, such as 0.01")
    return _within(float(text), 0, 1, "")


def duration(unit: str, low: float, high: float) -> Reader:
    """Reads a length of time, in `unit` when none is written: 30, 30s, 500ms, 5m, 2h, 7d."""

    def read(text: str) -> float:
        match = _QUANTITY.fullmatch(text)
        written = (match[2].lower() or unit) if match else ""
        if match is None or written not in _SECONDS:
            raise ValueError(f"a duration such as 30{unit} (units: ms, s, m, h, d)")
        value = round(float(match[1]) * _SECONDS[written] / _SECONDS[unit], 6)
        return _within(value, low, high, f" {unit}")

    return read


def whole_duration(unit: str, low: int, high: int) -> Reader:
    """Reads a duration that has no fraction in its unit."""
    fractional = duration(unit, low, high)

    def read(text: str) -> int:
        value = fractional(text)
        if value != int(value):
            raise ValueError(f"a whole number of {unit}")
        return int(value)

    return read


def size(low: int, high: int) -> Reader:
    """Reads a number of bytes: 65536, 64KiB, 1MB."""

    def read(text: str) -> int:
        match = _QUANTITY.fullmatch(text)
        if match is None or match[2].lower() not in _BYTES:
            raise ValueError("a size such as 64KiB (units: B, kB, KiB, MB, MiB, GB, GiB)")
        value = float(match[1]) * _BYTES[match[2].lower()]
        if value != int(value):
            raise ValueError("a whole number of bytes")
        return int(_within(int(value), low, high, " bytes"))

    return read


def choice(*words: str) -> Reader:
    """Reads one of a few words, in small letters."""

    def read(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return text.lower()

    return read


def url(*schemes: str) -> Reader:
    """Reads an address with one of the schemes; kept as written."""

    def read(text: str) -> str:
        if text.partition("://")[0] not in schemes or "://" not in text:
            raise ValueError(f"an address that begins with {schemes[0]}://")
        if any(character.isspace() or not character.isprintable() for character in text):
            raise ValueError("an address without blanks or control characters")
        return text

    return read


def webhook_secrets(text: str) -> str:
    """Secrets by source; kept as written, so that only their reader holds them apart."""
    read_secrets(text)
    return text


def networks(text: str) -> str:
    """Networks or single addresses with commas between them; kept as written."""
    for one in text.split(","):
        try:
            ip_network(one.strip())
        except ValueError:
            raise ValueError("networks such as 10.0.0.0/8, ::1") from None
    return text


def read_flag(text: str) -> bool:
    """Yes or no."""
    if text.lower() in _YES:
        return True
    if text.lower() in _NO:
        return False
    raise ValueError("true or false")


def read_path(text: str) -> Path:
    """A path; `~` is the home directory."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError("a path (there is no home directory to begin with ~)") from None


def read_word(text: str) -> str:
    """One printable word."""
    if not text.isprintable() or any(character.isspace() for character in text):
        raise ValueError("one word without blanks")
    return text


def masked_url(address: str) -> str:
    """The address fit for eyes and logs: its passwords show as ***.

    Masks too much rather than too little: everything from the user's name to the last `@`.
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        return MASK
    credentials, at, place = rest.rpartition("@")
    if at and ":" in credentials:
        credentials = f"{credentials.partition(':')[0]}:{MASK}"
    place = re.sub(
        r"([?&;][^=&;]*(?:password|passwd|secret|token|key)[^=&;]*=)[^&;#]*",
        rf"\g<1>{MASK}",
        place,
        flags=re.IGNORECASE,
    )
    return f"{scheme}://{credentials}{at}{place}"


def _within(value: float, low: float, high: float, unit: str) -> float:
    if not low <= value <= high:
        raise ValueError(f"from {low:g} to {high:.15g}{unit}")
    return value
