"""The simulator against a small gateway over real sockets."""

import asyncio
import json
from collections import Counter

import pytest
import uvloop

from jitway.simulator.population import CannotProvision, Population
from jitway.simulator.report import Report
from jitway.simulator.simulate import Tuning, simulate
from tests.unit.simulator.peer import KEY, Peer, problem, serving

REASONS = {
    "card_not_found", "card_not_active", "card_frozen", "currency_mismatch", "mcc_blocked",
    "amount_over_limit", "spend_limit_exceeded", "count_limit_exceeded",
    "insufficient_available_balance",
}  # fmt: skip


async def run(
    peer: Peer,
    *,
    rate: float = 1_500,
    seconds: float = 0.2,
    cards: Population | list[str] | None = None,
    tuning: Tuning | None = None,
) -> Report:
    async with serving(peer) as url:
        return await simulate(
            url,
            key=KEY,
            rate=rate,
            seconds=seconds,
            seed=1,
            cards=cards,
            tuning=tuning or Tuning(connections=8, timeout_s=5),
        )


def rows(peer: Peer) -> Counter[str]:
    """The decisions the peer has stored, by reason."""
    stored = [
        json.loads(answer)
        for content, _, answer in peer.answered.values()
        if content.startswith(b"POST/v1/authorizations{")
    ]
    return Counter(decision["reason"] or "approved" for decision in stored)


async def test_each_request_sent_stands_in_one_column_and_each_decision_is_a_row() -> None:
    peer = Peer()
    report = await run(peer)
    told = report.as_dict()
    assert told["sent"] == told["planned"] == 300 == peer.requests["authorizations"]
    assert told["errors"] == told["follow_up_errors"] == told["no_decision"] == 0, told
    stored = rows(peer)
    assert told["approved"] == stored.pop("approved")
    assert told["declined"] == dict(stored)
    declined = sum(told["declined"].values())
    assert told["sent"] == told["approved"] + declined + told["replays"] + told["conflicts"]
    assert set(told["declined"]) == REASONS
    assert told["approved"] > 0.7 * told["sent"]
    assert told["replays"] >= 3
    assert told["conflicts"] >= 1
    assert (told["captures"], told["reversals"]) == (
        peer.requests["captures"],
        peer.requests["reversals"],
    )
    assert told["captures"] > told["reversals"] > 0
    assert told["rate"] > 0
    assert told["cpu_share"] > 0
    assert report.ended == report.sent
    assert report.latency.count == 300


async def test_traffic_runs_on_uvloop_as_well() -> None:
    peer = Peer()
    population = await provisioned(peer)

    def simulate_elsewhere(url: str) -> Report:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(simulate(url, key=KEY, rate=1_000, seconds=0.1, cards=population))

    async with serving(peer) as url:
        report = await asyncio.to_thread(simulate_elsewhere, url)
    assert report.errors.total() == 0
    assert report.ended == report.sent == 100


async def test_a_gateway_that_cannot_close_cards_leaves_that_role_out_and_says_so() -> None:
    peer = Peer()
    peer.knows_close = False
    told = (await run(peer)).as_dict()
    assert told["roles_not_possible"] == ["closed"]
    assert set(told["declined"]) == REASONS - {"card_not_active"}
    assert told["errors"] == 0


async def test_a_plain_list_of_cards_is_enough() -> None:
    peer = Peer()
    account = peer._route("POST", "/v1/accounts", {"currency": "USD"})[1]
    account["available"] = 10**9
    card = peer._route("POST", "/v1/cards", {"account": account["id"]})[1]
    report = await run(peer, cards=[card["id"]], rate=400, seconds=0.25)
    assert set(report.declined) == {"card_not_found", "currency_mismatch"}
    assert report.ended == report.sent == 100
    assert peer.requests["programs"] == 0


async def test_latency_counts_from_the_intended_time_while_all_connections_are_busy() -> None:
    peer = Peer()
    population = await provisioned(peer)
    peer.gate.clear()
    # The stall itself: time must pass after the first request, or there would be nothing to count.
    peer.seen = lambda: asyncio.get_running_loop().call_later(0.3, peer.gate.set)
    tuning = Tuning(connections=2, timeout_s=5)
    report = await run(peer, cards=population, rate=500, seconds=0.2, tuning=tuning)
    # Two requests were on the wire during the stall, the others waited; all of them count.
    assert report.sent == report.ended == report.latency.count == 100
    assert report.latency.least_ns > 90_000_000
    assert report.lateness.percentile(50) > 90_000_000
    assert report.service.percentile(50) < report.latency.percentile(50)


async def provisioned(peer: Peer) -> Population:
    account = peer._route("POST", "/v1/accounts", {"currency": "USD"})[1]
    account["available"] = 10**9
    cards = [peer._route("POST", "/v1/cards", {"account": account["id"]})[1] for _ in range(5)]
    return Population(ordinary=[card["id"] for card in cards])


