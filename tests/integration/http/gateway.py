"""A gateway on a real socket and a real ledger, and a client that can say anything."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from jitway.clock import SystemClock
from jitway.compose import Services, services
from jitway.gateway.caller import Caller
from jitway.gateway.keys import create_key
from jitway.settings import load
from jitway.web.app import Application
from jitway.web.server import HttpServer

US = Caller("cli", None, frozenset({"operate", "authorize", "admin"}))
JSON = {"Content-Type": "application/json"}
# Every table that a request could leave something in.
TABLES = (
    *("program", "cardholder", "account", "card", "spend_control", "spend_window"),
    *("decision", "hold", "transfer", "idempotency_key", "answer", "outbox", "audit"),
)

_numbers = count(1)


@dataclass
class Response:
    """What the gateway said."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of a problem, whose form is checked on the way."""
        problem = self.json
        assert self.headers["content-type"] == "application/problem+json"
        assert problem["status"] == self.status
        assert problem["type"] == f"urn:jitway:problem:{problem['code']}"
        assert problem["title"]
        assert problem["detail"]
        assert problem["request_id"] == self.headers["x-request-id"]
        return str(problem["code"])


@dataclass
class Gateway:
    """One that serves on a free port; `key` may do everything."""

    services: Services
    application: Application
    server: HttpServer
    port: int
    key: str
    program: dict[str, Any] = field(default_factory=dict)
    cardholder: dict[str, Any] = field(default_factory=dict)
    account: dict[str, Any] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)

    async def send(self, raw: bytes, *, timeout_s: float = 20) -> list[Response]:
        """Sends bytes on a connection of their own; every response until it ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(raw)
            async with asyncio.timeout(timeout_s):
                await writer.drain()
                said = await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        return parsed(said)

    def encoded(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        last: bool = True,
    ) -> bytes:
        """A request as bytes; a header whose value is empty is left out."""
        fields = {
            "Host": "jitway.test",
            "Authorization": f"Bearer {self.key}",
            **(JSON if body else {}),
            **({"Idempotency-Key": fresh_key()} if method == "POST" else {}),
            **({"Content-Length": str(len(body))} if body or method != "GET" else {}),
            **({"Connection": "close"} if last else {}),
            **(headers or {}),
        }
        lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items() if v)]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """One request; the body is bytes, or anything JSON can say."""
        raw = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        (response,) = await self.send(self.encoded(method, path, raw, headers))
        return response

    async def post(self, path: str, body: Any = None, **headers: str) -> Response:
        """A POST; `Idempotency_Key="k"` sets that header."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.call("POST", path, body, named)

    async def get(self, path: str, **headers: str) -> Response:
        """A GET."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.call("GET", path, None, named)

    async def authorize(self, **changes: Any) -> Response:
        """Asks for 12.50 on the card, unless told otherwise."""
        body = {"card": self.card["id"], "amount": 1250, "currency": "USD"} | changes
        return await self.post("/v1/authorizations", body)

    async def new_key(self, *scopes: str, program: str | None = None) -> str:
        """A key with these scopes."""
        _, text = await create_key(
            self.services.postgres, SystemClock(), US, scopes=scopes, program_id=program
        )
        return text

    async def furnish(self) -> None:
        """Makes a program with a card on an account of 100.00, all over HTTP."""
        program = {"name": "Test", "currency": "USD", "time_zone": "UTC"}
        self.program = await self._made("/v1/programs", program)
        self.cardholder = await self._made("/v1/cardholders", {"program": self.program["id"]})
        of = {"cardholder": self.cardholder["id"], "currency": "USD"}
        self.account = await self._made("/v1/accounts", of)
        await self._made(f"/v1/accounts/{self.account['id']}/deposits", {"amount": 10_000})
        self.card = await self.new_card()

    async def new_card(self) -> dict[str, Any]:
        """Another card on the account."""
        of = {"cardholder": self.cardholder["id"], "account": self.account["id"]}
        return await self._made("/v1/cards", of)

    async def _made(self, path: str, body: Any) -> dict[str, Any]:
        response = await self.post(path, body)
        assert response.status == 201, response.body
        made: dict[str, Any] = response.json
        return made

    async def rows(self) -> dict[str, int]:
        """How many rows each table has."""
        counts = ", ".join(f"(SELECT count(*) FROM {name}) AS {name}" for name in TABLES)
        return (await self.services.postgres.execute_query(f"SELECT {counts}"))[0]


def fresh_key() -> str:
    """An idempotency key that nobody used before."""
    return f"key-{next(_numbers)}"


def parsed(said: bytes) -> list[Response]:
    """Responses, one after the other; what is cut short does not count."""
    responses = []
    while said:
        head, end, said = said.partition(b"\r\n\r\n")
        if not end:
            break
        status, *lines = head.split(b"\r\n")
        headers = {
            name.decode().lower(): value.strip().decode()
            for name, _, value in (line.partition(b":") for line in lines)
        }
        if status.split()[1] == b"100":
            continue
        length = int(headers["content-length"])
        responses.append(Response(int(status.split()[1]), headers, said[:length]))
        said = said[length:]
    return responses


@contextlib.asynccontextmanager
async def serving(
    database: str, directory: Path, *, furnished: bool = True, **environ: str
) -> AsyncIterator[Gateway]:
    """A gateway over a migrated database."""
    settings = load(
        {
            "HOME": str(directory),
            "DATABASE_URL": database,
            "JITWAY_POOL_MIN": "1",
            "JITWAY_POOL_MAX": "4",
            **environ,
        },
        directory,
    )
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    # Also when the services do not come up.
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(listener.close)
        running = await stack.enter_async_context(services(settings))
        application = Application(running)
        server = HttpServer(application.answer, application.limits, valve=application.valve)
        await application.start()
        await server.start(listener)
        try:
            gateway = Gateway(running, application, server, listener.getsockname()[1], "")
            gateway.key = await gateway.new_key("authorize", "operate")
            if furnished:
                await gateway.furnish()
            yield gateway
        finally:
            await server.stop(grace_s=5)
            await running.authorizer.drain()
            await application.stop()
