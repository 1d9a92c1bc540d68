"""One topology for both brokers, and the same meaning of a binding key."""

import re

from hypothesis import given
from hypothesis import strategies as st

from jitway.adapters.rabbitmq.topology import GUIDE_TOPOLOGY, binding_matches
from jitway.events.broker import EXCHANGE, QUEUES, pattern_of

WORDS = st.sampled_from(["a", "b", "jit-funding", "", "a+"])
KEYS = st.lists(WORDS, min_size=1, max_size=4).map(".".join)
BINDINGS = st.lists(WORDS | st.sampled_from(["*", "#"]), min_size=1, max_size=4).map(".".join)


def test_what_we_declare_is_the_guides_topology() -> None:
    assert GUIDE_TOPOLOGY.exchange == EXCHANGE
    guide = [(one.name, one.binding_keys, one.retry_delays_ms) for one in GUIDE_TOPOLOGY.queues]
    assert guide == [(one.name, one.binding_keys, one.retry_delays_ms) for one in QUEUES]


@given(BINDINGS, KEYS)
def test_a_binding_takes_what_rabbitmq_takes(binding: str, key: str) -> None:
    taken = re.search(pattern_of(binding), "." + key) is not None
    assert taken == binding_matches(binding, key)
