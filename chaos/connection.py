"""`connection.py`: one kept-alive connection of one caller, and what became of each request on it.

Knows three ends: an answer, never sent, and unknown. Repeats nothing; the caller's rules do.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ANSWER_BYTES_MAX = 1 << 20
CONNECT_S = 5.0


class NotSent(Exception):
    """No connection: the gateway has not seen a byte of the request."""


class NoAnswer(Exception):
    """The request was sent, or a part of it, and no whole answer came: it may have been done."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer.

    Args:
        status: of HTTP.
        headers: names in small letters.
        body: all of it.
    """

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        """What it says."""
        document: dict[str, Any] = json.loads(self.body)
        return document


def request_bytes(
    method: str, path: str, *, key: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> bytes:
    """One request as it is sent.

    Args:
        method: in capitals.
        path: with its query.
        key: the API key.
        body: JSON, or nothing.
        headers: more of them.
    """
    lines = [f"{method} {path} HTTP/1.1", "Host: jitway", f"Authorization: Bearer {key}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body or method == "POST":
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Connection:
    """Sends one request after the other; honours `Connection: close` and connects again.

    Args:
        port: of the gateway on this machine.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes, *, timeout_s: float) -> Reply:
        """Sends a request and waits for its answer.

        Raises:
            NotSent: the gateway cannot be connected to.
            NoAnswer: whether it was done is not known.
        """
        reader, writer = await self._connected()
        try:
            async with asyncio.timeout(timeout_s):
                writer.write(request)
                reply = await _read_reply(reader)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, ValueError) as error:
            self.close()
            raise NoAnswer(f"{type(error).__name__} {error}".strip()) from error
        except asyncio.CancelledError:
            self.close()
            raise
        if reply.headers.get("connection") == "close":
            self.close()
        return reply

    async def abandon(self, request: bytes) -> None:
        """Sends a request and hangs up, as a caller does that dies.

        Raises:
            NotSent: the gateway cannot be connected to.
        """
        _, writer = await self._connected()
        try:
            writer.write(request)
            await writer.drain()
        except OSError:
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Hangs up; may be called twice."""
        writer, self._reader, self._writer = self._writer, None, None
        if writer is not None:
            writer.close()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is not None and self._reader.at_eof():
            self.close()
        if self._reader is None or self._writer is None:
            try:
                async with asyncio.timeout(CONNECT_S):
                    self._reader, self._writer = await asyncio.open_connection(
                        "127.0.0.1", self._port, limit=ANSWER_BYTES_MAX
                    )
            except (OSError, TimeoutError) as error:
                raise NotSent(str(error)) from error
        return self._reader, self._writer


async def _read_reply(reader: asyncio.StreamReader) -> Reply:
    """One answer whose length is told.

    Raises:
        OSError, IncompleteReadError, ValueError: it did not come whole.
    """
    head = await _until_blank_line(reader)
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Reply(int(status_line.split(" ")[1]), headers, body)


async def _until_blank_line(reader: asyncio.StreamReader) -> bytes:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as error:
        raise ValueError("the head of an answer is too long") from error
    return head[:-4]
