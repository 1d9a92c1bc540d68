"""`owned.py`: whose a thing is: programs, cardholders, accounts and cards for one caller.

What belongs to another program is not told apart from what is not there.
"""

from typing import Any
from zoneinfo import ZoneInfo

from jitway.adapters.postgresql import TransactionClient
from jitway.clock import Clock, id_digits
from jitway.domain.transfer import SYSTEM_CODES
from jitway.errors import Conflict, NotFound
from jitway.gateway.caller import Caller
from jitway.gateway.documents import (
    Document,
    account_document,
    card_document,
    cardholder_document,
    program_document,
)
from jitway.ledger.posting import lock_account
from jitway.sql import statements

_SQL = statements("cards")
_READ = statements("reading")
_ADMINISTRATION = statements("administration")

PREFIXES = {"program": "prg", "cardholder": "chd", "account": "acc", "card": "crd"}
DOCUMENTS = {
    "program": program_document,
    "cardholder": cardholder_document,
    "account": account_document,
    "card": card_document,
}


async def row(client: TransactionClient, name: str, id_: str) -> dict[str, Any]:
    """The row of one thing, as this transaction sees it.

    Args:
        client: in a transaction.
        name: `program`, `cardholder`, `account` or `card`.
        id_: with its prefix.

    Raises:
        NotFound: there is none.
    """
    digits = id_digits(id_, PREFIXES[name])
    rows = [] if digits is None else await client.query(_READ[name], [[digits]])
    if not rows:
        raise _not_found(name)
    return rows[0]


async def visible(client: TransactionClient, caller: Caller, name: str, id_: str) -> dict[str, Any]:
    """The row of one thing that this caller may see, whatever its state is.

    Raises:
        NotFound: there is no such thing for this caller.
    """
    found = await row(client, name, id_)
    if not caller.may_see(f"prg_{found['id' if name == 'program' else 'program_id'].hex}"):
        raise _not_found(name)
    return found


async def open_program(client: TransactionClient, caller: Caller, program_id: str) -> Document:
    """A program that takes something new.

    Raises:
        NotFound: there is no such program for this caller.
        Conflict: it is closed.
    """
    if not caller.may_see(program_id):
        raise _not_found("program")
    program = program_document(await row(client, "program", program_id))
    if program["status"] == "closed":
        raise Conflict("the program is closed", "program_not_active")
    return program


async def zone(client: TransactionClient, program_id: str) -> ZoneInfo:
    """The calendar of a program, which never changes."""
    return ZoneInfo((await row(client, "program", program_id))["time_zone"])


async def cardholder(client: TransactionClient, caller: Caller, cardholder_id: str) -> Document:
    """A cardholder that takes something new.

    Raises:
        NotFound: there is no such cardholder for this caller.
        Conflict: it is closed.
    """
    found = cardholder_document(await row(client, "cardholder", cardholder_id))
    if not caller.may_see(found["program"]):
        raise _not_found("cardholder")
    if found["status"] == "closed":
        raise Conflict("the cardholder is closed", "cardholder_not_active")
    return found


async def lock_account_of(
    client: TransactionClient, caller: Caller, owner: Document, account_id: str
) -> None:
    """Locks an account that a cardholder's card may spend from.

    Raises:
        NotFound: there is no such account for this caller.
        Conflict: it is closed, or belongs to another cardholder or program.
        LockTimeout: it stayed locked elsewhere.
    """
    found = await row(client, "account", account_id)
    if not caller.may_see(f"prg_{found['program_id'].hex}"):
        raise _not_found("account")
    holder = found["cardholder_id"]
    mine = holder is None or f"chd_{holder.hex}" == owner["id"]
    if not mine or f"prg_{found['program_id'].hex}" != owner["program"]:
        raise Conflict("the account belongs to another cardholder", "account_of_another")
    locked = await lock_account(client, account_id)
    assert locked is not None, "accounts are never deleted"
    if locked[1].state == "closed":
        raise Conflict("the account is closed", "account_not_active")


async def lock_card(client: TransactionClient, caller: Caller, card_id: str) -> Document:
    """Locks a card's account, then the card: no batch decides about it meanwhile.

    Returns:
        The card as it is, under the locks.

    Raises:
        NotFound: there is no such card for this caller.
        LockTimeout: the account stayed locked elsewhere.
    """
    hint = await row(client, "card", card_id)
    if not caller.may_see(f"prg_{hint['program_id'].hex}"):
        raise _not_found("card")
    await lock_account(client, f"acc_{hint['account_id'].hex}")
    await client.query(_SQL["lock_card"], [card_id[4:]])
    return card_document(await row(client, "card", card_id))


async def open_system_accounts(
    client: TransactionClient, clock: Clock, program_id: str, currency: str
) -> None:
    """Makes the program's side of transfers in one currency; again changes nothing."""
    ids = [clock.new_id("acc")[4:] for _ in SYSTEM_CODES]
    values = [program_id[4:], currency, ids, list(SYSTEM_CODES)]
    await client.query(_SQL["insert_system_accounts"], values)


async def admit_currency(
    client: TransactionClient, clock: Clock, program_id: str, currency: str
) -> None:
    """Lets a program have accounts in another currency than its own.

    Raises:
        Conflict: a limit adds up amounts of several of its accounts, which must be of one currency.
    """
    # Held until the account is there: whoever sets such a limit looks for it under this lock.
    await client.query(_SQL["lock_program"], [program_id[4:]])
    limited = await client.query(_SQL["wide_amount_limits"], [program_id[4:]])
    if limited[0]["found"]:
        raise Conflict(
            "the program or a cardholder has a limit by amount, in the program's currency",
            "currency_mismatch",
        )
    await open_system_accounts(client, clock, program_id, currency)


async def lock(client: TransactionClient, caller: Caller, name: str, id_: str) -> Document:
    """Locks one thing, a card with its account, whatever its state is.

    Args:
        client: in a transaction.
        caller: who asks.
        name: `program`, `cardholder`, `account` or `card`.
        id_: with its prefix.

    Returns:
        The thing as it is, under its lock.

    Raises:
        NotFound: there is no such thing for this caller.
        LockTimeout: it stayed locked elsewhere.
    """
    if name == "card":
        return await lock_card(client, caller, id_)
    await visible(client, caller, name, id_)
    if name == "account":
        await lock_account(client, id_)
    else:
        await client.query(_ADMINISTRATION[f"lock_{name}"], [id_[4:]])
    return DOCUMENTS[name](await row(client, name, id_))


async def named(
    client: TransactionClient, name: str, program_id: str, external_id: str
) -> str | None:
    """The id of the cardholder or card of a program that has this external id."""
    values = [program_id[4:], external_id]
    rows = await client.query(_ADMINISTRATION[f"{name}_named"], values)
    return f"{PREFIXES[name]}_{rows[0]['id'].hex}" if rows else None


def external_id_taken(name: str, existing: str | None) -> Conflict:
    """Why a second cardholder or card cannot have an external id; names the one that has it."""
    return Conflict(
        f"the program has a {name} with this external id", "external_id_taken", existing=existing
    )


def _not_found(name: str) -> NotFound:
    return NotFound(f"there is no {name} with this id")
