"""`account.py`: locks funding accounts, and owners of limits, in the one order everybody keeps.

Accounts first, then owners, each sorted by id, all `FOR NO KEY UPDATE`. A batch skips what is
locked elsewhere; only a latecomer, who holds nothing else, waits. Does not decide, does not write.
"""

from collections.abc import Iterable

from jitway.adapters.postgresql import DedicatedConnection, Row
from jitway.domain.card import Account
from jitway.domain.limits import LIFETIME_START, SpendWindow
from jitway.sql import statements

_SQL = statements("ledger")


async def lock_accounts(
    connection: DedicatedConnection, account_ids: Iterable[str], *, waiting: bool = False
) -> dict[str, Account]:
    """Locks accounts and returns those it got, as they are now.

    Args:
        connection: in a transaction.
        account_ids: in any order; may hold ids that do not exist.
        waiting: wait under the connection's lock timeout instead of skipping.

    Raises:
        LockTimeout: `waiting`, and the lock did not come in time.
    """
    name = "lock_account_waiting" if waiting else "lock_accounts"
    rows = await connection.fetch(_SQL[name], [account_id[4:] for account_id in account_ids])
    accounts = {}
    for id_, currency, state, posted, held, floor, shortfall, version in rows:
        account_id = f"acc_{id_.hex}"
        accounts[account_id] = Account(
            account_id, currency, state, posted, held, floor, shortfall, version
        )
    return accounts


async def lock_owners(
    connection: DedicatedConnection, owner_ids: Iterable[str], *, waiting: bool = False
) -> dict[str, SpendWindow]:
    """Locks the windows of cardholders and programs, after the accounts; those it got.

    Args:
        connection: in a transaction that holds the accounts already.
        owner_ids: ids of cardholders and programs.
        waiting: wait under the connection's lock timeout instead of skipping.

    Raises:
        LockTimeout: `waiting`, and the lock did not come in time.
    """
    by_digits = {owner_id[4:]: owner_id for owner_id in owner_ids}
    name = "lock_owners_waiting" if waiting else "lock_owners"
    rows = await connection.fetch(_SQL[name], list(by_digits))
    windows = {}
    for row in rows:
        owner_id = by_digits[row[0].hex]
        windows[owner_id] = spend_window(owner_id, row, offset=1)
    return windows


def spend_window(owner_id: str, row: Row, *, offset: int) -> SpendWindow:
    """The window in a row: version, four starts, five amounts, five counts from `offset` on."""
    return SpendWindow(
        owner_id,
        row[offset],
        # A lifetime begins before every date.
        [*row[offset + 1 : offset + 5], LIFETIME_START],
        list(row[offset + 5 : offset + 10]),
        list(row[offset + 10 : offset + 15]),
    )
