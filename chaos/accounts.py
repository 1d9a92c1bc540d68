"""`accounts.py`: the accounts of a round, made through the gateway while nobody is killed."""

import json
import secrets
from typing import Any

from chaos.connection import Connection, NoAnswer, NotSent, request_bytes
from chaos.history import Opening

ACCOUNTS = 8
CREDIT_LINE = 2_000
LIFETIME_LIMIT = 400_000
TIMEOUT_S = 10.0


class SetupFailed(Exception):
    """The accounts could not be made; the text is the gateway's."""


async def open_accounts(port: int, key: str) -> list[Opening]:
    """Makes a program with accounts of two cards each; one has a credit line, one card a limit.

    Args:
        port: of the gateway on this machine.
        key: an API key that may operate.

    Raises:
        SetupFailed: one was refused.
    """
    make = Maker(port, key)
    program = await make(
        "POST", "/v1/programs", {"name": "Chaos", "currency": "USD", "time_zone": "Asia/Tokyo"}
    )
    openings = []
    for number in range(ACCOUNTS):
        cardholder = await make("POST", "/v1/cardholders", {"program": program})
        credit_line = CREDIT_LINE if number == 1 else 0
        owned = {"cardholder": cardholder, "currency": "USD", "credit_line": credit_line}
        opening = Opening(await make("POST", "/v1/accounts", owned), -credit_line, {})
        for _ in range(2):
            owned = {"cardholder": cardholder, "account": opening.id}
            opening.cards[await make("POST", "/v1/cards", owned)] = None
        if number == ACCOUNTS - 1:
            limited = next(iter(opening.cards))
            limits = [{"period": "lifetime", "amount": LIFETIME_LIMIT}]
            await make("PUT", f"/v1/cards/{limited}/controls", {"limits": limits})
            opening.cards[limited] = LIFETIME_LIMIT
        openings.append(opening)
    make.connection.close()
    return openings


class Maker:
    """Makes one thing after the other; returns its id."""

    def __init__(self, port: int, key: str) -> None:
        self.connection = Connection(port)
        self._key = key

    async def __call__(self, method: str, path: str, body: dict[str, Any]) -> str:
        """Makes a thing.

        Raises:
            SetupFailed: it was refused, or nothing was answered.
        """
        request = request_bytes(
            method,
            path,
            key=self._key,
            body=json.dumps(body).encode(),
            headers={"Idempotency-Key": secrets.token_hex(8)},
        )
        try:
            reply = await self.connection.ask(request, timeout_s=TIMEOUT_S)
        except (NotSent, NoAnswer) as error:
            raise SetupFailed(f"{path}: {error}") from error
        if reply.status not in (200, 201):
            raise SetupFailed(f"{path}: {reply.body.decode(errors='replace')}")
        return str(reply.document.get("id", ""))
