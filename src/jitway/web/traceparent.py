"""`traceparent.py`: the caller's span, as W3C Trace Context writes it.

Version 00 and to the letter; anything else is as if nothing had been sent.
"""

import re
from collections.abc import Sequence

from jitway.profiler.spans import Parent
from jitway.web.exchange import Header

_parts = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})").fullmatch
_SAMPLED = 1


def parent_of(headers: Sequence[Header]) -> Parent | None:
    """The caller's span, if it says that it is exported; None otherwise, and never an error.

    Args:
        headers: of the request, names in small letters.
    """
    given = [value for name, value in headers if name == b"traceparent"]
    found = _parts(given[0]) if len(given) == 1 else None
    if found is None or not int(found[3], 16) & _SAMPLED:
        return None
    trace_id, span_id = int(found[1], 16), int(found[2], 16)
    return Parent(trace_id, span_id) if trace_id and span_id else None
