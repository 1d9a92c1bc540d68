"""`administer.py`: programs, cardholders, accounts and cards are made; cards change their state.

Each act is one transaction that leaves an audit row. Whatever changes a card holds its account's
lock meanwhile, so that it comes before or after any batch, never beside one.
"""

from dataclasses import dataclass

from jitway.adapters.postgresql import PostgreSQLAdapter, TransactionClient
from jitway.clock import Clock
from jitway.domain.money import AMOUNT_MINOR_MAX, is_currency
from jitway.domain.validity import Moment
from jitway.errors import Conflict, InvalidRequest, NotFound
from jitway.gateway import owned
from jitway.gateway.caller import Answer, Caller, Idempotency
from jitway.gateway.documents import (
    account_document,
    card_document,
    cardholder_document,
    program_document,
    text_of,
)
from jitway.gateway.keyed import keep, once
from jitway.gateway.trail import Act
from jitway.gateway.validity import validity_bounds
from jitway.ledger.idempotency import claim
from jitway.sql import statements

_SQL = statements("cards")


async def create_program(
    postgres: PostgreSQLAdapter,
    clock: Clock,
    caller: Caller,
    idempotency: Idempotency | None,
    *,
    name: str,
    currency: str,
    time_zone: str,
    reason: str | None = None,
) -> Answer:
    """Makes a card program, with its side of every transfer.

    Args:
        postgres: the ledger.
        clock: for ids.
        caller: who asks; only the operator makes programs.
        idempotency: their key and content, or None.
        name: for people.
        currency: ISO 4217, of its limits and, unless they say otherwise, of its accounts.
        time_zone: IANA name; the calendar of its windows, for good.
        reason: for the audit.

    Returns:
        201 and the program.

    Raises:
        InvalidRequest: there is no such currency.
        NotFound: the caller's key belongs to another program.
        IdempotencyConflict: the key was used with other content.
    """
    _demand_currency(currency)
    if caller.program_id is not None:
        raise NotFound("a key of one program sees no other, and makes none")

    async def act(client: TransactionClient) -> Answer:
        trail = Act.of(clock, caller, reason)
        at = await claim(client, caller.scope, idempotency, subject=trail.id[4:])
        program_id = clock.new_id("prg")
        await client.query(_SQL["insert_program"], [program_id[4:], name, currency, time_zone, at])
        await owned.open_system_accounts(client, clock, program_id, currency)
        made = program_document(await owned.row(client, "program", program_id))
        await trail.record(client, "program.created", made, at=at)
        return await keep(client, caller, idempotency, Answer(201, text_of(made)), at=at)

    return await once(postgres, caller, idempotency, act)


async def create_cardholder(
    postgres: PostgreSQLAdapter,
    clock: Clock,
    caller: Caller,
    idempotency: Idempotency | None,
    *,
    program: str,
    external_id: str | None = None,
    name: str | None = None,
    reason: str | None = None,
) -> Answer:
    """Makes a cardholder of a program.

    Args:
        postgres: the ledger.
        clock: for ids.
        caller: who asks.
        idempotency: their key and content, or None.
        program: `prg_...`.
        external_id: the caller's own id; once in a program.
        name: for people.
        reason: for the audit.

    Returns:
        201 and the cardholder.

    Raises:
        NotFound: there is no such program for this caller.
        Conflict: the program is closed, or the external id is taken.
        IdempotencyConflict: the key was used with other content.
    """

    async def act(client: TransactionClient) -> Answer:
        await owned.open_program(client, caller, program)
        trail = Act.of(clock, caller, reason)
        at = await claim(client, caller.scope, idempotency, subject=trail.id[4:])
        cardholder_id = clock.new_id("chd")
        values = [cardholder_id[4:], program[4:], external_id, name, at]
        if not await client.query(_SQL["insert_cardholder"], values):
            assert external_id is not None
            taken = await owned.named(client, "cardholder", program, external_id)
            raise owned.external_id_taken("cardholder", taken)
        made = cardholder_document(await owned.row(client, "cardholder", cardholder_id))
        await trail.record(client, "cardholder.created", made, at=at)
        return await keep(client, caller, idempotency, Answer(201, text_of(made)), at=at)

    return await once(postgres, caller, idempotency, act)


