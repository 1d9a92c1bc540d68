"""`table.py`: every setting with its default, unit and meaning, and its two renderings.

Reads nothing.
"""

from jitway.settings.edge import EDGE
from jitway.settings.setting import Setting
from jitway.settings.values import (
    choice,
    duration,
    number,
    read_flag,
    read_path,
    read_word,
    share,
    url,
    webhook_secrets,
    whole_duration,
)

ENV_FILE = "JITWAY_ENV_FILE"
DAY_S = 86_400


POSTGRESQL = url("postgresql", "postgres")
MONGODB = url("mongodb", "mongodb+srv")
REDIS = url("redis", "rediss", "unix")
RABBITMQ = url("amqp", "amqps")
COLLECTOR = url("http", "https")

TABLE: tuple[Setting, ...] = (
    Setting("HOST", "127.0.0.1", "", "Address to listen on.", read_word),
    Setting("PORT", "3000", "", "Port to listen on; 0 takes a free one.", number(0, 65535)),
    Setting(
        "JITWAY_WORKERS",
        "1",
        "",
        "Processes that serve behind the one port; each has a pool and batches of its own.",
        number(1, 64),
    ),
    Setting(
        "DATABASE_URL",
        "",
        "",
        "PostgreSQL 15 to 18; not set: an embedded one.",
        POSTGRESQL,
        is_url=True,
        example="postgresql://jitway:jitway@127.0.0.1:5432/jitway",
    ),
    Setting(
        "MONGODB_URI",
        "",
        "",
        "MongoDB; not set: archive in PostgreSQL.",
        MONGODB,
        is_url=True,
        example="mongodb://127.0.0.1:27017/",
    ),
    Setting("MONGODB_DB", "jitway", "", "Database in MongoDB.", read_word, example="jitway"),
    Setting(
        "REDIS_URL",
        "",
        "",
        "Redis; not set: cache in process only.",
        REDIS,
        is_url=True,
        example="redis://127.0.0.1:6379/0",
    ),
    Setting(
        "RABBITMQ_URL",
        "",
        "",
        "RabbitMQ; not set: local delivery.",
        RABBITMQ,
        is_url=True,
        example="amqp://jitway:jitway@127.0.0.1:5672/",
    ),
    Setting(
        "JITWAY_DATA_DIR",
        "",
        "",
        "Data of the embedded PostgreSQL; not set: jitway/ in the user's data directory.",
        read_path,
    ),
    Setting(
        "JITWAY_DECISION_BUDGET_MS",
        "1000",
        "ms",
        "Longest time to decide an authorization; then 503 no_decision.",
        whole_duration("ms", 20, 30_000),
    ),
    Setting(
        "JITWAY_BATCH_STATEMENT_TIMEOUT_MS",
        "500",
        "ms",
        "PostgreSQL ends a statement of a batch after this.",
        whole_duration("ms", 10, 30_000),
    ),
    Setting(
        "JITWAY_ANSWER_RESERVE_MS",
        "50",
        "ms",
        "Part of the decision budget that is kept for the answer.",
        whole_duration("ms", 1, 5_000),
    ),
    Setting(
        "JITWAY_HOLD_TTL_S",
        str(7 * DAY_S),
        "s",
        "An approval that is not captured expires after this.",
        whole_duration("s", 1, 366 * DAY_S),
    ),
    Setting(
        "JITWAY_EXPIRY_SWEEP_S",
        "5",
        "s",
        "Pause between two looks for expired approvals.",
        duration("s", 0.05, 3_600),
    ),
    Setting(
        "JITWAY_IDEMPOTENCY_DAYS",
        "7",
        "days",
        "How long an idempotency key, and the answer it repeats, is kept at least.",
        number(1, 3_650),
    ),
    Setting("JITWAY_BATCH_SIZE_MAX", "128", "", "Authorizations in one commit.", number(1, 200)),
    Setting(
        "JITWAY_WAITING_MAX",
        "4096",
        "",
        "Authorizations that may wait; the next one gets 503 no_decision.",
        number(1, 1_000_000),
    ),
    Setting(
        "JITWAY_CARD_VIEWS_MAX",
        "100000",
        "",
        "Cards that one process remembers, about 1 KB each; others are read again.",
        number(100, 10_000_000),
    ),
    Setting(
        "JITWAY_LANES",
        "1",
        "",
        "Batches in flight at once, each with a connection of its own.",
        number(1, 32),
    ),
    Setting("JITWAY_POOL_MIN", "5", "", "Pooled connections kept open.", number(0, 1_000)),
    Setting(
        "JITWAY_POOL_MAX",
        "20",
        "",
        "Pooled connections at most; those of the batches come on top.",
        number(1, 1_000),
    ),
    Setting(
        "JITWAY_QUERY_TIMEOUT_S",
        "30",
        "s",
        "PostgreSQL ends any other statement after this.",
        duration("s", 0.1, 3_600),
    ),
    Setting(
        "JITWAY_SLOW_QUERY_MS",
        "100",
        "ms",
        "Statements above this are counted and logged.",
        whole_duration("ms", 1, 60_000),
    ),
    Setting(
        "JITWAY_ARCHIVE_RETENTION_DAYS_AUTHORIZATIONS",
        "0",
        "days",
        "Authorizations stay in the archive this long; 0 for ever.",
        number(0, 36_500),
    ),
    Setting(
        "JITWAY_ARCHIVE_RETENTION_DAYS_TRANSACTIONS",
        "0",
        "days",
        "Transactions stay in the archive this long; 0 for ever.",
        number(0, 36_500),
    ),
    Setting(
        "JITWAY_ARCHIVE_RETENTION_DAYS_WEBHOOKS",
        "0",
        "days",
        "Webhooks stay in the archive this long; 0 for ever.",
        number(0, 36_500),
    ),
    *EDGE,
    Setting(
        "JITWAY_DRAIN_S",
        "1",
        "s",
        "After SIGTERM: time to serve on while /ready says 503.",
        duration("s", 0, 5),
    ),
    Setting(
        "JITWAY_SESSION_S",
        str(DAY_S),
        "s",
        "A login of the live page ends after this.",
        whole_duration("s", 60, 30 * DAY_S),
    ),
    Setting(
        "JITWAY_SESSION_IDLE_S",
        "3600",
        "s",
        "A login of the live page that nobody uses ends after this.",
        whole_duration("s", 10, 30 * DAY_S),
    ),
    Setting(
        "JITWAY_WORK",
        "auto",
        "",
        "What `serve` does with events: all (publish, consume), relay (publish), none; auto: "
        "relay where DATABASE_URL and RABBITMQ_URL are set, for `jitway work` consumes; else all.",
        choice("auto", "all", "relay", "none"),
    ),
    Setting(
        "JITWAY_WEBHOOK_SECRETS",
        "",
        "",
        "Secrets of signed webhooks: `source=whsec_...,whsec_...@2027-01-01T00:00:00Z; ...`, at "
        "most two of each source, an old one with its end; not set: only API keys.",
        webhook_secrets,
        is_url=True,
    ),
    Setting(
        "JITWAY_LOG_FORMAT",
        "",
        "",
        "json or text; not set: text on a terminal, else json.",
        choice("json", "text"),
    ),
    Setting(
        "JITWAY_LOG_LEVEL",
        "info",
        "",
        "debug, info, warning or error.",
        choice("debug", "info", "warning", "error"),
    ),
    Setting(
        "JITWAY_OTEL_ENDPOINT",
        "",
        "",
        "Collector of OpenTelemetry traces (OTLP over HTTP); not set: none are made.",
        COLLECTOR,
        is_url=True,
    ),
    Setting(
        "JITWAY_OTEL_SAMPLE",
        "0.01",
        "",
        "Share of the authorizations that are told to it; those over 100 ms always are.",
        share,
    ),
    Setting(
        "JITWAY_UNSAFE_DURABILITY",
        "false",
        "",
        "For benchmarks only: serve on a PostgreSQL that can lose commits.",
        read_flag,
    ),
    Setting(
        "JITWAY_TEST_MODE",
        "false",
        "",
        "For jitway's own tests: without it every JITWAY_TEST_* name is refused.",
        read_flag,
    ),
    Setting(
        ENV_FILE,
        ".env",
        "",
        "File that is read beside the environment; /dev/null for none.",
        read_path,
    ),
)


