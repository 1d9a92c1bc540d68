"""`tls.py`: the certificate that HTTPS is served with.

TLS 1.2 at least, Python's own choice of ciphers, no client certificates: those are a proxy's.
"""

import ssl
from pathlib import Path
from typing import TypedDict

from jitway.errors import SettingsError

_HANDSHAKE_S = 5.0
_SHUTDOWN_S = 2.0


class TlsOptions(TypedDict, total=False):
    """What asyncio wants to be told."""

    ssl: ssl.SSLContext
    ssl_handshake_timeout: float
    ssl_shutdown_timeout: float


def tls_options(context: ssl.SSLContext | None) -> TlsOptions:
    """How to accept a connection; without a context it is plain."""
    if context is None:
        return {}
    return {
        "ssl": context,
        "ssl_handshake_timeout": _HANDSHAKE_S,
        "ssl_shutdown_timeout": _SHUTDOWN_S,
    }


def server_tls(certificate: Path, key: Path) -> ssl.SSLContext:
    """A context with a certificate.

    Args:
        certificate: PEM, with what it is signed by.
        key: PEM, without a password.

    Raises:
        SettingsError: one cannot be read, or they do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    load_certificate(context, certificate, key)
    return context


def load_certificate(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Shows another certificate from now on; connections that are open keep theirs.

    Raises:
        SettingsError: one cannot be read, or they do not belong together; the old one stays.
    """
    try:
        # Tried apart: half a change would leave a context with a key of another certificate.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_none)
        context.load_cert_chain(certificate, key, password=_none)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise SettingsError(
            f"JITWAY_TLS_CERT {certificate} and JITWAY_TLS_KEY {key} cannot be used: {reason}"
        ) from error


def _none() -> str:
    """Nobody is there to type a password; OpenSSL would ask the terminal."""
    raise ValueError("the key has a password; store it without")
