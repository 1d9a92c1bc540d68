"""A state machine against the reference model: whatever happens, in whatever order, the product
answers what the model answers, and the books are clean.

`JITWAY_TEST_SEED` replays a run; `JITWAY_TEST_STEPS` makes it longer.
"""

import asyncio
import json
import os
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.domain.limits import Limit, Period, SpendControls
from jitway.domain.message import Merchant
from jitway.errors import Conflict, IdempotencyConflict
from jitway.gateway import administer
from jitway.gateway.caller import Answer, Idempotency
from jitway.gateway.changes import change
from jitway.gateway.fund import deposit, withdraw
from jitway.gateway.release import abandon
from tests.property.model import (
    ZONE,
    Approval,
    Limits,
    Lists,
    Model,
    ModelAccount,
    ModelCard,
    Request,
)
from tests.world import OPERATOR, Document, World, body, fresh_key, same_key

STEPS_MIN = int(os.environ.get("JITWAY_TEST_STEPS", "5000"))
STEPS_PER_EXAMPLE = 50

Result = TypeVar("Result")

kinds = st.sampled_from(
    ["purchase"] * 5 + ["cash_withdrawal", "account_verification", "balance_inquiry"]
)
countries = st.sampled_from(["US", "US", "CA", None])
listed = st.sampled_from([frozenset[str]()] * 2 + [frozenset({"US"}), frozenset({"US", "CA"})])
amounts = st.sampled_from(["one", "some", "all", "above", "limit", "over_limit"])
parts = st.sampled_from(["one", "half", "all", "above"])
numbers = st.integers(0, 1_000)
# Counted from the end: what just happened meets the next step more often than what is long over.
recent = st.one_of(st.integers(0, 2), numbers)
limits = st.dictionaries(
    st.sampled_from(["transaction", "day", "week", "month", "year", "lifetime"]),
    st.tuples(
        st.one_of(st.none(), st.sampled_from([0, 10, 50, 200, 500])),
        st.one_of(st.none(), st.sampled_from([0, 1, 3, 8])),
    ),
    max_size=3,
)


@dataclass
class Asked:
    """A decided request that may come again."""

    request: Request
    key: str
    answer: Answer
    approval: Approval | None