async def create_account(  # noqa: PLR0913 one argument for each field of the body
    postgres: PostgreSQLAdapter,
    clock: Clock,
    caller: Caller,
    idempotency: Idempotency | None,
    *,
    currency: str,
    cardholder: str | None = None,
    program: str | None = None,
    credit_line: int = 0,
    reason: str | None = None,
) -> Answer:
    """Makes a funding account of a cardholder, or of a whole program.

    Args:
        postgres: the ledger.
        clock: for ids.
        caller: who asks.
        idempotency: their key and content, or None.
        currency: ISO 4217.
        cardholder: `chd_...`, unless it is the program's own.
        program: `prg_...`, unless it is a cardholder's.
        credit_line: minor units that may be spent below zero.
        reason: for the audit.

    Returns:
        201 and the account.

    Raises:
        InvalidRequest: not exactly one owner, no such currency, or a credit line out of bounds.
        NotFound: there is no such owner for this caller.
        Conflict: the program is closed, or counts amounts in another currency over its accounts.
        IdempotencyConflict: the key was used with other content.
    """
    _demand_currency(currency)
    if (cardholder is None) == (program is None):
        raise InvalidRequest("an account is of a cardholder or of a program", "/cardholder")
    if not 0 <= credit_line <= AMOUNT_MINOR_MAX:
        raise InvalidRequest(f"a credit line is from 0 to {AMOUNT_MINOR_MAX}", "/credit_line")

    async def act(client: TransactionClient) -> Answer:
        program_id = program
        if cardholder is not None:
            owner = await owned.cardholder(client, caller, cardholder)
            program_id = owner["program"]
        assert program_id is not None
        of_program = await owned.open_program(client, caller, program_id)
        if currency != of_program["currency"]:
            await owned.admit_currency(client, clock, program_id, currency)
        trail = Act.of(clock, caller, reason)
        at = await claim(client, caller.scope, idempotency, subject=trail.id[4:])
        account_id = clock.new_id("acc")
        owner_digits = cardholder and cardholder[4:]
        values = [account_id[4:], program_id[4:], owner_digits, currency, -credit_line, at]
        await client.query(_SQL["insert_account"], values)
        made = account_document(await owned.row(client, "account", account_id))
        await trail.record(client, "account.created", made, at=at)
        return await keep(client, caller, idempotency, Answer(201, text_of(made)), at=at)

    return await once(postgres, caller, idempotency, act)


async def create_card(  # noqa: PLR0913 one argument for each field of the body
    postgres: PostgreSQLAdapter,
    clock: Clock,
    caller: Caller,
    idempotency: Idempotency | None,
    *,
    cardholder: str,
    account: str,
    external_id: str | None = None,
    last4: str | None = None,
    valid_from: Moment | None = None,
    valid_until: Moment | None = None,
    reason: str | None = None,
) -> Answer:
    """Makes a card, active at once.

    Args:
        postgres: the ledger.
        clock: for ids.
        caller: who asks.
        idempotency: their key and content, or None.
        cardholder: `chd_...`.
        account: `acc_...`, of the cardholder or of its program.
        external_id: the caller's own id; once in a program.
        last4: four digits.
        valid_from: an instant, or the first date of the program's calendar; None is since ever.
        valid_until: an instant, or the last date; None is for ever.
        reason: for the audit.

    Returns:
        201 and the card.

    Raises:
        NotFound: there is no such cardholder, or no such account, for this caller.
        Conflict: the account is somebody else's or closed, or the external id is taken.
        InvalidRequest: the validity would end before it begins.
        IdempotencyConflict: the key was used with other content.
        LockTimeout: the account stayed locked elsewhere.
    """

    async def act(client: TransactionClient) -> Answer:
        owner = await owned.cardholder(client, caller, cardholder)
        await owned.lock_account_of(client, caller, owner, account)
        trail = Act.of(clock, caller, reason)
        at = await claim(client, caller.scope, idempotency, subject=trail.id[4:])
        card_id = clock.new_id("crd")
        ids = [card_id[4:], owner["program"][4:], cardholder[4:], account[4:]]
        validity = await validity_bounds(client, owner["program"], valid_from, valid_until)
        values = [*ids, external_id, last4, at, *validity]
        if not await client.query(_SQL["insert_card"], values):
            assert external_id is not None
            taken = await owned.named(client, "card", owner["program"], external_id)
            raise owned.external_id_taken("card", taken)
        made = card_document(await owned.row(client, "card", card_id))
        await trail.record(client, "card.created", made, at=at)
        await trail.announce(client, "card.created", made, at=at)
        return await keep(client, caller, idempotency, Answer(201, text_of(made)), at=at)

    return await once(postgres, caller, idempotency, act)


