"""Consumers: applied once, in the transaction that remembers it; poison alone is buried."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest

from jitway.adapters.postgresql import PostgreSQLAdapter, TransactionClient
from jitway.clock import SystemClock
from jitway.domain.instant import instant_text
from jitway.errors import (
    ArchiveUnavailable,
    Conflict,
    LedgerUnavailable,
    MalformedMessage,
    Postpone,
)
from jitway.events.broker import Delivery, Queue
from jitway.events.consumer import REMEMBERED, Consumer, Subscription, subscribe
from jitway.events.envelope import Event, decode, encode

pytestmark = pytest.mark.relaxed_durability

CLOCK = SystemClock()
QUEUE = "test-queue"


@pytest.fixture(autouse=True)
async def effects(adapter: PostgreSQLAdapter) -> None:
    """What the handlers change; nothing keeps an effect from being there twice."""
    await adapter.execute_query("CREATE TABLE effect (event_id text NOT NULL, version bigint)")


def event(number: int = 1, *, id_: str | None = None, account: str | None = None) -> Event:
    id_ = id_ or CLOCK.new_id("evt")
    return Event(id_, "order.made", CLOCK.now(), None, account, number, f'{{"n":{number}}}')


def delivery(event: Event, *, attempts: int = 0, replays: int = 0) -> Delivery:
    return Delivery(QUEUE, event.type, event.id, encode(event), attempts, replays)


async def apply(event: Event, transaction: TransactionClient) -> None:
    await transaction.query("INSERT INTO effect VALUES ($1, $2)", [event.id, event.account_version])


def consumer(adapter: PostgreSQLAdapter, handler: object = apply, queue: str = QUEUE) -> Consumer:
    subscription = subscribe(queue, ["order.*"], handler)  # type: ignore[arg-type]
    return Consumer(adapter, CLOCK, subscription)


async def effects_of(adapter: PostgreSQLAdapter) -> list[str]:
    rows = await adapter.execute_query("SELECT event_id FROM effect ORDER BY event_id")
    return [row["event_id"] for row in rows]


async def test_an_event_is_applied_once_however_often_it_comes(
    adapter: PostgreSQLAdapter,
) -> None:
    """Q12: ten times, one after the other, at once, and to two processes."""
    one, other = consumer(adapter), consumer(adapter)
    first, second = event(), event()
    for _ in range(3):
        await one.on_delivery(delivery(first))
    await asyncio.gather(
        *(some.on_delivery(delivery(second)) for some in (one, other) for _ in range(10))
    )
    assert await effects_of(adapter) == sorted([first.id, second.id])
    assert one.counts["applied"] + other.counts["applied"] == 2


async def test_each_consumer_applies_for_itself(adapter: PostgreSQLAdapter) -> None:
    both = consumer(adapter), consumer(adapter, queue="another-queue")
    one = event()
    for some in both:
        await some.on_delivery(delivery(one))
    assert await effects_of(adapter) == [one.id, one.id]


async def test_the_memory_and_the_effect_commit_together(adapter: PostgreSQLAdapter) -> None:
    """K11: a handler that fails half-way leaves nothing, and is asked again."""
    fails = True

    async def half(event: Event, transaction: TransactionClient) -> None:
        await apply(event, transaction)
        if fails:
            raise ValueError("half-way")

    one, some = event(), consumer(adapter, half)
    with pytest.raises(ValueError, match="half-way"):
        await some.on_delivery(delivery(one))
    assert await effects_of(adapter) == []
    fails = False
    await some.on_delivery(delivery(one))
    assert await effects_of(adapter) == [one.id]


async def test_neighbours_of_a_poisonous_event_are_applied(adapter: PostgreSQLAdapter) -> None:
    async def picky(event: Event, transaction: TransactionClient) -> None:
        await apply(event, transaction)
        if event.account_version == 7:
            await transaction.query("SELECT 1 / 0")

    some = consumer(adapter, picky)
    events = [event(number) for number in range(20)]
    outcomes = await asyncio.gather(
        *(some.on_delivery(delivery(one)) for one in events), return_exceptions=True
    )
    failed = [number for number, outcome in enumerate(outcomes) if outcome is not None]
    assert failed == [7]
    assert await effects_of(adapter) == sorted(one.id for one in events if one is not events[7])


async def test_what_arrives_together_is_applied_together_and_in_order(
    adapter: PostgreSQLAdapter,
) -> None:
    batches: list[list[int | None]] = []
    may_go_on = asyncio.Event()

    async def note(events: Sequence[Event], _: TransactionClient) -> None:
        batches.append([event.account_version for event in events])
        await may_go_on.wait()

    some = Consumer(adapter, CLOCK, Subscription(Queue(QUEUE, ("order.*",)), note))
    account = CLOCK.new_id("acc")
    first = asyncio.create_task(some.on_delivery(delivery(event(1, account=account))))
    while not batches:
        await asyncio.sleep(0.005)
    others = [
        asyncio.create_task(some.on_delivery(delivery(event(number, account=account))))
        for number in (5, 3, 4, 2)
    ]
    await asyncio.sleep(0)
    may_go_on.set()
    await asyncio.gather(first, *others)
    assert batches == [[1], [2, 3, 4, 5]]


@pytest.mark.parametrize("failure", [ArchiveUnavailable("away"), LedgerUnavailable("away")])
async def test_a_store_that_is_away_postpones(
    adapter: PostgreSQLAdapter, failure: Exception
) -> None:
    """Q11."""

    async def away(_event: Event, _: TransactionClient) -> None:
        raise failure

    with pytest.raises(Postpone, match="away"):
        await consumer(adapter, away).on_delivery(delivery(event()))


async def test_a_ledger_that_is_away_postpones(adapter: PostgreSQLAdapter) -> None:
    some = consumer(adapter)
    await adapter.close()
    with pytest.raises(Postpone):
        await some.on_delivery(delivery(event()))


async def test_a_refusal_for_good_is_no_failure_to_repeat(adapter: PostgreSQLAdapter) -> None:
    async def refuse(_event: Event, _: TransactionClient) -> None:
        raise Conflict("this id was used with other content")

    with pytest.raises(MalformedMessage, match="other content"):
        await consumer(adapter, refuse).on_delivery(delivery(event()))


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b"not json", "no envelope of ours"),
        (b"[]", "no envelope of ours"),
        (b'{"id":"m-1"}', "missing required field `type`"),
        (b'{"transaction_id":"123","user_id":"user-456","amount":100}', "no envelope of ours"),
        (encode(event()).replace(b'"version":1', b'"version":2'), "version 2"),
        (b'{"version":3}', "version of the envelope is not known"),
        (encode(event()).replace(b"evt_", b"vte_"), "no evt_ id"),
        (encode(event()).replace(b"order.made", b"order"), "no type of an event"),
        (encode(event()).replace(b'"data":{"n":1}', b'"data":[1]'), "no envelope of ours"),
        (encode(event()).replace(b"order.made", b"order.lost"), "under the routing key"),
        (b'{"id":"\xff"}', "no envelope of ours"),
    ],
)
async def test_what_has_not_our_envelope_is_refused_with_its_cause(
    adapter: PostgreSQLAdapter, body: bytes, cause: str
) -> None:
    strange = Delivery(QUEUE, "order.made", "m-1", body, 0, 0)
    with pytest.raises(MalformedMessage, match=cause):
        await consumer(adapter).on_delivery(strange)
    assert await effects_of(adapter) == []


async def test_an_envelope_comes_back_as_it_went() -> None:
    one = event(account=CLOCK.new_id("acc"))
    assert decode(encode(one)) == one
    assert one.data == {"n": 1}
    wanted = (
        f'{{"id":"{one.id}","type":"order.made","version":1,'
        f'"occurred_at":"{instant_text(one.occurred_at)}","program":null,'
        f'"account":"{one.account}","account_version":1,"data":{{"n":1}}}}'
    )
    assert encode(one).decode() == wanted


def aged(age: timedelta) -> Event:
    milliseconds = int((CLOCK.now() - age).timestamp() * 1000)
    return event(id_=f"evt_{milliseconds:012x}{'7' * 20}")


async def test_what_is_older_than_the_memory_is_not_guessed(adapter: PostgreSQLAdapter) -> None:
    some, old = consumer(adapter), aged(REMEMBERED)
    with pytest.raises(MalformedMessage, match="no longer known"):
        await some.on_delivery(delivery(old))
    # An operator who replays it says that it was not applied.
    await some.on_delivery(delivery(old, replays=1))
    assert await effects_of(adapter) == [old.id]


async def test_the_memory_ends(adapter: PostgreSQLAdapter) -> None:
    some = consumer(adapter)
    fresh, old = event(), aged(REMEMBERED + timedelta(hours=1))
    await some.on_delivery(delivery(fresh))
    await some.on_delivery(delivery(old, replays=1))
    assert await some.forget() == 1
    assert await some.forget() == 0
    await some.on_delivery(delivery(fresh))
    assert (await effects_of(adapter)).count(fresh.id) == 1


@pytest.fixture
async def stopped(adapter: PostgreSQLAdapter) -> AsyncIterator[Consumer]:
    some = consumer(adapter)
    yield some
    await some.stop()


async def test_it_stops_twice_and_leaves_nothing_half_done(stopped: Consumer) -> None:
    began = asyncio.Event()

    async def endless(_event: Event, _: TransactionClient) -> None:
        began.set()
        await asyncio.Event().wait()

    some = consumer(stopped._postgres, endless)
    waiting = asyncio.create_task(some.on_delivery(delivery(event())))
    await began.wait()
    await some.stop()
    await some.stop()
    with pytest.raises(Postpone):
        await waiting
