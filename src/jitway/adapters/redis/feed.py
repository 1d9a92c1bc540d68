"""Hears which keys changed in Redis, from every process, over a connection of its own.

Two sources on one connection: the server's tracking of our prefixes (CLIENT TRACKING BCAST, which
also reports expiry and FLUSHALL), and a channel on which evictions are announced, because the
server says nothing about a key it does not hold while another process may.

Whatever was missed must not be trusted: when the feed begins, is interrupted or the server forgot
everything, the listener is told to drop all. Knows no driver and keeps no data.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from jitway.adapters.redis import failure
from jitway.adapters.redis.commands import Argument, Reply
from jitway.adapters.redis.failure import Refusal
from jitway.errors import CacheUnavailable

TRACKING_CHANNEL = b"__redis__:invalidate"
PAUSE_S_FIRST = 0.05
PAUSE_S_MAX = 1.0

OnKeys = Callable[[Sequence[str] | None], None]


class FeedLink(Protocol):
    """A connection as the feed uses it."""

    async def ask(self, *command: Argument) -> Reply | Refusal:
        """Sends a command and reads its reply."""

    async def send(self, *command: Argument) -> None:
        """Sends a command; its reply comes among what is received."""

    async def receive(self, limit_s: float) -> Reply:
        """The next message, or None when there was none in time."""

    async def close(self) -> None:
        """Closes it; never suspends."""


class InvalidationFeed:
    """Follows invalidations until stopped; reconnects for as long as it takes.

    Args:
        connect: opens a connection, or raises `CacheUnavailable`.
        on_keys: told the keys that changed, or None: drop everything.
        key_prefix: the deployment's prefix, taken off before keys are told.
        data_types: which keys to follow: the words before the first colon.
        channel: where evictions are announced.
        address: the masked address, for errors.
        heartbeat_s: silence of this long is questioned, and twice as long ends the connection.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[FeedLink]],
        on_keys: OnKeys,
        *,
        key_prefix: str,
        data_types: Sequence[str],
        channel: str,
        address: str,
        heartbeat_s: float,
    ) -> None:
        self._connect = connect
        self._on_keys = on_keys
        self._prefix = key_prefix.encode()
        self._data_types = data_types
        self._channel = channel.encode()
        self._address = address
        self._heartbeat_s = heartbeat_s
        self._link: FeedLink | None = None
        self._stopped = asyncio.Event()
        self.is_synchronised = False
        self.gap_count = 0
        self.message_count = 0

    async def run(self) -> None:
        """Follows until `stop` or cancellation.

        Raises:
            StatementRefused: the server does not permit tracking, or does not know it (Redis < 6).
        """
        pause_s = PAUSE_S_FIRST
        while not self._stopped.is_set():
            try:
                self._link = await self._connect()
                await self._subscribe(self._link)
                pause_s = PAUSE_S_FIRST
                await self._follow(self._link)
            except CacheUnavailable:
                await self._lose()
                await self._pause(pause_s)
                pause_s = min(pause_s * 2, PAUSE_S_MAX)
            finally:
                await self._lose()

    async def stop(self) -> None:
        """Ends it: `run` returns. May be called twice, or before it began."""
        self._stopped.set()
        if self._link is not None:
            await self._link.close()

    async def _subscribe(self, link: FeedLink) -> None:
        own_id = await self._asked(link, "CLIENT", "ID")
        prefixes: list[Argument] = []
        for data_type in self._data_types:
            prefixes += ["PREFIX", self._prefix + data_type.encode() + b":"]
        if not isinstance(own_id, int):
            raise failure.foreign(address=self._address)
        # Afterwards only subscriptions are allowed on this connection, so this comes first.
        await self._asked(link, "CLIENT", "TRACKING", "ON", "REDIRECT", own_id, "BCAST", *prefixes)
        await self._asked(link, "SUBSCRIBE", TRACKING_CHANNEL)
        await link.send("SUBSCRIBE", self._channel)

    async def _asked(self, link: FeedLink, *command: Argument) -> Reply:
        reply = await link.ask(*command)
        if isinstance(reply, Refusal):
            raise reply.error(self._address)
        return reply

    async def _follow(self, link: FeedLink) -> None:
        """Reads until the connection is lost, and asks for a sign of life after silence."""
        is_questioned = False
        while not self._stopped.is_set():
            message = await link.receive(self._heartbeat_s)
            if message is not None:
                is_questioned = False
                self._hear(message)
            elif is_questioned:
                raise CacheUnavailable(f"Redis at {self._address} fell silent")
            else:
                is_questioned = True
                await link.send("PING")

    def _hear(self, message: Reply) -> None:
        match message:
            case [b"subscribe", channel, int()] if channel == self._channel:
                # Both sources flow from here on; what changed before was not heard.
                self.is_synchronised = True
                self._on_keys(None)
            case [b"message", channel, payload]:
                self.message_count += 1
                self._tell(channel, payload)

    def _tell(self, channel: Reply, payload: Reply) -> None:
        if channel == self._channel and isinstance(payload, bytes):
            self._on_keys([self._without_prefix(payload)])
        elif channel == TRACKING_CHANNEL and isinstance(payload, list):
            self._on_keys([self._without_prefix(key) for key in payload if isinstance(key, bytes)])
        else:
            # FLUSHALL or FLUSHDB come without keys; anything unknown is treated alike.
            self._on_keys(None)

    def _without_prefix(self, key: bytes) -> str:
        return key.removeprefix(self._prefix).decode(errors="replace")

    async def _pause(self, pause_s: float) -> None:
        # Many processes must not come back in the same instant.
        jittered_s = pause_s * random.uniform(0.5, 1.0)  # noqa: S311 - guards nothing
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(jittered_s):
                await self._stopped.wait()

    async def _lose(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()
        if self.is_synchronised:
            self.is_synchronised = False
            self.gap_count += 1
            self._on_keys(None)
