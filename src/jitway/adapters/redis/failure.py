"""How Redis failed, in our own words, and what to do about it.

Knows no driver: it is given the operating system's error or the server's sentence.
"""

from dataclasses import dataclass

from jitway.adapters.reachability import why_unreachable
from jitway.errors import CacheFull, CacheUnavailable, JitwayError, StatementRefused

GENERAL_ERROR = "HY000"
WRONG_TYPE = "42804"
NO_PERMISSION = "42501"
NO_SCRIPT = "26000"

# The server is there and in step, but it cannot serve this now: nothing for a breaker.
_NOT_NOW = {
    "BUSY": "is busy with a script",
    "CLUSTERDOWN": "is a cluster that is down",
    "LOADING": "is loading its data",
    "MASTERDOWN": "is a replica without its primary",
    "MISCONF": "cannot write its snapshot and refuses writes; see its log",
    "MOVED": "is a cluster; REDIS_URL must name a single server or its proxy",
    "NOREPLICAS": "has too few replicas and refuses writes",
    "READONLY": "is a read-only replica; point REDIS_URL at the primary",
    "TRYAGAIN": "is moving keys",
}


@dataclass(frozen=True)
class Refusal:
    """An error reply: the server answered, the connection is in step.

    Args:
        word: the capitals it begins with, such as `OOM`.
        sentence: the rest of it.
    """

    word: str
    sentence: str

    def error(self, address: str) -> JitwayError:
        """What it means to the caller; `address` is the masked one."""
        if self.word == "OOM":
            return CacheFull(f"Redis at {address} is full (maxmemory) and refused a write")
        if self.word in _NOT_NOW:
            return CacheUnavailable(f"Redis at {address} {_NOT_NOW[self.word]}")
        if self.word == "WRONGTYPE":
            return StatementRefused("the key holds a value of another type", WRONG_TYPE)
        if self.word == "NOSCRIPT":
            return StatementRefused("the script is not known to the server", NO_SCRIPT)
        if self.word == "NOPERM":
            return StatementRefused(
                f"Redis at {address} does not permit this to the user of REDIS_URL: "
                f"{self.sentence}",
                NO_PERMISSION,
            )
        return StatementRefused(f"Redis refused the command: {self.sentence}", GENERAL_ERROR)


def unreachable(cause: BaseException | None, *, address: str) -> CacheUnavailable:
    """Why there is no connection, and what to do."""
    tls = "rediss:// with ?ssl_ca_certs=/path/ca.pem"
    return CacheUnavailable(
        f"Redis at {address} {why_unreachable(cause, variable='REDIS_URL', tls=tls)}"
    )


def credentials_refused(*, address: str) -> CacheUnavailable:
    """The server wants another user name or password."""
    return CacheUnavailable(
        f"Redis at {address} refused the user name or password; check them in REDIS_URL"
    )


def silent(*, address: str, limit_ms: int) -> CacheUnavailable:
    """The server did not answer in time."""
    # A server without TLS takes the greeting for the beginning of a command, and waits for its end.
    why = "overloaded or hung"
    if address.startswith("rediss:"):
        why += ", or does its port not speak TLS"
    return CacheUnavailable(f"Redis at {address} did not answer within {limit_ms} ms; is it {why}?")


def foreign(*, address: str) -> CacheUnavailable:
    """What answers there does not speak the protocol."""
    return CacheUnavailable(
        f"Redis at {address} answered in another protocol; do host and port in REDIS_URL "
        "belong to another service?"
    )
