"""`archive.py`: `GET /v1/archive/...`: what happened, by whatever an operator knows of it."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from jitway.archive.store import PAGE_DEFAULT, PAGE_MAX, Collection, Question
from jitway.domain.instant import parse_instant
from jitway.errors import ArchiveUnavailable, InvalidRequest, StoreUnavailable
from jitway.gateway.caller import Answer
from jitway.gateway.documents import text_of

if TYPE_CHECKING:
    from datetime import datetime

    from jitway.web.call import Call

_OF_EVERY_COLLECTION = frozenset({"program", "from", "to", "limit", "cursor"})


def search_archive(collection: Collection) -> "Callable[[Call], Awaitable[Answer]]":
    """The handler of `GET /v1/archive/{collection}`; a key of one program sees that one's."""
    known = collection.filters | _OF_EVERY_COLLECTION

    async def handler(call: "Call") -> Answer:
        filters = call.filters(known)
        own = call.caller.program_id
        if own is not None and filters.get("program", own) != own:
            return _page([], None)
        question = Question(
            program=own or filters.get("program"),
            cardholder=filters.get("cardholder"),
            card=filters.get("card"),
            account=filters.get("account"),
            decision=filters.get("decision"),
            reason=filters.get("reason"),
            merchant=filters.get("merchant"),
            amount_min=_whole(filters, "amount_min"),
            amount_max=_whole(filters, "amount_max"),
            from_=_instant(filters, "from"),
            to=_instant(filters, "to"),
        )
        limit = _whole(filters, "limit")
        try:
            page = await call.services.archive.search(
                collection,
                question,
                limit=PAGE_DEFAULT if limit is None else limit,
                cursor=filters.get("cursor"),
            )
        except StoreUnavailable as error:
            # Whichever store it is: nobody shall think that nothing can be decided.
            raise ArchiveUnavailable(str(error)) from error
        return _page(page.documents, page.next_cursor)

    return handler


def _page(documents: list[dict[str, object]], next_cursor: str | None) -> Answer:
    return Answer(200, text_of({"data": documents, "next_cursor": next_cursor}))


def _whole(filters: dict[str, str], name: str) -> int | None:
    text = filters.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 19):
        said = f"limit is from 1 to {PAGE_MAX}" if name == "limit" else f"{name} is a whole number"
        raise InvalidRequest(said, f"/{name}")
    return int(text)


def _instant(filters: dict[str, str], name: str) -> "datetime | None":
    text = filters.get(name)
    if text is None:
        return None
    try:
        return parse_instant(text)
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{name} is no RFC 3339 instant", f"/{name}") from None
