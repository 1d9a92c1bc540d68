"""The caller's span is believed to the letter or not at all."""

import pytest

from jitway.profiler.spans import Parent
from jitway.web.traceparent import parent_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize("flags", ["01", "03", "ff"])
def test_a_caller_that_tells_its_span_is_the_parent(flags: str) -> None:
    value = f"00-{TRACE}-{SPAN}-{flags}".encode()
    found = parent_of([(b"host", b"x"), (b"traceparent", value)])
    assert found == Parent(int(TRACE, 16), int(SPAN, 16))


@pytest.mark.parametrize(
    "value",
    [
        "",
        f"00-{TRACE}-{SPAN}-00",
        f"00-{TRACE}-{SPAN}-02",
        f"01-{TRACE}-{SPAN}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01\n",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        "\u00ff" * 55,
    ],
)
def test_anything_else_is_as_if_nothing_had_been_sent(value: str) -> None:
    assert parent_of([(b"traceparent", value.encode("latin-1"))]) is None


def test_two_of_them_are_none() -> None:
    one = (b"traceparent", f"00-{TRACE}-{SPAN}-01".encode())
    assert parent_of([one, one]) is None
    assert parent_of([]) is None
