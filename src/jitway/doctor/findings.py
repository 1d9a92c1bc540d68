"""`findings.py`: what can be found, how bad it is, and what to do: one table.

`docs/troubleshooting.md` explains every code; a test holds the two together. Looks at nothing.
"""

from typing import Any

import msgspec

PROBLEM, NOTE = "problem", "note"
REACHABLE, UNREACHABLE = "reachable", "unreachable"
NOT_RUNNING, DISABLED = "not_running", "disabled"

# Code -> how bad, and what to do. A problem makes `jitway doctor` exit 1, a note does not.
CATALOGUE: dict[str, tuple[str, str]] = {
    "bad_setting": (PROBLEM, "correct the setting; docs/configuration.md has them all"),
    "not_installed": (PROBLEM, "install the extra that the line above names"),
    "unreachable": (
        PROBLEM,
        "start it or correct its address; only PostgreSQL decides money",
    ),
    "not_initialized": (PROBLEM, "run `jitway init`"),
    "not_running": (NOTE, "`jitway serve` starts it"),
    "slow_answer": (PROBLEM, "look at the load of its machine and at the network between"),
    "version_unsupported": (PROBLEM, "use a version that docs/configuration.md names"),
    "unencrypted": (NOTE, "use TLS in its address unless the network between is your own"),
    "schema": (PROBLEM, "do as the line above says; until then nothing is served"),
    "schema_pending": (NOTE, "run `jitway migrate` when no older gateway runs any more"),
    "durability": (PROBLEM, "correct the server's settings: `jitway serve` refuses it as it is"),
    "clock_skew": (PROBLEM, "synchronise both clocks (NTP): limits count days, keys expire"),
    "connection_budget": (PROBLEM, "lower JITWAY_POOL_MAX or raise max_connections"),
    "connections_exhausted": (PROBLEM, "find who holds them, or raise max_connections"),
    "pool_exhausted": (PROBLEM, "look for slow statements first; then raise JITWAY_POOL_MAX"),
    "slow_queries": (PROBLEM, "see which statement it is, what it waits for, and end its cause"),
    "outbox_waiting": (PROBLEM, "see that `jitway work` runs and reaches RabbitMQ"),
    "dead_letters": (PROBLEM, "`jitway dead-letters list` has their causes; replay or discard"),
    "queue_missing": (NOTE, "`jitway work` declares it when it starts"),
    "queue_unconsumed": (PROBLEM, "start `jitway work`"),
    "queue_growing": (PROBLEM, "start more `jitway work`, and see what its consumers wait for"),
    "queue_deep": (PROBLEM, "start more `jitway work`, and see what its consumers wait for"),
    "cache_misses": (NOTE, "see whether Redis evicts, restarts, or is shared with others"),
    "cache_full": (PROBLEM, "raise maxmemory, or see who fills it; money is not affected"),
    "cache_uncapped": (NOTE, "set maxmemory and a maxmemory-policy such as volatile-lfu"),
    "disk_space": (PROBLEM, "free space there, or move the data and set JITWAY_DATA_DIR"),
}


class Finding(msgspec.Struct, frozen=True):
    """One thing that is not as it should be.

    Args:
        code: of `CATALOGUE`.
        level: `problem` or `note`.
        subject: what it is about: a store, a queue, a setting.
        detail: what was seen, secrets masked.
        advice: what to do.
    """

    code: str
    level: str
    subject: str
    detail: str
    advice: str


class Seen(msgspec.Struct):
    """What one look at one store found; filled while looking, so that a late answer costs only it.

    Args:
        subject: the store.
        address: masked; None when nothing is configured, or when it cannot be read.
        status: `reachable`, `unreachable`, `not_running` or `disabled`.
        product: name and version.
        latency_ms: of a sign of life on an open connection.
        figures: pool, queues, memory: names end with their unit.
        findings: what is not as it should be.
    """

    subject: str
    address: str | None = None
    status: str = UNREACHABLE
    product: str | None = None
    latency_ms: float | None = None
    figures: dict[str, Any] = msgspec.field(default_factory=dict)
    findings: list[Finding] = msgspec.field(default_factory=list)

    def find(self, code: str, detail: str, *, subject: str | None = None) -> None:
        """Adds a finding; the catalogue knows the rest of it."""
        level, advice = CATALOGUE[code]
        self.findings.append(Finding(code, level, subject or self.subject, detail, advice))
