"""`standard_webhooks.py`: whether a webhook is signed, as the Standard Webhooks specification says.

The signature covers id, time and the raw bytes, before anything parses them:

    webhook-id: msg_1         webhook-timestamp: 1732290000        webhook-signature: v1,<base64>

Owns the secrets' form and the comparison, in constant time. Several secrets may be good at once, so
that one can be replaced without losing a message; an old one may carry its own end.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

from jitway.domain.instant import parse_instant

TOLERANCE_S: Final = 300
SECRETS_MAX: Final = 2
SIGNATURES_MAX: Final = 16
SECRET_BYTES_MIN: Final = 24

_is_source = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}").fullmatch
_is_message_id = re.compile(rb"[!-~]{1,255}").fullmatch
_is_timestamp = re.compile(rb"[1-9][0-9]{0,10}").fullmatch
# Compared with where a source has no secret, so that it takes the same time to refuse.
_NOBODYS = b"\0" * 32


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A shared secret; never shown.

    Args:
        key: its bytes.
        expires_at: when it ends by itself, or None.
    """

    key: bytes
    expires_at: datetime | None = None


Secrets = Mapping[str, Sequence[Secret]]
"""By the name of the source, those that are good at the same time."""


def is_source(name: str) -> bool:
    """Whether a source can be named so."""
    return _is_source(name) is not None


def read_secrets(text: str) -> dict[str, tuple[Secret, ...]]:
    """The secrets of a setting: `acme=whsec_...,whsec_...@2027-01-01T00:00:00Z; other=whsec_...`.

    Raises:
        ValueError: whose text completes the sentence "must be ...", without any secret.
    """
    found: dict[str, tuple[Secret, ...]] = {}
    for entry in filter(None, map(str.strip, text.split(";"))):
        source, _, listed = entry.partition("=")
        if not is_source(source.strip()) or source.strip() in found:
            raise ValueError("source=whsec_... for each source once, with ; between them")
        secrets = tuple(map(_secret, map(str.strip, listed.split(","))))
        if len(secrets) > SECRETS_MAX:
            raise ValueError(f"at most {SECRETS_MAX} secrets for each source")
        found[source.strip()] = secrets
    return found


def is_signed(
    headers: Mapping[bytes, bytes], body: bytes, secrets: Sequence[Secret], *, now: datetime
) -> bool:
    """Whether somebody who knows one of the secrets sent this body, now.

    Args:
        headers: of the request, names in small letters.
        body: as it was received.
        secrets: of its source; none refuses, and takes as long.
        now: in UTC.
    """
    message_id = headers.get(b"webhook-id", b"")
    timestamp = headers.get(b"webhook-timestamp", b"")
    if _is_message_id(message_id) is None or _is_timestamp(timestamp) is None:
        return False
    if abs(now.timestamp() - int(timestamp)) > TOLERANCE_S:
        return False
    offered = _offered(headers.get(b"webhook-signature", b""))
    text = b"%s.%s.%s" % (message_id, timestamp, body)
    good = [one.key for one in secrets if one.expires_at is None or now < one.expires_at]
    matches = False
    for key in good or [_NOBODYS]:
        wanted = hmac.digest(key, text, sha256)
        for signature in offered:
            matches |= hmac.compare_digest(wanted, signature) and bool(good)
    return matches


def _offered(header: bytes) -> list[bytes]:
    """The signatures of the one version that we know."""
    found = []
    for entry in header.split(b" ")[:SIGNATURES_MAX]:
        version, _, encoded = entry.partition(b",")
        if version == b"v1":
            try:
                found.append(base64.b64decode(encoded, validate=True))
            except (binascii.Error, ValueError):
                continue
    return found


def _secret(text: str) -> Secret:
    encoded, _, end = text.partition("@")
    try:
        key = base64.b64decode(encoded.removeprefix("whsec_"), validate=True)
        expires_at = parse_instant(end) if end else None
    except (binascii.Error, ValueError):
        key, expires_at = b"", None
    if not encoded.startswith("whsec_") or len(key) < SECRET_BYTES_MIN:
        raise ValueError(
            f"whsec_ and at least {SECRET_BYTES_MIN} bytes in base64 for each secret, "
            "with @ and an instant after it where it ends"
        )
    return Secret(key, expires_at)
