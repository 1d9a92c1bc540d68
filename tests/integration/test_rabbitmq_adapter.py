"""`MessageQueueManager` against a real RabbitMQ: connecting and publishing, while all is well.

The broker is RABBITMQ_URL's, else a private one. Every test has an exchange and queues of its own
and removes them. `test_rabbitmq_consumers.py` has the other end, `test_rabbitmq_faults.py` what
happens when the broker is not well.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiormq
import pytest

from jitway.adapters.rabbitmq import MessageQueueManager, Publication, QueueSpec, Topology
from jitway.errors import (
    BrokerUnavailable,
    InvalidRequest,
    NotFound,
    SettingsError,
    Unroutable,
)
from tests.integration.rabbitmq_scenes import Collector, orders_of, remove

pytest_plugins = ["tests.integration.rabbitmq_fixtures"]


@asynccontextmanager
async def stranger(greeting: bytes | None) -> AsyncIterator[int]:
    """The port of somebody who is no broker: says this and hangs up, or None, and says nothing."""
    accepted: list[asyncio.StreamWriter] = []

    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        if greeting is not None:
            writer.write(greeting)
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in accepted:
            writer.transport.abort()


class TestPublishing:
    async def test_a_message_is_persistent_json_with_an_id(
        self, queues: MessageQueueManager, raw: aiormq.abc.AbstractChannel, topology: Topology
    ) -> None:
        content = {"amount": 10**20, "name": "Zoë", "none": None}
        message_id = await queues.publish_message(
            topology.exchange, "order.made", content, headers={"traceparent": "00-1"}
        )

        stored = await raw.basic_get(orders_of(queues))

        properties = stored.header.properties
        assert json.loads(stored.body) == content
        assert properties.message_id == message_id
        assert properties.delivery_mode == 2
        assert properties.content_type == "application/json"
        assert properties.headers is not None
        assert properties.headers["traceparent"] == "00-1"
        await raw.basic_ack(stored.delivery_tag or 0)

    @pytest.mark.parametrize(
        ("exchange", "key"), [(None, "nobody.listens"), (None, "order.two.words"), ("gone", "x")]
    )
    async def test_what_no_queue_takes_is_an_error(
        self, queues: MessageQueueManager, topology: Topology, exchange: str | None, key: str
    ) -> None:
        with pytest.raises(Unroutable, match=key):
            await queues.publish_message(exchange or topology.exchange, key, {})

    async def test_unless_nobody_has_to_take_it(
        self, queues: MessageQueueManager, topology: Topology
    ) -> None:
        await queues.publish_message(topology.exchange, "card.frozen", {}, mandatory=False)

    async def test_many_are_confirmed_one_by_one_and_keep_their_order(
        self, queues: MessageQueueManager, raw: aiormq.abc.AbstractChannel, topology: Topology
    ) -> None:
        many = [
            Publication(topology.exchange, "order.made", b'{"n":%d}' % n, f"id-{n}")
            for n in range(500)
        ]

        outcomes = await queues.publish_many(many, in_flight_max=100)

        assert outcomes == [None] * 500
        order = [json.loads((await raw.basic_get(orders_of(queues))).body)["n"] for _ in range(500)]
        assert order == list(range(500))

    async def test_a_bad_one_among_many_is_the_only_one_to_fail(
        self, queues: MessageQueueManager, topology: Topology
    ) -> None:
        places = [(topology.exchange, "order.made")] * 60
        places[20] = (topology.exchange, "nobody.listens")
        # A missing exchange ends the channel that the others are published on.
        places[40] = ("no-such-exchange", "order.made")
        many = [Publication(*place, b"{}", f"id-{n}") for n, place in enumerate(places)]

        outcomes = await queues.publish_many(many)

        failed = {n: outcome for n, outcome in enumerate(outcomes) if outcome is not None}
        assert {n: type(outcome) for n, outcome in failed.items()} == {
            20: Unroutable,
            40: Unroutable,
        }
        depth = (await queues.get_queue_stats(orders_of(queues)))["message_count"]
        assert depth >= 58, "what was in flight on the lost channel may be there twice"

    async def test_one_id_twice_at_once_is_not_mixed_up(
        self, queues: MessageQueueManager, topology: Topology
    ) -> None:
        for _ in range(10):
            outcomes = await queues.publish_many(
                [
                    Publication(topology.exchange, "nobody.listens", b"{}", "same"),
                    Publication(topology.exchange, "order.made", b"{}", "same"),
                ]
            )
            assert [type(outcome) for outcome in outcomes] == [Unroutable, type(None)]

    async def test_a_full_queue_refuses_and_the_publisher_hears(self, broker_url: str) -> None:
        name = f"jitway-test-{os.getpid()}-full"
        topology = Topology(name, (QueueSpec(name, ("#",), (50,), length_max=5),))
        queues = MessageQueueManager({"RABBITMQ_URL": broker_url}, topology=topology)
        try:
            outcomes: list[BrokerUnavailable | None] = []
            for n in range(40):
                outcomes += await queues.publish_many([Publication(name, "k", b"{}", f"id-{n}")])
            stats = await queues.get_queue_stats(name)
            refusals = [str(outcome) for outcome in outcomes if outcome is not None]
            assert refusals
            assert "full" in refusals[0]
            assert stats["message_count"] == outcomes.count(None)
        finally:
            await queues.close()
            await remove(broker_url, topology)

    @pytest.mark.parametrize(
        "message", [{"x": float("nan")}, {"x": object()}, {"x": "a" * 5_000_000}]
    )
    async def test_what_cannot_be_sent_is_refused_before_it_is_tried(
        self, queues: MessageQueueManager, topology: Topology, message: dict[str, Any]
    ) -> None:
        with pytest.raises(InvalidRequest):
            await queues.publish_message(topology.exchange, "order.made", message)
        with pytest.raises(InvalidRequest):
            await queues.publish_message(topology.exchange, "k" * 256, {})
        with pytest.raises(InvalidRequest):
            await queues.publish_message(topology.exchange, "order.made", {}, message_id="")

    async def test_it_connects_on_first_use_and_can_be_opened_again(
        self, broker_url: str, topology: Topology
    ) -> None:
        queues = MessageQueueManager(rabbitmq_url=broker_url, topology=topology)
        await queues.close()
        await queues.connect()
        await queues.connect()
        await queues.publish_message(topology.exchange, "order.made", {})
        await queues.close()
        await queues.close()
        with pytest.raises(BrokerUnavailable, match=r"connect\(\)"):
            await queues.publish_message(topology.exchange, "order.made", {})
        await queues.connect()
        assert (await queues.get_queue_stats(topology.queues[0].name))["message_count"] == 1
        await queues.close()
        unused = MessageQueueManager(rabbitmq_url=broker_url, topology=topology)
        await unused.publish_message(topology.exchange, "order.made", {})
        await unused.close()
        await remove(broker_url, topology)


class TestStatistics:
    async def test_a_queue_tells_its_messages_and_consumers(
        self, queues: MessageQueueManager, topology: Topology
    ) -> None:
        for _ in range(3):
            await queues.publish_message(topology.exchange, "bill.sent", {})
        await queues.consume_message(orders_of(queues), Collector())
        bills = topology.queues[1].name
        assert await queues.get_queue_stats(bills) == {"message_count": 3, "consumer_count": 0}
        assert await queues.get_queue_stats(orders_of(queues)) == {
            "message_count": 0,
            "consumer_count": 1,
        }

    async def test_asking_for_a_missing_queue_disturbs_nobody(
        self, queues: MessageQueueManager, topology: Topology
    ) -> None:
        handled = Collector()
        await queues.consume_message(orders_of(queues), handled)
        for _ in range(20):
            with pytest.raises(NotFound, match="no-such-queue"):
                await queues.get_queue_stats("no-such-queue")
        await queues.publish_message(topology.exchange, "order.made", {})
        await handled.reaches(1)
        stats = await queues.get_connection_stats()
        assert stats["publishing"]["connections_made"] == 1
        assert stats["consuming"]["connections_made"] == 1

    async def test_a_ping_is_a_round_trip(self, queues: MessageQueueManager) -> None:
        assert 0 < await queues.ping() < 2
        stats = await queues.get_connection_stats()
        assert stats["publishing"]["state"] == "connected"
        assert stats["product"].startswith("RabbitMQ")
        assert ":***@" in stats["address"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("url", "says"),
        [
            ("", "RABBITMQ_URL is not set"),
            ("http://localhost:5672/", "amqp:// or amqps://"),
            ("localhost:5672", "amqp:// or amqps://"),
            ("amqp:///", "names no host"),
            ("amqp://localhost:port/", "not a URL"),
            ("amqp://localhost/?heartbeet=3", "'heartbeet'"),
            ("amqp://localhost/?heartbeat=0", "1 to 600 seconds"),
            ("amqps://localhost/?verify=verify_none", "switches certificate checks off"),
            ("amqp://localhost/?cafile=/ca.pem", "write amqps://"),
        ],
    )
    def test_a_url_that_is_none_of_a_broker(self, url: str, says: str) -> None:
        with pytest.raises(SettingsError, match=says):
            MessageQueueManager({"RABBITMQ_URL": url})

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ("password", "refused the user name or password"),
            ("vhost", "virtual host 'no/such'"),
            ("tls", "does not speak TLS"),
        ],
    )
    async def test_a_broker_that_refuses_says_why_at_once(
        self, broker_url: str, change: str, says: str
    ) -> None:
        before, _, place = broker_url.partition("@")
        user = before.rsplit(":", 1)[0]
        changed = {
            "password": f"{user}:wrong%2F@{place}",
            "vhost": f"{before}@{place}no%2Fsuch",
            "tls": broker_url.replace("amqp://", "amqps://"),
        }[change]
        queues = MessageQueueManager({"RABBITMQ_URL": changed})
        started = time.monotonic()
        with pytest.raises(BrokerUnavailable, match=says) as caught:
            await queues.connect(timeout_s=30)
        await queues.close()
        assert time.monotonic() - started < 5
        assert "wrong%2F" not in str(caught.value)
        assert ":***@" in str(caught.value)

    @pytest.mark.parametrize(
        ("place", "says"),
        [
            ("127.0.0.1:1", "nothing listens"),
            ("localhost:1", "nothing listens"),
            ("no-such-host.invalid:5672", "cannot be reached"),
            ("silent", "did not answer"),
            ("hangs up", "hung up"),
            ("speaks HTTP", "is it RabbitMQ|RABBITMQ_URL"),
        ],
    )
    async def test_nobody_there_is_said_within_the_timeout(self, place: str, says: str) -> None:
        greetings = {"silent": None, "hangs up": b"", "speaks HTTP": b"HTTP/1.1 400 Bad\r\n" * 99}
        async with stranger(greetings.get(place)) as port:
            address = place if ":" in place else f"127.0.0.1:{port}"
            queues = MessageQueueManager({"RABBITMQ_URL": f"amqp://u:p@{address}/"})
            started = time.monotonic()
            with pytest.raises(BrokerUnavailable, match=says):
                await queues.connect(timeout_s=0.5)
            assert time.monotonic() - started < 1.5
            with pytest.raises(BrokerUnavailable, match="nothing was published"):
                await queues.publish_message("transactions", "jit-funding.x", {}, timeout_s=0.2)
            await asyncio.wait_for(queues.close(), 5)

    async def test_a_queue_with_other_arguments_is_a_clear_error_and_no_storm(
        self, broker_url: str, raw: aiormq.abc.AbstractChannel, topology: Topology
    ) -> None:
        await raw.queue_declare(topology.queues[0].name, durable=True)
        queues = MessageQueueManager({"RABBITMQ_URL": broker_url}, topology=topology)
        with pytest.raises(BrokerUnavailable, match="drain and delete it") as caught:
            await queues.connect()
        assert topology.queues[0].name in str(caught.value)
        await raw.queue_delete(topology.queues[0].name)

        # Once somebody has removed it, the next attempt succeeds by itself.
        await queues.publish_message(topology.exchange, "order.made", {}, timeout_s=10)
        await queues.close()
        await remove(broker_url, topology)
