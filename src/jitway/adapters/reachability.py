"""Why a server cannot be reached, and what to do: one sentence for every adapter's errors.

Knows no driver: it is given the operating system's or TLS error that lies below.
"""

import errno
import socket
import ssl


def why_unreachable(cause: BaseException | None, *, variable: str, tls: str) -> str:
    """The rest of a sentence that begins with the server's name and masked address.

    Args:
        cause: the deepest error known; None when the other side just hung up.
        variable: the setting to check, such as `REDIS_URL`.
        tls: how that setting asks for TLS and names its authority.
    """
    if isinstance(cause, ssl.SSLError):
        return _why_untrusted(cause, variable, tls)
    if isinstance(cause, socket.gaierror):
        return f"cannot be found: its host name has no address; check {variable}"
    if _is_refusal(cause):
        return f"refuses connections; is it running, and are host and port in {variable} right?"
    if isinstance(cause, TimeoutError):
        return f"did not answer in time; is it hung, or behind a firewall? Check {variable}"
    if cause is None or isinstance(cause, ConnectionResetError | BrokenPipeError):
        return f"closed the connection; is it running, and does it want TLS ({tls})?"
    reason = getattr(cause, "strerror", None) or type(cause).__name__
    return f"cannot be reached ({reason}); check that it runs and {variable}"


def _why_untrusted(cause: ssl.SSLError, variable: str, tls: str) -> str:
    if isinstance(cause, ssl.SSLCertVerificationError):
        reason = cause.verify_message.rstrip(".")
        return (
            f"has a certificate that is not accepted ({reason}); the host of {variable} must be "
            f"named in it, and its authority must be trusted: {tls}"
        )
    return f"failed at TLS ({cause.reason}); does this port speak it? TLS is asked for by {tls}"


def root_cause(error: BaseException) -> BaseException | None:
    """The operating system's or TLS error below a driver's, or None."""
    seen: set[int] = set()
    found: BaseException | None = None
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        if isinstance(at, OSError):
            found = at
        at = at.__cause__ or at.__context__
    return found


def _is_refusal(cause: BaseException | None) -> bool:
    if isinstance(cause, ConnectionRefusedError | FileNotFoundError):
        return True
    # A host with several addresses: the errors are joined into one that has only text.
    return isinstance(cause, OSError) and f"[Errno {errno.ECONNREFUSED}]" in str(cause)
