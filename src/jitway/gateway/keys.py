"""`keys.py`: API keys are made, rotated, revoked and recognised.

A secret is 256 random bits, shown once; kept is its SHA-256. It is looked up by that digest, so the
time of a comparison tells nothing about it. While a key is rotated it has two secrets, never more.
Nobody makes, or gets the secret of, a key that may do more than their own.
"""

import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from hashlib import sha256

from jitway.adapters.postgresql import PostgreSQLAdapter, TransactionClient
from jitway.clock import Clock, id_digits
from jitway.domain.instant import instant_text
from jitway.errors import Conflict, InvalidRequest, NotFound, ScopeExceeded
from jitway.gateway import owned
from jitway.gateway.caller import Caller
from jitway.gateway.documents import Document, Row, key_document
from jitway.gateway.trail import Act
from jitway.ledger.idempotency import claim, in_transaction
from jitway.sql import statements

_SQL = statements("keys")

SCOPES = ("authorize", "read", "operate", "admin")
# How long the secret before a rotation stays good, unless said otherwise, and at most.
OVERLAP = timedelta(hours=24)
OVERLAP_MAX = timedelta(days=90)

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
    name: str | None = None,
    expires_at: datetime | None = None,
    reason: str | None = None,
) -> tuple[Document, str]:
    """Makes a key.

    Args:
        postgres: the ledger.
        clock: for ids.
        caller: who asks.
        scopes: what it may do: `authorize`, `read`, `operate`, `admin`.
        program_id: the only program it sees; None: that of the caller's key, if it has one.
        name: for people.
        expires_at: when it ends by itself, or None.
        reason: for the audit.

    Returns:
        The key as it is listed, and its text, which nobody can tell again.

    Raises:
        InvalidRequest: no scope, one that does not exist, or an end that has passed.
        NotFound: there is no such program for this caller.
        ScopeExceeded: the caller's own key has not all of these scopes.
        Conflict: the program is closed.
    """
    chosen = _checked(scopes)
    _demand_scopes(caller, chosen)
    program_id = program_id or caller.program_id
    text = _new_secret()

    async def act(client: TransactionClient) -> Document:
        if program_id is not None:
            await owned.open_program(client, caller, program_id)
        trail = Act.of(clock, caller, reason)
        at = await claim(client, caller.scope, None, subject=trail.id[4:])
        if expires_at is not None and expires_at <= at:
            raise InvalidRequest("this instant has passed", "/expires_at")
        key_id = clock.new_id("key")
        program_digits = program_id and program_id[4:]
        values = [key_id[4:], program_digits, name, chosen, _digest(text), at, expires_at]
        await client.query(_SQL["insert_key"], values)
        made = key_document((await client.query(_SQL["lock_key"], [key_id[4:]]))[0])
        await trail.record(client, "key.created", made, at=at)
        return made

    return await in_transaction(postgres, act), text


async def list_keys(postgres: PostgreSQLAdapter, caller: Caller) -> list[Document]:
    """All keys that the caller may see, the oldest first, without their secrets."""
    digits = caller.program_id and caller.program_id[4:]
    rows = await postgres.execute_query(_SQL["all_keys"], [digits], repeatable=True)
    return [key_document(row) for row in rows]


async def key(postgres: PostgreSQLAdapter, caller: Caller, key_id: str) -> Document:
    """One key as it is listed.

    Raises:
        NotFound: there is no such key for this caller.
    """
    digits = id_digits(key_id, "key")
    rows = []
    if digits is not None:
        rows = await postgres.execute_query(_SQL["keys"], [[digits]], repeatable=True)
    if not rows:
        raise _not_found()
    found = key_document(rows[0])
    if not caller.may_see(found["program"]):
        raise _not_found()
    return found


async def rotate_key(
    postgres: PostgreSQLAdapter,
    clock: Clock,
    caller: Caller,
    key_id: str,
    *,
    until: datetime | None = None,
    reason: str | None = None,
) -> tuple[Document, str]:
    """Gives a key a second secret; the one before stays good for a while.

    Args:
        postgres: the ledger.
        clock: for ids.
        caller: who asks.
        key_id: `key_...`.
        until: when the secret before ends; a day from now when None, at once when it has passed.
        reason: for the audit.

    Returns:
        The key as it is listed, and its new secret, which nobody can tell again.

    Raises:
        NotFound: there is no such key for this caller.
        InvalidRequest: the end is too far away.
        ScopeExceeded: the caller's own key has not all of its scopes.
        Conflict: it is revoked or over, or has two secrets already.
        LockTimeout: it stayed locked elsewhere.
    """
    text = _new_secret()

    async def act(client: TransactionClient) -> Document:
        row, before = await _locked(client, caller, key_id)
        _demand_scopes(caller, before["scopes"])
        now: datetime = row["now"]
        end = now + OVERLAP if until is None else until
        _demand_rotatable(row, now, end)
        trail = Act.of(clock, caller, reason)
        at = await claim(client, caller.scope, None, subject=trail.id[4:])
        await client.query(_SQL["rotate_key"], [key_id[4:], _digest(text), end])
        after = key_document((await client.query(_SQL["lock_key"], [key_id[4:]]))[0])
        await trail.record(client, "key.rotated", after, before=before, at=at)
        return after

    return await in_transaction(postgres, act), text


def _demand_rotatable(row: Row, now: datetime, end: datetime) -> None:
    if row["revoked_at"] is not None or (row["expires_at"] and row["expires_at"] <= now):
        raise Conflict("the key is revoked or over; make another", "key_not_active")
    if row["before_until"] and row["before_until"] > now:
        raise Conflict(
            f"its secret before the last rotation is good until "
            f"{instant_text(row['before_until'])}; a key has at most two",
            "rotation_under_way",
        )
    if end > now + OVERLAP_MAX:
        raise InvalidRequest(f"at most {OVERLAP_MAX.days} days from now", "/until")


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
        LockTimeout: it stayed locked elsewhere.
    """

    async def act(client: TransactionClient) -> Document:
        _, before = await _locked(client, caller, key_id)
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


async def _locked(client: TransactionClient, caller: Caller, key_id: str) -> tuple[Row, Document]:
    digits = id_digits(key_id, "key")
    rows = [] if digits is None else await client.query(_SQL["lock_key"], [digits])
    if not rows:
        raise _not_found()
    found = key_document(rows[0])
    if not caller.may_see(found["program"]):
        raise _not_found()
    return rows[0], found


def _not_found() -> NotFound:
    return NotFound("there is no key with this id")


def _demand_scopes(caller: Caller, scopes: Iterable[str]) -> None:
    own = set(caller.scopes)
    if own & {"authorize", "operate"}:
        own.add("read")
    beyond = sorted(set(scopes).difference(own))
    if beyond:
        raise ScopeExceeded(f"this needs a key that itself has {', '.join(beyond)}")


def _new_secret() -> str:
    return _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def _digest(text: str) -> bytes:
    return sha256(text.encode()).digest()


def _checked(scopes: Iterable[str]) -> list[str]:
    chosen = set(scopes)
    unknown = chosen.difference(SCOPES)
    if unknown or not chosen:
        named = ", ".join(sorted(unknown)) or "none"
        raise InvalidRequest(f"scopes are {', '.join(SCOPES)}; not {named}", "/scopes")
    return [scope for scope in SCOPES if scope in chosen]