async def freeze_card(
    postgres: PostgreSQLAdapter,
    clock: Clock,
    caller: Caller,
    card_id: str,
    *,
    idempotency: Idempotency | None = None,
    reason: str | None = None,
) -> Answer:
    """Stops a card from spending; once this returns, no later authorization is approved on it.

    Args:
        postgres: the ledger.
        clock: for ids.
        caller: who asks.
        card_id: `crd_...`.
        idempotency: their key and content, or None.
        reason: for the audit.

    Returns:
        200 and the card; also when it was frozen before.

    Raises:
        NotFound: there is no such card for this caller.
        Conflict: the card is closed.
        LockTimeout: its account stayed locked elsewhere.
    """
    change = _CardChange(card_id, "frozen", reason)
    return await _change_card(postgres, clock, caller, idempotency, change)


async def unfreeze_card(
    postgres: PostgreSQLAdapter,
    clock: Clock,
    caller: Caller,
    card_id: str,
    *,
    idempotency: Idempotency | None = None,
    reason: str | None = None,
) -> Answer:
    """Lets a frozen card spend again; arguments, answer and errors as of `freeze_card`."""
    change = _CardChange(card_id, "active", reason)
    return await _change_card(postgres, clock, caller, idempotency, change)


async def close_card(
    postgres: PostgreSQLAdapter,
    clock: Clock,
    caller: Caller,
    card_id: str,
    *,
    idempotency: Idempotency | None = None,
    reason: str | None = None,
) -> Answer:
    """Ends a card for good; arguments, answer and errors as of `freeze_card`.

    What was approved before may still be captured.
    """
    change = _CardChange(card_id, "closed", reason)
    return await _change_card(postgres, clock, caller, idempotency, change)


@dataclass(frozen=True, slots=True)
class _CardChange:
    card_id: str
    state: str
    reason: str | None

    @property
    def event(self) -> str:
        return "card.unfrozen" if self.state == "active" else f"card.{self.state}"


async def _change_card(
    postgres: PostgreSQLAdapter,
    clock: Clock,
    caller: Caller,
    idempotency: Idempotency | None,
    change: _CardChange,
) -> Answer:
    async def act(client: TransactionClient) -> Answer:
        before = await owned.lock_card(client, caller, change.card_id)
        trail = Act.of(clock, caller, change.reason)
        at = await claim(client, caller.scope, idempotency, subject=trail.id[4:])
        if before["status"] == "closed" != change.state:
            raise Conflict("the card is closed, for good", "card_closed")
        after = before
        if before["status"] != change.state:
            await client.query(_SQL["change_card_state"], [change.card_id[4:], change.state])
            after = card_document(await owned.row(client, "card", change.card_id))
            await trail.announce(client, change.event, after, at=at)
        await trail.record(client, change.event, after, before=before, at=at)
        return await keep(client, caller, idempotency, Answer(200, text_of(after)), at=at)

    return await once(postgres, caller, idempotency, act)


def _demand_currency(code: str) -> None:
    if not is_currency(code):
        raise InvalidRequest("the currency is no active ISO 4217 code", "/currency")
