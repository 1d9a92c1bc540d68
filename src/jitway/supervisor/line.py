"""`line.py`: messages over one socket, in both directions; never a reason to wait for a hung peer.

Owns the frames. A peer that does not read what it is told is not told more: `send` says so.
"""

import asyncio
import socket

from jitway.supervisor.messages import (
    FRAME_BYTES_MAX,
    LENGTH_BYTES,
    AnyMessage,
    decode,
    encode,
)

# Beyond this the other end has not read for a while; what is said once must still find room.
UNREAD_BYTES_MAX = 256 * 1024
FIRST_MESSAGE_S = 10.0


class Line:
    """One end of the socket.

    Args:
        reader: what arrives.
        writer: what is said.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, connected: socket.socket) -> "Line":
        """A line over a connected socket, which it owns from now on."""
        connected.settimeout(0)
        return cls(*await asyncio.open_unix_connection(sock=connected))

    def send(self, message: AnyMessage) -> bool:
        """Says something; returns False when the other end is gone, or has not read for a while."""
        transport = self._writer.transport
        if transport.is_closing() or transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            return False
        self._writer.write(encode(message))
        return True

    async def receive(self) -> AnyMessage | None:
        """The next message; None when the other end is gone.

        Raises:
            ValueError: it is no message.
        """
        try:
            length = int.from_bytes(await self._reader.readexactly(LENGTH_BYTES), "big")
            if length > FRAME_BYTES_MAX:
                raise ValueError(f"a message of {length} bytes is too long")
            return decode(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError):
            return None

    async def flush(self, *, timeout_s: float) -> None:
        """Waits until what was said has left, but not for long."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._writer.transport.get_write_buffer_size():
                    await asyncio.sleep(0.01)
        except TimeoutError:
            return

    def close(self) -> None:
        """Ends the line; may be called twice."""
        self._writer.close()


def first_message(connected: socket.socket) -> AnyMessage:
    """The first message on a socket that no loop reads yet.

    Raises:
        OSError: it did not come in time, or the other end is gone.
        ValueError: it is no message.
    """
    connected.settimeout(FIRST_MESSAGE_S)
    length = int.from_bytes(_exactly(connected, LENGTH_BYTES), "big")
    if length > FRAME_BYTES_MAX:
        raise ValueError(f"a message of {length} bytes is too long")
    return decode(_exactly(connected, length))


def _exactly(connected: socket.socket, size: int) -> bytes:
    said = b""
    while len(said) < size:
        some = connected.recv(size - len(said))
        if not some:
            raise ConnectionResetError("the supervisor is gone")
        said += some
    return said
