"""`attempts.py`: failed logins by address: a few are mistakes, more have to wait.

Counted in this process, in bounded memory. Whoever forgets wins nothing: a key is 256 random bits.
"""

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

from jitway.web.problems import Refused

FAILURES_MAX = 10
WINDOW_S = 60.0
ADDRESSES_MAX = 10_000
# Of one IPv6 address everybody has 2^64.
_IPV6_SHARED_BITS = 64


class FailedLogins:
    """How often each address failed lately.

    Args:
        monotonic_s: seconds of a clock that never goes back.
        failures_max: failures in a window; then the address waits for its end.
        window_s: seconds from the first failure.
    """

    def __init__(
        self,
        monotonic_s: Callable[[], float],
        *,
        failures_max: int = FAILURES_MAX,
        window_s: float = WINDOW_S,
    ) -> None:
        self._monotonic_s = monotonic_s
        self._failures_max = failures_max
        self._window_s = window_s
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def check(self, address: str) -> None:
        """Refuses an address that failed too often, before anything is looked up.

        Raises:
            Refused: 429, with the seconds to wait.
        """
        count, until = self._failed.get(_network(address), (0, 0.0))
        wait_s = until - self._monotonic_s()
        if count >= self._failures_max and wait_s > 0:
            raise Refused(
                429,
                "too_many_requests",
                "too many failed logins from this address: wait a minute",
                {"Retry-After": str(int(wait_s) + 1)},
            )

    def note(self, address: str) -> None:
        """This address failed once more."""
        network, now = _network(address), self._monotonic_s()
        count, until = self._failed.pop(network, (0, 0.0))
        if until <= now:
            count, until = 0, now + self._window_s
        self._failed[network] = (count + 1, until)
        while len(self._failed) > ADDRESSES_MAX:
            self._failed.popitem(last=False)


def _network(address: str) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(int(parsed) >> (128 - _IPV6_SHARED_BITS))
    return address
