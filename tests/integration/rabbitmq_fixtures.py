"""A broker, and queues of a test's own on it.

A pytest plugin: a test module that names it in `pytest_plugins` has these.
"""

import os
from collections.abc import AsyncIterator
from itertools import count

import aio_pika
import aiormq
import pytest

from jitway.adapters.rabbitmq import MessageQueueManager, QueueSpec, Topology
from tests.integration.rabbitmq_scenes import DELAYS_MS, remove
from tests.servers.certificates import Certificates, make_certificates
from tests.servers.rabbitmq import RabbitMQServer, is_installed, private_rabbitmq
from tests.service_skips import require_service

_numbers = count(1)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"), host="localhost")


@pytest.fixture(scope="session")
async def private_broker(certificates: Certificates) -> AsyncIterator[RabbitMQServer]:
    """A broker of our own, to be broken or to show a certificate; up again before each test."""
    if not is_installed():
        require_service("rabbitmq")
        pytest.skip("a broker to be broken must be a private one: install rabbitmq-server")
    async with private_rabbitmq(certificates=certificates) as broker:
        yield broker


@pytest.fixture(scope="session")
def broker_url(request: pytest.FixtureRequest) -> str:
    """The address of the broker that is given, else of the private one."""
    if os.environ.get("RABBITMQ_URL") or not is_installed():
        return require_service("rabbitmq")
    broker: RabbitMQServer = request.getfixturevalue("private_broker")
    return broker.url


@pytest.fixture
def topology() -> Topology:
    name = f"jitway-test-{os.getpid()}-{next(_numbers)}"
    orders = QueueSpec(f"{name}-orders", ("order.*",), DELAYS_MS)
    bills = QueueSpec(f"{name}-bills", ("bill.*",), DELAYS_MS)
    return Topology(name, (orders, bills))


@pytest.fixture
async def queues(broker_url: str, topology: Topology) -> AsyncIterator[MessageQueueManager]:
    manager = MessageQueueManager({"RABBITMQ_URL": broker_url}, topology=topology)
    await manager.connect()
    yield manager
    everything = manager.topology
    await manager.close()
    await remove(broker_url, everything)


@pytest.fixture
async def raw(broker_url: str) -> AsyncIterator[aiormq.abc.AbstractChannel]:
    """The driver itself, to look at the broker from outside and to disturb it."""
    connection = await aio_pika.connect(broker_url)
    assert connection.transport is not None
    yield await connection.transport.connection.channel()
    await connection.close()
