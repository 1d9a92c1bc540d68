"""Both brokers deliver alike: to whom, in which order, how often, and after which failures."""

import asyncio

import pytest

from jitway.errors import MalformedMessage, NotFound, Postpone, Unroutable
from jitway.events.broker import Broker, Delivery, Message, OnDelivery, Queue
from tests.conformance.brokers import Place, Taker, connected, eventually, orders

pytestmark = pytest.mark.relaxed_durability


async def test_a_message_is_delivered_once(place: Place, broker: Broker) -> None:
    taker = Taker()
    await broker.consume(place.queue.name, taker)
    assert await broker.publish_many(orders(1, 2, 3)) == [None, None, None]
    await taker.until(lambda taker: len(taker.handled) == 3)
    assert sorted(map(str, taker.ids())) == ["m-1", "m-2", "m-3"]
    first = next(one for one in taker.handled if one.id == "m-1")
    assert first == Delivery(place.queue.name, "order.made", "m-1", b'{"n":1}', 0, 0)
    await eventually(lambda: _is_empty(broker, place.queue))


async def _is_empty(broker: Broker, queue: Queue) -> bool:
    return await broker.depth(queue.name) == 0


async def test_what_was_published_before_a_consumer_came_waits(
    place: Place, broker: Broker
) -> None:
    await broker.publish_many(orders(1, 2))
    assert await broker.depth(place.queue.name) == 2
    taker = Taker()
    await broker.consume(place.queue.name, taker)
    await taker.until(lambda taker: len(taker.handled) == 2)


async def test_every_queue_gets_what_its_bindings_take(place: Place, broker: Broker) -> None:
    taker, other = Taker(), Taker()
    await broker.consume(place.queue.name, taker)
    await broker.consume(place.other.name, other)
    await broker.publish_many(
        orders(1) + orders(2, key="order.made.late") + orders(3, key="refund")
    )
    await other.until(lambda other: len(other.handled) == 3)
    await taker.until(lambda taker: len(taker.handled) == 1)
    assert taker.ids() == ["m-1"]
    assert [one.routing_key for one in taker.handled] == ["order.made"]


async def test_what_nobody_takes_is_a_failure_unless_it_may_be(place: Place) -> None:
    place.other = Queue(place.other.name, ("audit.#",), (60,))
    async with connected(place) as broker:
        lost, heard, unheard = await broker.publish_many(
            [
                Message("invoice.made", "m-1", b"{}"),
                Message("audit.done.well", "m-2", b"{}"),
                Message("card.frozen", "m-3", b"{}", needs_reader=False),
            ]
        )
        assert isinstance(lost, Unroutable)
        assert heard is None
        assert unheard is None


async def test_a_row_is_delivered_in_its_order(place: Place, broker: Broker) -> None:
    rows = [orders(*range(start, start + 10)) for start in (100, 200, 300)]
    outcomes = await broker.publish(rows)
    assert [(one.count, one.cause) for one in outcomes] == [(10, None)] * 3
    taker = Taker()
    await broker.consume(place.queue.name, taker, prefetch=1)
    await taker.until(lambda taker: len(taker.handled) == 30)
    for start in (100, 200, 300):
        mine = [id_ for id_ in taker.ids() if str(id_).startswith(f"m-{start // 100}")]
        assert mine == [f"m-{n}" for n in range(start, start + 10)]


async def test_a_refused_message_keeps_back_what_follows_it(place: Place) -> None:
    place.other = Queue(place.other.name, ("audit.#",), (60,))
    async with connected(place) as broker:
        row = orders(1) + orders(2, key="invoice.made") + orders(3)
        ended, other = await broker.publish([row, orders(4)])
        assert (ended.count, type(ended.cause)) == (1, Unroutable)
        assert (other.count, other.cause) == (1, None)
        taker = Taker()
        await broker.consume(place.queue.name, taker)
        await taker.until(lambda taker: len(taker.handled) == 2)
        assert sorted(map(str, taker.ids())) == ["m-1", "m-4"]
        assert await broker.depth(place.queue.name) == 0


async def test_two_consumers_share_a_queue(place: Place, broker: Broker) -> None:
    """Neither goes on before the other has something too."""
    got: dict[str, list[str | None]] = {"here": [], "elsewhere": []}
    both = asyncio.Event()

    def taker(name: str) -> OnDelivery:
        async def take(delivery: Delivery) -> None:
            got[name].append(delivery.id)
            if all(got.values()):
                both.set()
            await both.wait()

        return take

    async with connected(place) as elsewhere:
        await broker.consume(place.queue.name, taker("here"), prefetch=5)
        await elsewhere.consume(place.queue.name, taker("elsewhere"), prefetch=5)
        await broker.publish_many(orders(*range(100)))

        async def all_taken() -> bool:
            return sum(map(len, got.values())) == 100

        await eventually(all_taken)
    assert len({*got["here"], *got["elsewhere"]}) == 100


