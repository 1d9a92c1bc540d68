"""`acceptor.py`: accepts from a socket that other processes accept from too, and takes its share.

One that has more open than the least of the others waits a moment before it takes another, so that
whoever has fewer gets it; if nobody did, it takes it after all. Over TLS it also looks at the
limits of connections, before the handshake.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable

import structlog

from jitway.supervisor.shares import Shares
from jitway.web.handshakes import Handshake, Handshakes
from jitway.web.tls import tls_options

_log = structlog.get_logger("jitway.web.acceptor")

PAUSE_S = 0.005
# On a busy machine the others need longer to wake up.
PAUSE_S_MAX = 0.02
# Who is ahead by so many, or by so large a part, lets others go first.
AHEAD = 1
AHEAD_PART = 8
TELL_S = 0.1
# Without free descriptors, or memory, there is nothing to be done but to wait.
EXHAUSTED_S = 0.5
# At the end, who is in the middle of a handshake may finish it.
LAST_HANDSHAKES_S = 1.0
# Between two lines about connections that were not opened.
WARNING_S = 1.0


class Acceptor:
    """Takes connections until it is closed.

    Args:
        listener: listening, and not blocking.
        protocol: makes what serves one connection, and ends its handshake.
        open_now: how many are open here.
        shares: how many are open elsewhere; None: nobody else accepts.
        tls: the certificate to show, for HTTPS.
        handshakes: counts those that have not ended; None lets everybody begin.
    """

    def __init__(
        self,
        listener: socket.socket,
        protocol: Callable[[Handshake | None], asyncio.Protocol],
        *,
        open_now: Callable[[], int],
        shares: Shares | None,
        tls: ssl.SSLContext | None = None,
        handshakes: Handshakes | None = None,
    ) -> None:
        self._listener = listener
        self._tls = tls
        self._protocol = protocol
        self._open_now = open_now
        self._shares = shares
        self._handshakes = handshakes
        self._warned_at = float("-inf")
        self._not_logged = 0
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._telling: asyncio.TimerHandle | None = None
        self._is_hurried = False
        self._loop.add_reader(listener, self._accept)
        self._tell()

    def hurry(self) -> None:
        """From now on takes whatever is there: the others are about to leave too."""
        self._is_hurried = True
        if self._pause is not None:
            self._pause.cancel()
            self._go_on()

    async def close(self) -> None:
        """Takes no more; those that were taken are served, unless they stay in the handshake."""
        for timer in (self._pause, self._telling):
            if timer is not None:
                timer.cancel()
        self._loop.remove_reader(self._listener)
        if self._opening:
            _, silent = await asyncio.wait(self._opening, timeout=LAST_HANDSHAKES_S)
            for opening in silent:
                opening.cancel()
            await asyncio.gather(*silent, return_exceptions=True)

    def _accept(self) -> None:
        """Somebody wants to connect."""
        if self._shares is None:
            self._take_one()
            return
        mine = self._mine()
        self._shares.tell(mine)
        ahead = mine - self._shares.least_of_others()
        tolerated = max(AHEAD, mine // AHEAD_PART)
        if ahead > tolerated and not self._is_hurried:
            self._wait(min(PAUSE_S * ahead / tolerated, PAUSE_S_MAX))
        else:
            self._take_one()

    def _take_one(self) -> None:
        try:
            connected, peer = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            # Another process was faster, or the caller has gone.
            return
        except OSError as error:
            _log.error("cannot_accept", cause=error.strerror)
            self._wait(EXHAUSTED_S)
            return
        handshake = None
        if self._handshakes is not None:
            handshake = self._handshakes.begin(str(peer[0]) if isinstance(peer, tuple) else "")
            if handshake is None:
                connected.close()
                self._warn("too many connections, in all or of one address")
                return
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.settimeout(0)
        opening = self._loop.create_task(self._open(connected, handshake))
        self._opening.add(opening)
        opening.add_done_callback(lambda task: self._opened(task, handshake))
        if self._shares is not None:
            self._shares.tell(self._mine())

    async def _open(self, connected: socket.socket, handshake: Handshake | None) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: self._protocol(handshake), connected, **tls_options(self._tls)
            )
        except OSError as error:
            connected.close()
            self._warn(str(error))

    def _opened(self, opening: asyncio.Task[None], handshake: Handshake | None) -> None:
        """Not at the end of the task itself: one that is cancelled before it began has none."""
        self._opening.discard(opening)
        if handshake is not None:
            handshake.end()

    def _warn(self, cause: str) -> None:
        """A line a second at most: anybody can make one."""
        now = self._loop.time()
        if now < self._warned_at + WARNING_S:
            self._not_logged += 1
            return
        _log.warning("connection_not_opened", cause=cause, not_logged=self._not_logged)
        self._warned_at, self._not_logged = now, 0

    def _wait(self, seconds: float) -> None:
        if self._pause is None:
            self._loop.remove_reader(self._listener)
            self._pause = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener, self._accept)
        self._take_one()

    def _mine(self) -> int:
        return self._open_now() + len(self._opening)

    def _tell(self) -> None:
        """Connections end without a word; the others need not know at once."""
        if self._shares is None:
            return
        self._shares.tell(self._mine())
        self._telling = self._loop.call_later(TELL_S, self._tell)
