"""How a value lies in Redis, and the scripts that compare versions there.

Owns the format; does no I/O. A stored value is one line of header, then the payload:

    jw1 00000000000000000017 value 6a1f...(32 digits) user:42
    {"name":"Ada"}

Everything that could make a reply not ours is in it: the schema tag `jw1`, the version, the key
as the caller names it, and a digest over all of these and the payload. With a signing key the
digest cannot be made by another tenant of the same Redis. What does not fit is a miss, never data.
"""

import hmac
from hashlib import blake2b
from typing import NamedTuple

SCHEMA = b"jw1"
VERSION_DIGITS = 20
VERSION_MAX = 2**63 - 1
DIGEST_BYTES = 16
VALUE, EVICTED = b"value", b"evicted"

# The header's first 24 bytes, `jw1 ` and the version, decide. The digits have a fixed width, so
# comparing text compares numbers; a Lua number would lose precision above 2^53.
_STORED_VERSION = """
local function stored_version()
  local head = redis.pcall('GETRANGE', KEYS[1], 0, 23)
  if type(head) == 'string' and string.find(head, '^jw1 %d+$') and #head == 24 then
    return string.sub(head, 5)
  end
  return ''
end
"""

# KEYS: the key. ARGV: version, value, ttl in seconds. 1 = stored, 0 = a newer one is there.
SET_IF_NEWER = (
    _STORED_VERSION
    + """
if stored_version() > ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""
)

# KEYS: the key. ARGV: channel, then nothing, or version, marker and its ttl in seconds.
# A marker that finds no room (maxmemory) gives way to plain removal, which always works.
EVICT = (
    _STORED_VERSION
    + """
if ARGV[2] == nil then
  redis.call('UNLINK', KEYS[1])
elseif stored_version() < ARGV[2] then
  local marked = redis.pcall('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
  if marked.err then redis.call('UNLINK', KEYS[1]) end
end
redis.call('PUBLISH', ARGV[1], KEYS[1])
return 1
"""
)

# KEYS: counter, mark of the unique key. ARGV: amount, then window and life of the mark in ms, 0 for
# none.
# The reply is text, because INCRBY's own reply would pass through a Lua number.
INCREMENT = """
if ARGV[3] ~= '0' and redis.call('EXISTS', KEYS[2]) == 1 then
  return redis.call('GET', KEYS[1]) or '0'
end
redis.call('INCRBY', KEYS[1], ARGV[1])
if ARGV[2] ~= '0' and redis.call('PTTL', KEYS[1]) == -1 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
if ARGV[3] ~= '0' then redis.call('SET', KEYS[2], '1', 'PX', ARGV[3]) end
return redis.call('GET', KEYS[1])
"""


class Versioned(NamedTuple):
    """A value and the version it was stored under."""

    value: bytes
    version: int


class Malformed(Exception):
    """The bytes under a key are not a value of ours for that key."""


class ValueFormat:
    """Seals values for a key and opens them again.

    Args:
        signing_key: up to 64 secret bytes; None = the digest finds accidents, not forgery.
    """

    def __init__(self, signing_key: bytes | None = None) -> None:
        self._signing_key = signing_key or b""

    def seal(self, key: str, payload: bytes, version: int, *, kind: bytes = VALUE) -> bytes:
        """The bytes to store for `payload` under `key` at `version` (0 to 2^63 - 1)."""
        head = b"%b %b %b" % (SCHEMA, version_text(version), kind)
        name = key.encode()
        return b"%b %b %b\n%b" % (head, self._digest(head, name, payload), name, payload)

    def open(self, key: str, stored: bytes) -> Versioned | None:
        """The value, or None for the mark an eviction left.

        Raises:
            Malformed: foreign, truncated, forged, of another key or of another schema.
        """
        header, _, payload = stored.partition(b"\n")
        fields = header.split(b" ", 4)
        if len(fields) != 5:
            raise Malformed
        schema, version, kind, digest, name = fields
        expected = self._digest(b" ".join((schema, version, kind)), name, payload)
        if schema != SCHEMA or name != key.encode() or not hmac.compare_digest(digest, expected):
            raise Malformed
        return None if kind == EVICTED else Versioned(payload, int(version))

    def _digest(self, head: bytes, name: bytes, payload: bytes) -> bytes:
        # Lengths first: no two different triples give the same bytes to digest.
        content = b"%d %d %b%b%b" % (len(head), len(name), head, name, payload)
        digest = blake2b(content, digest_size=DIGEST_BYTES, key=self._signing_key)
        return digest.hexdigest().encode()


def version_text(version: int) -> bytes:
    """The version as the scripts compare it: decimal digits of a fixed width."""
    return b"%0*d" % (VERSION_DIGITS, version)
