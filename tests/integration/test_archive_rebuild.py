"""The archive made by events, and made again from the ledger: the same, whatever happened to it."""

import json
import random
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jitway.adapters.postgresql import PostgreSQLAdapter, TransactionClient
from jitway.archive.rebuild import Rebuilt, rebuild
from jitway.archive.retention import Retention, keeps_from
from jitway.archive.store import (
    AUTHORIZATIONS,
    COLLECTIONS,
    TRANSACTIONS,
    WEBHOOKS,
    Archive,
    Document,
    Question,
    content_hash,
)
from jitway.cli.archive import rebuild_archive
from jitway.compose import archive_assembler, archive_handlers
from jitway.domain.message import Merchant
from jitway.errors import MalformedMessage
from jitway.events.broker import JIT_FUNDING_QUEUE, QUEUES, TRANSACTION_QUEUE, WEBHOOK_QUEUE
from jitway.events.envelope import Event
from jitway.gateway.caller import Caller
from jitway.gateway.webhook import Received, receive
from jitway.settings import load
from tests.conformance.archives import KINDS, all_of, an_authorization, archive_of
from tests.integration.events_scenes import outbox_of
from tests.world import World

pytestmark = pytest.mark.relaxed_durability

FOR_EVER = dict.fromkeys(COLLECTIONS, 0)
_QUEUE_OF = {
    "jit-funding": JIT_FUNDING_QUEUE,
    "transaction": TRANSACTION_QUEUE,
    "webhook": WEBHOOK_QUEUE,
}


@pytest.fixture(params=KINDS)
async def archive(
    request: pytest.FixtureRequest, adapter: PostgreSQLAdapter
) -> AsyncIterator[Archive]:
    async with archive_of(request.param, adapter) as archive:
        yield archive


async def a_busy_day(world: World) -> None:
    """Everything that can happen to money, to several cards."""
    await world.deposit(100_000)
    _, other_card = await world.funded_card(5_000)
    for number in range(12):
        approved = await world.approve(100 + number, merchant=Merchant("m-1", "Books", "5942"))
        match number % 6:
            case 0:
                await world.capture(approved, 40)
            case 1:
                await world.capture(approved, 30, final=False)
                await world.reverse(approved)
            case 2:
                await world.reverse(approved)
            case 3:
                await world.overdue(approved)
                await world.sweep()
            case 4:
                await world.abandon(approved)
    await world.authorize(1_000_000, card=other_card)
    await world.approve(10, card=other_card)
    await world.authorize(1, card={"id": "crd_" + "9" * 32})
    await world.authorize(1, card={"id": "what.ever"})
    webhooks = Caller("webhook:processor", None, frozenset())
    for number in range(3):
        payload = json.dumps({"$a.b": number})
        received = Received("processor", f"msg-{number}", payload.encode(), payload)
        await receive(world.postgres, world.clock, webhooks, received)


async def announced(postgres: PostgreSQLAdapter) -> list[Event]:
    """Every event that our three queues take, in the order in which they were written."""
    outbox = outbox_of(postgres)
    events: list[Event] = []
    try:
        while (claim := await outbox.claim(100, "test")) is not None:
            events += [one.event for one in claim.waiting]
            await outbox.mark_published(claim.token, claim.waiting)
            await outbox.release(claim.token)
    finally:
        await outbox.close()
    return [event for event in events if event.type.partition(".")[0] in _QUEUE_OF]


async def deliver(
    postgres: PostgreSQLAdapter, archive: Archive, queue: str, events: Sequence[Event]
) -> None:
    """As a consumer does: in one transaction."""
    handler = archive_handlers(archive)[queue]

    async def act(transaction: TransactionClient) -> None:
        await handler(events, transaction)

    await postgres.execute_transaction(act)


