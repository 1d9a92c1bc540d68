"""`asking.py`: what the commands of administration share: one verb on the ledger, and its printing.

What is not there, or not in a state that allows it, is exit code 1; what cannot be meant is 2.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

if TYPE_CHECKING:
    from jitway.adapters.postgresql import PostgreSQLAdapter
    from jitway.clock import Clock
    from jitway.gateway.caller import Answer, Caller

Result = TypeVar("Result")
Verb = Callable[["PostgreSQLAdapter", "Clock", "Caller"], Awaitable[Result]]

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


class Words(click.ParamType[str]):
    """A text that is kept for people: as long, and of what, as the same text over HTTP.

    Args:
        form: its name in `jitway.wire.forms`.
    """

    name = "text"

    def __init__(self, form: Literal["Text", "LongText"]) -> None:
        self._form = form

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text; one that must not be kept ends the command with exit code 2."""
        import msgspec

        from jitway.wire import forms
        from jitway.wire.card_numbers import CARD_NUMBER_SAID, has_card_number

        # What the shell passes need not be UTF-8.
        text = str(value).encode(errors="replace").decode()
        if has_card_number(text):
            self.fail(CARD_NUMBER_SAID, param, ctx)
        try:
            kept: str = msgspec.convert(text, getattr(forms, self._form))
        except msgspec.ValidationError:
            longest = 200 if self._form == "Text" else 500
            said = f"it has 1 to {longest} characters, none of them a control character"
            self.fail(said, param, ctx)
        return kept


why = click.option("--reason", type=Words("LongText"), help="For the audit.")
page_options = (
    click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True),
    click.option("--cursor", help="The next_cursor of the page before."),
)


def ask(verb: Verb[Result], *, missing: int | None = None) -> Result:
    """Runs one verb as this machine's command line; an expected failure ends it in one sentence.

    Args:
        verb: gets the ledger, a clock and the caller.
        missing: the exit code where something that was named is not there; 1 when None.
    """
    from jitway.cli.main import CANNOT_RUN, FAILED, fail, ourselves, read_settings, run
    from jitway.clock import SystemClock
    from jitway.compose import ledger
    from jitway.errors import Conflict, NotFound
    from jitway.sql.migrate import check_schema

    settings = read_settings()

    async def work() -> Result | Conflict | NotFound:
        async with ledger(settings) as postgres:
            await check_schema(postgres)
            try:
                return await verb(postgres, SystemClock(), ourselves())
            except (Conflict, NotFound) as error:
                return error

    done = run(settings, work, CANNOT_RUN)
    if isinstance(done, NotFound):
        fail(str(done), FAILED if missing is None else missing)
    if isinstance(done, Conflict):
        existing = f" ({done.existing})" if done.existing else ""
        fail(f"{done}{existing}", FAILED)
    return done


def answered(verb: Verb["Answer"], *, missing: int | None = None) -> dict[str, Any]:
    """As `ask`, for a verb that answers a document."""
    document: dict[str, Any] = json.loads(ask(verb, missing=missing).body)
    return document


def told(thing: Mapping[str, Any], *, as_json: bool) -> None:
    """Prints one thing: as JSON, or its fields below each other."""
    from jitway.cli.main import show

    if as_json:
        show(thing)
        return
    width = max(len(name) for name in thing)
    for name, value in thing.items():
        click.echo(f"{name:<{width}}  {cell(value)}")


def listed(page: Mapping[str, Any], columns: Sequence[str], *, as_json: bool) -> None:
    """Prints a page: as JSON, or a line for each thing, and how to go on."""
    from jitway.cli.main import show

    if as_json:
        show(page)
        return
    rows = [[cell(thing[name]) for name in columns] for thing in page["data"]]
    widths = [max((len(row[at]) for row in rows), default=0) for at in range(len(columns))]
    for row in rows:
        line = "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())
    if not rows:
        click.echo("Nothing to list.", err=True)
    if page["next_cursor"] is not None:
        click.echo(f"More: --cursor {page['next_cursor']}", err=True)


def cell(value: Any) -> str:
    """A value as people read it."""
    if value is None:
        return "-"
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ",".join(value) or "-"
    return json.dumps(value) if isinstance(value, dict | list | bool) else str(value)


def examples(*lines: str) -> str:
    """What `--help` shows below the options, as it stands."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def instant(_context: click.Context, _option: click.Parameter, text: str | None) -> Any:
    """An option that is an RFC 3339 instant."""
    from jitway.domain.instant import parse_instant

    try:
        return None if text is None else parse_instant(text)
    except (ValueError, OverflowError):
        raise click.BadParameter("say it as 2026-01-31T12:00:00Z") from None


def with_options(
    *options: Callable[[Callable[..., Any]], Callable[..., Any]],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Several options at once, in the order in which help shows them."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
