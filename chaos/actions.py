"""`actions.py`: what was done to whom, and when; a line each, in a file that stays small."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

LINES_MAX = 20_000


class Actions:
    """A log of faults.

    Args:
        path: begun afresh; when it is full, its first half of a run goes to `.1`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lines = 0
        self._began_s = time.monotonic()
        self._file = path.open("w", encoding="utf-8")

    def note(self, action: str, **facts: Any) -> None:
        """Writes a line, at once.

        Args:
            action: what was done or seen.
            facts: what belongs to it.
        """
        if self._lines >= LINES_MAX:
            self._file.close()
            self.path.replace(self.path.with_suffix(".1"))
            self._file = self.path.open("w", encoding="utf-8")
            self._lines = 0
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        since_s = round(time.monotonic() - self._began_s, 3)
        line = {"at": at, "since_s": since_s, "action": action, **facts}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        self._lines += 1

    def close(self) -> None:
        """Ends it; may be called twice."""
        self._file.close()