async def deliver_all(postgres: PostgreSQLAdapter, archive: Archive, events: list[Event]) -> None:
    """In any order, some of them twice, a few at a time."""
    seed = random.Random(7)
    deliveries = events + seed.sample(events, len(events) // 3)
    seed.shuffle(deliveries)
    for queue in QUEUES:
        own = [one for one in deliveries if _QUEUE_OF[one.type.partition(".")[0]] == queue.name]
        for start in range(0, len(own), 5):
            await deliver(postgres, archive, queue.name, own[start : start + 5])


async def rebuilt(postgres: PostgreSQLAdapter, archive: Archive) -> dict[str, Rebuilt]:
    done = await rebuild(
        postgres,
        archive,
        archive_assembler(),
        keeps_from=keeps_from(FOR_EVER, datetime.now(UTC)),
        progress=lambda _: None,
    )
    return {one.collection: one for one in done}


async def hashes(archive: Archive) -> dict[str, tuple[int, str]]:
    return {name: await content_hash(archive, one) for name, one in COLLECTIONS.items()}


async def test_events_in_any_order_make_what_http_answers(world: World, archive: Archive) -> None:
    await a_busy_day(world)
    await deliver_all(world.postgres, archive, await announced(world.postgres))

    kept = await all_of(archive, AUTHORIZATIONS)
    decided = {f"aut_{row['id'].hex}" for row in await world.rows("SELECT id FROM decision")}
    assert kept.keys() == decided
    for id_, document in kept.items():
        shown = await world.authorization({"id": id_})
        assert {name: document[name] for name in shown} == shown
    statuses = {document["status"] for document in kept.values()}
    assert statuses == {"open", "captured", "released", "expired", "abandoned", "declined"}

    lines = await all_of(archive, TRANSACTIONS)
    moved = {f"trf_{row['id'].hex}" for row in await world.rows("SELECT id FROM transfer")}
    assert lines.keys() == moved
    posted, _, _, _ = await world.balances()
    ours = [one for one in lines.values() if one["account"] == world.account["id"]]
    assert sum(line["posted_change"] for line in ours) == posted
    captured = next(line for line in ours if line["kind"] == "capture")
    assert captured["card"] == world.card["id"]
    assert captured["authorization"] in kept

    webhooks = (await all_of(archive, WEBHOOKS)).values()
    assert {document["payload"] for document in webhooks} == {
        json.dumps({"$a.b": number}) for number in range(3)
    }


async def test_a_wiped_archive_is_made_again_identically(world: World, archive: Archive) -> None:
    await a_busy_day(world)
    await deliver_all(world.postgres, archive, await announced(world.postgres))
    before = await hashes(archive)
    for collection in COLLECTIONS.values():
        documents = list((await all_of(archive, collection)).values())
        assert await archive.remove(collection, documents) == len(documents) > 0

    done = await rebuilt(world.postgres, archive)

    assert await hashes(archive) == before
    for name, (count, hashed) in before.items():
        assert (done[name].added, done[name].count, done[name].content_hash) == (
            count,
            count,
            hashed,
        )


async def test_where_both_agree_nothing_is_written(world: World, archive: Archive) -> None:
    await a_busy_day(world)
    await rebuilt(world.postgres, archive)
    again = await rebuilt(world.postgres, archive)
    for one in again.values():
        assert one.compared == one.count > 0
        assert (one.added, one.replaced, one.removed) == (0, 0, 0)


async def test_damage_is_found_and_mended(world: World, archive: Archive) -> None:
    await a_busy_day(world)
    await rebuilt(world.postgres, archive)
    before = await hashes(archive)
    first, second, third, *_ = (await all_of(archive, AUTHORIZATIONS)).values()
    await archive.remove(AUTHORIZATIONS, [first, second, third])
    damaged = second | {"amount": 1, "approved_amount": 1}
    from_nowhere = an_authorization()
    from_the_future = third | {"status": "captured", "revision": third["revision"] + 1_000}
    await archive.put_many(AUTHORIZATIONS, [damaged, from_nowhere, from_the_future])

    done = (await rebuilt(world.postgres, archive))["authorizations"]

    assert (done.added, done.replaced, done.removed) == (1, 2, 1)
    assert await hashes(archive) == before


async def test_a_rebuild_goes_on_beyond_one_stretch(
    world: World, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stretches end where either side's next documents end, also where only one side has any."""
    monkeypatch.setattr("jitway.archive.rebuild.READ_MAX", 4)
    await a_busy_day(world)
    strangers = [an_authorization(datetime(2020, 1, day, tzinfo=UTC)) for day in range(1, 12)]
    late = [an_authorization(datetime(2090, 1, day, tzinfo=UTC)) for day in range(1, 12)]
    await archive.put_many(AUTHORIZATIONS, strangers + late)
    done = await rebuilt(world.postgres, archive)
    assert done["authorizations"].removed == 22
    rows = await world.rows("SELECT count(*) AS number FROM decision")
    assert done["authorizations"].count == done["authorizations"].added == rows[0]["number"]


async def test_an_event_about_nothing_is_refused_with_its_cause(
    world: World, archive: Archive
) -> None:
    await a_busy_day(world)
    (event, *_) = [one for one in await announced(world.postgres) if one.account]
    stranger = Event(
        "evt_" + "0" * 32, event.type, event.occurred_at, None, None, None, event.data_text
    )
    queue = _QUEUE_OF[event.type.partition(".")[0]]
    with pytest.raises(MalformedMessage, match="the ledger has no"):
        await deliver(world.postgres, archive, queue, [stranger])
    unknown = Event(event.id, "jit-funding.perhaps", event.occurred_at, None, None, None, "{}")
    with pytest.raises(MalformedMessage, match=r"knows no jit-funding\.perhaps"):
        await deliver(world.postgres, archive, JIT_FUNDING_QUEUE, [unknown])
    assert {count for count, _ in (await hashes(archive)).values()} == {0}


class Tomorrow:
    """A clock of some days later."""

    def __init__(self, days: int) -> None:
        self._later = timedelta(days=days)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._later

    def monotonic_ns(self) -> int:
        raise NotImplementedError

    def new_id(self, prefix: str) -> str:
        raise NotImplementedError


async def test_each_collection_is_kept_as_long_as_wanted(world: World, archive: Archive) -> None:
    await a_busy_day(world)
    await rebuilt(world.postgres, archive)
    counts = {name: count for name, (count, _) in (await hashes(archive)).items()}
    days = {"authorizations": 30, "transactions": 0, "webhooks": 10}
    assert await Retention(archive, Tomorrow(9), days).round() == 0
    assert await Retention(archive, Tomorrow(20), days).round() == counts["webhooks"]
    removed = await Retention(archive, Tomorrow(40), days).round()
    assert removed == counts["authorizations"]
    assert (await hashes(archive))["transactions"][0] == counts["transactions"]
    # Nor does a rebuild bring back what is too old.
    done = await rebuild(
        world.postgres,
        archive,
        archive_assembler(),
        keeps_from=keeps_from(days, Tomorrow(40).now()),
        progress=lambda _: None,
    )
    assert {one.collection: one.count for one in done} == counts | {
        "authorizations": 0,
        "webhooks": 0,
    }


async def test_retention_starts_and_stops_in_any_order(archive: Archive) -> None:
    retention = Retention(archive, Tomorrow(0), dict.fromkeys(COLLECTIONS, 1))
    await retention.stop()
    retention.start()
    retention.start()
    await retention.stop()
    await retention.stop()


async def test_the_command_rebuilds_what_its_settings_name(
    world: World, database: str, tmp_path: Path
) -> None:
    await a_busy_day(world)
    settings = load({"HOME": str(tmp_path), "DATABASE_URL": database}, tmp_path)
    done: dict[str, Any] = await rebuild_archive(settings)
    assert done.keys() == COLLECTIONS.keys()
    assert all(one["added"] == one["count"] > 0 for one in done.values())
    assert all(len(one["content_hash"]) == 64 for one in done.values())
    again = await rebuild_archive(settings)
    assert [one["content_hash"] for one in again.values()] == [
        one["content_hash"] for one in done.values()
    ]
    assert all(one["added"] == one["replaced"] == 0 for one in again.values())


async def test_what_was_searched_is_what_was_decided(world: World, archive: Archive) -> None:
    await a_busy_day(world)
    await deliver_all(world.postgres, archive, await announced(world.postgres))
    by_card = await archive.search(AUTHORIZATIONS, Question(card=world.card["id"]))
    assert len(by_card.documents) == 12
    abandoned = await archive.search(AUTHORIZATIONS, Question(reason="abandoned"))
    assert {one["status"] for one in abandoned.documents} == {"abandoned"}
    of_holder: list[Document] = (
        await archive.search(TRANSACTIONS, Question(cardholder=world.cardholder["id"]))
    ).documents
    assert {"deposit", "capture", "reversal", "expiry", "abandonment"} == {
        one["kind"] for one in of_holder
    }