class Ledger(RuleBasedStateMachine):
    """Two gateways, two accounts, three cards: two of them on one account."""

    database: ClassVar[str]
    loop: ClassVar[asyncio.AbstractEventLoop]
    postgres: ClassVar[PostgreSQLAdapter]
    steps: ClassVar[int] = 0
    keys: ClassVar[int] = 0

    def run(self, story: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run_until_complete(asyncio.wait_for(story, 60))

    @initialize(credit_line=st.sampled_from([0, 0, 100]), funds=st.sampled_from([0, 300, 1_000]))
    def begin(self, credit_line: int, funds: int) -> None:
        self.run(self._begin(credit_line, funds))

    async def _begin(self, credit_line: int, funds: int) -> None:
        world = self.world = World(self.postgres)
        world.program = await world.new_program(time_zone=ZONE)
        world.cardholder = await world.new_cardholder()
        self.model = Model()
        self.asked: list[Asked] = []
        self.done: list[tuple[Callable[[], Awaitable[Answer]], Answer]] = []
        accounts = [
            await world.new_account(credit_line=credit_line),
            await world.new_account(),
        ]
        for account, line in zip(accounts, (credit_line, 0), strict=True):
            self.model.accounts[account["id"]] = ModelAccount(credit_line=line)
        for account in (accounts[0], accounts[0], accounts[1]):
            card = await world.new_card(account)
            self.model.cards[card["id"]] = ModelCard(account["id"])
        self.gateways = [world.gateway(), world.gateway()]
        for gateway in self.gateways:
            await gateway.start()
        if funds:
            for account in accounts:
                await self._deposit(account["id"], funds)

    def teardown(self) -> None:
        if hasattr(self, "gateways"):
            self.run(self._end())

    async def _end(self) -> None:
        for gateway in self.gateways:
            await gateway.drain()
            await gateway.close()
        await self.world.audited()

    # Picking: hypothesis draws numbers, so that shrinking does not depend on fresh ids.

    def card(self, number: int) -> str:
        return list(self.model.cards)[number % len(self.model.cards)]

    def account(self, number: int) -> str:
        return list(self.model.accounts)[number % len(self.model.accounts)]

    def approval(self, number: int) -> Approval:
        approvals = list(self.model.approvals.values())
        return approvals[-1 - number % len(approvals)]

    def fresh(self) -> str:
        type(self).keys += 1
        return f"model-{self.keys}"

    def amount(self, word: str, card: str, number: int) -> int:
        """An amount at one of the edges of what may be approved."""
        available = self.model.available(self.model.cards[card].account)
        bounds = [
            amount
            for of_owner in (self.model.limits, self.model.cards[card].limits)
            for amount, _ in of_owner.values()
            if amount
        ]
        limit = bounds[number % len(bounds)] if bounds else 20
        chosen = {
            "one": 1,
            "some": 1 + number % 60,
            "all": available,
            "above": available + 1,
            "limit": limit,
            "over_limit": limit + 1,
        }[word]
        return max(1, chosen)

    def part(self, word: str, approval: Approval) -> int:
        remaining = approval.remaining
        chosen = {"one": 1, "half": remaining // 2, "all": remaining, "above": remaining + 1}[word]
        return max(1, chosen)

    # What can happen.

    @rule(number=numbers, amount=st.integers(1, 500))
    def put_in(self, number: int, amount: int) -> None:
        self.run(self._deposit(self.account(number), amount))

    async def _deposit(self, account: str, amount: int) -> None:
        world, key = self.world, fresh_key()

        async def act() -> Answer:
            return await deposit(world.postgres, world.clock, OPERATOR, key, account, amount=amount)

        self.done.append((act, await act()))
        self.model.accounts[account].moved += amount
        self.model.accounts[account].changes += 1

    @rule(number=numbers, word=st.sampled_from(["one", "all", "above"]))
    def take_out(self, number: int, word: str) -> None:
        account = self.account(number)
        available = self.model.available(account)
        amount = max(1, {"one": 1, "all": available, "above": available + 1}[word])
        world = self.world
        story = withdraw(world.postgres, world.clock, OPERATOR, fresh_key(), account, amount=amount)
        if amount > available:
            self.refused(story, "insufficient_available_balance")
            return
        self.run(story)
        self.model.accounts[account].moved -= amount
        self.model.accounts[account].changes += 1

    def request(self, number: int, word: str, kind: str = "purchase", **more: Any) -> Request:
        card = self.card(number)
        amount = self.amount(word, card, number)
        # Of an inquiry no amount is looked at; a verification has none.
        if kind == "account_verification" or (kind == "balance_inquiry" and number % 2):
            amount = 0
        return Request(card, amount, kind, **more)

    @rule(
        number=numbers,
        word=amounts,
        gateway=st.integers(0, 1),
        kind=kinds,
        partial=st.booleans(),
        country=countries,
    )
    def authorize(
        self, number: int, word: str, gateway: int, kind: str, partial: bool, country: str | None
    ) -> None:
        request = self.request(number, word, kind, partial=partial, country=country)
        key = self.fresh()
        answer = self.run(self.ask(request, same_key(key), gateway))
        assert not answer.replayed
        self.asked.append(self.learn(request, key, answer))

    async def ask(self, request: Request, key: Idempotency, gateway: int) -> Answer:
        return await self.world.answer(
            request.amount,
            card={"id": request.card},
            key=key,
            gateway=self.gateways[gateway],
            merchant=Merchant(country=request.country),
            kind=request.kind,
            partial_approval=request.partial,
        )

    def learn(self, request: Request, key: str, answer: Answer) -> Asked:
        """What the model says of one more request, compared with what was answered."""
        told = body(answer)
        now = datetime.fromisoformat(told["decided_at"])
        reason, approved = self.model.decide(request, now)
        assert told["reason"] == reason
        assert told["decision"] == ("declined" if reason else "approved")
        assert (told["amount"], told["approved_amount"]) == (request.amount, approved)
        approval = None
        account = self.model.cards[request.card].account
        if approved:
            approval = self.model.approve(told["id"], request.card, approved, now)
        assert told["available"] == self.model.available(account)
        assert told["account_version"] == self.model.version(account)
        return Asked(request, key, answer, approval)

    @rule(number=numbers, word=amounts, parallel=st.integers(2, 5), partial=st.booleans())
    def race(self, number: int, word: str, parallel: int, partial: bool) -> None:
        """Equal requests at once, over both gateways: in the order of their versions they are
        what one after the other would have been."""
        request = self.request(number, word, partial=partial)
        keys = [self.fresh() for _ in range(parallel)]

        async def all_at_once() -> list[Answer]:
            return await asyncio.gather(
                *(self.ask(request, same_key(key), place % 2) for place, key in enumerate(keys))
            )

        answered = zip(keys, self.run(all_at_once()), strict=True)
        for key, answer in sorted(answered, key=lambda one: witness(one[1])):
            self.asked.append(self.learn(request, key, answer))

    @precondition(lambda self: self.asked)
    @rule(number=recent, gateway=st.integers(0, 1))
    def repeat(self, number: int, gateway: int) -> None:
        one = self.asked[-1 - number % len(self.asked)]
        again = self.run(self.ask(one.request, same_key(one.key), gateway))
        assert again.replayed
        if one.approval is not None and one.approval.status == "abandoned":
            told = body(again)
            assert (told["decision"], told["reason"]) == ("declined", "abandoned")
            return
        assert (again.status, again.body) == (one.answer.status, one.answer.body)
        if one.approval is not None:
            one.approval.recalled = True

    @precondition(lambda self: self.asked)
    @rule(number=recent, gateway=st.integers(0, 1))
    def clash(self, number: int, gateway: int) -> None:
        one = self.asked[-1 - number % len(self.asked)]
        other = replace(one.request, card=self.card(number + 1))
        with pytest.raises(IdempotencyConflict):
            self.run(self.ask(other, same_key(one.key, "other"), gateway))

    @precondition(lambda self: self.done)
    @rule(number=recent)
    def repeat_a_movement(self, number: int) -> None:
        act, answer = self.done[-1 - number % len(self.done)]
        again = self.run(as_coroutine(act))
        assert again.replayed
        assert (again.status, again.body) == (answer.status, answer.body)

    @precondition(lambda self: self.model.approvals)
    @rule(number=recent, word=parts, final=st.booleans())
    def capture(self, number: int, word: str, final: bool) -> None:
        approval = self.approval(number)
        amount = self.part(word, approval)
        key = fresh_key()

        async def act() -> Answer:
            return await self.world.capture({"id": approval.id}, amount, final=final, key=key)

        if approval.ended:
            self.refused(act(), "authorization_not_open")
        elif amount > approval.remaining:
            self.refused(act(), "capture_over_remaining")
        else:
            self.move(approval, act, amount)
            released = approval.remaining - amount if final else 0
            approval.take(amount, released, "captured")

    @precondition(lambda self: self.model.approvals)
    @rule(number=recent, word=st.one_of(st.none(), parts))
    def reverse(self, number: int, word: str | None) -> None:
        approval = self.approval(number)
        amount = None if word is None else self.part(word, approval)
        key = fresh_key()

        async def act() -> Answer:
            return await self.world.reverse({"id": approval.id}, amount, key=key)

        if approval.ended:
            self.refused(act(), "authorization_not_open")
            return
        released = approval.remaining if amount is None else min(amount, approval.remaining)
        self.move(approval, act, released)
        approval.take(0, released, "released")

    def move(self, approval: Approval, act: Callable[[], Awaitable[Answer]], amount: int) -> None:
        """A transfer that the model expects."""
        answer = self.run(as_coroutine(act))
        self.done.append((act, answer))
        account = self.model.accounts[approval.account]
        account.changes += 1
        told = body(answer)
        assert (answer.status, told["amount"]) == (201, amount)
        assert told["account_version"] == account.changes

    @precondition(lambda self: self.model.approvals)
    @rule(number=recent)
    def expire(self, number: int) -> None:
        approval = self.approval(number)
        self.run(self.world.overdue({"id": approval.id}))
        ended = self.run(self.world.sweep())
        assert ended == (0 if approval.ended else 1)
        if not approval.ended:
            self.model.accounts[approval.account].changes += 1
            approval.take(0, approval.remaining, "expired")

    @precondition(lambda self: self.model.approvals)
    @rule(number=recent)
    def abandon(self, number: int) -> None:
        approval = self.approval(number)
        voided = self.run(
            abandon(self.world.postgres, self.world.clock, [(approval.id, approval.account)])
        )
        untouched = approval.ended is None and approval.remaining == approval.amount
        if untouched and not approval.recalled:
            self.model.accounts[approval.account].changes += 1
            approval.take(0, approval.amount, "abandoned")
        assert voided == ([approval.id] if approval.status == "abandoned" else [])

    @rule(number=numbers, verb=st.sampled_from(["freeze", "unfreeze", "unfreeze", "close"]))
    def change_state(self, number: int, verb: str) -> None:
        id_ = self.card(number if verb != "close" else 1)
        card = self.model.cards[id_]
        act = getattr(administer, f"{verb}_card")
        story = act(self.world.postgres, self.world.clock, OPERATOR, id_)
        if card.state == "closed" and verb != "close":
            self.refused(story, "card_closed")
            return
        assert self.run(story).status == 200
        card.state = {"freeze": "frozen", "unfreeze": "active", "close": "closed"}[verb]

    @rule(number=numbers, chosen=limits)
    def limit_a_card(self, number: int, chosen: Limits) -> None:
        id_ = self.card(number)
        card = self.model.cards[id_]
        card.limits = meant(chosen)
        self.run(self.world.limit("card", {"id": id_}, controls(card.limits, card.lists)))

    @rule(chosen=limits)
    def limit_the_program(self, chosen: Limits) -> None:
        self.model.limits = meant(chosen)
        self.control_the_program()

    def control_the_program(self) -> None:
        chosen = controls(self.model.limits, self.model.lists)
        self.run(self.world.limit("program", self.world.program, chosen))

    @rule(number=numbers, blocked=listed, allowed=listed)
    def list_countries(self, number: int, blocked: frozenset[str], allowed: frozenset[str]) -> None:
        """On a card, or on the program."""
        # Blocking is for the few.
        lists = Lists(blocked if number % 3 == 0 else frozenset(), allowed)
        if number % 4 == 0:
            self.model.lists = lists
            self.control_the_program()
            return
        id_ = self.card(number)
        card = self.model.cards[id_]
        card.lists = lists
        self.run(self.world.limit("card", {"id": id_}, controls(card.limits, lists)))

    @rule(number=numbers, when=st.sampled_from(["always", "always", "now", "later", "over"]))
    def date_a_card(self, number: int, when: str) -> None:
        id_ = self.card(number)
        now, day = datetime.now(UTC), timedelta(days=1)
        valid_from, valid_until = {
            "always": (None, None),
            "now": (now - day, now + day),
            "later": (now + day, None),
            "over": (None, now - day),
        }[when]
        card = self.model.cards[id_]
        card.valid_from, card.valid_until = valid_from, valid_until
        validity = {"valid_from": valid_from, "valid_until": valid_until}
        world = self.world
        story = change(world.postgres, world.clock, OPERATOR, "card", id_, validity)
        assert self.run(story).status == 200

    def refused(self, story: Coroutine[Any, Any, Answer], code: str) -> None:
        with pytest.raises(Conflict) as refused:
            self.run(story)
        assert refused.value.code == code

    # What must be true after every step.

    @invariant()
    def product_equals_model(self) -> None:
        type(self).steps += 1
        if hasattr(self, "gateways"):
            self.run(self._compare())

    async def _compare(self) -> None:
        rows = await self.world.rows(
            "SELECT id, posted, held, version FROM account WHERE program_id = $1",
            self.world.program,
        )
        found = {
            f"acc_{row['id'].hex}": (row["posted"], row["held"], row["version"]) for row in rows
        }
        model = self.model
        assert found == {
            id_: (model.posted(id_), model.held(id_), model.version(id_)) for id_ in model.accounts
        }
        rows = await self.world.rows(
            "SELECT hold.id, captured, released, hold.state FROM hold "
            "JOIN decision ON decision.id = hold.id WHERE decision.program_id = $1",
            self.world.program,
        )
        assert {f"aut_{row['id'].hex}": held_form(row) for row in rows} == {
            one.id: (one.captured, one.released, one.status) for one in model.approvals.values()
        }


def held_form(row: Document) -> tuple[int, int, str]:
    state = "open" if row["state"] == "active" else row["state"]
    return row["captured"], row["released"], state


def witness(answer: Answer) -> tuple[int, bool]:
    """What reserves in the order of its versions; the rest just after the version it saw."""
    told = json.loads(answer.body)
    return told["account_version"], told["approved_amount"] == 0


def meant(chosen: Limits) -> Limits:
    """A transaction has no count, and a limit limits something."""
    of_period = {
        period: (amount, None if period == "transaction" else count)
        for period, (amount, count) in chosen.items()
    }
    return {period: limit for period, limit in of_period.items() if limit != (None, None)}


def controls(chosen: Limits, lists: Lists) -> SpendControls:
    return SpendControls(
        tuple(
            sorted(
                (
                    Limit(Period[period.upper()], amount, count)
                    for period, (amount, count) in chosen.items()
                ),
                key=lambda limit: limit.period,
            )
        ),
        blocked_countries=lists.blocked,
        allowed_countries=lists.allowed,
    )


async def as_coroutine(act: Callable[[], Awaitable[Result]]) -> Result:
    return await act()


@pytest.mark.relaxed_durability
@pytest.mark.timeout(600)
def test_the_product_is_the_model(database: str) -> None:
    chosen = int(os.environ.get("JITWAY_TEST_SEED", random.randrange(2**32)))
    print(f"\nJITWAY_TEST_SEED={chosen}")
    Ledger.loop = asyncio.new_event_loop()
    Ledger.postgres = PostgreSQLAdapter({"DATABASE_URL": database}, pool_size_min=1)
    Ledger.steps = 0
    try:
        examples = STEPS_MIN // 40
        while Ledger.steps < STEPS_MIN:
            run_state_machine_as_test(
                seed(chosen + Ledger.steps)(Ledger),
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=STEPS_PER_EXAMPLE,
                    deadline=None,
                    database=None,
                    phases=(Phase.generate, Phase.shrink),
                    suppress_health_check=list(HealthCheck),
                    print_blob=True,
                ),
            )
            examples = 10
    finally:
        Ledger.loop.run_until_complete(Ledger.postgres.close())
        Ledger.loop.close()
    print(f"{Ledger.steps} steps")
