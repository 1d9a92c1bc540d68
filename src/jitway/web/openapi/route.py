"""`route.py`: `GET /openapi.json` and `/reference`: what the API is, for anybody who asks."""

import base64
import hashlib
from collections.abc import Callable

from jitway.web.exchange import Reply
from jitway.web.openapi.description import description
from jitway.web.openapi.reference import STYLE, reference

_style_hash = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
# The page asks for nothing, runs nothing, and nobody puts it in a frame.
_POLICY = f"default-src 'none'; style-src 'sha256-{_style_hash}'; frame-ancestors 'none'"

PAGES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "/openapi.json": ("application/json", description),
    "/reference": ("text/html; charset=utf-8", reference),
}


def page_reply(path: str, request_id: str) -> Reply:
    """One of `PAGES`; it changes with a release only."""
    kind, page = PAGES[path]
    return Reply(
        200,
        [
            (b"content-type", kind.encode()),
            (b"cache-control", b"max-age=300"),
            (b"content-security-policy", _POLICY.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"x-request-id", request_id.encode()),
        ],
        page(),
    )
