"""The checker is worth what it notices: a right ledger passes, and each falsehood has its name.

That it notices forgeries in a real database is proven where it is used (`test_survives.py`).
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from chaos.checker import check
from chaos.history import Attempt, Outcome, Verb
from tests.end_to_end.small_world import TICK_NS, SmallWorld


def found(world: SmallWorld) -> set[str]:
    """The names of what is wrong."""
    return {one.invariant for one in check(world.history, world.ledger).violations}


def a_busy_day() -> SmallWorld:
    """Something of everything, all of it right."""
    world = SmallWorld()
    world.deposit(1_000)
    first = world.authorize(400)
    world.authorize(2_000, reason="insufficient_available_balance")
    world.read()
    world.capture(first, 100, final=False)
    world.capture(first, 100, final=True)
    second = world.authorize(1_200)
    world.reverse(second)
    unanswered = world.authorize(50)
    world.forget_answer(unanswered)
    world.abandon(unanswered)
    world.change_card(Verb.FREEZE)
    world.authorize(1, reason="card_frozen")
    world.change_card(Verb.UNFREEZE)
    world.authorize(1)
    world.read()
    return world


def test_what_is_right_is_not_complained_about() -> None:
    world = a_busy_day()
    checked = check(world.history, world.ledger)
    assert checked.violations == []
    assert checked.changes == len(world.decisions) + len(world.transfers)


def lose_an_approval(world: SmallWorld) -> None:
    call = world.authorize(10)
    world.holds.remove(world.hold_of(call))
    world.decisions.remove(world.row_of(call))
    del world.ledger.keys[call.digest]
    world.account["held"] -= 10
    world.account["version"] -= 1


def lose_a_deposit(world: SmallWorld) -> None:
    call = world.deposit(10)
    world.transfers.remove(world.row_of(call))
    del world.ledger.keys[call.digest]
    world.account["posted"] -= 10
    world.account["version"] -= 1


def double_an_approval(world: SmallWorld) -> None:
    call = world.authorize(10)
    world.authorize(10)
    world.history.calls.pop()
    world.history.calls.append(call)


def double_a_deposit(world: SmallWorld) -> None:
    world.deposit(10)
    world.deposit(10)
    world.history.calls.pop()


def change_what_is_stored(world: SmallWorld) -> None:
    row = world.row_of(world.authorize(10))
    row["body"] = row["body"].replace(": ", ":")


def answer_a_repeat_otherwise(world: SmallWorld) -> None:
    call = world.deposit(10)
    first = call.attempts[0]
    call.attempts.append(replace(first, body=first.body.replace(b": ", b":")))


def do_what_was_refused(world: SmallWorld) -> None:
    call = world.deposit(10)
    call.attempts[0].outcome, call.attempts[0].status = Outcome.FAIL, 409


def never_answer(world: SmallWorld) -> None:
    call = world.deposit(10)
    world.forget_answer(call)
    call.walked_away = False


def abandon_what_was_answered(world: SmallWorld) -> None:
    world.abandon(world.authorize(10))


def approve_more_than_there_is(world: SmallWorld) -> None:
    world.authorize(world.available + 1)


def decline_what_there_is(world: SmallWorld) -> None:
    world.authorize(1, reason="insufficient_available_balance")


def capture_twice(world: SmallWorld) -> None:
    call = world.authorize(10)
    world.capture(call, 10, final=True)
    hold = world.hold_of(call)
    hold["captured"] = 0
    world.capture(call, 10, final=True)


def approve_while_frozen(world: SmallWorld) -> None:
    world.change_card(Verb.FREEZE)
    world.authorize(1)
    world.change_card(Verb.UNFREEZE)


def decline_for_no_freeze(world: SmallWorld) -> None:
    world.authorize(1, reason="card_frozen")


def order_against_the_clock(world: SmallWorld) -> None:
    earlier, later = world.deposit(10), world.deposit(20)
    one, other = earlier.attempts[0], later.attempts[0]
    one.invoked_ns, other.invoked_ns = other.invoked_ns, one.invoked_ns
    one.returned_ns, other.returned_ns = other.returned_ns, one.returned_ns


def read_the_past(world: SmallWorld) -> None:
    call = world.read()
    world.deposit(10)
    late_ns = call.attempts[0].returned_ns + 100 * TICK_NS
    call.attempts[0].invoked_ns = call.attempts[0].returned_ns = late_ns


def read_what_never_was(world: SmallWorld) -> None:
    call = world.read()
    said = call.document | {"held": 77}
    call.attempts[0].body = json.dumps(said).encode()


def skip_a_version(world: SmallWorld) -> None:
    world.account["version"] += 1
    world.deposit(10)


def change_the_balance(world: SmallWorld) -> None:
    world.account["posted"] += 1


def change_a_hold(world: SmallWorld) -> None:
    world.hold_of(world.authorize(10))["released"] = 1


def book_another_amount(world: SmallWorld) -> None:
    world.row_of(world.deposit(10))["amount"] = 11


FALSEHOODS: list[tuple[Callable[[SmallWorld], None], str]] = [
    (lose_an_approval, "acknowledged_is_stored"),
    (lose_a_deposit, "acknowledged_is_stored"),
    (double_an_approval, "row_was_asked_for"),
    (double_a_deposit, "row_was_asked_for"),
    (change_what_is_stored, "acknowledged_is_stored"),
    (answer_a_repeat_otherwise, "repeats_are_equal"),
    (do_what_was_refused, "refused_is_not_done"),
    (never_answer, "call_is_answered"),
    (abandon_what_was_answered, "answered_stays"),
    (approve_more_than_there_is, "replay_allows_it"),
    (decline_what_there_is, "replay_equals_answers"),
    (capture_twice, "replay_allows_it"),
    (approve_while_frozen, "freeze_is_respected"),
    (decline_for_no_freeze, "freeze_is_respected"),
    (order_against_the_clock, "order_follows_time"),
    (read_the_past, "order_follows_time"),
    (read_what_never_was, "reads_fit_their_version"),
    (skip_a_version, "versions_are_gapless"),
    (change_the_balance, "account_is_as_replayed"),
    (change_a_hold, "holds_are_as_replayed"),
    (book_another_amount, "replay_equals_answers"),
]


@pytest.mark.parametrize(
    ("falsify", "name"), FALSEHOODS, ids=[falsify.__name__ for falsify, _ in FALSEHOODS]
)
def test_each_falsehood_is_noticed(falsify: Callable[[SmallWorld], None], name: str) -> None:
    world = a_busy_day()
    falsify(world)
    assert name in found(world)


def test_a_repeat_that_was_in_doubt_is_one_call() -> None:
    world = a_busy_day()
    call = world.deposit(10)
    answered = call.attempts[0]
    lost = Attempt(answered.invoked_ns - 10, answered.invoked_ns - 5, Outcome.UNKNOWN)
    call.attempts[:] = [lost, answered, answered]
    assert found(world) == set()


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("kill", "--kills", "-1")])
def test_wrong_use_is_told(arguments: tuple[str, ...]) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "chaos", *arguments], capture_output=True, text=True, check=False
    )
    assert told.returncode == 2
    assert "usage: scripts/chaos" in told.stderr
