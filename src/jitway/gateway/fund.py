"""`fund.py`: money comes into a funding account from its program, and goes back."""

from dataclasses import dataclass

from jitway.adapters.postgresql import PostgreSQLAdapter, TransactionClient
from jitway.clock import Clock, id_digits
from jitway.domain.card import Account
from jitway.domain.money import AMOUNT_MINOR_MAX
from jitway.domain.transfer import BALANCE_MINOR_MAX, TransferKind, apply
from jitway.errors import Conflict, InvalidRequest, NotFound
from jitway.gateway.caller import Answer, Caller, Idempotency
from jitway.gateway.documents import Document
from jitway.gateway.keyed import keep, once
from jitway.gateway.trail import Act
from jitway.ledger.idempotency import claim
from jitway.ledger.posting import Posting, lock_account, post


@dataclass(frozen=True, slots=True)
class _Movement:
    account_id: str
    kind: TransferKind
    amount: int
    description: str | None
    reason: str | None

    @property
    def action(self) -> str:
        """As the audit names it."""
        return "account.deposited" if self.kind is TransferKind.DEPOSIT else "account.withdrawn"


async def deposit(
    postgres: PostgreSQLAdapter,
    clock: Clock,
    caller: Caller,
    idempotency: Idempotency,
    account_id: str,
    *,
    amount: int,
    description: str | None = None,
    reason: str | None = None,
) -> Answer:
    """Moves money from the program's funding into an account.

    Args:
        postgres: the ledger.
        clock: for the transfer's id.
        caller: who asks.
        idempotency: their key and content.
        account_id: `acc_...`.
        amount: minor units.
        description: the caller's words, kept with the transfer.
        reason: for the audit.

    Returns:
        201 and the transfer.

    Raises:
        NotFound: there is no such account for this caller.
        Conflict: the account is closed, or its balance would leave its bounds.
        IdempotencyConflict: the key was used with other content.
        LockTimeout: the account stayed locked elsewhere.
    """
    movement = _Movement(account_id, TransferKind.DEPOSIT, amount, description, reason)
    return await _move(postgres, clock, caller, idempotency, movement)


async def withdraw(
    postgres: PostgreSQLAdapter,
    clock: Clock,
    caller: Caller,
    idempotency: Idempotency,
    account_id: str,
    *,
    amount: int,
    description: str | None = None,
    reason: str | None = None,
) -> Answer:
    """Moves money from an account back to the program's funding.

    Args:
        postgres: the ledger.
        clock: for the transfer's id.
        caller: who asks.
        idempotency: their key and content.
        account_id: `acc_...`.
        amount: minor units, at most what is available.
        description: the caller's words, kept with the transfer.
        reason: for the audit.

    Returns:
        201 and the transfer.

    Raises:
        NotFound: there is no such account for this caller.
        Conflict: the account is not active, or has less available.
        IdempotencyConflict: the key was used with other content.
        LockTimeout: the account stayed locked elsewhere.
    """
    movement = _Movement(account_id, TransferKind.WITHDRAWAL, amount, description, reason)
    return await _move(postgres, clock, caller, idempotency, movement)


async def _move(
    postgres: PostgreSQLAdapter,
    clock: Clock,
    caller: Caller,
    idempotency: Idempotency,
    movement: _Movement,
) -> Answer:
    if not 0 < movement.amount <= AMOUNT_MINOR_MAX:
        raise InvalidRequest(f"an amount is from 1 to {AMOUNT_MINOR_MAX}", "/amount")

    async def act(client: TransactionClient) -> Answer:
        program_id, account = await _locked(client, caller, movement.account_id)
        transfer_id = clock.new_id("trf")
        now = await claim(client, caller.scope, idempotency, subject=transfer_id[4:])
        _demand_movable(account, movement)
        before = standing(program_id, account)
        apply(account, movement.kind, movement.amount)
        posting = Posting(
            transfer_id,
            movement.kind,
            program_id,
            account,
            movement.amount,
            at=now,
            description=movement.description,
        )
        await post(client, posting)
        after = standing(program_id, account) | {
            "transfer": transfer_id,
            "amount": movement.amount,
        }
        trail = Act.of(clock, caller, movement.reason)
        await trail.record(client, movement.action, after, before=before, at=now)
        return await keep(client, caller, idempotency, Answer(201, posting.body), at=now)

    return await once(postgres, caller, idempotency, act)


async def _locked(
    client: TransactionClient, caller: Caller, account_id: str
) -> tuple[str, Account]:
    locked = None
    if id_digits(account_id, "acc") is not None:
        locked = await lock_account(client, account_id)
    if locked is None or not caller.may_see(locked[0]):
        raise NotFound("there is no account with this id")
    return locked


def standing(program_id: str, account: Account) -> Document:
    """What the audit says of an account whose money moves."""
    return {
        "id": account.id,
        "program": program_id,
        "posted": account.posted,
        "held": account.held,
        "available": account.available,
        "version": account.version,
    }


def _demand_movable(account: Account, movement: _Movement) -> None:
    if movement.kind is TransferKind.DEPOSIT:
        if account.state == "closed":
            raise Conflict("the account is closed", "account_not_active")
        if account.posted + movement.amount > BALANCE_MINOR_MAX:
            raise Conflict("the balance would be too large", "balance_out_of_bounds")
        return
    if account.state != "active":
        raise Conflict(f"the account is {account.state}", "account_not_active")
    if movement.amount > account.available:
        raise Conflict(
            f"{max(account.available, 0)} is available, less than {movement.amount}",
            "insufficient_available_balance",
        )
