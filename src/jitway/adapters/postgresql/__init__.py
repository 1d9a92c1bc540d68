"""PostgreSQL: a pool for everybody, dedicated connections for the group commit."""

from jitway.adapters.postgresql.adapter import PostgreSQLAdapter
from jitway.adapters.postgresql.link import DedicatedConnection, Row, TransactionClient

__all__ = ["DedicatedConnection", "PostgreSQLAdapter", "Row", "TransactionClient"]
