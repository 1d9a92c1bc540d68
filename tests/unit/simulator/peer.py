"""The simulator's peer in its tests: a small gateway over real sockets, books in dictionaries.

It follows the documented HTTP interface as far as the simulator speaks it, keeps every request it
was sent, and can be told to misbehave.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

Body = dict[str, Any]
Answer = tuple[int, Body]
KEY = "test-key"


def problem(status: int, code: str) -> Answer:
    return status, {"type": "about:blank", "title": code, "status": status, "code": code}


class Peer:
    """The books, the wire and the faults."""

    def __init__(self) -> None:
        self.port = 0
        self.knows_close = True
        self.cards: dict[str, Body] = {}
        self.accounts: dict[str, Body] = {}
        self.authorizations: dict[str, Body] = {}
        self.answered: dict[str, tuple[bytes, int, bytes]] = {}
        self.requests: Counter[str] = Counter()
        self.connections = 0
        self.fault: Callable[[str, int], Any] = lambda path, number: None
        """Told path and number of a request; None to be answered, else an answer, or a string."""
        self.seen: Callable[[], Any] = lambda: None
        """Called once, when the first request is there."""
        self.gate = asyncio.Event()
        self.gate.set()
        self._ids = count(1)
        self._authorizations_seen = 0

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_{next(self._ids):032x}"

    # The wire.

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, path, headers = self._parse(head)
                body = await reader.readexactly(int(headers["content-length"]))
                seen, self.seen = self.seen, lambda: None
                seen()
                await self.gate.wait()
                reply = self._reply(method, path, headers, body)
                if reply is None:
                    break
                writer.write(reply)
                await writer.drain()
                if b"Connection: close" in reply:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @staticmethod
    def _parse(head: bytes) -> tuple[str, str, dict[str, str]]:
        first, *rest = head.decode().strip().split("\r\n")
        method, path, _ = first.split(" ")
        headers = dict(line.split(": ", 1) for line in rest)
        return method, path, {name.lower(): value for name, value in headers.items()}

    def _reply(self, method: str, path: str, headers: dict[str, str], body: bytes) -> bytes | None:
        is_authorization = path == "/v1/authorizations"
        self.requests["authorizations" if is_authorization else path.rsplit("/", 1)[-1]] += 1
        self._authorizations_seen += is_authorization
        fault = self.fault(path, self._authorizations_seen)
        if fault == "drop":
            return None
        if fault == "garbage":
            return b"what?\r\n\r\n"
        if isinstance(fault, tuple):
            return self._http(fault[0], json.dumps(fault[1]).encode())
        assert headers["authorization"] == f"Bearer {KEY}"
        key, content = headers["idempotency-key"], method.encode() + path.encode() + body
        if key in self.answered:
            known, status, answer = self.answered[key]
            if known != content:
                return self._http(409, json.dumps(problem(409, "idempotency_conflict")[1]).encode())
            return self._http(status, answer, "Idempotent-Replayed: true\r\n")
        status, told = self._route(method, path, json.loads(body))
        answer = json.dumps(told).encode()
        if status in (200, 201):
            self.answered[key] = content, status, answer
        return self._http(status, answer, "Connection: close\r\n" if fault == "close" else "")

    @staticmethod
    def _http(status: int, body: bytes, more: str = "") -> bytes:
        head = f"HTTP/1.1 {status} Told\r\nContent-Length: {len(body)}\r\n{more}\r\n"
        return head.encode() + body

    # The books.

    def _route(self, method: str, path: str, body: Body) -> Answer:
        match [method, *path.strip("/").split("/")[1:]]:
            case ["POST", "programs"]:
                assert set(body) == {"name", "currency", "time_zone"}
                return 201, {"id": self.new_id("prg")}
            case ["POST", "cardholders"]:
                return 201, {"id": self.new_id("chd"), "program": body["program"]}
            case ["POST", "accounts"]:
                account = {"id": self.new_id("acc"), "currency": body["currency"], "available": 0}
                self.accounts[account["id"]] = account
                return 201, account
            case ["POST", "accounts", account_id, "deposits"]:
                self.accounts[account_id]["available"] += body["amount"]
                return 201, {"id": self.new_id("trf")}
            case ["POST", "cards"]:
                card = {"id": self.new_id("crd"), "account": body["account"], "status": "active"}
                self.cards[card["id"]] = card | {"limits": [], "mcc": [], "day": 0, "month": 0}
                self.cards[card["id"]]["count"] = 0
                return 201, card
            case ["PUT", "cards", card_id, "controls"]:
                self.cards[card_id]["limits"] = body.get("limits", [])
                self.cards[card_id]["mcc"] = body.get("block", {}).get("mcc", [])
                return 200, {}
            case ["POST", "cards", card_id, ("freeze" | "close") as verb]:
                if verb == "close" and not self.knows_close:
                    return problem(404, "not_found")
                self.cards[card_id]["status"] = {"freeze": "frozen", "close": "closed"}[verb]
                return 200, {}
            case ["POST", "authorizations"]:
                return 200, self._authorize(body)
            case ["POST", "authorizations", authorization, "captures"]:
                return self._capture(self.authorizations[authorization], body)
            case ["POST", "authorizations", authorization, "reversals"]:
                return self._reverse(self.authorizations[authorization], body)
        return problem(404, "not_found")

    def _authorize(self, body: Body) -> Body:
        assert set(body) == {"card", "amount", "currency", "merchant"}
        assert set(body["merchant"]) == {"id", "name", "mcc", "country"}
        card = self.cards.get(body["card"])
        reason = "card_not_found" if card is None else self._reason(card, body)
        authorization = {
            "id": self.new_id("aut"),
            "decision": "declined" if reason else "approved",
            "reason": reason,
            "amount": body["amount"],
            "approved_amount": 0 if reason else body["amount"],
        }
        if card is not None and not reason:
            self.accounts[card["account"]]["available"] -= body["amount"]
            for window in ("day", "month"):
                card[window] += body["amount"]
            card["count"] += 1
            held = {"remaining": body["amount"], "account": card["account"]}
            self.authorizations[authorization["id"]] = authorization | held
        return authorization

    def _reason(self, card: Body, body: Body) -> str | None:
        account = self.accounts[card["account"]]
        most = {(limit["period"], name): limit[name] for limit in card["limits"] for name in limit}
        never = 1 << 60
        amount = body["amount"]
        over_window = any(
            card[window] + amount > most.get((window, "amount"), never)
            for window in ("day", "month")
        )
        rules = (
            ("card_not_active", card["status"] == "closed"),
            ("card_frozen", card["status"] == "frozen"),
            ("currency_mismatch", body["currency"] != account["currency"]),
            ("mcc_blocked", body["merchant"]["mcc"] in card["mcc"]),
            ("amount_over_limit", amount > most.get(("transaction", "amount"), never)),
            ("spend_limit_exceeded", over_window),
            ("count_limit_exceeded", card["count"] >= most.get(("day", "count"), never)),
            ("insufficient_available_balance", amount > account["available"]),
        )
        return next((reason for reason, is_broken in rules if is_broken), None)

    def _capture(self, held: Body, body: Body) -> Answer:
        if body["amount"] > held["remaining"]:
            return problem(409, "capture_exceeds_remaining")
        held["remaining"] = 0 if body["final"] else held["remaining"] - body["amount"]
        return 201, {"id": self.new_id("trf")}

    def _reverse(self, held: Body, body: Body) -> Answer:
        if not held["remaining"]:
            return problem(409, "authorization_not_open")
        amount = min(body.get("amount", held["remaining"]), held["remaining"])
        held["remaining"] -= amount
        self.accounts[held["account"]]["available"] += amount
        return 201, {"id": self.new_id("trf")}


@asynccontextmanager
async def serving(peer: Peer) -> AsyncIterator[str]:
    """The peer's URL while it serves on a free port."""
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{peer.port}"
    finally:
        server.close()
        peer.gate.set()