async def test_no_decision_is_a_column_of_its_own_and_other_503s_are_errors() -> None:
    peer = Peer()
    peer.fault = lambda path, number: (
        problem(503, "no_decision" if number % 10 else "overloaded") if number % 5 == 0 else None
    )
    report = await run(peer, cards=await provisioned(peer), rate=500, seconds=0.2)
    assert report.no_decision == 10
    assert report.errors == {"503 overloaded": 10}
    assert report.ended == report.sent == 100


@pytest.mark.parametrize(("fault", "cause"), [("drop", "connection_lost"), ("garbage", "not_http")])
async def test_a_broken_connection_is_one_error_and_is_replaced(fault: str, cause: str) -> None:
    peer = Peer()
    peer.fault = lambda path, number: (
        fault if path == "/v1/authorizations" and number == 50 else None
    )
    tuning = Tuning(connections=1, timeout_s=5)
    report = await run(peer, cards=await provisioned(peer), rate=500, seconds=0.2, tuning=tuning)
    assert report.errors == {cause: 1}
    assert report.ended == report.sent == 100
    assert peer.connections == 2


async def test_a_gateway_that_closes_after_an_answer_loses_nothing() -> None:
    peer = Peer()
    peer.fault = lambda path, number: "close" if number % 3 == 0 else None
    report = await run(peer, cards=await provisioned(peer), rate=500, seconds=0.2)
    assert report.errors.total() == 0
    assert report.ended == report.sent == 100
    assert peer.connections > 20


async def test_a_gateway_that_never_answers_ends_in_timeouts() -> None:
    peer = Peer()
    population = await provisioned(peer)
    peer.gate.clear()
    tuning = Tuning(connections=2, timeout_s=0.2)
    report = await run(peer, cards=population, rate=200, seconds=0.1, tuning=tuning)
    assert report.ended == report.sent == 20
    assert set(report.errors) <= {"timeout", "no_free_connection"}
    assert report.errors["timeout"] >= 2
    assert report.latency.max_ns >= 200_000_000


async def test_replays_and_conflicts_that_go_wrong_are_errors() -> None:
    peer = Peer()
    original = peer._reply

    def forgetful(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes | None:
        peer.answered.clear()
        return original(method, path, headers, body)

    peer._reply = forgetful  # type: ignore[method-assign]  # a gateway without a memory
    report = await run(peer, cards=await provisioned(peer))
    assert report.replays == report.conflicts == 0
    assert set(report.errors) == {"replay_differs", "conflict_was_answered"}
    assert report.ended == report.sent == 300


async def test_captures_that_are_refused_are_counted_apart() -> None:
    peer = Peer()
    peer.fault = lambda path, number: (
        problem(409, "authorization_not_open") if path.endswith("captures") else None
    )
    report = await run(peer, cards=await provisioned(peer))
    assert report.captures == 0
    assert set(report.follow_up_errors) == {"409 authorization_not_open"}
    assert report.errors.total() == 0
    assert report.reversals > 0


async def test_latencies_of_the_warm_up_are_left_out_and_its_counts_are_not() -> None:
    peer = Peer()
    tuning = Tuning(connections=8, timeout_s=5, warmup_s=0.1)
    report = await run(peer, cards=await provisioned(peer), tuning=tuning)
    assert report.ended == 300
    assert 75 <= report.latency.count <= 225


async def test_progress_ends_with_everything_sent() -> None:
    peer = Peer()
    told: list[tuple[int, int]] = []
    async with serving(peer) as url:
        await simulate(
            url,
            key=KEY,
            rate=400,
            seconds=0.25,
            cards=await provisioned(peer),
            on_progress=lambda sent, planned: told.append((sent, planned)),
        )
    assert told[-1] == (100, 100)
    assert told == sorted(told)


async def test_a_refused_provisioning_says_what_was_refused() -> None:
    peer = Peer()
    peer.fault = lambda path, number: problem(403, "scope_missing")
    with pytest.raises(CannotProvision, match=r"POST /v1/programs: 403 .*scope_missing"):
        await run(peer)


async def test_nobody_listening_is_an_os_error() -> None:
    peer = Peer()
    async with serving(peer) as url:
        pass
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await simulate(url, key=KEY, rate=10, seconds=1)


@pytest.mark.parametrize(
    ("url", "key", "rate", "complaint"),
    [
        ("ftp://127.0.0.1", KEY, 1.0, "URL"),
        ("http://", KEY, 1.0, "URL"),
        ("http://127.0.0.1:1", "two\nlines", 1.0, "key"),
    ],
)
async def test_senseless_arguments_are_refused(
    url: str, key: str, rate: float, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        await simulate(url, key=key, rate=rate, seconds=1)
