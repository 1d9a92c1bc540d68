"""A small world on a real ledger: a program with a card, and short words for what happens to it."""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import count
from types import TracebackType
from typing import Any

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.cache.views import CardViews
from jitway.clock import Clock, SystemClock
from jitway.domain.card import CardView
from jitway.domain.limits import SpendControls
from jitway.domain.message import Authorization, Merchant
from jitway.gateway import administer, fund, read
from jitway.gateway.authorize import Asked, AuthorizeOptions, Authorizer
from jitway.gateway.caller import Answer, Caller, Idempotency
from jitway.gateway.capture import capture
from jitway.gateway.controls import OwnerKind, set_controls
from jitway.gateway.release import abandon, expire, reverse
from jitway.ledger.audit import Report, verify
from jitway.ledger.record import load_views
from jitway.profiler.trace import Trace

Document = dict[str, Any]

OPERATOR = Caller("key_" + "0" * 32, None, frozenset({"operate", "authorize"}))

_keys = count(1)


def fresh_key(content: str = "{}") -> Idempotency:
    """A key that nobody used before."""
    return same_key(f"key-{next(_keys)}", content)


def same_key(key: str, content: str = "{}") -> Idempotency:
    """A key by its name, with a content."""
    return Idempotency.of(key, "POST", "/test", content.encode())


def bound_to(program: Document) -> Caller:
    """A caller whose key belongs to one program."""
    return Caller("key_" + "1" * 32, program["id"], frozenset({"operate", "authorize"}))


class _PoolReader:
    def __init__(self, postgres: PostgreSQLAdapter) -> None:
        self._postgres = postgres

    async def fetch(self, sql: str, *parameters: Any) -> list[Any]:
        return list(await self._postgres.execute_query(sql, parameters))


