"""`connection.py`: `Client` and `AsyncClient`: send calls, repeat what may be repeated.

The only importer of httpx. A write is repeated under its one idempotency key, a read as it is; what
was refused for good is raised at once.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import msgspec

from jitway.client.calls import Answer, Call
from jitway.client.documents import Page
from jitway.client.failures import NoAnswer, RequestRefused
from jitway.client.patience import Patience

Item = TypeVar("Item")

_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=10)


class _Conversation:
    """One call with all its attempts; knows what to do next and sends nothing itself."""

    def __init__(self, call: Call[Any], patience: Patience) -> None:
        self._call = call
        self._patience = patience
        self._began_s = time.monotonic()
        self._attempts = 0
        self._last: httpx.Response | None = None
        self._cause: httpx.TransportError | None = None

    def next_request(self) -> dict[str, Any]:
        """The arguments of the next attempt."""
        self._attempts += 1
        self._last = self._cause = None
        headers = {"Accept": "application/json"}
        content = None
        if self._call.body is not None:
            headers["Content-Type"] = "application/json"
            content = msgspec.json.encode(self._call.body)
        if self._call.idempotency_key:
            headers["Idempotency-Key"] = self._call.idempotency_key
        return {
            "method": self._call.method,
            "url": self._call.path,
            "headers": headers,
            "content": content,
            "timeout": self._patience.attempt_within_s(self._elapsed_s()),
        }

    def answered(self, response: httpx.Response) -> None:
        """Takes note of what was answered."""
        self._last = response

    def failed(self, cause: httpx.TransportError) -> None:
        """Takes note that nothing was."""
        self._cause = cause

    def pause_s(self) -> float | None:
        """How long to wait before the next attempt; None when there is none."""
        if self._last is not None and self._last.is_success:
            return None
        return self._patience.pause_before_next(
            attempt=self._attempts,
            elapsed_s=self._elapsed_s(),
            status=None if self._last is None else self._last.status_code,
            retry_after=None if self._last is None else self._last.headers.get("retry-after"),
        )

    def result(self) -> Any:
        """The answer.

        Raises:
            RequestRefused: it was a problem.
            NoAnswer: there was none.
        """
        if self._last is None:
            what = f"{self._call.method} {self._call.path}"
            cause = str(self._cause) or type(self._cause).__name__
            tries = f"{self._attempts} attempt{'s' if self._attempts > 1 else ''}"
            raise NoAnswer(f"{what} was not answered in {tries}: {cause}") from self._cause
        if not self._last.is_success:
            raise _refused(self._last)
        try:
            return msgspec.json.decode(self._last.content, type=self._call.answer)
        except msgspec.DecodeError as error:
            raise NoAnswer(f"the answer cannot be read: {error}") from error

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_s


class Client:
    """Calls a gateway, one after the other; may be shared by threads.

    Args:
        url: where it serves, such as `http://127.0.0.1:3000`.
        key: an API key.
        patience: how long and how often a call is tried.
    """

    def __init__(self, url: str, *, key: str, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
        self._http = httpx.Client(**_options(url, key))

    def send(self, call: Call[Answer]) -> Answer:
        """Sends a call and returns its answer.

        Raises:
            RequestRefused: the gateway answered a problem.
            NoAnswer: nobody answered in time; the same call may be sent again.
        """
        conversation = _Conversation(call, self._patience)
        while True:
            try:
                conversation.answered(self._http.request(**conversation.next_request()))
            except httpx.TransportError as error:
                conversation.failed(error)
            pause_s = conversation.pause_s()
            if pause_s is None:
                answer: Answer = conversation.result()
                return answer
            time.sleep(pause_s)

    def items(self, call: Call[Page[Item]]) -> Iterator[Item]:
        """Everything that a list has, page by page."""
        following: Call[Page[Item]] | None = call
        while following is not None:
            page = self.send(following)
            yield from page.data
            following = _after(following, page.next_cursor)

    def close(self) -> None:
        """Closes its connections; may be called twice."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncClient:
    """The same for asyncio.

    Args:
        url: where the gateway serves.
        key: an API key.
        patience: how long and how often a call is tried.
    """

    def __init__(self, url: str, *, key: str, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
        self._http = httpx.AsyncClient(**_options(url, key))

    async def send(self, call: Call[Answer]) -> Answer:
        """Sends a call and returns its answer.

        Raises:
            RequestRefused: the gateway answered a problem.
            NoAnswer: nobody answered in time; the same call may be sent again.
        """
        conversation = _Conversation(call, self._patience)
        while True:
            try:
                conversation.answered(await self._http.request(**conversation.next_request()))
            except httpx.TransportError as error:
                conversation.failed(error)
            pause_s = conversation.pause_s()
            if pause_s is None:
                answer: Answer = conversation.result()
                return answer
            await asyncio.sleep(pause_s)

    async def items(self, call: Call[Page[Item]]) -> AsyncIterator[Item]:
        """Everything that a list has, page by page."""
        following: Call[Page[Item]] | None = call
        while following is not None:
            page = await self.send(following)
            for item in page.data:
                yield item
            following = _after(following, page.next_cursor)

    async def close(self) -> None:
        """Closes its connections; may be called twice."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


def _options(url: str, key: str) -> dict[str, Any]:
    if not url.startswith(("http://", "https://")):
        raise ValueError("url must begin with http:// or https://")
    return {
        "base_url": url,
        "headers": {"Authorization": f"Bearer {key}"},
        "limits": _LIMITS,
        # Money goes where it was sent, not where somebody points.
        "follow_redirects": False,
        "trust_env": False,
    }


def _after(call: Call[Page[Item]], cursor: str | None) -> Call[Page[Item]] | None:
    if cursor is None:
        return None
    parts = urlsplit(call.path)
    query = [pair for pair in parse_qsl(parts.query) if pair[0] != "cursor"]
    return replace(call, path=f"{parts.path}?{urlencode([*query, ('cursor', cursor)])}")


def _refused(response: httpx.Response) -> RequestRefused:
    try:
        problem = msgspec.json.decode(response.content, type=dict[str, Any])
    except msgspec.DecodeError:
        # Not ours: a proxy between has spoken.
        problem = {}

    def text(name: str, default: str) -> str:
        return str(problem.get(name) or default)

    return RequestRefused(
        response.status_code,
        text("code", "unknown"),
        text("detail", response.reason_phrase),
        problem.get("pointer"),
        text("request_id", response.headers.get("x-request-id", "")),
    )
