"""`amqps://`: the broker's certificate and host name are checked, by an authority of one's own."""

from pathlib import Path
from typing import NamedTuple

import pytest

from jitway.adapters.rabbitmq import MessageQueueManager, QueueSpec, Topology
from jitway.errors import BrokerUnavailable, SettingsError
from tests.integration.rabbitmq_scenes import Collector
from tests.servers.certificates import Certificates, make_certificates
from tests.servers.rabbitmq import RabbitMQServer

pytest_plugins = ["tests.integration.rabbitmq_fixtures"]


class TlsBroker(NamedTuple):
    """A broker that speaks TLS on one port and none on another."""

    server: RabbitMQServer
    certificates: Certificates

    def url(self, host: str = "localhost", *, options: str = "") -> str:
        return self.server.tls_url.replace("@localhost:", f"@{host}:") + options


@pytest.fixture
def broker(private_broker: RabbitMQServer, certificates: Certificates) -> TlsBroker:
    return TlsBroker(private_broker, certificates)


async def refused(url: str) -> str:
    """Why a connection was refused."""
    queues = MessageQueueManager({"RABBITMQ_URL": url})
    try:
        with pytest.raises((BrokerUnavailable, SettingsError)) as caught:
            await queues.connect(timeout_s=1)
    finally:
        await queues.close()
    return str(caught.value)


@pytest.mark.parametrize("option", ["cafile", "cacertfile"])
async def test_messages_go_in_and_out_over_tls(broker: TlsBroker, option: str) -> None:
    url = broker.url(options=f"?{option}={broker.certificates.ca}")
    topology = Topology("tls", (QueueSpec("tls", ("tls.*",)),))
    queues = MessageQueueManager({"RABBITMQ_URL": url}, topology=topology)
    handled = Collector()
    await queues.connect()
    await queues.consume_message("tls", handled)
    await queues.publish_message("tls", "tls.used", {"amount": 100})
    assert await handled.reaches(1) == [{"amount": 100}]
    connections = await broker.server.control("list_connections", "ssl")
    assert connections.count("true") == 2
    await queues.close()


async def test_a_wrong_host_name_is_refused(broker: TlsBroker) -> None:
    url = broker.url("127.0.0.1", options=f"?cafile={broker.certificates.ca}")
    assert "host name must be the certificate's" in await refused(url)


async def test_an_authority_that_nobody_named_is_refused(broker: TlsBroker) -> None:
    assert "?cafile= must name the authority" in await refused(broker.url())


async def test_another_authority_is_refused(broker: TlsBroker, tmp_path: Path) -> None:
    other = make_certificates(tmp_path)
    said = await refused(broker.url(options=f"?cafile={other.ca}"))
    assert "?cafile= must name the authority" in said
    assert ":***@" in said


async def test_a_plain_client_is_not_understood(broker: TlsBroker) -> None:
    plain = broker.url().replace("amqps://", "amqp://")
    assert "Does it want TLS (amqps://)" in await refused(plain)


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_ca_file_that_is_none_is_named(
    broker: TlsBroker, tmp_path: Path, content: str | None
) -> None:
    ca = tmp_path / "authority.pem"
    if content is not None:
        ca.write_text(content)
    assert str(ca) in await refused(broker.url(options=f"?cafile={ca}"))
