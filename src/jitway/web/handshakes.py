"""`handshakes.py`: callers between accept and the end of TLS's handshake, counted like others.

Until then there is no HTTP to refuse in: whoever is beyond a limit is closed before it begins.
"""

from collections.abc import Callable

from jitway.web.addresses import is_within, source_of
from jitway.web.reader import EdgeLimits


class Handshake:
    """One that is under way.

    Args:
        ended: is called once, when it succeeded or failed.
    """

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended: Callable[[], None] | None = ended

    def end(self) -> None:
        """It is no longer under way; again changes nothing."""
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()


class Handshakes:
    """Those of one server.

    Args:
        limits: of connections, in all and of one address.
        open_now: how many connections are open.
        sources: how many there are of each source; handshakes are added to it.
    """

    def __init__(
        self, limits: EdgeLimits, *, open_now: Callable[[], int], sources: dict[str, int]
    ) -> None:
        self._limits = limits
        self._open_now = open_now
        self._sources = sources
        self.under_way = 0
        """How many are under way."""

    def begin(self, address: str) -> Handshake | None:
        """Lets a caller begin; None when there are too many, in all or of its source.

        Args:
            address: of the caller.
        """
        limits = self._limits
        if self._open_now() + self.under_way >= limits.connections_max:
            return None
        source = "" if is_within(address, limits.trusted) else source_of(address)
        if source:
            if self._sources.get(source, 0) >= limits.per_address_max:
                return None
            self._sources[source] = self._sources.get(source, 0) + 1
        self.under_way += 1
        return Handshake(lambda: self._end(source))

    def _end(self, source: str) -> None:
        self.under_way -= 1
        if not source:
            return
        self._sources[source] -= 1
        if not self._sources[source]:
            del self._sources[source]
