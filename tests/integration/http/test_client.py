"""`jitway.Client` and its twin against a real gateway, and against one that fails in between."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from jitway import AsyncClient, Client, client
from jitway.client import NoAnswer, Patience, RequestRefused
from tests.integration.http.gateway import Gateway

QUICK = Patience(total_s=10, attempt_s=2, attempts=3, pause_s=0.01, pause_max_s=0.02)


@pytest.fixture
async def caller(shared: Gateway) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(f"http://127.0.0.1:{shared.port}", key=shared.key) as caller:
        yield caller


async def test_a_program_from_nothing_to_a_capture(caller: AsyncClient) -> None:
    program = await caller.send(client.create_program("Client", "USD", "UTC"))
    holder = await caller.send(client.create_cardholder(program.id, name="Ada Archer"))
    account = await caller.send(client.create_account("USD", cardholder=holder.id))
    await caller.send(client.deposit(account.id, 10_000, description="first"))
    card = await caller.send(client.create_card(holder.id, account.id, last4="4242"))
    limits = [{"period": "transaction", "amount": 5_000}]
    limited = await caller.send(client.set_controls(card.id, limits=limits, reason="careful"))
    assert limited.controls.limits == limits

    declined = await caller.send(client.authorize(card.id, 6_000, "USD"))
    assert (declined.approved, declined.reason) == (False, "amount_over_limit")
    why = await caller.send(client.authorization(declined.id))
    assert why.explanation
    await caller.send(client.set_controls(card.id))
    approved = await caller.send(client.authorize(card.id, 6_000, "USD"))
    assert approved.approved
    assert approved.available == 4_000

    taken = await caller.send(client.capture(approved.id, 4_000, final=False))
    assert (taken.kind, taken.amount, taken.authorization) == ("capture", 4_000, approved.id)
    await caller.send(client.reverse(approved.id))
    await caller.send(client.withdraw(account.id, 1_000))
    now = await caller.send(client.account(account.id))
    assert (now.posted, now.held, now.available) == (5_000, 0, 5_000)

    assert (await caller.send(client.freeze(card.id))).status == "frozen"
    refused = await caller.send(client.authorize(card.id, 1, "USD"))
    assert refused.reason == "card_frozen"
    assert (await caller.send(client.unfreeze(card.id))).status == "active"
    assert (await caller.send(client.close(card.id))).status == "closed"
    assert (await caller.send(client.card(card.id))).last4 == "4242"
    assert (await caller.send(client.program(program.id))).time_zone == "UTC"
    assert (await caller.send(client.cardholder(holder.id))).name == "Ada Archer"


async def test_a_list_is_walked_page_by_page(caller: AsyncClient, shared: Gateway) -> None:
    card = await shared.new_card()
    ids = {(await caller.send(client.authorize(card["id"], 1, "USD"))).id for _ in range(5)}
    walked = client.authorizations(card=card["id"], limit=2)
    assert [one.id async for one in caller.items(walked)] == sorted(ids, reverse=True)


async def test_threads_have_the_same(shared: Gateway) -> None:
    card = await shared.new_card()

    def ask() -> list[str]:
        with Client(f"http://127.0.0.1:{shared.port}", key=shared.key) as caller:
            call = client.authorize(card["id"], 100, "USD").keyed(f"order-{card['id']}")
            first, again = caller.send(call), caller.send(call)
            assert first == again
            listed = [one.id for one in caller.items(client.authorizations(card=card["id"]))]
            assert listed == [first.id]
            with pytest.raises(RequestRefused, match="idempotency_conflict") as refused:
                caller.send(client.authorize(card["id"], 101, "USD").keyed(call.idempotency_key))
            assert refused.value.status == 409
            with pytest.raises(RequestRefused) as wrong:
                caller.send(client.authorize(card["id"], -1, "USD"))
            assert wrong.value.pointer == "/amount"
            return listed

    assert len(await asyncio.to_thread(ask)) == 1


@contextlib.asynccontextmanager
async def in_between(port: int, act: Callable[[int, Any, Any], Any]) -> AsyncIterator[int]:
    """A listener in front of the gateway that treats each connection by its number."""
    numbers = iter(range(100))

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        length = int(asked.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        asked += await reader.readexactly(length)
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)

        async def upstream() -> bytes:
            up_writer.write(asked.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            return await up_reader.read()

        try:
            said: bytes = await act(next(numbers), upstream, asked)
            writer.write(said)
            await writer.drain()
        finally:
            up_writer.close()
            writer.close()

    server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def test_an_answer_that_was_lost_is_asked_for_again_and_books_once(shared: Gateway) -> None:
    card = await shared.new_card()

    async def act(number: int, upstream: Any, _: bytes) -> bytes:
        said: bytes = await upstream()
        # Decided, and the answer is lost on the way.
        return said if number else b""

    async with (
        in_between(shared.port, act) as port,
        AsyncClient(f"http://127.0.0.1:{port}", key=shared.key, patience=QUICK) as caller,
    ):
        answer = await caller.send(client.authorize(card["id"], 100, "USD"))
    assert answer.approved
    rows = await shared.services.postgres.execute_query(
        "SELECT count(*) FROM decision WHERE card_id = $1", [card["id"][4:]]
    )
    assert rows[0]["count"] == 1


async def test_busy_is_waited_out_and_refusal_is_not(shared: Gateway) -> None:
    card = await shared.new_card()
    asked: list[bytes] = []
    busy = (
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nConnection: close\r\n"
        b"Content-Length: 2\r\n\r\n{}"
    )

    async def act(number: int, upstream: Any, request: bytes) -> bytes:
        asked.append(request)
        said: bytes = busy if number == 0 else await upstream()
        return said

    async with (
        in_between(shared.port, act) as port,
        AsyncClient(f"http://127.0.0.1:{port}", key=shared.key, patience=QUICK) as caller,
    ):
        assert (await caller.send(client.authorize(card["id"], 100, "USD"))).approved
        assert len(asked) == 2
        keys = {text.lower().partition(b"idempotency-key: ")[2][:36] for text in asked}
        assert len(keys) == 1
        with pytest.raises(RequestRefused, match="not_found"):
            await caller.send(client.card("crd_" + "0" * 32))
        assert len(asked) == 3


async def test_nobody_there_is_said_with_its_cause() -> None:
    async with AsyncClient("http://127.0.0.1:1", key="jw_none", patience=QUICK) as caller:
        with pytest.raises(NoAnswer, match=r"GET /v1/cards/crd_1 was not answered in 3 attempts"):
            await caller.send(client.card("crd_1"))


def test_an_address_without_a_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match="http"):
        Client("127.0.0.1:3000", key="k")
