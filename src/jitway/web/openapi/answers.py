"""`answers.py`: what routes answer that the client has no form for, and problems."""

from typing import Any

from jitway.client.documents import Controls, Document


class Headroom(Document, frozen=True, kw_only=True):
    """Controls of an owner and of everything above it, with what is used of each."""

    owner: str
    level: str
    currency: str
    time_zone: str
    as_of: str
    own: Controls
    effective: dict[str, list[dict[str, Any]]]
    windows: Any


class Key(Document, frozen=True, kw_only=True):
    """An API key without its secret."""

    id: str
    scopes: list[str]
    created_at: str
    program: str | None = None
    name: str | None = None
    expires_at: str | None = None
    revoked_at: str | None = None
    previous_secret_until: str | None = None


class NewKey(Key, frozen=True, kw_only=True):
    """An API key with its secret, which is shown this once."""

    key: str


class Act(Document, frozen=True, kw_only=True):
    """One row of the audit."""

    id: str
    actor: str
    action: str
    subject: str
    recorded_at: str
    program: str | None = None
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    reason: str | None = None


class DeadLetter(Document, frozen=True, kw_only=True):
    """A message that could not be handled."""

    id: str
    queue: str


class Webhook(Document, frozen=True, kw_only=True):
    """A webhook as it is kept."""

    id: str
    source: str


class Anything(Document, frozen=True, kw_only=True):
    """An object whose members are told where its route is documented."""


class Health(Document, frozen=True, kw_only=True):
    """How every service is."""

    status: str
    services: dict[str, str]


class Status(Document, frozen=True, kw_only=True):
    """One word."""

    status: str


class Problem(Document, frozen=True, kw_only=True):
    """Why not (RFC 9457)."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    pointer: str | None = None
    existing: str | None = None
