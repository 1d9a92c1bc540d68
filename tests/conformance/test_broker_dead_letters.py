"""Both brokers keep what was buried alike, and let it out alike: replayed or discarded, once."""

import asyncio

import pytest

from jitway.errors import MalformedMessage
from jitway.events.broker import Broker
from tests.conformance.brokers import Place, Taker, connected, eventually, orders

pytestmark = pytest.mark.relaxed_durability


async def bury(place: Place, broker: Broker, *numbers: int) -> None:
    """Messages that no retry could help, in this order."""
    async with connected(place) as elsewhere:
        taker = Taker(lambda _: MalformedMessage("broken"))
        await elsewhere.consume(place.queue.name, taker, prefetch=1)
        before = len(await broker.dead(place.queue.name))
        for number in numbers:
            await broker.publish_many(orders(number))

        async def buried() -> bool:
            return len(await broker.dead(place.queue.name)) == before + len(numbers)

        await eventually(buried)


async def test_the_oldest_come_first_and_looking_changes_nothing(
    place: Place, broker: Broker
) -> None:
    await bury(place, broker, 1, 2, 3)
    for _ in range(3):
        letters = await broker.dead(place.queue.name)
        assert [letter.id for letter in letters] == ["m-1", "m-2", "m-3"]


async def test_a_replayed_letter_is_delivered_with_all_its_attempts(
    place: Place, broker: Broker
) -> None:
    await bury(place, broker, 1, 2)
    taken = await broker.replay(place.queue.name, "m-1")
    assert taken is not None
    assert (taken.id, taken.cause) == ("m-1", "MalformedMessage: broken")
    taker = Taker()
    await broker.consume(place.queue.name, taker)
    await taker.until(lambda taker: len(taker.handled) == 1)
    (delivery,) = taker.handled
    assert (delivery.id, delivery.attempts, delivery.replays) == ("m-1", 0, 1)
    assert (delivery.routing_key, delivery.body) == ("order.made", b'{"n":1}')
    assert [letter.id for letter in await broker.dead(place.queue.name)] == ["m-2"]


async def test_replaying_twice_does_nothing_twice(place: Place, broker: Broker) -> None:
    """Q15."""
    await bury(place, broker, 1)
    async with connected(place) as elsewhere:
        outcomes = await asyncio.gather(
            broker.replay(place.queue.name, "m-1"), elsewhere.replay(place.queue.name, "m-1")
        )
    assert [taken is not None for taken in outcomes].count(True) == 1
    assert await broker.replay(place.queue.name, "m-1") is None
    assert await broker.depth(place.queue.name) == 1
    assert await broker.dead(place.queue.name) == []


async def test_a_letter_that_fails_again_remembers_its_replay(place: Place, broker: Broker) -> None:
    await bury(place, broker, 1)
    await broker.replay(place.queue.name, "m-1")
    async with connected(place) as elsewhere:
        await elsewhere.consume(place.queue.name, Taker(lambda _: MalformedMessage("still")))

        async def buried() -> bool:
            return bool(await broker.dead(place.queue.name))

        await eventually(buried)
    (letter,) = await broker.dead(place.queue.name)
    assert (letter.replays, letter.attempts) == (1, 1)
    assert [failure.cause for failure in letter.history] == [
        "MalformedMessage: broken",
        "MalformedMessage: still",
    ]


async def test_a_discarded_letter_is_gone(place: Place, broker: Broker) -> None:
    await bury(place, broker, 1, 2)
    taken = await broker.discard(place.queue.name, "m-2")
    assert taken is not None
    assert await broker.discard(place.queue.name, "m-2") is None
    assert [letter.id for letter in await broker.dead(place.queue.name)] == ["m-1"]
    assert await broker.depth(place.queue.name) == 0


async def test_there_is_no_letter_of_an_unknown_id(place: Place, broker: Broker) -> None:
    assert await broker.replay(place.queue.name, "m-404") is None
    assert await broker.discard(place.queue.name, "m-404") is None
