"""`events.py`: the commands that move events and look after the dead ones."""

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from jitway.cli.asking import why

if TYPE_CHECKING:
    from jitway.events.dead_letter import DeadLetters

Result = TypeVar("Result")

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
in_queue = click.option("--queue", help="Only of this queue; needed where several have the ID.")


@click.command()
@click.option(
    "--only",
    type=click.Choice(["relay", "consumers"]),
    help="Do one half; none: publish and consume.",
)
@click.option(
    "--consumers",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="Also run what this module has in CONSUMERS; may be given several times.",
)
def work(only: str | None, modules: tuple[str, ...]) -> None:
    """Publish and consume events until SIGTERM or Ctrl-C."""
    from jitway.cli.main import FAILED, read_settings
    from jitway.cli.work import work_until_stopped
    from jitway.compose import Role

    settings = read_settings(FAILED)
    sys.exit(work_until_stopped(settings, role=Role(only or "all"), modules=modules))


@click.group("dead-letters")
def dead_letters() -> None:
    """What could not be delivered: list, show, replay, discard."""


@dead_letters.command("list")
@in_queue
@as_json
def list_letters(queue: str | None, as_json: bool) -> None:
    """List the dead letters, the oldest first."""
    from jitway.cli.main import show

    letters = _run(lambda dead: dead.letters(_see_all, queue=queue))
    if as_json:
        show({"data": letters, "next_cursor": None})
        return
    for letter in letters:
        click.echo(
            f"{letter['last_failed_at'] or '-':<27}  {letter['queue']:<28} {letter['id']}\n"
            f"    {letter['type']}, {letter['attempts']} attempts: {letter['cause']}"
        )
    if not letters:
        click.echo("No dead letters.")


@dead_letters.command("show")
@click.argument("letter_id", metavar="ID")
@in_queue
@as_json
def show_letter(letter_id: str, queue: str | None, as_json: bool) -> None:
    """Show the dead letter ID: its message, redacted, and every failure."""
    letter = _run(lambda dead: dead.show(_see_all, letter_id, queue=queue))
    _tell(letter, as_json=as_json)


@dead_letters.command("replay")
@click.argument("letter_id", metavar="ID")
@in_queue
@why
@as_json
def replay_letter(letter_id: str, queue: str | None, reason: str | None, as_json: bool) -> None:
    """Send the dead letter ID back into its queue, with all attempts granted again."""
    letter = _run(
        lambda dead: dead.act(
            "replay", _see_all, letter_id, queue=queue, actor="cli", reason=reason
        )
    )
    _tell(letter, as_json=as_json, done="was sent back into")


@dead_letters.command("discard")
@click.argument("letter_id", metavar="ID")
@in_queue
@why
@as_json
def discard_letter(letter_id: str, queue: str | None, reason: str | None, as_json: bool) -> None:
    """Forget the dead letter ID for good."""
    letter = _run(
        lambda dead: dead.act(
            "discard", _see_all, letter_id, queue=queue, actor="cli", reason=reason
        )
    )
    _tell(letter, as_json=as_json, done="was discarded from")


def _see_all(_: str | None) -> bool:
    """Whoever has this command line sees every program's letters."""
    return True


def _run(ask: "Callable[[DeadLetters], Awaitable[Result]]") -> Result:
    from jitway.cli.main import FAILED, fail, read_settings, run
    from jitway.compose import dead_letters_of, stores
    from jitway.errors import Conflict, NotFound

    settings = read_settings()

    async def work() -> "Result | NotFound | Conflict":
        async with stores(settings) as manager, dead_letters_of(manager) as dead:
            try:
                return await ask(dead)
            except (NotFound, Conflict) as refused:
                return refused

    found = run(settings, work)
    if isinstance(found, NotFound | Conflict):
        fail(str(found), FAILED)
    return found


def _tell(letter: dict[str, Any], *, as_json: bool, done: str = "") -> None:
    from jitway.cli.main import show

    if as_json or not done:
        show(letter)
    else:
        click.echo(f"{letter['id']} {done} {letter['queue']}.")