async def test_a_failure_is_retried_after_its_delays_and_then_buried(
    place: Place, broker: Broker
) -> None:
    """Q10: three retries; the neighbours flow meanwhile."""
    taker = Taker(lambda one: ValueError("poison\nous") if one.id == "m-1" else None)
    await broker.consume(place.queue.name, taker)
    await broker.publish_many(orders(*range(1, 20)))
    await taker.until(lambda taker: len(taker.handled) == 18)

    async def buried() -> bool:
        return bool(await broker.dead(place.queue.name))

    await eventually(buried)
    tries = [one.attempts for one in taker.got if one.id == "m-1"]
    assert tries == [0, 1, 2, 3]
    (letter,) = await broker.dead(place.queue.name)
    assert (letter.id, letter.attempts, letter.replays) == ("m-1", 4, 0)
    assert letter.cause == "ValueError: poison ous"
    assert letter.body == b'{"n":1}'
    assert letter.routing_key == "order.made"
    assert [failure.attempt for failure in letter.history] == [1, 2, 3, 4]
    assert letter.first_failed_at is not None
    assert letter.last_failed_at is not None
    assert (letter.last_failed_at - letter.first_failed_at).total_seconds() >= 0.27


async def test_a_retry_that_works_is_the_end_of_it(place: Place, broker: Broker) -> None:
    taker = Taker(lambda one: ValueError("not yet") if one.attempts < 2 else None)
    await broker.consume(place.queue.name, taker)
    await broker.publish_many(orders(1))
    await taker.until(lambda taker: len(taker.handled) == 1)
    assert [one.attempts for one in taker.got] == [0, 1, 2]
    assert taker.handled[0].routing_key == "order.made"
    assert await broker.dead(place.queue.name) == []


async def test_what_no_retry_can_help_is_buried_at_once(place: Place, broker: Broker) -> None:
    taker = Taker(lambda _: MalformedMessage("there is no card_id"))
    await broker.consume(place.queue.name, taker)
    await broker.publish_many(orders(1))

    async def buried() -> bool:
        return bool(await broker.dead(place.queue.name))

    await eventually(buried)
    (letter,) = await broker.dead(place.queue.name)
    assert (letter.attempts, letter.cause) == (1, "MalformedMessage: there is no card_id")
    assert len(taker.got) == 1


async def test_a_dependency_that_is_away_burns_no_attempt(place: Place, broker: Broker) -> None:
    """Q11: the queue pauses, and goes on when the dependency is back."""
    away = True
    taker = Taker(lambda _: Postpone("the archive is away") if away else None)
    await broker.consume(place.queue.name, taker)
    await broker.publish_many(orders(*range(30)))
    await taker.until(lambda taker: len(taker.got) >= 4)
    assert not taker.handled
    away = False
    await taker.until(lambda taker: len(taker.handled) == 30)
    assert {one.attempts for one in taker.got} == {0}
    assert await broker.dead(place.queue.name) == []


async def test_a_stopping_consumer_finishes_what_it_began(place: Place, broker: Broker) -> None:
    began, may_end = asyncio.Event(), asyncio.Event()
    ended: list[str | None] = []

    async def slow(delivery: Delivery) -> None:
        began.set()
        await may_end.wait()
        ended.append(delivery.id)

    consumption = await broker.consume(place.queue.name, slow, prefetch=1)
    await broker.publish_many(orders(1, 2))
    async with asyncio.timeout(10):
        await began.wait()
    stopping = asyncio.create_task(consumption.stop())
    await asyncio.sleep(0)
    may_end.set()
    await stopping
    assert ended == ["m-1"]
    taker = Taker()
    await broker.consume(place.queue.name, taker)
    await taker.until(lambda taker: len(taker.handled) == 1)
    assert taker.ids() == ["m-2"]


async def test_a_stopped_consumers_deliveries_come_again_at_once(
    place: Place, broker: Broker
) -> None:
    """Handed back unfinished, they count no attempt."""
    began = asyncio.Event()

    async def endless(_: Delivery) -> None:
        began.set()
        await asyncio.Event().wait()

    async with connected(place) as elsewhere:
        consumption = await elsewhere.consume(place.queue.name, endless)
        await broker.publish_many(orders(1, 2, 3))
        async with asyncio.timeout(10):
            await began.wait()
        await consumption.stop(grace_s=0.05)
    taker = Taker()
    await broker.consume(place.queue.name, taker)
    await taker.until(lambda taker: len(taker.handled) == 3, within_s=5)
    assert {one.attempts for one in taker.handled} == {0}


async def test_a_queue_that_nobody_declared_is_not_there(broker: Broker) -> None:
    with pytest.raises(NotFound):
        await broker.consume("no-such-queue", Taker())
    with pytest.raises(NotFound):
        await broker.dead("no-such-queue")


async def test_a_queue_may_be_declared_later_and_again(place: Place, broker: Broker) -> None:
    late = Queue(f"{place.exchange}-late", ("late.#",), (60,))
    await broker.declare(late)
    await broker.declare(late)
    place.other, declared = late, place.other
    try:
        taker = Taker()
        await broker.consume(late.name, taker)
        assert await broker.publish_many(orders(1, key="late.than.never")) == [None]
        await taker.until(lambda taker: len(taker.handled) == 1)
    finally:
        await place.clear()
        place.other = declared
