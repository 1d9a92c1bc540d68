"""What every use of Redis shares: how to ask, how keys and values are checked, what is counted.

Knows no driver and no socket; `RedisAdapter` gives it `call` and `run_script`.
"""

import json
from abc import ABC, abstractmethod
from typing import TypeAlias

from jitway.adapters.redis import values as redis_values
from jitway.adapters.redis.failure import WRONG_TYPE
from jitway.adapters.redis.values import Malformed, ValueFormat, Versioned
from jitway.errors import InvalidRequest, StatementRefused

Argument: TypeAlias = bytes | str | int
Reply: TypeAlias = bytes | int | list["Reply"] | None

TTL_S_MAX = 10 * 366 * 86_400
DATA_TYPES = ("user", "card", "limits", "transaction", "session")


class LookupTally:
    """Counts lookups by data type: found, not found, and found but not ours."""

    def __init__(self) -> None:
        data_types = (*DATA_TYPES, "other")
        self.hits = dict.fromkeys(data_types, 0)
        self.misses = dict.fromkeys(data_types, 0)
        self.malformed = dict.fromkeys(data_types, 0)

    def count(self, key: str, *, found: bool) -> None:
        """One more hit or miss of the key's data type."""
        counts = self.hits if found else self.misses
        counts[self.data_type(key)] += 1

    def count_malformed(self, key: str) -> None:
        """One more value that was not ours; the lookup itself is counted apart."""
        self.malformed[self.data_type(key)] += 1

    @staticmethod
    def data_type(key: str) -> str:
        """The word before the first colon, when it is one of ours; the set is bounded."""
        word = key.partition(":")[0]
        return word if word in DATA_TYPES else "other"


class RedisCommands(ABC):
    """The way to ask the server, and to read what it holds."""

    def __init__(self, values: ValueFormat) -> None:
        self._values = values
        self.lookups = LookupTally()

    @abstractmethod
    async def call(self, *command: Argument) -> Reply:
        """Sends one command and reads its reply."""

    @abstractmethod
    async def run_script(self, script: str, keys: tuple[str, ...], *arguments: Argument) -> Reply:
        """Runs a script on the server; the keys are given without prefix."""

    @abstractmethod
    def full_key(self, key: str) -> str:
        """The key as the server knows it."""

    @property
    @abstractmethod
    def invalidation_channel(self) -> str:
        """Where evictions are announced, also those of keys the server does not hold."""

    async def get_from_cache(self, key: str) -> object:
        """The data kept under a key such as `user:42`, or None.

        Foreign, truncated or forged values are misses and counted as malformed.

        Raises:
            CacheUnavailable: Redis cannot be reached, or did not answer in time.
        """
        found = await self._read(key)
        data: object = None
        if found is not None:
            try:
                data = json.loads(found.value)
            except ValueError:
                self.lookups.count_malformed(key)
                found = None
        self.lookups.count(key, found=found is not None)
        return data

    async def _read(self, key: str) -> Versioned | None:
        check(key)
        try:
            stored = await self.call("GET", self.full_key(key))
        except StatementRefused as refused:
            if refused.sqlstate != WRONG_TYPE:
                raise
            self.lookups.count_malformed(key)
            return None
        if stored is None:
            return None
        try:
            if not isinstance(stored, bytes):
                raise Malformed
            return self._values.open(key, stored)
        except Malformed:
            self.lookups.count_malformed(key)
            return None


def check(key: str, *, ttl_s: int = 1, version: int = 0) -> None:
    """Refuses what cannot be a key, a time to live or a version.

    Raises:
        InvalidRequest: one of them is out of range.
    """
    if not key or key.endswith(":") or not key.isprintable():
        raise InvalidRequest("an id or name is needed, of printable characters", code="bad_key")
    if not 1 <= ttl_s <= TTL_S_MAX:
        raise InvalidRequest(f"seconds must be 1 to {TTL_S_MAX}", code="ttl_out_of_range")
    if not 0 <= version <= redis_values.VERSION_MAX:
        raise InvalidRequest("a version must be 0 to 2^63 - 1", code="version_out_of_range")


def json_bytes(data: object) -> bytes:
    """The data as JSON, provided that reading gives back the same.

    Raises:
        InvalidRequest: it would not, such as for dates, decimals, tuples or keys that are no text.
    """
    try:
        text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"the data is no plain JSON: {error}", code="not_json") from None
    if json.loads(text) != data:
        raise InvalidRequest(
            "the data would not come back the same from JSON (a tuple, or a key that is no text)",
            code="not_json",
        )
    return text.encode()
