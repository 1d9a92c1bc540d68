"""Requests as ready bytes: everything that never changes is written once.

Owns the wire form of what the simulator says. Every request has an idempotency key of its own,
unless it is told to use one again.
"""

import os
from itertools import count

from jitway.simulator.connections import Address
from jitway.simulator.merchants import Merchant


class Writer:
    """Writes requests for one gateway with one API key.

    Args:
        address: goes into the Host header.
        key: the API key.

    Raises:
        ValueError: the key cannot stand in a header.
    """

    def __init__(self, address: Address, key: str) -> None:
        if not key.isascii() or not key.isprintable() or not key:
            raise ValueError("an API key is visible ASCII")
        self._headers = (
            f" HTTP/1.1\r\nHost: {address.host}:{address.port}\r\nAuthorization: Bearer {key}\r\n"
            "Content-Type: application/json\r\nIdempotency-Key: "
        ).encode()
        self._authorization = b"POST /v1/authorizations" + self._headers
        # Two runs of one seed must not meet each other's keys.
        self._run = os.urandom(5).hex()
        self._numbers = count()

    def new_key(self) -> str:
        """An idempotency key that was never used."""
        return f"sim-{self._run}-{next(self._numbers)}"

    def request(self, method: str, path: str, body: bytes) -> bytes:
        """Any request, under a new key."""
        return f"{method} {path}".encode() + self._with_body(self._headers, self.new_key(), body)

    def authorization(
        self, key: str, *, card: str, amount_minor: int, currency: str, merchant: Merchant
    ) -> bytes:
        """Ask for an authorization under a given key."""
        body = (
            f'{{"card":"{card}","amount":{amount_minor},"currency":"{currency}",'
            f'"merchant":{merchant.json}}}'
        )
        return self._with_body(self._authorization, key, body.encode())

    def capture(self, authorization: str, *, amount_minor: int, is_final: bool) -> bytes:
        """Capture some of a hold, and release the rest if it is the last capture."""
        final = "true" if is_final else "false"
        body = f'{{"amount":{amount_minor},"final":{final}}}'
        return self.request("POST", f"/v1/authorizations/{authorization}/captures", body.encode())

    def reversal(self, authorization: str, *, amount_minor: int | None) -> bytes:
        """Reverse some of a hold, or all that remains."""
        body = "{}" if amount_minor is None else f'{{"amount":{amount_minor}}}'
        return self.request("POST", f"/v1/authorizations/{authorization}/reversals", body.encode())

    @staticmethod
    def _with_body(head: bytes, key: str, body: bytes) -> bytes:
        return b"%b%b\r\nContent-Length: %d\r\n\r\n%b" % (head, key.encode(), len(body), body)
