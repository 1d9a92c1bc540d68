"""Dead letters as operators see them: on either broker, over HTTP, and each act audited."""

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.clock import SystemClock
from jitway.errors import BrokerUnavailable, Conflict, MalformedMessage, NotFound
from jitway.events.broker import Broker, Delivery, Message, Queue
from jitway.events.dead_letter import DeadLetters
from jitway.events.local_broker import LocalBroker, declaration
from jitway.sql import statements
from tests.conformance.brokers import KINDS, Place, eventually
from tests.integration.http.gateway import Gateway, serving

CLOCK = SystemClock()
PROGRAM = CLOCK.new_id("prg")


def everybody(_: str | None) -> bool:
    return True


@pytest.fixture(params=KINDS)
async def place(request: pytest.FixtureRequest, adapter: PostgreSQLAdapter) -> AsyncIterator[Place]:
    place = Place(request.param, adapter)
    place.queue = Queue(place.queue.name, ("order.*",), ())
    place.other = Queue(place.other.name, ("#",), ())
    for queue in place.queues:
        await adapter.execute_query(
            statements("events")["declare_subscription"], declaration(queue)
        )
    yield place
    await place.clear()


@pytest.fixture
async def broker(place: Place) -> AsyncIterator[Broker]:
    broker = place.broker()
    await broker.connect()
    yield broker
    await broker.close()


@pytest.fixture
async def dead(place: Place, broker: Broker, adapter: PostgreSQLAdapter) -> DeadLetters:
    """As the command line has them: it declared nothing and looks up which queues there are."""
    return DeadLetters(broker, adapter, CLOCK, own=[place.queue])


async def refuse(_: Delivery) -> None:
    raise MalformedMessage("there is no card_id")


async def bury(
    broker: Broker, place: Place, *bodies: bytes, queues: int = 1, ids: Sequence[str] = ()
) -> None:
    names = [queue.name for queue in place.queues][:queues]
    consumptions = [await broker.consume(name, refuse) for name in names]
    ids = ids or [f"m-{n}" for n in range(1, len(bodies) + 1)]
    pairs = zip(ids, bodies, strict=True)
    messages = [Message("order.made", id_, body) for id_, body in pairs]
    assert not any(await broker.publish_many(messages))

    async def buried() -> bool:
        return all([len(await broker.dead(name)) == len(bodies) for name in names])

    await eventually(buried)
    for consumption in consumptions:
        await consumption.stop()


async def audited(adapter: PostgreSQLAdapter) -> list[tuple[str, str, str, str | None]]:
    rows = await adapter.execute_query(
        "SELECT actor, action, subject, reason FROM audit WHERE action LIKE 'dead_letter.%'"
        " ORDER BY id"
    )
    return [(row["actor"], row["action"], row["subject"], row["reason"]) for row in rows]


async def test_they_are_listed_and_shown(dead: DeadLetters, place: Place, broker: Broker) -> None:
    pan = b'{"pan":"4111111111111111","amount":100}'
    await bury(broker, place, pan, b"not json \xff")
    letters = await dead.letters(everybody, queue=place.queue.name)
    assert [letter["id"] for letter in letters] == ["m-1", "m-2"] or len(letters) == 2
    first = next(letter for letter in letters if letter["id"] == "m-1")
    assert list(first) == [
        *("id", "queue", "type", "cause", "attempts", "replays", "program"),
        *("first_failed_at", "last_failed_at"),
    ]
    assert first["cause"] == "MalformedMessage: there is no card_id"
    assert (first["attempts"], first["replays"], first["type"]) == (1, 0, "order.made")
    assert first["first_failed_at"] <= first["last_failed_at"]
    shown = await dead.show(everybody, "m-1")
    assert shown["message"] == {"pan": "[redacted]", "amount": 100}
    assert [failure["attempt"] for failure in shown["history"]] == [1]
    unread = await dead.show(everybody, "m-2")
    assert (unread["message"], unread["body"]) == (None, "not json \ufffd")


