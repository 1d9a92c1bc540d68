"""One connection to RabbitMQ and its channels. The only importer of the driver, aio-pika.

Owns the translation of the driver's failures and the certainty that a connection can be ended.
Refuses to reconnect, to repeat and to know what a queue is for: `rabbitmq_link.py` supervises.

aio-pika's own channels are not used but the ones below them (aiormq, its lower half): each of the
upper ones leaves a callback on its connection, which a long-lived process cannot afford. Nor are
its robust connections: they were seen not to come back.
"""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aio_pika
from aio_pika import exceptions as driver
from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.abc import AbstractConnection as DriverConnection
from aiormq.connection import TransportFactory
from aiormq.exceptions import ChannelAccessRefused
from pamqp import commands
from yarl import URL

from jitway.adapters.rabbitmq.address import BrokerAddress
from jitway.adapters.rabbitmq.delivery import Incoming, Publication
from jitway.adapters.rabbitmq.failure import (
    ArgumentsDiffer,
    NotThere,
    Refused,
    Unconfirmed,
    one_line,
    unreachable,
)
from jitway.adapters.rabbitmq.topology import QueueDeclaration
from jitway.errors import BrokerUnavailable, SettingsError, Unroutable

logger = logging.getLogger(__name__)

RPC_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 2.0


class _Transport(TransportFactory):
    """Opens the socket and keeps hold of it, so that it can be aborted whatever the driver does."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self._writer: asyncio.StreamWriter | None = None

    async def create(
        self, url: Any, **_options: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(url.host, url.port, ssl=self._tls)
        self._writer = writer
        return reader, writer

    def abort(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()


class Wire:
    """One open connection; `closed` is set when it ends, for whatever reason."""

    def __init__(
        self, connection: aio_pika.Connection, transport: _Transport, address: BrokerAddress
    ) -> None:
        self._connection = connection
        self._transport = transport
        self._address = address
        self._probe: Channel | None = None
        self.closed = asyncio.Event()
        connection.close_callbacks.add(self._on_close)

    @classmethod
    async def open(cls, address: BrokerAddress, *, timeout_s: float) -> "Wire":
        """Connect and log in.

        Raises:
            Refused: the broker does not let us in, or it is none; the text says what to do.
            BrokerUnavailable: it cannot be reached in time.
        """
        transport = _Transport(await asyncio.to_thread(address.tls_context))
        connection = aio_pika.Connection(
            URL(address.url), client_properties={"connection_name": address.name}
        )
        connection.kwargs["transport_factory"] = transport
        attempt = asyncio.ensure_future(connection.connect())
        try:
            await asyncio.wait({attempt}, timeout=timeout_s)
            if not attempt.done():
                raise BrokerUnavailable(
                    f"{address.masked} did not answer within {timeout_s:g} s: is RabbitMQ running "
                    "there, and not overloaded?"
                )
            error = None if attempt.cancelled() else attempt.exception()
            if error is not None:
                raise _refusal(error, address) from error
            return cls(connection, transport, address)
        except BaseException:
            # Its own cleanup would wait for a peer that may never answer.
            transport.abort()
            await _end(attempt, patience_s=0)
            # Unclosed, the driver's object would try to close itself when it is collected.
            await _end(asyncio.ensure_future(connection.close()), patience_s=CLOSE_TIMEOUT_S)
            raise

    @property
    def product(self) -> str:
        """The broker's name and version, as it told them."""
        properties: Mapping[str, Any] = self._driver_connection().server_properties or {}
        return f"{properties.get('product', 'unknown')} {properties.get('version', '')}".strip()

    async def writable(self) -> None:
        """Wait while the broker refuses publications: an alarm over its memory or disk."""
        with self._failures():
            await self._driver_connection().ready()

    async def is_blocked(self) -> bool:
        """Whether the broker has said that it takes no publications for now."""
        ready = asyncio.ensure_future(self._driver_connection().ready())
        await asyncio.sleep(0)
        blocked = not ready.done()
        await _end(ready, patience_s=0)
        return blocked

    async def channel(self) -> "Channel":
        """Open a channel with publisher confirms, on which an unroutable message is an error."""
        with self._failures():
            async with asyncio.timeout(RPC_TIMEOUT_S):
                opened = await self._driver_connection().channel(
                    publisher_confirms=True, on_return_raises=True, timeout=RPC_TIMEOUT_S
                )
        return Channel(opened, self._address)

    @asynccontextmanager
    async def throwaway(self) -> AsyncIterator["Channel"]:
        """A channel for something that may end it: a question about a queue that may not exist."""
        channel = await self.channel()
        try:
            yield channel
        finally:
            await channel.close()

    async def depth(self, queue: str) -> tuple[int, int]:
        """Messages ready for delivery, and consumers; a queue that is not there is `NotThere`."""
        async with self.throwaway() as channel:
            return await channel.depth(queue)

    async def probe(self, *, timeout_s: float) -> None:
        """One round trip on a channel kept for it.

        Raises:
            BrokerUnavailable: no answer in time, or the connection is gone.
        """
        try:
            async with asyncio.timeout(timeout_s):
                if self._probe is None or self._probe.is_closed:
                    self._probe = await self.channel()
                await self._probe.limit_unacknowledged(1)
        except TimeoutError:
            raise BrokerUnavailable(
                f"{self._address.masked} did not answer within {timeout_s:g} s"
            ) from None

    async def close(self, *, politely: bool) -> None:
        """End the connection, within two seconds; saying goodbye first, or at once."""
        if not politely:
            self._transport.abort()
        closing = asyncio.ensure_future(self._connection.close())
        try:
            await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT_S)
        finally:
            self._transport.abort()
            self.closed.set()
            await _end(closing, patience_s=0)

    def _driver_connection(self) -> DriverConnection:
        if self._connection.transport is None:
            raise Unconfirmed(f"the connection to {self._address.masked} is closed")
        return self._connection.transport.connection

    @contextmanager
    def _failures(self) -> Iterator[None]:
        with translated(self._address):
            yield

    def _on_close(self, _connection: object, error: BaseException | None) -> None:
        self.closed.set()
        logger.debug("a connection to %s ended: %r", self._address.masked, error)


