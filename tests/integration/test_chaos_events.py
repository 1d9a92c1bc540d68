"""The short form of `scripts/chaos events`: nothing lost, nothing applied twice, all in order."""

import os
from pathlib import Path

import pytest

from chaos.actions import Actions
from chaos.event_checker import Sets, compare
from chaos.events import EventRun
from tests.conftest import server_dir
from tests.servers.rabbitmq import is_installed
from tests.service_skips import require_service

APPROVED = ("jit-funding.approved", "acc_1", 1, 100)
CAPTURED = ("transaction.captured", "acc_1", 2, 100)
DECIDED = {"evt_1": APPROVED, "evt_2": CAPTURED}
ARCHIVED = {"evt_1": 100, "evt_2": 100}


def clean() -> Sets:
    return Sets(dict(DECIDED), list(DECIDED.items()), list(DECIDED.items()), dict(ARCHIVED))


def named(sets: Sets) -> list[tuple[str, str]]:
    return [(one.invariant, one.subject) for one in compare(sets)]


def test_the_checker_names_whatever_is_not_as_decided() -> None:
    assert named(clean()) == []
    lost = clean()
    del lost.applied[0]
    assert named(lost) == [("applied_once", "evt_1")]
    twice = clean()
    twice.applied.append(("evt_2", CAPTURED))
    assert named(twice) == [("applied_once", "evt_2")]
    phantom = clean()
    phantom.applied.append(("evt_3", CAPTURED))
    assert named(phantom) == [("applied_was_decided", "evt_3")]
    altered = clean()
    altered.applied[0] = ("evt_1", (*APPROVED[:3], 101))
    assert named(altered) == [("applied_as_decided", "evt_1")]
    disordered = clean()
    disordered.witnessed.reverse()
    assert named(disordered) == [("in_order", "evt_1")]
    unheard = clean()
    del unheard.witnessed[1]
    assert named(unheard) == [("witnessed", "evt_2")]
    unkept = clean()
    del unkept.archived["evt_1"]
    assert named(unkept) == [("archived", "evt_1")]
    repeated = clean()
    repeated.witnessed.append(("evt_1", APPROVED))
    assert named(repeated) == []


@pytest.mark.parametrize(("local", "kills"), [(True, 4), (False, 5)], ids=["local", "rabbitmq"])
async def test_nothing_is_lost_while_everybody_is_killed(
    tmp_path: Path, local: bool, kills: int
) -> None:
    if not local and not is_installed():
        require_service("rabbitmq")
        pytest.skip("a broker to be killed must be a private one: install rabbitmq-server")
    seed = int(os.environ["TEST_SEED"])
    actions = Actions(tmp_path / "actions.jsonl")
    try:
        with server_dir() as directory:
            run = EventRun(directory, actions, seed, local=local)
            # Each outage once: of the archive where there is no broker to be away.
            await run.run(
                events=300, kills=kills, outage_s=1.5, archive_outage_s=1.0 if local else 0.0
            )
    finally:
        actions.close()
    report = run.report
    assert report.violations == []
    assert report.kills.total() >= kills
    assert report.counts["events"] == report.counts["effects"] >= 300
    assert report.outages.keys() == {"archive" if local else "broker"}
    assert all(outage.events for outage in report.outages.values())
    assert report.counts["forgeries_named"] == 2
    assert report.books["ok"]