async def test_replaying_twice_does_nothing_twice_and_is_audited(
    dead: DeadLetters, place: Place, broker: Broker, adapter: PostgreSQLAdapter
) -> None:
    """Q15."""
    await bury(broker, place, b"{}")
    taken = await dead.act("replay", everybody, "m-1", actor="cli", reason="mended")
    assert taken["id"] == "m-1"
    with pytest.raises(NotFound):
        await dead.act("replay", everybody, "m-1", actor="cli")
    assert await broker.depth(place.queue.name) == 1
    assert await audited(adapter) == [("cli", "dead_letter.replayed", "m-1", "mended")]


async def test_a_discarded_letter_is_gone_and_audited(
    dead: DeadLetters, place: Place, broker: Broker, adapter: PostgreSQLAdapter
) -> None:
    await bury(broker, place, b"{}", b"{}")
    await dead.act("discard", everybody, "m-2", actor="key_1", reason="a test")
    assert [letter["id"] for letter in await dead.letters(everybody)] == ["m-1"]
    assert await broker.depth(place.queue.name) == 0
    assert await audited(adapter) == [("key_1", "dead_letter.discarded", "m-2", "a test")]


async def test_where_two_queues_have_it_the_queue_must_be_named(
    dead: DeadLetters, place: Place, broker: Broker
) -> None:
    await bury(broker, place, b"{}", queues=2)
    with pytest.raises(Conflict, match="name the queue"):
        await dead.show(everybody, "m-1")
    shown = await dead.show(everybody, "m-1", queue=place.other.name)
    assert shown["queue"] == place.other.name


async def test_a_letter_is_known_by_the_id_that_the_list_shows(
    dead: DeadLetters, place: Place, broker: Broker
) -> None:
    await bury(broker, place, b"{}", b"[]", ids=("4111111111111111", "m-2"))
    shown = [letter["id"] for letter in await dead.letters(everybody)]
    (redacted,) = (id_ for id_ in shown if id_ != "m-2")
    assert "4111" not in redacted
    assert (await dead.show(everybody, redacted))["message"] == {}
    taken = await dead.act("discard", everybody, redacted, actor="cli")
    assert taken["id"] == redacted
    assert [letter["id"] for letter in await dead.letters(everybody)] == ["m-2"]


async def test_of_letters_that_are_shown_alike_one_is_named_by_its_own_id(
    dead: DeadLetters, place: Place, broker: Broker
) -> None:
    ids = ("4111111100024242", "4242424242424242")
    await bury(broker, place, b"[1]", b"[2]", ids=ids)
    redacted = {letter["id"] for letter in await dead.letters(everybody)}
    assert len(redacted) == 1
    with pytest.raises(Conflict, match="2 letters of") as refused:
        await dead.act("discard", everybody, redacted.pop(), actor="cli")
    assert not any(id_ in str(refused.value) for id_ in ids)
    assert (await dead.show(everybody, ids[1]))["message"] == [2]
    await dead.act("discard", everybody, ids[1], actor="cli")
    assert len(await dead.letters(everybody)) == 1


async def test_what_is_not_the_callers_does_not_exist(
    dead: DeadLetters, place: Place, broker: Broker
) -> None:
    mine = json.dumps({"program": PROGRAM}).encode()
    await bury(broker, place, mine, b"{}")
    letters = await dead.letters(lambda program: program == PROGRAM)
    assert [letter["program"] for letter in letters] == [PROGRAM]
    with pytest.raises(NotFound):
        await dead.show(lambda program: program == PROGRAM, "m-2")
    with pytest.raises(NotFound):
        await dead.letters(everybody, queue="no-such-queue")


