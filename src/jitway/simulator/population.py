"""The cards that traffic is made for, by the part they play; and how to make a few over HTTP.

Owns the roles. A role without cards is simply not played, so traffic works on any list of cards.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from jitway.errors import JitwayError
from jitway.simulator.connections import Connections
from jitway.simulator.merchants import BETTING
from jitway.simulator.requests import Writer

ORDINARY_CARDS = 200
CARDS_PER_ROLE = 4
POORLY_FUNDED_MINOR = 5_00
MAKING_AT_ONCE = 16


class CannotProvision(JitwayError):
    """The gateway did not let the simulator make its demo program; the text says at what."""


@dataclass(frozen=True, slots=True)
class Population:
    """Ids of cards by role; amounts in minor units of `currency`.

    Args:
        ordinary: cards that can pay; the first are used most.
        frozen, closed: cards in that state.
        poorly_funded: cards whose account holds at most `poorly_funded_minor`.
        mcc_blocked: cards with `blocked_mcc` on their block list.
        transaction_limited: cards with a limit of `transaction_limit_minor` for one transaction.
        day_limited, month_limited: cards with that limit of spending and no other.
        count_limited: cards with a limit of `day_count` transactions in a day and no other.
    """

    ordinary: Sequence[str]
    currency: str = "USD"
    frozen: Sequence[str] = ()
    closed: Sequence[str] = ()
    poorly_funded: Sequence[str] = ()
    poorly_funded_minor: int = POORLY_FUNDED_MINOR
    mcc_blocked: Sequence[str] = ()
    blocked_mcc: str = BETTING.mcc
    transaction_limited: Sequence[str] = ()
    transaction_limit_minor: int = 100_00
    day_limited: Sequence[str] = ()
    day_limit_minor: int = 150_00
    month_limited: Sequence[str] = ()
    month_limit_minor: int = 400_00
    count_limited: Sequence[str] = ()
    day_count: int = 3
    not_possible: Sequence[str] = field(default=())
    """Roles that the gateway has no route for."""


async def provision(
    connections: Connections, write: Writer, *, funds_minor: int, cards: int = ORDINARY_CARDS
) -> Population:
    """Make a demo program with funded cards of every role, through the administrative routes.

    Args:
        connections: to the gateway.
        write: makes the requests, with a key of scope `operate` that is bound to no program.
        funds_minor: what each ordinary account is given.
        cards: how many ordinary cards.

    Raises:
        CannotProvision: the gateway refused, or did not answer.
    """
    maker = _Maker(connections, write)
    program = await maker.program()

    async def several(count: int, *, funded_minor: int = funds_minor) -> list[str]:
        return await asyncio.gather(*(maker.card(program, funded_minor) for _ in range(count)))

    roles = Population(ordinary=())
    ordinary = await several(cards)
    frozen, closed, blocked, by_amount, by_day, by_month, by_count = [
        await several(CARDS_PER_ROLE) for _ in range(7)
    ]
    controls: list[tuple[list[str], dict[str, Any]]] = [
        (blocked, {"block": {"mcc": [roles.blocked_mcc]}}),
        (by_amount, _limit("transaction", amount=roles.transaction_limit_minor)),
        (by_day, _limit("day", amount=roles.day_limit_minor)),
        (by_month, _limit("month", amount=roles.month_limit_minor)),
        (by_count, _limit("day", count=roles.day_count)),
    ]
    for those, control in controls:
        await asyncio.gather(*(maker.control(card, control) for card in those))
    await asyncio.gather(*(maker.change(card, "freeze") for card in frozen))
    can_close = all(await asyncio.gather(*(maker.change(card, "close") for card in closed)))
    return Population(
        ordinary=ordinary,
        frozen=frozen,
        closed=closed if can_close else (),
        poorly_funded=await several(CARDS_PER_ROLE, funded_minor=roles.poorly_funded_minor),
        mcc_blocked=blocked,
        transaction_limited=by_amount,
        day_limited=by_day,
        month_limited=by_month,
        count_limited=by_count,
        not_possible=() if can_close else ("closed",),
    )


def _limit(period: str, **most: int) -> dict[str, Any]:
    return {"limits": [{"period": period, **most}]}


class _Made(msgspec.Struct):
    id: str


class _Maker:
    """Calls the administrative routes, a few at once."""

    def __init__(self, connections: Connections, write: Writer) -> None:
        self._connections = connections
        self._write = write
        self._at_once = asyncio.Semaphore(MAKING_AT_ONCE)

    async def program(self) -> str:
        name = f"Simulated {os.urandom(3).hex()}"
        body = {"name": name, "currency": "USD", "time_zone": "America/New_York"}
        return await self._make("/v1/programs", body)

    async def card(self, program: str, funded_minor: int) -> str:
        async with self._at_once:
            cardholder = await self._make("/v1/cardholders", {"program": program})
            account = await self._make(
                "/v1/accounts", {"cardholder": cardholder, "currency": "USD"}
            )
            await self._make(f"/v1/accounts/{account}/deposits", {"amount": funded_minor})
            return await self._make("/v1/cards", {"cardholder": cardholder, "account": account})

    async def control(self, card: str, control: Mapping[str, Any]) -> None:
        await self._call("PUT", f"/v1/cards/{card}/controls", control, expected=(200,))

    async def change(self, card: str, verb: str) -> bool:
        """Whether the gateway knows that change of a card at all."""
        path = f"/v1/cards/{card}/{verb}"
        status, _ = await self._call("POST", path, {}, expected=(200, 404, 405))
        return status == 200

    async def _make(self, path: str, body: Mapping[str, Any]) -> str:
        _, answer = await self._call("POST", path, body, expected=(201,))
        return msgspec.json.decode(answer, type=_Made).id

    async def _call(
        self, method: str, path: str, body: Mapping[str, Any], *, expected: Sequence[int]
    ) -> tuple[int, bytes]:
        request = self._write.request(method, path, msgspec.json.encode(body))
        answer = await self._connections.call(request)
        if answer.status not in expected:
            cause = answer.failure or f"{answer.status} {answer.body.decode(errors='replace')}"
            raise CannotProvision(f"{method} {path}: {cause[:300]}")
        return answer.status, answer.body
