"""The system's Chromium: found, or installed where that is allowed.

`python -m tests.browser.chromium` prints where it is; `scripts/test` calls it before everything, so
that no test waits for an installation.
"""

import shutil
import sys

from tests.servers.packages import can_install, install
from tests.servers.process import PATH, ServerMissing

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


def find_chromium() -> str | None:
    """Where it is, if it is installed."""
    return next((path for name in NAMES if (path := shutil.which(name, path=PATH))), None)


def provide_chromium() -> str:
    """Where it is, after installing it if need be.

    Raises:
        ServerMissing: it is not there and cannot be installed; the text says why.
    """
    if (found := find_chromium()) is None:
        if not can_install():
            raise ServerMissing("Chromium is missing: `apt-get install chromium`")
        install(["chromium", "fonts-dejavu-core"])
        found = find_chromium()
    if found is None:
        raise ServerMissing("Chromium was installed, and is not there")
    return found


def main() -> int:
    """Prints where it is, or why it is not."""
    try:
        print(provide_chromium())
    except ServerMissing as missing:
        print(missing, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
