"""Where the broker is and how it is trusted: the reading of `RABBITMQ_URL`, and its masked form.

Owns the options a URL may carry. Opens no connection; an option it does not know, or one that
would switch certificate checks off, is refused.
"""

import ssl
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from jitway.errors import SettingsError

SCHEMES = ("amqp", "amqps")
PORTS = {"amqp": 5672, "amqps": 5671}
HEARTBEAT_S = 10
_OPTIONS = ("heartbeat", "name", "cafile", "cacertfile", "capath", "certfile", "keyfile", "verify")


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """A broker's address, read from `amqp://user:password@host:port/vhost?heartbeat=10`.

    Args:
        url: what the driver gets: no options but the heartbeat.
        masked: the same without password and options, fit for logs.
        host, port: where it listens.
        vhost: the virtual host; `/` when the URL names none.
        secure: whether TLS is spoken.
        name: how the connections appear in the broker's list.
        cafile, capath: the certificates to trust; the system's when both are None.
        certfile, keyfile: our own certificate, where the broker asks for one.
    """

    url: str
    masked: str
    host: str
    port: int
    vhost: str
    secure: bool
    name: str
    cafile: str | None = None
    capath: str | None = None
    certfile: str | None = None
    keyfile: str | None = None

    def tls_context(self) -> ssl.SSLContext | None:
        """What verifies the broker's certificate and host name; None without TLS. Reads files.

        Raises:
            SettingsError: a certificate file is missing or is none.
        """
        if not self.secure:
            return None
        try:
            context = ssl.create_default_context(cafile=self.cafile, capath=self.capath)
            if self.certfile:
                context.load_cert_chain(self.certfile, self.keyfile)
        except OSError as error:
            files = ", ".join(filter(None, (self.cafile, self.capath, self.certfile, self.keyfile)))
            raise SettingsError(
                f"RABBITMQ_URL names certificate files that cannot be read ({files}): {error}"
            ) from error
        return context


def read_address(url: str, *, name: str = "jitway") -> BrokerAddress:
    """Read and check a broker's URL.

    Args:
        url: `amqp://` or `amqps://`, with `?cafile=` for a private certificate authority.
        name: how the connections appear in the broker's list; the URL's `name` wins.

    Raises:
        SettingsError: the URL is none of a broker; the text says what to write instead.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SettingsError(f"RABBITMQ_URL is not a URL: {error}") from None
    if parts.scheme not in SCHEMES:
        raise SettingsError(
            f"RABBITMQ_URL begins with {parts.scheme or 'no scheme'}://, not with amqp:// or "
            "amqps://: write amqp://user:password@host:5672/"
        )
    if not parts.hostname:
        raise SettingsError("RABBITMQ_URL names no host: write amqp://user:password@host:5672/")
    options = _read_options(parts.query, secure=parts.scheme == "amqps")
    port = port or PORTS[parts.scheme]
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    # `amqp://host`, `amqp://host/` and `amqp://host/%2F` all mean the virtual host `/`.
    vhost = unquote(parts.path[1:]) or "/"
    user, password = unquote(parts.username or "guest"), unquote(parts.password or "guest")
    address = f"{host}:{port}/{quote(vhost, safe='')}"
    credentials = f"{quote(user, safe='')}:{quote(password, safe='')}"
    query = urlencode({"heartbeat": options.get("heartbeat", HEARTBEAT_S)})
    return BrokerAddress(
        url=f"{parts.scheme}://{credentials}@{address}?{query}",
        masked=f"{parts.scheme}://{quote(user, safe='')}:***@{host}:{port}{parts.path or '/'}",
        host=parts.hostname,
        port=port,
        vhost=vhost,
        secure=parts.scheme == "amqps",
        name=options.get("name", name),
        cafile=options.get("cafile") or options.get("cacertfile"),
        capath=options.get("capath"),
        certfile=options.get("certfile"),
        keyfile=options.get("keyfile"),
    )


def _read_options(query: str, *, secure: bool) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for option in options:
        if option not in _OPTIONS:
            raise SettingsError(
                f"RABBITMQ_URL has an option {option!r}; there are {', '.join(_OPTIONS)}"
            )
    if options.get("verify", "verify_peer") != "verify_peer":
        raise SettingsError(
            "RABBITMQ_URL switches certificate checks off; name the authority by ?cafile= instead"
        )
    if not secure and any(option not in ("heartbeat", "name") for option in options):
        raise SettingsError(
            "RABBITMQ_URL names certificates but begins with amqp://; write amqps:// for TLS"
        )
    heartbeat = options.get("heartbeat", str(HEARTBEAT_S))
    if not heartbeat.isascii() or not heartbeat.isdigit() or not 1 <= int(heartbeat) <= 600:
        raise SettingsError(f"RABBITMQ_URL has heartbeat={heartbeat!r}; it is 1 to 600 seconds")
    return options
