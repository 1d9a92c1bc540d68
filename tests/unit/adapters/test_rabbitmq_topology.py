"""What is declared, and which routing keys reach it."""

import pytest

from jitway.adapters.rabbitmq.topology import (
    GUIDE_TOPOLOGY,
    QueueSpec,
    binding_matches,
)
from jitway.errors import SettingsError


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        ("jit-funding.*", "jit-funding.approved", True),
        ("jit-funding.*", "jit-funding", False),
        ("jit-funding.*", "jit-funding.approved.twice", False),
        ("jit-funding.*", "jit-funding.", True),
        ("#", "", True),
        ("#", "a.b.c", True),
        ("a.#", "a", True),
        ("a.#.z", "a.b.c.z", True),
        ("a.#.z", "a.z", True),
        ("a.#.z", "a.b", False),
        ("*.*", "a.b", True),
        ("*", "a.b", False),
        ("a", "a", True),
        ("a", "b", False),
    ],
)
def test_a_binding_matches_word_by_word(pattern: str, key: str, matches: bool) -> None:
    assert binding_matches(pattern, key) is matches


def test_the_guides_three_queues_take_their_keys() -> None:
    assert GUIDE_TOPOLOGY.exchange == "transactions"
    taken_by = {
        key: [queue.name for queue in GUIDE_TOPOLOGY.queues if queue.takes(key)]
        for key in (
            "jit-funding.created",
            "transaction.captured",
            "webhook.received",
            "card.frozen",
        )
    }
    assert taken_by == {
        "jit-funding.created": ["jit-funding-queue"],
        "transaction.captured": ["transaction-processing-queue"],
        "webhook.received": ["webhook-queue"],
        "card.frozen": [],
    }


def test_a_queue_comes_with_its_dead_letters_and_one_delay_queue_per_retry() -> None:
    declared = {
        declaration.name: dict(declaration.arguments)
        for declaration in QueueSpec("q", ("a.*",), (500, 2_000, 5_000), 100).declarations()
    }
    every = {"x-queue-type": "quorum", "x-overflow": "reject-publish", "x-max-length": 100}
    to_q = {
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "q",
        "x-dead-letter-strategy": "at-least-once",
    }
    assert declared == {
        "q.dead": every | {"x-delivery-limit": 2_000_000_000},
        "q": every | to_q | {"x-dead-letter-routing-key": "q.dead", "x-delivery-limit": 20},
        "q.retry.500": every | to_q | {"x-message-ttl": 500},
        "q.retry.2000": every | to_q | {"x-message-ttl": 2_000},
        "q.retry.5000": every | to_q | {"x-message-ttl": 5_000},
    }


def test_a_promise_covers_bindings_and_our_own_queues_only() -> None:
    promises = GUIDE_TOPOLOGY.promises
    assert promises("transactions", "webhook.received")
    assert promises("", "webhook-queue.dead")
    assert promises("", "webhook-queue.retry.500")
    assert not promises("transactions", "card.frozen")
    assert not promises("transactions", "webhook-queue.dead")
    assert not promises("", "elsewhere")
    assert not promises("another", "webhook.received")


@pytest.mark.parametrize("name", ["", "x.dead", "x.retry.5", "amq.x", "x" * 201])
def test_names_that_would_collide_are_refused(name: str) -> None:
    with pytest.raises(SettingsError):
        QueueSpec(name, ("a",))


@pytest.mark.parametrize("delays_ms", [(0,), (5, -1), (5, 5)])
def test_delays_must_be_some_and_differ(delays_ms: tuple[int, ...]) -> None:
    with pytest.raises(SettingsError):
        QueueSpec("q", ("a",), delays_ms)


def test_a_queue_of_the_same_name_is_replaced() -> None:
    topology = GUIDE_TOPOLOGY.with_queue(QueueSpec("webhook-queue", ("hook.#",)))
    assert [queue.name for queue in topology.queues].count("webhook-queue") == 1
    found = topology.queue("webhook-queue")
    assert found is not None
    assert found.binding_keys == ("hook.#",)
    assert topology.queue("nowhere") is None
