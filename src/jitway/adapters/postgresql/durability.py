"""Whether a server may hold a ledger: that an acknowledged commit is on its disk.

Owns the questions and what each wrong answer means. Changes nothing.
"""

import structlog

from jitway.adapters.postgresql.link import DedicatedConnection
from jitway.errors import LedgerUnavailable, SettingsError

_LOSES_COMMITS = ("fsync", "full_page_writes", "synchronous_commit")
_FACTS = """
    SELECT current_setting('fsync') AS fsync,
           current_setting('full_page_writes') AS full_page_writes,
           current_setting('synchronous_commit') AS synchronous_commit,
           current_setting('default_transaction_read_only') AS read_only,
           pg_is_in_recovery() AS standby
"""

_log = structlog.get_logger("jitway.adapters.postgresql")


async def check_durability(
    connection: DedicatedConnection, *, allow_unsafe: bool, address: str
) -> list[str]:
    """Refuse a server that could lose or refuse what it acknowledges.

    Args:
        connection: one as the group commit uses; its effective settings count, not the server's.
        allow_unsafe: for benchmarks: settings that lose commits are logged and returned instead.
        address: the masked address, for the message.

    Returns:
        The findings that `allow_unsafe` let pass; empty on a sound server.

    Raises:
        LedgerUnavailable: a standby, or a database that is read-only by default.
        SettingsError: a setting that loses commits, or an isolation other than READ COMMITTED.
    """
    (facts,) = await connection.fetch(_FACTS)
    if facts["standby"] or facts["read_only"] == "on":
        what = "a standby" if facts["standby"] else "read-only (default_transaction_read_only)"
        raise LedgerUnavailable(
            f"PostgreSQL at {address} is {what}; point DATABASE_URL at a writable primary"
        )
    isolation = await _isolation(connection)
    if isolation != "read committed":
        raise SettingsError(
            f"batches at {address} run at {isolation} in spite of BEGIN; jitway needs READ "
            "COMMITTED: connect without the pooler that rewrites it"
        )
    findings = [f"{name} is off" for name in _LOSES_COMMITS if facts[name] == "off"]
    if findings and not allow_unsafe:
        raise SettingsError(
            f"PostgreSQL at {address} can lose acknowledged decisions: {', '.join(findings)}; "
            "turn on with ALTER SYSTEM (or ALTER ROLE/DATABASE ... RESET) and reload"
        )
    if findings:
        _log.warning("unsafe_durability", address=address, findings=findings)
    return findings


async def _isolation(connection: DedicatedConnection) -> str:
    """What a batch really runs at: asked inside a transaction opened like a batch's."""
    await connection.begin()
    try:
        (row,) = await connection.fetch("SELECT current_setting('transaction_isolation')")
        return str(row[0])
    finally:
        await connection.rollback()