class World:
    """One program with a cardholder, an account and a card, and verbs on them.

    `async with World(adapter) as world`: it authorizes by a gateway of its own.
    """

    def __init__(self, postgres: PostgreSQLAdapter, *, clock: Clock | None = None) -> None:
        self.postgres = postgres
        self.clock = clock or SystemClock()
        self.program: Document = {}
        self.cardholder: Document = {}
        self.account: Document = {}
        self.card: Document = {}
        self.authorizer = self.gateway()

    def gateway(self, options: AuthorizeOptions | None = None) -> Authorizer:
        """Another gateway over the same ledger; its owner starts and closes it."""
        reader = _PoolReader(self.postgres)

        async def load(card_ids: Iterable[str]) -> dict[str, CardView]:
            return await load_views(reader, card_ids)

        views = CardViews(load, monotonic_ns=self.clock.monotonic_ns)
        return Authorizer(self.postgres, views, self.clock, options)

    async def __aenter__(self) -> "World":
        self.program = await self.new_program()
        self.cardholder = await self.new_cardholder()
        self.account = await self.new_account()
        self.card = await self.new_card()
        await self.authorizer.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.authorizer.drain()
        await self.authorizer.close()

    async def new_program(self, currency: str = "USD", time_zone: str = "UTC") -> Document:
        answer = await administer.create_program(
            self.postgres,
            self.clock,
            OPERATOR,
            None,
            name="Test",
            currency=currency,
            time_zone=time_zone,
        )
        return body(answer)

    async def new_cardholder(self, program: Document | None = None) -> Document:
        answer = await administer.create_cardholder(
            self.postgres, self.clock, OPERATOR, None, program=(program or self.program)["id"]
        )
        return body(answer)

    async def new_account(
        self, cardholder: Document | None = None, *, currency: str = "USD", credit_line: int = 0
    ) -> Document:
        answer = await administer.create_account(
            self.postgres,
            self.clock,
            OPERATOR,
            None,
            cardholder=(cardholder or self.cardholder)["id"],
            currency=currency,
            credit_line=credit_line,
        )
        return body(answer)

    async def new_card(
        self, account: Document | None = None, cardholder: Document | None = None, **more: Any
    ) -> Document:
        answer = await administer.create_card(
            self.postgres,
            self.clock,
            OPERATOR,
            None,
            cardholder=(cardholder or self.cardholder)["id"],
            account=(account or self.account)["id"],
            **more,
        )
        return body(answer)

    async def funded_card(self, amount: int) -> tuple[Document, Document]:
        """Another account with money on it, and a card that spends it."""
        account = await self.new_account()
        await self.deposit(amount, account)
        return account, await self.new_card(account)

    async def deposit(self, amount: int, account: Document | None = None) -> Document:
        id_ = (account or self.account)["id"]
        return body(
            await fund.deposit(self.postgres, self.clock, OPERATOR, fresh_key(), id_, amount=amount)
        )

    async def answer(
        self,
        amount: int,
        *,
        card: Document | None = None,
        key: Idempotency | None = None,
        caller: Caller = OPERATOR,
        currency: str = "USD",
        merchant: Merchant | None = None,
        gateway: Authorizer | None = None,
        **facts: Any,
    ) -> Answer:
        """The answer to one request; `facts` are further fields of the authorization."""
        request = Authorization((card or self.card)["id"], amount, currency, **facts)
        if merchant is not None:
            request.merchant = merchant
        asked = Asked(
            request,
            caller,
            key or fresh_key(),
            canonical="{}",
            deadline_ms=None,
            trace=Trace(self.clock.monotonic_ns),
        )
        return await (gateway or self.authorizer).authorize(asked)

    async def authorize(self, amount: int, **more: Any) -> Document:
        return body(await self.answer(amount, **more))

    async def approve(self, amount: int, **more: Any) -> Document:
        decided = await self.authorize(amount, **more)
        assert decided["decision"] == "approved", decided["reason"]
        return decided

    async def capture(
        self,
        authorization: Document,
        amount: int,
        *,
        final: bool = True,
        key: Idempotency | None = None,
        caller: Caller = OPERATOR,
    ) -> Answer:
        return await capture(
            self.postgres,
            self.clock,
            caller,
            key or fresh_key(),
            authorization["id"],
            amount=amount,
            final=final,
        )

    async def reverse(
        self,
        authorization: Document,
        amount: int | None = None,
        *,
        key: Idempotency | None = None,
        caller: Caller = OPERATOR,
    ) -> Answer:
        return await reverse(
            self.postgres,
            self.clock,
            caller,
            key or fresh_key(),
            authorization["id"],
            amount=amount,
        )

    async def limit(self, kind: OwnerKind, owner: Document, controls: SpendControls) -> Document:
        return body(
            await set_controls(self.postgres, self.clock, OPERATOR, kind, owner["id"], controls)
        )

    async def balances(self, account: Document | None = None) -> tuple[int, int, int, int]:
        """Posted, held, available and version."""
        found = await read.account(self.postgres, OPERATOR, (account or self.account)["id"])
        return found["posted"], found["held"], found["available"], found["version"]

    async def authorization(self, authorization: Document) -> Document:
        return await read.authorization(self.postgres, OPERATOR, authorization["id"])

    async def window(self, owner: Document) -> tuple[int, int]:
        """Amount and count of an owner's current day."""
        rows = await self.rows(
            "SELECT day_amount, day_count FROM spend_window WHERE owner_id = $1", owner
        )
        return rows[0]["day_amount"], rows[0]["day_count"]

    async def rows(self, sql: str, *parameters: Any) -> list[Document]:
        """Rows of one statement; a document stands for its id."""
        values = [one["id"][4:] if isinstance(one, dict) else one for one in parameters]
        return await self.postgres.execute_query(sql, values)

    async def overdue(self, authorization: Document) -> None:
        """Makes a hold's time be over."""
        await self.rows(
            "UPDATE hold SET expires_at = now() - interval '1 second' WHERE id = $1",
            authorization,
        )

    async def sweep(self) -> int:
        """Ends every hold whose time is over."""
        return await expire(self.postgres, self.clock, limit=1000)

    async def abandon(self, approval: Document) -> None:
        """Voids an approval as if nobody had been answered."""
        pair = (approval["id"], approval["account"])
        assert await abandon(self.postgres, self.clock, [pair]) == [approval["id"]]

    async def freeze(self, card: Document | None = None) -> Document:
        id_ = (card or self.card)["id"]
        return body(await administer.freeze_card(self.postgres, self.clock, OPERATOR, id_))

    @asynccontextmanager
    async def locked(self, account: Document) -> AsyncIterator[None]:
        """An account whose row somebody else holds."""
        connection = await self.postgres.dedicated(
            lock_timeout_ms=1000,
            statement_timeout_ms=1000,
            idle_in_transaction_timeout_ms=30_000,
        )
        await connection.begin()
        await connection.fetch(
            "SELECT id FROM account WHERE id = $1 FOR NO KEY UPDATE", account["id"][4:]
        )
        try:
            yield
        finally:
            await connection.rollback()
            connection.terminate()

    async def audited(self) -> Report:
        """The books, which must be clean."""
        report = await verify(self.postgres)
        assert report.ok, report.violations
        return report


def body(answer: Answer) -> Document:
    """What an answer says."""
    document: Document = json.loads(answer.body)
    return document
