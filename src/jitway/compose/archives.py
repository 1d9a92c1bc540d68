"""`archives.py`: the archive that is configured, and what fills it."""

from jitway.archive import keep
from jitway.archive.assemble import LedgerAssembler, Row
from jitway.archive.jsonb import JsonbArchive
from jitway.archive.store import COLLECTIONS, Archive
from jitway.database import DatabaseManager
from jitway.events.broker import JIT_FUNDING_QUEUE, TRANSACTION_QUEUE, WEBHOOK_QUEUE
from jitway.gateway.documents import (
    Document,
    authorization_document,
    circumstances_document,
    explanation_document,
)
from jitway.settings import Settings


def archive_of(manager: DatabaseManager) -> Archive:
    """The archive: in MongoDB where that is configured, else in PostgreSQL."""
    if manager.mongodb is None:
        return JsonbArchive(manager.postgres)
    from jitway.archive.mongo import MongoArchive

    return MongoArchive(manager.mongodb)


def archive_days(settings: Settings) -> dict[str, int]:
    """How long each collection of the archive is kept; 0 for ever."""
    return {name: getattr(settings, f"archive_retention_days_{name}") for name in COLLECTIONS}


def archive_assembler() -> LedgerAssembler:
    """Makes the archive's documents in the form in which HTTP answers."""
    return LedgerAssembler(_explained_authorization)


def archive_handlers(archive: Archive) -> dict[str, keep.Handler]:
    """By queue, what each of our consumers does."""
    assembler = archive_assembler()
    return {
        JIT_FUNDING_QUEUE: keep.keep_decisions(archive, assembler),
        TRANSACTION_QUEUE: keep.keep_transactions(archive, assembler),
        WEBHOOK_QUEUE: keep.keep_webhooks(archive, assembler),
    }


def _explained_authorization(row: Row) -> Document:
    document = authorization_document(row)
    return document | {
        "explanation": explanation_document(row["explanation"]),
        **circumstances_document(row["circumstances"], document["account_version"]),
    }
