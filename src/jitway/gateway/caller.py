"""`caller.py`: who asks, under which key, and what they are answered. Values only."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

# The key space of callers that are bound to no program.
OPERATOR_SCOPE = "0" * 32
DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sends a request, as their key says.

    Args:
        key_id: `key_...`, or `cli` and `system` for our own acts.
        program_id: the only program they may see, or None for the operator of all programs.
        scopes: what they may do.
    """

    key_id: str
    program_id: str | None
    scopes: frozenset[str]

    @property
    def scope(self) -> str:
        """The idempotency key space: the program's digits, or zeros for the operator."""
        return OPERATOR_SCOPE if self.program_id is None else self.program_id[4:]

    def may_see(self, program_id: str | None) -> bool:
        """Whether a thing of that program, or of none, exists for this caller."""
        return self.program_id is None or self.program_id == program_id


class Idempotency(NamedTuple):
    """One request's key and content, as digests of sixteen bytes.

    Args:
        key: of the `Idempotency-Key` header.
        content: of method, path and canonical body without `deadline_ms`.
    """

    key: bytes
    content: bytes

    @classmethod
    def of(cls, key: str, method: str, path: str, canonical: bytes) -> "Idempotency":
        """The digests of one request.

        Args:
            key: the header's value.
            method: in capitals.
            path: without the query.
            canonical: the body as canonical JSON.
        """
        # A blank cannot stand in a method or a path, so the three never run together.
        content = b"%s %s %s" % (method.encode(), path.encode(), canonical)
        return cls(
            blake2b(key.encode(), digest_size=DIGEST_BYTES).digest(),
            blake2b(content, digest_size=DIGEST_BYTES).digest(),
        )


class Answer(NamedTuple):
    """What the caller is sent.

    Args:
        status: of HTTP.
        body: JSON text, exactly as it is sent.
        replayed: whether an earlier request with the same key was answered with it before.
    """

    status: int
    body: str
    replayed: bool = False
