"""`dead_letters.py`: the routes of the dead letters: list, show, replay, discard."""

import hashlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from jitway.errors import InvalidRequest
from jitway.events.dead_letter import Act
from jitway.gateway.caller import Answer
from jitway.gateway.documents import Document, text_of
from jitway.wire import bodies

if TYPE_CHECKING:
    from jitway.web.call import Call

PAGE_DEFAULT = 50
PAGE_MAX = 200
_FILTERS = frozenset({"queue", "limit", "cursor"})
_QUEUE = frozenset({"queue"})


async def list_dead_letters(call: "Call") -> Answer:
    """`GET /v1/dead-letters`: the oldest first; the cursor is the place in that order."""
    filters = call.filters(_FILTERS)
    letters = await call.services.dead_letters.letters(
        call.caller.may_see, queue=filters.get("queue")
    )
    letters.sort(key=_place)
    after, limit = _cursor(letters, filters.get("cursor")), _limit(filters)
    page = letters[after : after + limit]
    more = after + limit < len(letters)
    return Answer(
        200, text_of({"data": page, "next_cursor": _place(page[-1]) if more and page else None})
    )


async def get_dead_letter(call: "Call") -> Answer:
    """`GET /v1/dead-letters/{id}`."""
    filters = call.filters(_QUEUE)
    shown = await call.services.dead_letters.show(
        call.caller.may_see, call.id, queue=filters.get("queue")
    )
    return Answer(200, text_of(shown))


def act_on_dead_letter(act: Act) -> Callable[["Call"], Awaitable[Answer]]:
    """The handler of `POST /v1/dead-letters/{id}/replay` or `/discard`."""

    async def handler(call: "Call") -> Answer:
        filters = call.filters(_QUEUE)
        body = call.body(bodies.CardState)
        taken = await call.services.dead_letters.act(
            act,
            call.caller.may_see,
            call.id,
            queue=filters.get("queue"),
            actor=call.caller.key_id,
            reason=body.reason,
        )
        return Answer(200, text_of(taken))

    return handler


def _limit(filters: dict[str, str]) -> int:
    text = filters.get("limit", str(PAGE_DEFAULT))
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:4]) <= PAGE_MAX):
        raise InvalidRequest(f"limit is from 1 to {PAGE_MAX}", "/limit")
    return int(text[:4])


def _cursor(letters: list[Document], cursor: str | None) -> int:
    """How many letters come before the page: those up to the last one of the page before."""
    if cursor is None:
        return 0
    return sum(_place(letter) <= cursor for letter in letters)


def _place(letter: Document) -> str:
    """Where a letter stands in the order of the list; short, whatever its id is."""
    name = f"{letter['queue']} {letter['id']}"
    digest = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:16]
    return f"{letter['last_failed_at'] or ''}~{digest}"
