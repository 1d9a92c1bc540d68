"""`MessageQueueManager` against a real RabbitMQ: consuming, retrying, burying and replaying."""

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import aiormq
import pytest
from pamqp.common import FieldTable

from jitway.adapters.rabbitmq import MessageQueueManager, Publication, Topology
from jitway.adapters.rabbitmq import consumer as rabbitmq_consumer
from jitway.adapters.rabbitmq import gate as rabbitmq_gate
from jitway.adapters.rabbitmq.delivery import Delivery
from jitway.errors import (
    MalformedMessage,
    NotFound,
    Postpone,
    SettingsError,
)
from tests.integration.leaks import eventually
from tests.integration.rabbitmq_scenes import DELAYS_MS, Collector, orders_of, remove, until_depth

pytest_plugins = ["tests.integration.rabbitmq_fixtures"]


class TestConsuming:
    async def test_a_message_is_acknowledged_after_its_handler(
        self, queues: MessageQueueManager, topology: Topology
    ) -> None:
        entered, leave = asyncio.Event(), asyncio.Event()

        async def handler(_message: dict[str, Any]) -> None:
            entered.set()
            await leave.wait()

        consumer = await queues.consume_message(orders_of(queues), handler)
        await queues.publish_message(topology.exchange, "order.made", {})
        await asyncio.wait_for(entered.wait(), 5)
        stats = await queues.get_connection_stats()
        assert stats["consumers"][0]["handled"] == 0

        # Ended without an answer, it is in the queue again.
        await consumer.stop(grace_s=0)
        await until_depth(queues, orders_of(queues), 1)

        leave.set()
        await queues.consume_message(orders_of(queues), handler)
        await until_depth(queues, orders_of(queues), 0)

    async def test_a_poisonous_one_is_buried_after_three_retries_while_others_flow(
        self, queues: MessageQueueManager, topology: Topology
    ) -> None:
        tries: list[float] = []
        flowing = Collector()

        async def handler(delivery: Delivery) -> None:
            if b"poison" in delivery.body:
                assert delivery.attempts == len(tries)
                assert delivery.routing_key == "order.made"
                tries.append(time.monotonic())
                raise ValueError(f"cannot read\nfailure {len(tries)}")
            await flowing(delivery.decode()["n"])

        await queues.consume(orders_of(queues), handler)
        before = datetime.now(UTC)
        await queues.publish_message(
            topology.exchange, "order.made", {"poison": 1}, message_id="bad", headers={"kept": 7}
        )
        for n in range(30):
            await queues.publish_message(topology.exchange, "order.made", {"n": n})
        await flowing.reaches(30)
        await until_depth(queues, f"{orders_of(queues)}.dead", 1)

        assert sorted(flowing.got) == list(range(30))
        pauses_ms = [(later - earlier) * 1000 for earlier, later in pairwise(tries)]
        assert len(tries) == 4
        for pause_ms, delay_ms in zip(pauses_ms, DELAYS_MS, strict=True):
            assert pause_ms >= delay_ms - 20
        (letter,) = await queues.peek_dead(orders_of(queues))
        assert letter.id == "bad"
        assert letter.cause == "ValueError: cannot read failure 4"
        assert letter.delivery.attempts == 4
        assert [failure.attempt for failure in letter.delivery.history] == [1, 2, 3, 4]
        assert letter.delivery.history[0].cause == "ValueError: cannot read failure 1"
        assert letter.delivery.routing_key == "order.made"
        assert letter.delivery.exchange == topology.exchange
        assert letter.delivery.headers == {"kept": 7}
        assert letter.delivery.decode() == {"poison": 1}
        first, last = letter.delivery.first_failed_at, letter.last_failed_at
        assert first is not None
        assert last is not None
        assert before.timestamp() - 1 <= first.timestamp() < last.timestamp()

    @pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'{"x":NaN}', b"\xff\xfe", b"[" * 9_000])
    async def test_what_is_no_json_object_is_buried_at_once(
        self,
        queues: MessageQueueManager,
        raw: aiormq.abc.AbstractChannel,
        topology: Topology,
        body: bytes,
    ) -> None:
        handled = Collector()
        await queues.consume_message(orders_of(queues), handled)
        await raw.basic_publish(body, exchange=topology.exchange, routing_key="order.made")
        await until_depth(queues, f"{orders_of(queues)}.dead", 1)

        (letter,) = await queues.peek_dead(orders_of(queues))
        assert "MalformedMessage: the body is" in letter.cause
        assert letter.delivery.body == body
        assert letter.delivery.attempts == 1
        assert handled.got == []

    async def test_a_handler_can_bury_what_no_retry_helps(
        self, queues: MessageQueueManager, topology: Topology
    ) -> None:
        async def handler(_message: dict[str, Any]) -> None:
            raise MalformedMessage("no envelope: card_id is missing")

        await queues.consume_message(orders_of(queues), handler)
        await queues.publish_message(topology.exchange, "order.made", {})
        await until_depth(queues, f"{orders_of(queues)}.dead", 1)
        (letter,) = await queues.peek_dead(orders_of(queues))
        assert letter.cause == "MalformedMessage: no envelope: card_id is missing"

    async def test_an_absent_dependency_pauses_the_queue_and_burns_no_attempt(
        self, queues: MessageQueueManager, topology: Topology
    ) -> None:
        away = True
        calls = 0
        handled = Collector()

        async def handler(delivery: Delivery) -> None:
            nonlocal calls
            calls += 1
            if away:
                raise Postpone("the archive is away")
            await handled(delivery.attempts)

        consumer = await queues.consume(orders_of(queues), handler, prefetch=20)
        await queues.publish_many(
            [Publication(topology.exchange, "order.made", b"{}", f"id-{n}") for n in range(50)]
        )

        async def has_paused() -> bool:
            return consumer.is_paused and calls >= 3

        await eventually(has_paused, within_s=10)
        assert calls < 10, "one at a time tries again, not all fifty"
        assert (await queues.get_queue_stats(f"{orders_of(queues)}.dead"))["message_count"] == 0
        away = False

        assert await handled.reaches(50) == [0] * 50
        assert not consumer.is_paused
        assert (await queues.get_queue_stats(f"{orders_of(queues)}.dead"))["message_count"] == 0

    async def test_one_that_postpones_for_itself_does_not_keep_its_neighbours(
        self, queues: MessageQueueManager, topology: Topology
    ) -> None:
        handled = Collector()

        async def handler(message: dict[str, Any]) -> None:
            if message["n"] == 0:
                raise Postpone("only this one")
            await handled(message["n"])

        await queues.consume_message(orders_of(queues), handler, prefetch=2)
        for n in range(10):
            await queues.publish_message(topology.exchange, "order.made", {"n": n})
        assert sorted(await handled.reaches(9)) == list(range(1, 10))

    async def test_what_is_held_too_long_waits_in_a_delay_queue(
        self,
        queues: MessageQueueManager,
        topology: Topology,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(rabbitmq_consumer, "HOLD_MAX_S", 0.5)
        monkeypatch.setattr(rabbitmq_gate, "PAUSE_MAX_S", 0.1)
        arrivals: list[tuple[int, str]] = []
        done = asyncio.Event()

        async def handler(delivery: Delivery) -> None:
            arrivals.append((delivery.attempts, delivery.routing_key))
            stats = await queues.get_connection_stats()
            if stats["consumers"][0]["put_off"] < 2:
                raise Postpone("the archive is away")
            done.set()

        await queues.consume(orders_of(queues), handler)
        await queues.publish_message(topology.exchange, "order.made", {})
        await asyncio.wait_for(done.wait(), 10)
        assert set(arrivals) == {(0, "order.made")}

    async def test_no_more_than_the_prefetch_are_handled_at_a_time(
        self, queues: MessageQueueManager, topology: Topology
    ) -> None:
        running = running_max = 0
        handled = Collector()

        async def handler(message: dict[str, Any]) -> None:
            nonlocal running, running_max
            running += 1
            running_max = max(running_max, running)
            await asyncio.sleep(0.005)
            running -= 1
            await handled(message)

        await queues.consume_message(orders_of(queues), handler, prefetch=4)
        await queues.publish_many(
            [Publication(topology.exchange, "order.made", b"{}", f"id-{n}") for n in range(60)]
        )
        await handled.reaches(60)
        assert running_max == 4

    async def test_a_prefetch_of_one_keeps_the_order(
        self, queues: MessageQueueManager, topology: Topology
    ) -> None:
        handled = Collector()
        for n in range(50):
            await queues.publish_message(topology.exchange, "order.made", {"n": n})

        async def handler(message: dict[str, Any]) -> None:
            await handled(message["n"])

        await queues.consume_message(orders_of(queues), handler, prefetch=1)
        assert await handled.reaches(50) == list(range(50))

    @pytest.mark.parametrize("kind", ["too slow", "cancels itself", "its task was cancelled"])
    async def test_a_handler_that_hangs_or_is_cancelled_has_failed(
        self, queues: MessageQueueManager, topology: Topology, kind: str
    ) -> None:
        async def handler(_message: dict[str, Any]) -> None:
            if kind == "too slow":
                await asyncio.Event().wait()
            if kind == "cancels itself":
                raise asyncio.CancelledError
            task = asyncio.create_task(asyncio.sleep(60))
            asyncio.get_running_loop().call_soon(task.cancel)
            await task

        await queues.consume_message(orders_of(queues), handler, handler_timeout_s=0.05)
        await queues.publish_message(topology.exchange, "order.made", {})
        await until_depth(queues, f"{orders_of(queues)}.dead", 1)
        (letter,) = await queues.peek_dead(orders_of(queues))
        expected = "took more than" if kind == "too slow" else "was cancelled"
        assert expected in letter.cause

    async def test_headers_of_strangers_survive_or_are_dropped_but_never_stop_a_queue(
        self, queues: MessageQueueManager, raw: aiormq.abc.AbstractChannel, topology: Topology
    ) -> None:
        odd: FieldTable = {
            "x-attempt": "many",
            "x-history": ["x", {"attempt": None}],
            "x-routing-key": 5,
            "x-first-failed-at": 1.5,
            "bytes": bytearray(b"\x00\xff"),
            "nested": {"list": [1, True, None, {"deep": datetime.now(UTC)}]},
            "big": 2**62,
            "negative": -5,
        }
        huge: FieldTable = {f"header-{n}": "x" * 1_000 for n in range(100)}

        async def handler(_delivery: Delivery) -> None:
            raise ValueError("no")

        await queues.consume(orders_of(queues), handler)
        for headers in (odd, huge):
            properties = aiormq.spec.Basic.Properties(headers=headers)
            await raw.basic_publish(
                b"{}",
                exchange=topology.exchange,
                routing_key="order.made",
                properties=properties,
            )
        await until_depth(queues, f"{orders_of(queues)}.dead", 2)
        letters = await queues.peek_dead(orders_of(queues))
        assert [letter.cause for letter in letters] == ["ValueError: no"] * 2
        kept = next(
            letter
            for letter in letters
            if "odd" not in letter.id and letter.delivery.headers.get("big")
        )
        assert kept.delivery.headers["big"] == 2**62
        assert kept.delivery.headers["bytes"] == bytearray(b"\x00\xff")

    async def test_a_stop_finishes_what_has_begun_and_hands_back_the_rest(
        self, queues: MessageQueueManager, topology: Topology
    ) -> None:
        begun = asyncio.Semaphore(0)
        leave = asyncio.Event()
        finished: list[str | None] = []

        async def handler(delivery: Delivery) -> None:
            begun.release()
            await leave.wait()
            finished.append(delivery.message_id)

        consumer = await queues.consume(orders_of(queues), handler, prefetch=3)
        await queues.publish_many(
            [Publication(topology.exchange, "order.made", b"{}", f"id-{n}") for n in range(10)]
        )
        for _ in range(3):
            await asyncio.wait_for(begun.acquire(), 5)

        stopping = asyncio.create_task(consumer.stop())
        await asyncio.sleep(0)
        leave.set()
        await asyncio.wait_for(stopping, 5)

        assert len(finished) == 3
        await until_depth(queues, orders_of(queues), 7)
        await consumer.stop()

    async def test_closing_is_bounded_whatever_the_handler_does(
        self, broker_url: str, topology: Topology, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("jitway.adapters.rabbitmq.adapter.STOP_GRACE_S", 0.3)
        entered = asyncio.Event()

        async def handler(_message: dict[str, Any]) -> None:
            entered.set()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
            await asyncio.sleep(60)

        queues = MessageQueueManager({"RABBITMQ_URL": broker_url}, topology=topology)
        await queues.consume_message(topology.queues[0].name, handler)
        await queues.publish_message(topology.exchange, "order.made", {})
        await asyncio.wait_for(entered.wait(), 5)
        await asyncio.wait_for(queues.close(), 4)
        again = MessageQueueManager({"RABBITMQ_URL": broker_url}, topology=topology)
        await until_depth(again, topology.queues[0].name, 1)
        await again.close()
        await remove(broker_url, topology)

    async def test_only_declared_queues_can_be_consumed(self, queues: MessageQueueManager) -> None:
        with pytest.raises(NotFound, match="declare_queue"):
            await queues.consume_message("not-declared", Collector())
        with pytest.raises(SettingsError, match="prefetch"):
            await queues.consume_message(orders_of(queues), Collector(), prefetch=0)

    async def test_a_users_own_queue_takes_nothing_from_ours(
        self, queues: MessageQueueManager, topology: Topology
    ) -> None:
        ours, theirs = Collector(), Collector()
        own = await queues.declare_queue(f"{topology.exchange}-reports", ["order.*", "bill.paid"])
        await queues.consume_message(orders_of(queues), ours)
        await queues.consume_message(own.name, theirs)
        for key in ("order.made", "bill.paid", "order.sent"):
            await queues.publish_message(topology.exchange, key, {"key": key})
        await theirs.reaches(3)
        await ours.reaches(2)
        assert {message["key"] for message in theirs.got} == {
            "order.made",
            "bill.paid",
            "order.sent",
        }
        assert (await queues.get_queue_stats(f"{own.name}.dead"))["message_count"] == 0


class TestDeadLetters:
    async def bury(self, queues: MessageQueueManager, number: int) -> None:
        async def refuse(_message: dict[str, Any]) -> None:
            raise MalformedMessage("refused")

        consumer = await queues.consume_message(orders_of(queues), refuse, prefetch=1)
        for n in range(number):
            await queues.publish_message(
                queues.topology.exchange, "order.made", {"n": n}, message_id=f"id-{n}"
            )
        await until_depth(queues, f"{orders_of(queues)}.dead", number)
        await consumer.stop()

    async def test_looking_changes_nothing(self, queues: MessageQueueManager) -> None:
        await self.bury(queues, 30)
        # More often than any limit of deliveries that a broker would set by itself.
        looks = [await queues.peek_dead(orders_of(queues)) for _ in range(25)]
        for look in looks:
            assert [letter.id for letter in look] == [f"id-{n}" for n in range(30)]
        few = await queues.peek_dead(orders_of(queues), limit=4)
        assert [letter.id for letter in few] == ["id-0", "id-1", "id-2", "id-3"]
        assert await queues.peek_dead(orders_of(queues), limit=0) == []
        await until_depth(queues, f"{orders_of(queues)}.dead", 30)

    async def test_a_replayed_one_gets_all_its_attempts_again(
        self, queues: MessageQueueManager
    ) -> None:
        await self.bury(queues, 5)
        handled: list[Delivery] = []

        async def handler(delivery: Delivery) -> None:
            handled.append(delivery)
            if len(handled) < 4:
                raise ValueError("not yet")

        replayed = await queues.replay_dead(orders_of(queues), "id-2")
        assert replayed is not None
        assert replayed.delivery.decode() == {"n": 2}
        assert await queues.replay_dead(orders_of(queues), "id-2") is None

        await queues.consume(orders_of(queues), handler)

        async def is_handled() -> bool:
            return len(handled) == 4

        await eventually(is_handled, within_s=10)
        assert [delivery.attempts for delivery in handled] == [0, 1, 2, 3]
        assert {delivery.message_id for delivery in handled} == {"id-2"}
        assert {delivery.routing_key for delivery in handled} == {"order.made"}
        assert {delivery.replays for delivery in handled} == {1}
        left = await queues.peek_dead(orders_of(queues))
        assert [letter.id for letter in left] == ["id-0", "id-1", "id-3", "id-4"]

    async def test_a_discarded_one_is_gone(self, queues: MessageQueueManager) -> None:
        await self.bury(queues, 3)
        assert await queues.discard_dead(orders_of(queues), "id-1") is not None
        assert await queues.discard_dead(orders_of(queues), "id-1") is None
        assert await queues.discard_dead(orders_of(queues), "never-was") is None
        left = await queues.peek_dead(orders_of(queues))
        assert [letter.id for letter in left] == ["id-0", "id-2"]
        assert (await queues.get_queue_stats(orders_of(queues)))["message_count"] == 0

    async def test_operators_at_the_same_time_replay_once(
        self, queues: MessageQueueManager, broker_url: str, topology: Topology
    ) -> None:
        await self.bury(queues, 10)
        other = MessageQueueManager({"RABBITMQ_URL": broker_url}, topology=topology)
        attempts = [
            manager.replay_dead(orders_of(queues), "id-7") for manager in (queues, other) * 3
        ]
        outcomes = await asyncio.gather(*attempts)
        await other.close()
        replayed = [letter for letter in outcomes if letter is not None]
        # Two walks at once may hide letters from each other; none is replayed twice or lost.
        assert len(replayed) <= 1
        await until_depth(queues, f"{orders_of(queues)}.dead", 10 - len(replayed))
        await until_depth(queues, orders_of(queues), len(replayed))

    async def test_what_the_broker_buries_itself_has_a_cause_and_its_own_routing_key(
        self, queues: MessageQueueManager, raw: aiormq.abc.AbstractChannel, topology: Topology
    ) -> None:
        await raw.basic_publish(b"{}", exchange=topology.exchange, routing_key="order.made")
        for _ in range(30):
            message = await raw.basic_get(orders_of(queues))
            if message.delivery_tag is None:
                break
            await raw.basic_nack(message.delivery_tag, requeue=True)
        await until_depth(queues, f"{orders_of(queues)}.dead", 1)

        (letter,) = await queues.peek_dead(orders_of(queues))
        assert "buried by the broker" in letter.cause
        assert "too often" in letter.cause
        assert letter.delivery.routing_key == "order.made"
        assert letter.delivery.exchange == topology.exchange
        assert letter.last_failed_at is not None
        assert await queues.discard_dead(orders_of(queues), letter.id) is not None