def env_example() -> str:
    """The text of `.env.example`: every setting with unit, default and meaning.

    The services of `compose.yaml` are set; everything else is commented out.
    """
    lines = [
        "# Copy to .env; the real environment wins over this file. The addresses are those of the",
        "# services in compose.yaml; without DATABASE_URL jitway runs a PostgreSQL of its own, and",
        "# without one of the others it does the work itself. Uncomment what else you change.",
        "# Durations take ms, s, m, h, d and sizes kB, KiB, MB, MiB; a bare number has the unit",
        "# that the setting's name ends with. Each address may be in a file: DATABASE_URL_FILE=...",
        "",
    ]
    for row in TABLE:
        if row.name == ENV_FILE:
            continue
        unit = f" Unit: {row.unit}." if row.unit else ""
        default = f" Default: {row.default}." if row.default else ""
        given = f"{row.name}={row.example}" if row.example else f"# {row.name}={row.default}"
        lines += [f"# {row.meaning}{unit}{default}", given, ""]
    return "\n".join(lines[:-1]) + "\n"


def markdown_table() -> str:
    """The settings as a table for the docs."""
    lines = ["| Name | Unit | Default | Meaning |", "|---|---|---|---|"]
    for row in TABLE:
        default = f"`{row.default}`" if row.default else "not set"
        lines.append(f"| `{row.name}` | {row.unit} | {default} | {row.meaning} |")
    return "\n".join(lines) + "\n"