async def test_an_act_that_failed_says_so_in_the_audit(adapter: PostgreSQLAdapter) -> None:
    class Away(LocalBroker):
        """It is there to be read, and gone when it should act."""

        async def replay(self, queue: str, letter_id: str) -> Any:
            raise BrokerUnavailable("gone")

        async def discard(self, queue: str, letter_id: str) -> Any:
            return None

    place = Place("local", adapter)
    broker = Away(adapter, place.queues)
    await broker.connect()
    await bury(broker, place, b"{}")
    dead = DeadLetters(broker, adapter, CLOCK, own=place.queues)
    with pytest.raises(BrokerUnavailable):
        await dead.act("replay", everybody, "m-1", actor="cli")
    with pytest.raises(NotFound):
        await dead.act("discard", everybody, "m-1", actor="cli")
    assert [action for _, action, _, _ in await audited(adapter)] == [
        "dead_letter.replayed",
        "dead_letter.replay_failed",
        "dead_letter.discarded",
        "dead_letter.discard_failed",
    ]
    await broker.close()


@pytest.fixture
async def gateway(database: str, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with serving(database, tmp_path, furnished=False) as gateway:
        yield gateway


async def publish(gateway: Gateway, *messages: Message) -> None:
    assert not any(await gateway.services.work.broker.publish_many(messages))


async def letters_of(gateway: Gateway, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await gateway.get(f"/v1/dead-letters{query}")).json["data"]
    return found


async def test_over_http_what_is_broken_ends_there_with_its_cause(gateway: Gateway) -> None:
    """Never silently: a bare message of another type, one without a card, one of a stranger."""
    await publish(
        gateway,
        Message("jit-funding.created", "bare-1", b'{"transaction_id":"123","amount":100}'),
        Message("jit-funding.approved", "bare-2", b'{"amount":100}'),
        Message("transaction.captured", "bare-3", b"not json"),
        Message("webhook.lost", "bare-4", b'{"version":2}'),
    )

    async def all_buried() -> bool:
        return len(await letters_of(gateway)) == 4

    await eventually(all_buried)
    causes = {letter["id"]: letter["cause"] for letter in await letters_of(gateway)}
    assert "card_id is missing" in causes["bare-1"]
    assert "no envelope of ours" in causes["bare-2"]
    assert "no envelope of ours" in causes["bare-3"]
    assert "version of the envelope" in causes["bare-4"]
    shown = await gateway.get("/v1/dead-letters/bare-1")
    assert shown.json["message"] == {"transaction_id": "123", "amount": 100}
    replayed = await gateway.post("/v1/dead-letters/bare-1/replay", {"reason": "again"})
    assert (replayed.status, replayed.json["id"]) == (200, "bare-1")

    async def back() -> bool:
        found = await letters_of(gateway, "?queue=jit-funding-queue")
        return {letter["id"]: letter["replays"] for letter in found} == {"bare-1": 1, "bare-2": 0}

    await eventually(back)
    assert (await gateway.post("/v1/dead-letters/bare-1/discard", {})).status == 200
    again = await gateway.post("/v1/dead-letters/bare-1/discard", {})
    assert (again.status, again.code) == (404, "not_found")
    rows = await audited(gateway.services.postgres)
    assert [(action, reason) for _, action, _, reason in rows] == [
        ("dead_letter.replayed", "again"),
        ("dead_letter.discarded", None),
    ]


async def test_over_http_they_come_page_by_page(gateway: Gateway) -> None:
    await publish(gateway, *(Message("webhook.lost", f"w-{n}", b"[]") for n in range(5)))

    async def all_buried() -> bool:
        return len(await letters_of(gateway)) == 5

    await eventually(all_buried)
    seen: list[str] = []
    cursor: str | None = ""
    for expected in (2, 2, 1):
        query = f"?limit=2&cursor={cursor}" if cursor else "?limit=2"
        page = (await gateway.get(f"/v1/dead-letters{query}")).json
        assert len(page["data"]) == expected
        seen += [letter["id"] for letter in page["data"]]
        cursor = page["next_cursor"]
    assert cursor is None
    assert sorted(seen) == [f"w-{n}" for n in range(5)]
    for wrong in ("?limit=0", "?limit=x", "?limit=201", "?nothing=1"):
        assert (await gateway.get(f"/v1/dead-letters{wrong}")).status == 400
