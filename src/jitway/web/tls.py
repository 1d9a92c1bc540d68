"""`tls.py`: the certificate that HTTPS is served with.

TLS 1.2 at least, Python's own choice of ciphers, no client certificates: those are a proxy's.
"""

import asyncio
import ssl
from pathlib import Path
from typing import TypedDict

import structlog

from jitway.errors import SettingsError

_log = structlog.get_logger("jitway.web.tls")

LOOK_S = 10.0
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


class Certificate:
    """The certificate of this gateway, read again when its file changes.

    Args:
        certificate: PEM, with what it is signed by.
        key: PEM, without a password.
        look_s: pause between two looks at the files.

    Raises:
        SettingsError: one cannot be read, or they do not belong together.
    """

    def __init__(self, certificate: Path, key: Path, *, look_s: float = LOOK_S) -> None:
        self._files = (certificate, key)
        self._look_s = look_s
        self._timer: asyncio.TimerHandle | None = None
        self.context = _context()
        self._loaded = self._marks()
        self._load()

    def watch(self) -> None:
        """Begins to look; who renews a certificate need not tell anybody."""
        self._timer = asyncio.get_running_loop().call_later(self._look_s, self._look)

    def close(self) -> None:
        """Looks no more; may be called twice, or before `watch`."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        marks = self._marks()
        if marks != self._loaded:
            # Tried once: files that are half written are tried again when they have changed.
            self._loaded = marks
            try:
                self._load()
                _log.info("certificate_loaded", file=str(self._files[0]))
            except SettingsError as error:
                _log.error("certificate_refused", cause=str(error))
        self.watch()

    def _marks(self) -> list[tuple[int, int] | None]:
        marks: list[tuple[int, int] | None] = []
        for file in self._files:
            try:
                found = file.stat()
            except OSError:
                marks.append(None)
            else:
                marks.append((found.st_mtime_ns, found.st_ino))
        return marks

    def _load(self) -> None:
        certificate, key = self._files
        try:
            # Tried apart: half a change would leave a key without its certificate.
            _context().load_cert_chain(certificate, key, password=_no_password)
            self.context.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
            raise SettingsError(
                f"JITWAY_TLS_CERT {certificate} and JITWAY_TLS_KEY {key} cannot be used "
                f"({reason or error}): give PEM files that belong together"
            ) from error


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _no_password() -> str:
    """Nobody is there to type one; OpenSSL would ask the terminal."""
    raise ValueError("the key has a password; store it without")
