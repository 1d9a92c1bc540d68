"""`assets.py`: the page's own files, as they are sent: read once, named after their content.

Nothing is built: what lies in `page/` is what the browser gets. The name of their folder changes
with any of them, so browsers keep them for good and never mix them with those of another release.
"""

import hashlib
from importlib.resources import files

from jitway.web.exchange import Header, Reply
from jitway.web.problems import Refused

MEDIA_TYPES = {
    "html": b"text/html; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}
PAGE = "page.html"
PREFIX = "/dashboard/assets/"

# No script or style but our own files, nothing from elsewhere, nobody may frame the page.
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURE: list[Header] = [
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]
_FOR_GOOD: Header = (b"cache-control", b"public, max-age=31536000, immutable")
_NO_STORE: Header = (b"cache-control", b"no-store")


class Assets:
    """The files of the page."""

    def __init__(self) -> None:
        folder = files("jitway.web.dashboard") / "page"
        found = {
            item.name: item.read_bytes()
            for item in folder.iterdir()
            if item.name.rpartition(".")[2] in MEDIA_TYPES
        }
        page = found.pop(PAGE)
        digest = hashlib.sha256()
        for name in sorted(found):
            digest.update(name.encode() + b"\0" + found[name])
        self.version = digest.hexdigest()[:16]
        self._files = {f"{self.version}/{name}": content for name, content in found.items()}
        self._page = page.replace(b"{assets}", f"{PREFIX}{self.version}".encode())

    @property
    def size(self) -> int:
        """Bytes that a browser loads in all."""
        return len(self._page) + sum(map(len, self._files.values()))

    def page(self) -> Reply:
        """The page itself: the same for everybody, with nothing in it that needs a login."""
        return Reply(200, [(b"content-type", MEDIA_TYPES["html"]), _NO_STORE, *SECURE], self._page)

    def file(self, name: str) -> Reply:
        """One file by its folder and name.

        Raises:
            Refused: 404, there is none; perhaps it was another release's.
        """
        content = self._files.get(name)
        if content is None:
            raise Refused(404, "route_not_found", "there is no such file")
        media_type = MEDIA_TYPES[name.rpartition(".")[2]]
        return Reply(200, [(b"content-type", media_type), _FOR_GOOD, *SECURE], content)
