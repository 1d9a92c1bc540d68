"""`Evictions`: what was read before an eviction is recognised, within a bounded memory."""

from jitway.cache.evictions import Evictions


def test_only_what_was_evicted_later_was_met() -> None:
    evictions = Evictions()
    evictions.add("a")
    since = evictions.number
    assert not evictions.met("a", since)
    evictions.add("b")
    assert not evictions.met("a", since)
    assert evictions.met("b", since)
    evictions.add("a")
    assert evictions.met("a", since)


def test_all_of_them_are_met() -> None:
    evictions = Evictions()
    since = evictions.number
    evictions.add_all()
    assert evictions.met("a", since)
    assert not evictions.met("a", evictions.number)


def test_what_is_forgotten_counts_as_met() -> None:
    evictions = Evictions(remembered_max=2)
    since = evictions.number
    for id_ in "abc":
        evictions.add(id_)
    assert evictions.met("a", since)
    assert evictions.met("never evicted", since)
    recently = evictions.number
    evictions.add("d")
    assert not evictions.met("never evicted", recently)
    assert evictions.met("d", recently)