class Channel:
    """A channel: publications with confirms, declarations, deliveries.

    `closed` is set when it ends, also when the broker cancelled its consumer.
    """

    def __init__(self, opened: AbstractChannel, address: BrokerAddress) -> None:
        self._channel = opened
        self._address = address
        self._consumer_tag: str | None = None
        self.closed = asyncio.Event()
        self._closing = opened.closing
        self._closing.add_done_callback(self._on_close)
        opened.on_consumer_cancel_callbacks.add(self._on_cancel)

    @property
    def is_closed(self) -> bool:
        """Whether it can do nothing any more."""
        return self.closed.is_set() or self._channel.is_closed

    async def publish(self, publication: Publication, *, timeout_s: float) -> None:
        """Send one message and wait for its confirm.

        Raises:
            Unroutable: no queue took it.
            NotThere: its exchange does not exist; this also ends the channel.
            BrokerUnavailable: the broker refused it; it is in no queue, or not in all.
            Unconfirmed: the channel ended first.
            TimeoutError: no confirm in time.
        """
        message = aio_pika.Message(
            publication.body,
            headers=dict(publication.headers),
            content_type="application/json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=publication.message_id,
        )
        with translated(self._address):
            await self._channel.basic_publish(
                message.body,
                exchange=publication.exchange,
                routing_key=publication.routing_key,
                properties=message.properties,
                mandatory=publication.mandatory,
                timeout=timeout_s,
            )

    async def declare_exchange(self, name: str) -> None:
        """Make sure of a durable topic exchange."""
        with translated(self._address):
            await self._channel.exchange_declare(
                name, exchange_type="topic", durable=True, timeout=RPC_TIMEOUT_S
            )

    async def declare_queue(self, declaration: QueueDeclaration, *, exchange: str) -> None:
        """Make sure of a durable queue and its bindings."""
        with translated(self._address):
            await self._channel.queue_declare(
                declaration.name,
                durable=True,
                arguments=dict(declaration.arguments),
                timeout=RPC_TIMEOUT_S,
            )
            for key in declaration.binding_keys:
                await self._channel.queue_bind(
                    declaration.name, exchange, key, timeout=RPC_TIMEOUT_S
                )

    async def depth(self, queue: str) -> tuple[int, int]:
        """Messages ready for delivery, and consumers; a queue that is not there is `NotThere`."""
        with translated(self._address):
            declared = await self._channel.queue_declare(queue, passive=True, timeout=RPC_TIMEOUT_S)
        return declared.message_count or 0, declared.consumer_count or 0

    async def limit_unacknowledged(self, prefetch: int) -> None:
        """How many deliveries each consumer of this channel may hold unacknowledged."""
        with translated(self._address):
            await self._channel.basic_qos(prefetch_count=prefetch, timeout=RPC_TIMEOUT_S)

    async def consume(
        self, queue: str, arrived: Callable[[Incoming], None], *, prefetch: int
    ) -> None:
        """Have a queue's messages handed to `arrived` until the channel ends."""

        async def on_message(message: DeliveredMessage) -> None:
            arrived(_incoming(message))

        await self.limit_unacknowledged(prefetch)
        with translated(self._address):
            consuming = await self._channel.basic_consume(queue, on_message, timeout=RPC_TIMEOUT_S)
        self._consumer_tag = consuming.consumer_tag

    async def stop_consuming(self) -> None:
        """No more deliveries; those that arrived can still be acknowledged."""
        tag, self._consumer_tag = self._consumer_tag, None
        if tag is not None and not self.is_closed:
            with translated(self._address):
                await self._channel.basic_cancel(tag, timeout=RPC_TIMEOUT_S)

    async def get(self, queue: str) -> Incoming | None:
        """Take one message without acknowledging it; None when the queue is empty."""
        with translated(self._address):
            message = await self._channel.basic_get(queue, timeout=RPC_TIMEOUT_S)
        return None if message.delivery_tag is None else _incoming(message)

    async def acknowledge(self, tag: int) -> None:
        """The broker may forget this delivery. Nothing confirms that it has heard."""
        with translated(self._address):
            async with asyncio.timeout(RPC_TIMEOUT_S):
                await self._channel.basic_ack(tag)

    async def close(self) -> None:
        """End it; what it held unacknowledged goes back into its queue, in some order."""
        try:
            await _end(asyncio.ensure_future(self._channel.close()), patience_s=CLOSE_TIMEOUT_S)
        finally:
            self.closed.set()

    def _on_close(self, closing: "asyncio.Future[Any]") -> None:
        if not closing.cancelled():
            closing.exception()
        self.closed.set()

    def _on_cancel(self, _frame: commands.Basic.Cancel) -> None:
        self.closed.set()


