"""The commands of administration, in this process: what they print, and how they exit."""

import asyncio
import json
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from click.testing import CliRunner, Result

from jitway.cli.main import main
from jitway.gateway.keys import authenticate
from tests.world import World

Run: TypeAlias = Callable[..., Coroutine[Any, Any, Result]]


@pytest.fixture
def run(database: str, tmp_path: Path) -> Run:
    """Runs one command on the world's ledger."""
    environment = {"DATABASE_URL": database, "JITWAY_ENV_FILE": "/dev/null", "HOME": str(tmp_path)}

    async def command(*arguments: str, code: int = 0, stdin: str | None = None) -> Result:
        def invoke() -> Result:
            runner = CliRunner()
            return runner.invoke(main, list(arguments), env=environment, input=stdin)

        # The command has an event loop of its own.
        done = await asyncio.to_thread(invoke)
        assert done.exit_code == code, (done.output, done.stderr, done.exception)
        if code:
            assert "Traceback" not in done.stderr
        return done

    return command


async def made(run: Run, *arguments: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((await run(*arguments, "--json")).stdout)
    return document


async def test_a_program_from_its_first_day_to_its_last(world: World, run: Run) -> None:
    program = await made(
        run, "programs", "create", "--name", "Acme", "--currency", "USD", "--time-zone", "UTC"
    )
    holder = await made(
        *(run, "cardholders", "create", "--program", program["id"], "--external-id", "user-1"),
    )
    of = ("--cardholder", holder["id"])
    account = await made(run, "accounts", "create", *of, "--currency", "USD")
    card = await made(
        *(run, "cards", "create", *of, "--account", account["id"], "--last4", "4242"),
        *("--valid-until", "2099-12-31"),
    )
    assert card["valid_until"].startswith("2100-01-01") or "2099-12-31" in card["valid_until"]
    endless = await made(run, "cards", "change", card["id"], "--clear", "valid-until")
    assert endless["valid_until"] is None
    money = ("accounts", "deposit", account["id"], "--amount", "100", "--key", "payday")
    first = await made(run, *money)
    assert await made(run, *money) == first
    await made(run, "accounts", "withdraw", account["id"], "--amount", "40")
    assert (await made(run, "accounts", "show", account["id"]))["available"] == 60
    changed = await made(run, "accounts", "change", account["id"], "--credit-line", "15")
    assert (changed["available"], changed["credit_line"]) == (75, 15)
    renamed = await made(run, "cardholders", "change", holder["id"], "--name", "Ada")
    assert (renamed["name"], renamed["external_id"]) == ("Ada", "user-1")
    cleared = await made(run, "cardholders", "change", holder["id"], "--clear", "name")
    assert cleared["name"] is None
    frozen = await made(run, "cards", "freeze", card["id"], "--reason", "lost")
    assert frozen["status"] == "frozen"
    assert (await made(run, "cards", "list", "--status", "frozen"))["data"] == [frozen]
    limits = json.dumps({"limits": [{"period": "day", "amount": 5}]})
    done = await run("cards", "controls", card["id"], "-", "--json", stdin=limits)
    assert json.loads(done.stdout)["controls"]["limits"] == [{"period": "day", "amount": 5}]
    suspended = await made(run, "programs", "suspend", program["id"])
    assert suspended["status"] == "suspended"
    trail = await made(run, "audit", "--subject", card["id"])
    assert [act["action"] for act in trail["data"]] == [
        "card.controls_changed",
        "card.frozen",
        "card.changed",
        "card.created",
    ]
    assert {act["actor"] for act in trail["data"]} == {"cli"}
    assert trail["data"][1]["reason"] == "lost"
    await world.audited()


async def test_people_read_lines(world: World, run: Run) -> None:
    shown = await run("accounts", "show", world.account["id"])
    assert f"id           {world.account['id']}\n" in shown.stdout
    listed = await run("cards", "list")
    assert listed.stdout.startswith(f"{world.card['id']}  active")
    await world.new_card()
    page = await run("cards", "list", "--limit", "1")
    assert "More: --cursor crd_" in page.stderr
    assert "Nothing to list." in (await run("cards", "list", "--status", "closed")).stderr
    assert "card.created" in (await run("audit")).stdout


async def test_what_is_not_so_exits_1_and_what_is_not_meant_exits_2(world: World, run: Run) -> None:
    nobody = "0" * 32
    account, card = world.account["id"], world.card["id"]
    await run("cards", "close", card)
    await world.deposit(5)
    for code, *arguments in (
        (1, "cards", "show", f"crd_{nobody}"),
        (1, "cards", "freeze", "nonsense"),
        (1, "cards", "freeze", card),
        (1, "accounts", "close", account),
        (1, "accounts", "withdraw", account, "--amount", "6"),
        (1, "keys", "show", f"key_{nobody}"),
        (2, "cards", "list", "--status", "suspended"),
        (2, "cards", "list", "--account", "nonsense"),
        (2, "cards", "change", card),
        (2, "cards", "change", card, "--last4", "12"),
        (2, "accounts", "change", account, "--credit-line", "-1"),
        (2, "accounts", "deposit", account, "--amount", "0"),
        (2, "programs", "create", "--name", "x", "--currency", "XXX"),
        (2, "programs", "create", "--name", "x", "--currency", "USD", "--time-zone", "Moon/Sea"),
        (2, "cardholders", "create", "--program", f"prg_{nobody}"),
        (2, "audit", "--from", "yesterday"),
    ):
        done = await run(*arguments, code=code)
        assert done.stderr.strip(), arguments
    await run("cardholders", "create", "--program", world.program["id"], "--external-id", "e")
    taken = await run(
        *("cardholders", "create", "--program", world.program["id"], "--external-id", "e"), code=1
    )
    assert "chd_" in taken.stderr, "the id of the one that has it"


NUMBERS = ("4111111111111111", "paid by 4111 1111 1111 1111.")


@pytest.mark.parametrize("text", [*NUMBERS, "", "a\nb", "\x1b[2J", "x" * 501])
async def test_a_text_is_kept_only_if_http_would_keep_it(world: World, run: Run, text: str) -> None:
    account, card, program = world.account["id"], world.card["id"], world.program["id"]
    bulk = ("bulk", "cards", "/dev/null", "--format", "csv", "--program", program)
    for arguments in (
        ("accounts", "deposit", account, "--amount", "5", "--description"),
        ("accounts", "withdraw", account, "--amount", "5", "--description"),
        ("accounts", "deposit", account, "--amount", "5", "--reason"),
        ("cards", "freeze", card, "--reason"),
        ("cards", "change", card, "--last4", "4242", "--reason"),
        ("programs", "create", "--currency", "USD", "--name"),
        ("keys", "create", "--name"),
        ("keys", "create", "--reason"),
        ("dead-letters", "discard", "m-1", "--reason"),
        (*bulk, "--reason"),
    ):
        done = await run(*arguments, text, code=2)
        said = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        assert len(said) == 1, arguments
        assert "4111" not in done.stderr, arguments
        assert ("card number" in done.stderr) == (text in NUMBERS), arguments


async def test_a_text_that_is_no_utf_8_is_kept_as_one(world: World, run: Run) -> None:
    key = await made(run, "keys", "create", "--name", os.fsdecode(b"caf\xe9"))
    shown = await made(run, "keys", "show", key["id"])
    assert shown["name"] == "caf?"


async def test_a_key_is_rotated(world: World, run: Run) -> None:
    first = await made(run, "keys", "create", "--scopes", "read", "--name", "wall")
    assert first.keys() == {"id", "key"}
    second = await made(run, "keys", "rotate", first["id"])
    assert second["id"] == first["id"]
    for secret in (first["key"], second["key"]):
        assert await authenticate(world.postgres, secret) is not None
    await run("keys", "rotate", first["id"], code=1)
    shown = await run("keys", "show", first["id"])
    assert "wall" in shown.stdout
    assert first["key"] not in shown.stdout
    assert (await made(run, "keys", "revoke", first["id"]))["revoked_at"]
    assert await authenticate(world.postgres, second["key"]) is None
    assert (await made(run, "keys", "list", "--status", "good"))["data"] == []


async def test_files_of_cards_and_money(world: World, run: Run, tmp_path: Path) -> None:
    cards = tmp_path / "cards.csv"
    cards.write_text("external_id,cardholder_external_id\nc-1,h-1\nc-2,h-1\nc-3,\n")
    of = ("--program", world.program["id"])
    tried = await run("bulk", "cards", str(cards), *of, "--dry-run", code=1)
    assert "line 4: name the cardholder" in tried.stdout
    assert "Would make 2; 0 are there already; 1 cannot." in tried.stdout
    strict = await run("bulk", "cards", str(cards), *of, "--strict", code=1)
    assert "Nothing was done: 1 of 3 lines cannot be." in strict.stdout
    done = await run("bulk", "cards", str(cards), *of, code=1)
    assert "Made 2; 0 were there already; 1 failed." in done.stdout
    assert "2 of 2 lines" in done.stderr
    money = tmp_path / "money.jsonl"
    money.write_text('{"key":"k","card_external_id":"c-2","amount":70}\n')
    report = await made(run, "bulk", "funding", str(money), *of, "--reason", "payday")
    assert (report["made"], report["data"][0]["outcome"]) == (1, "made")
    report = await made(run, "bulk", "funding", str(money), *of)
    assert (report["made"], report["unchanged"]) == (0, 1)
    for arguments in (
        ("cards", str(tmp_path / "none.csv"), *of),
        ("cards", "-", *of),
        ("funding", str(cards), *of),
        ("cards", str(cards), "--program", "prg_1"),
    ):
        await run("bulk", *arguments, code=2)
    await world.audited()
