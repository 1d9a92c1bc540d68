"""`event_load.py`: callers that make events: authorizations, and what becomes of the approved ones.

Nobody kills the gateway here, so every call must be answered; what is decided is read from the rows
afterwards.
"""

import asyncio
import json
import math
import random
import secrets
import time
from collections import Counter
from typing import Any

from chaos.accounts import Maker, SetupFailed
from chaos.connection import Connection, NoAnswer, NotSent, request_bytes

ACCOUNTS = 24
FUNDING = 50_000_000
CALLERS = 16
TIMEOUT_S = 20.0
STALLED_S = 60.0


class EventLoad:
    """Callers that go on until so many events were made.

    Args:
        port: of the gateway.
        key: an API key that may do everything.
        seed: of their random choices.
    """

    def __init__(self, port: int, key: str, seed: int) -> None:
        self._port = port
        self._key = key
        self._dice = random.Random(seed)
        self._cards: list[str] = []
        self._wanted = 0.0
        self._until_s = math.inf
        self._rest_s = 0.0
        self._made_at = 0.0
        self.made = 0
        """Events that answers told of."""
        self.counts: Counter[str] = Counter()

    async def open(self) -> None:
        """Makes the accounts: one of them hot, one poor.

        Raises:
            SetupFailed: one was refused.
        """
        make = Maker(self._port, self._key)
        program = await make(
            "POST", "/v1/programs", {"name": "Events", "currency": "USD", "time_zone": "UTC"}
        )
        cardholder = await make("POST", "/v1/cardholders", {"program": program})
        for number in range(ACCOUNTS):
            owned = {"cardholder": cardholder, "currency": "USD"}
            account = await make("POST", "/v1/accounts", owned)
            if number:
                funding = {"amount": FUNDING}
                await make("POST", f"/v1/accounts/{account}/deposits", funding)
            card = {"cardholder": cardholder, "account": account}
            self._cards.append(await make("POST", "/v1/cards", card))
        make.connection.close()

    async def run(self, events: int) -> None:
        """Calls until so many events were made.

        Raises:
            SetupFailed: nothing is decided any more.
        """
        self._wanted, self._until_s, self._rest_s = self.made + events, math.inf, 0.0
        await self._call()

    async def run_for(self, seconds: float, *, per_s: float = 0.0) -> None:
        """Calls for so long.

        Args:
            seconds: how long.
            per_s: about how many events a second; 0 = as many as are answered.

        Raises:
            SetupFailed: nothing is decided any more.
        """
        self._wanted, self._until_s = math.inf, time.monotonic() + seconds
        # Nearly each second authorization is followed by a capture or a reversal.
        self._rest_s = CALLERS * 1.4 / per_s if per_s else 0.0
        await self._call()

    async def _call(self) -> None:
        self._made_at = time.monotonic()
        await asyncio.gather(
            *(self._caller(random.Random(self._dice.random())) for _ in range(CALLERS))
        )

    async def _caller(self, dice: random.Random) -> None:
        connection = Connection(self._port)
        try:
            while self.made < self._wanted and time.monotonic() < self._until_s:
                await self._live_one(connection, dice)
                if self._rest_s:
                    left_s = self._until_s - time.monotonic()
                    await asyncio.sleep(min(left_s, dice.uniform(0, 2 * self._rest_s)))
                if time.monotonic() > self._made_at + STALLED_S:
                    raise SetupFailed(f"nothing was decided for {STALLED_S:.0f} s")
        finally:
            connection.close()

    async def _live_one(self, connection: Connection, dice: random.Random) -> None:
        """One authorization, and perhaps its capture or reversal."""
        hot = dice.random() < 0.3
        card = self._cards[-1] if hot else dice.choice(self._cards)
        amount = dice.randint(1, 400)
        asked = {"card": card, "amount": amount, "currency": "USD"}
        decided = await self._ask(connection, "/v1/authorizations", asked)
        if decided is None or decided.get("decision") != "approved":
            return
        chance = dice.random()
        if chance < 0.35:
            part = {"amount": dice.randint(1, amount), "final": dice.random() < 0.7}
            await self._ask(connection, f"/v1/authorizations/{decided['id']}/captures", part)
        elif chance < 0.5:
            await self._ask(connection, f"/v1/authorizations/{decided['id']}/reversals", {})

    async def _ask(
        self, connection: Connection, path: str, body: dict[str, Any]
    ) -> dict[str, Any] | None:
        request = request_bytes(
            "POST",
            path,
            key=self._key,
            body=json.dumps(body).encode(),
            headers={"Idempotency-Key": secrets.token_hex(12)},
        )
        try:
            reply = await connection.ask(request, timeout_s=TIMEOUT_S)
        except (NotSent, NoAnswer):
            self.counts["unanswered"] += 1
            return None
        self.counts[str(reply.status)] += 1
        if reply.status not in (200, 201):
            return None
        self.made += 1
        self._made_at = time.monotonic()
        return reply.document