@contextmanager
def translated(address: BrokerAddress) -> Iterator[None]:
    """Turn the driver's failures into ours; a time-out and a real cancellation pass through."""
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # The driver cancels what waits for it when a connection ends. Nobody cancelled us.
        raise Unconfirmed(f"the connection to {address.masked} was lost") from None
    except (TimeoutError, BrokerUnavailable):
        raise
    except driver.PublishError as error:
        raise Unroutable(f"no queue takes it: {error}") from None
    except driver.DeliveryError as error:
        raise BrokerUnavailable(
            f"{address.masked} refused the message ({error}): its queue is full, or has no leader"
        ) from None
    except driver.ChannelNotFoundEntity as error:
        raise NotThere(str(error)) from None
    except driver.ChannelPreconditionFailed as error:
        raise ArgumentsDiffer(
            f"{address.masked} has it with other arguments; drain and delete it, then start "
            f"again: {error}"
        ) from None
    except ChannelAccessRefused as error:
        raise Refused(f"{address.masked}: the user may not do this: {error}") from None
    except (driver.AMQPError, driver.ChannelInvalidStateError, OSError, RuntimeError) as error:
        raise Unconfirmed(f"the connection to {address.masked} was lost: {error}") from None


def _refusal(error: BaseException, address: BrokerAddress) -> BrokerUnavailable | SettingsError:
    """Why a connection could not be opened, in one sentence that says what to do."""
    at, text = address.masked, one_line(error)
    match error:
        case driver.ProbableAuthenticationError() | driver.AuthenticationError():
            return Refused(f"{at} refused the user name or password in RABBITMQ_URL ({text})")
        case driver.InvalidFrameError() if "OpenOk" in text:
            # The driver keeps to itself why the broker closed instead of opening.
            return Refused(
                f"{at}: the virtual host {address.vhost!r} is not there, or not for this user"
            )
        case driver.ProtocolSyntaxError() | driver.IncompatibleProtocolError():
            return Refused(
                f"what listens at {at} does not speak AMQP 0-9-1 ({text}): is RABBITMQ_URL right?"
            )
        case _:
            return unreachable(error, address)


def _incoming(message: DeliveredMessage) -> Incoming:
    properties = message.header.properties
    headers: Mapping[str, Any] = properties.headers or {}
    return Incoming(
        tag=message.delivery_tag or 0,
        body=message.body,
        exchange=message.exchange or "",
        routing_key=message.routing_key or "",
        message_id=properties.message_id,
        headers=headers,
        redelivered=bool(message.redelivered),
    )


async def _end(task: "asyncio.Future[Any]", *, patience_s: float) -> None:
    """Wait for a task, then cancel it, then give it up; its outcome is of no interest."""
    try:
        await asyncio.wait({task}, timeout=patience_s)
    finally:
        if not task.done():
            task.cancel()
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    await asyncio.wait({task}, timeout=CLOSE_TIMEOUT_S)
