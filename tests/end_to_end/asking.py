"""Callers that ask at a steady pace and keep every end: for tests of what a caller is told."""

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from chaos.accounts import open_accounts
from chaos.connection import Connection, NoAnswer, NotSent, Reply, request_bytes
from chaos.history import Opening

TIMEOUT_S = 20.0
# One key in twenty thousand would be the number of a card, and refused as one.
LETTERS = str.maketrans("0123456789", "ghijklmnop")


def new_key() -> str:
    """A key that nobody used before."""
    return secrets.token_hex(8).translate(LETTERS)


class Request(NamedTuple):
    """One request as it is sent.

    Args:
        key: its Idempotency-Key, which an authorization also names as its network reference.
        raw: its bytes.
    """

    key: str
    raw: bytes


@dataclass
class End:
    """How one request ended.

    Args:
        key: of the request.
        began_s: of the monotonic clock.
        took_s: until its end.
        reply: the answer.
        failure: why there was none.
    """

    key: str
    began_s: float
    took_s: float
    reply: Reply | None = None
    failure: str = ""


@dataclass
class Asking:
    """Everything that was asked of one gateway.

    Args:
        port: of the gateway.
        key: the API key.
        openings: accounts with funded cards.
        ends: of all requests that were sent.
        refused: connections that nobody accepted; such a request was not sent.
    """

    port: int
    key: str
    openings: list[Opening] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    refused: int = 0

    async def prepare(self) -> None:
        """Makes accounts and puts money on them."""
        self.openings = await open_accounts(self.port, self.key)
        connection = Connection(self.port)
        for opening in self.openings:
            path = f"/v1/accounts/{opening.id}/deposits"
            request = self._post(path, {"amount": 10**9})
            reply = await connection.ask(request.raw, timeout_s=TIMEOUT_S)
            assert reply.status == 201
        connection.close()

    def authorization(self, number: int) -> Request:
        """A request for a small amount, with a key of its own."""
        opening = self.openings[number % len(self.openings)]
        key = new_key()
        card = list(opening.cards)[1]
        body = {"card": card, "amount": 1, "currency": "USD", "network_reference": key}
        return self._post("/v1/authorizations", body, key)

    def deposit(self, number: int) -> Request:
        """A request that goes through the pool instead of a batch."""
        opening = self.openings[number % len(self.openings)]
        return self._post(f"/v1/accounts/{opening.id}/deposits", {"amount": 1})

    async def authorize(self) -> Reply:
        """One authorization on a connection of its own.

        Raises:
            NotSent, NoAnswer.
        """
        connection = Connection(self.port)
        try:
            return await connection.ask(self.authorization(0).raw, timeout_s=TIMEOUT_S)
        finally:
            connection.close()

    async def look(self, path: str) -> Reply:
        """What a probe answers.

        Raises:
            NotSent, NoAnswer.
        """
        connection = Connection(self.port)
        try:
            request = request_bytes("GET", path, key=self.key)
            return await connection.ask(request, timeout_s=TIMEOUT_S)
        finally:
            connection.close()

    async def keep_asking(
        self,
        number: int,
        while_: Callable[[], bool],
        *,
        request: Callable[[int], Request] | None = None,
        keeping_alive: bool = True,
        pause_s: float = 0.0,
    ) -> None:
        """One caller, one request after the other, until it is told to stop or is refused.

        Args:
            number: of the caller.
            while_: asked before each request.
            request: of the caller; authorizations by default.
            keeping_alive: go on with the connection as long as the gateway does.
            pause_s: between an answer and the next request.
        """
        connection = Connection(self.port)
        make = request or self.authorization
        while while_():
            asked = make(number)
            began_s = time.monotonic()
            try:
                reply = await connection.ask(asked.raw, timeout_s=TIMEOUT_S)
            except NotSent:
                self.refused += 1
                break
            except NoAnswer as error:
                self.ends.append(
                    End(asked.key, began_s, time.monotonic() - began_s, failure=str(error))
                )
                continue
            self.ends.append(End(asked.key, began_s, time.monotonic() - began_s, reply))
            if not keeping_alive:
                connection.close()
            await asyncio.sleep(pause_s)
        connection.close()

    def failures(self) -> Iterator[str]:
        """Requests that were sent and not answered as they would be on any other day."""
        for end in self.ends:
            if end.reply is None:
                yield end.failure
            elif end.reply.status not in (200, 201):
                yield f"{end.reply.status} {end.reply.body.decode()}"

    def _post(self, path: str, body: dict[str, object], key: str = "") -> Request:
        key = key or new_key()
        raw = request_bytes(
            "POST",
            path,
            key=self.key,
            body=json.dumps(body).encode(),
            headers={"Idempotency-Key": key},
        )
        return Request(key, raw)
