"""`keys.py`: API keys are made, listed, revoked and recognised.

A key is 256 random bits, shown once; kept is its SHA-256. It is looked up by that digest, so the
time of a comparison tells nothing about a key.
"""

import secrets
from collections.abc import Iterable
from datetime import datetime
from hashlib import sha256

from jitway.adapters.postgresql import PostgreSQLAdapter, TransactionClient
from jitway.clock import Clock, id_digits
from jitway.errors import InvalidRequest, NotFound
from jitway.gateway import owned
from jitway.gateway.caller import Caller
from jitway.gateway.documents import Document, key_document
from jitway.gateway.trail import Act
from jitway.ledger.idempotency import claim, in_transaction
from jitway.sql import statements

_SQL = statements("cards")

SCOPES = ("authorize", "read", "operate", "admin")

_PREFIX = "jw_"
_SECRET_BYTES = 32
# The prefix, and 43 characters of a URL-safe alphabet.
_LENGTH = 46


async def create_key(
    postgres: PostgreSQLAdapter,
    clock: Clock,
    caller: Caller,
    *,
    scopes: Iterable[str],
    program_id: str | None = None,
    expires_at: datetime | None = None,
    reason: str | None = None,
) -> tuple[Document, str]:
    """Makes a key.

    Args:
        postgres: the ledger.
        clock: for ids.
        caller: who asks.
        scopes: what it may do: `authorize`, `read`, `operate`, `admin`.
        program_id: the only program it sees; None for a key of the operator.
        expires_at: when it ends by itself, or None.
        reason: for the audit.

    Returns:
        The key as it is listed, and its text, which nobody can tell again.

    Raises:
        InvalidRequest: no scope, or one that does not exist.
        NotFound: there is no such program for this caller.
        Conflict: the program is closed.
    """
    chosen = _checked(scopes)
    if not caller.may_see(program_id):
        raise NotFound("there is no program with this id")
    text = _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)

    async def act(client: TransactionClient) -> Document:
        if program_id is not None:
            await owned.open_program(client, caller, program_id)
        trail = Act.of(clock, caller, reason)
        at = await claim(client, caller.scope, None, subject=trail.id[4:])
        key_id = clock.new_id("key")
        program_digits = program_id and program_id[4:]
        values = [key_id[4:], program_digits, chosen, _digest(text), at, expires_at]
        await client.query(_SQL["insert_key"], values)
        made = key_document((await client.query(_SQL["lock_key"], [key_id[4:]]))[0])
        await trail.record(client, "key.created", made, at=at)
        return made

    return await in_transaction(postgres, act), text


async def list_keys(postgres: PostgreSQLAdapter, caller: Caller) -> list[Document]:
    """All keys that the caller may see, the oldest first, without their secrets."""
    digits = caller.program_id and caller.program_id[4:]
    rows = await postgres.execute_query(_SQL["keys"], [digits], repeatable=True)
    return [key_document(row) for row in rows]


async def revoke_key(
    postgres: PostgreSQLAdapter,
    clock: Clock,
    caller: Caller,
    key_id: str,
    *,
    reason: str | None = None,
) -> Document:
    """Ends a key for good; again changes nothing.

    Args:
        postgres: the ledger.
        clock: for ids.
        caller: who asks.
        key_id: `key_...`.
        reason: for the audit.

    Returns:
        The key as it is listed.

    Raises:
        NotFound: there is no such key for this caller.
    """
    if id_digits(key_id, "key") is None:
        raise NotFound("there is no key with this id")

    async def act(client: TransactionClient) -> Document:
        rows = await client.query(_SQL["lock_key"], [key_id[4:]])
        before = key_document(rows[0]) if rows else None
        if before is None or not caller.may_see(before["program"]):
            raise NotFound("there is no key with this id")
        if before["revoked_at"] is not None:
            return before
        trail = Act.of(clock, caller, reason)
        at = await claim(client, caller.scope, None, subject=trail.id[4:])
        await client.query(_SQL["revoke_key"], [key_id[4:], at])
        after = key_document((await client.query(_SQL["lock_key"], [key_id[4:]]))[0])
        await trail.record(client, "key.revoked", after, before=before, at=at)
        return after

    return await in_transaction(postgres, act)


async def authenticate(postgres: PostgreSQLAdapter, text: str) -> Caller | None:
    """Whose key this is, or None when it is nobody's, revoked or over.

    Args:
        postgres: the ledger.
        text: what the caller sent; any text at all.

    Raises:
        StoreUnavailable: the ledger cannot be asked.
    """
    if len(text) != _LENGTH or not text.startswith(_PREFIX) or not text.isascii():
        return None
    rows = await postgres.execute_query(_SQL["key_by_digest"], [_digest(text)], repeatable=True)
    if not rows:
        return None
    row = rows[0]
    program_id = row["program_id"] and f"prg_{row['program_id'].hex}"
    return Caller(f"key_{row['id'].hex}", program_id, frozenset(row["scopes"]))


def _digest(text: str) -> bytes:
    return sha256(text.encode()).digest()


def _checked(scopes: Iterable[str]) -> list[str]:
    chosen = set(scopes)
    unknown = chosen.difference(SCOPES)
    if unknown or not chosen:
        named = ", ".join(sorted(unknown)) or "none"
        raise InvalidRequest(f"scopes are {', '.join(SCOPES)}; not {named}", "/scopes")
    return [scope for scope in SCOPES if scope in chosen]
