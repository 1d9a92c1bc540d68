"""`edge.py`: the settings of the HTTP edge: how much and how slowly anybody may ask.

Rows of the table and nothing more.
"""

from jitway.settings.setting import Setting
from jitway.settings.values import duration, networks, number, read_path, size

EDGE: tuple[Setting, ...] = (
    Setting(
        "JITWAY_TLS_CERT",
        "",
        "",
        "File with the certificate and what it is signed by (PEM); set: HTTPS is served.",
        read_path,
    ),
    Setting("JITWAY_TLS_KEY", "", "", "File with the certificate's key (PEM).", read_path),
    Setting(
        "JITWAY_HEAD_BYTES_MAX",
        "16384",
        "bytes",
        "Largest request line and headers; beyond it 431.",
        size(1_024, 1024**2),
    ),
    Setting("JITWAY_HEADERS_MAX", "64", "", "Headers of a request; beyond it 431.", number(8, 500)),
    Setting(
        "JITWAY_HEAD_TIMEOUT_S",
        "2",
        "s",
        "Time from a request's first byte to the end of its headers; then 408.",
        duration("s", 0.05, 60),
    ),
    Setting(
        "JITWAY_BODY_BYTES_MAX",
        "65536",
        "bytes",
        "Largest body of a request; beyond it 413.",
        size(1_024, 16 * 1024**2),
    ),
    Setting(
        "JITWAY_BODY_TIMEOUT_S",
        "3",
        "s",
        "Time for a body to arrive; then 408.",
        duration("s", 0.05, 60),
    ),
    Setting(
        "JITWAY_FIRST_BYTE_TIMEOUT_S",
        "10",
        "s",
        "A new connection that sends nothing is closed after this.",
        duration("s", 0.05, 300),
    ),
    Setting(
        "JITWAY_KEEP_ALIVE_S",
        "15",
        "s",
        "A connection that was used is closed after it was idle for this.",
        duration("s", 0.05, 3_600),
    ),
    Setting(
        "JITWAY_WRITE_TIMEOUT_S",
        "10",
        "s",
        "A caller who leaves answers unread is cut off after this.",
        duration("s", 0.05, 300),
    ),
    Setting(
        "JITWAY_CONNECTIONS_MAX",
        "8192",
        "",
        "Connections at a time; the next one gets 503.",
        number(1, 1_000_000),
    ),
    Setting(
        "JITWAY_CONNECTIONS_PER_ADDRESS_MAX",
        "2048",
        "",
        "Connections of one address at a time, trusted proxies apart; the next one gets 503.",
        number(1, 1_000_000),
    ),
    Setting(
        "JITWAY_PIPELINED_MAX",
        "32",
        "",
        "Requests that may wait on one connection before no more are read from it.",
        number(1, 1_000),
    ),
    Setting(
        "JITWAY_TRUSTED_PROXIES",
        "",
        "",
        "Networks of reverse proxies whose X-Forwarded-For is believed: `10.0.0.0/8, ::1`.",
        networks,
    ),
    Setting(
        "JITWAY_KEY_RATE_MAX",
        "2000",
        "",
        "Requests a second of one key, over 10 s, without authorizations; then 429; 0: any.",
        number(0, 1_000_000),
    ),
    Setting(
        "JITWAY_KEY_AUTHORIZATIONS_RATE_MAX",
        "0",
        "",
        "Authorizations a second of one key, over 10 s; then 429; 0: any.",
        number(0, 1_000_000),
    ),
    Setting(
        "JITWAY_FAILED_KEYS_RATE_MAX",
        "10",
        "",
        "Bad keys and logins a second from one address, over 10 s; then 429; 0: any.",
        number(0, 1_000_000),
    ),
    Setting(
        "JITWAY_QUERIES_MAX",
        "4",
        "",
        "Reads under /v1 answered at a time, at most half of the pool; more wait, then get 503.",
        number(1, 1_000),
    ),
)
