"""`main.py`: the commands. Parsing and printing only; what they do stands in the rooms below.

Exit codes are part of the surface: 0 done, 1 the thing is not so, 2 wrong use or cannot run;
`serve` says 1 when it cannot start. An expected failure is one sentence, never a traceback.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from jitway import __version__
from jitway.cli.administration import accounts, audit, cardholders, cards, programs
from jitway.cli.backup import backup, restore
from jitway.cli.bulk import bulk
from jitway.cli.dashboard import dashboard_link
from jitway.cli.events import dead_letters, work
from jitway.cli.keys import keys
from jitway.cli.observing import profile, why

if TYPE_CHECKING:
    from jitway.gateway.caller import Caller
    from jitway.settings import Settings

FAILED, CANNOT_RUN = 1, 2

Result = TypeVar("Result")

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="jitway")
def main() -> None:
    """jitway: a self-hosted JIT funding gateway for card programs.

    `jitway init` once, then `jitway serve`. Nothing else has to be configured; `jitway settings`
    lists what can be.
    """


for group in (programs, cardholders, accounts, cards, keys, bulk, audit):
    main.add_command(group)
main.add_command(backup)
main.add_command(restore)
main.add_command(profile)
main.add_command(why)
main.add_command(dashboard_link)


def read_settings(failure_code: int = CANNOT_RUN, **given: Any) -> "Settings":
    """The settings, or the end of this command with one sentence."""
    from jitway.errors import SettingsError
    from jitway.settings import load

    try:
        return load(**given)
    except SettingsError as error:
        fail(str(error), failure_code)


def run(
    settings: "Settings", work: Callable[[], Coroutine[Any, Any, Result]], code: int = CANNOT_RUN
) -> Result:
    """Runs the work of one command; a failure that is expected ends it with one sentence."""
    from jitway.cli.logs import configure
    from jitway.errors import JitwayError

    # What a command has to say, it prints; the log is for what went wrong.
    level = "debug" if settings.log_level == "debug" else "error"
    lines = configure(level=level, form=settings.log_format)
    try:
        return asyncio.run(work())
    except JitwayError as error:
        lines.close()
        fail(str(error), code)
    finally:
        lines.close()


def fail(sentence: str, code: int) -> NoReturn:
    """Ends this command with one sentence on standard error."""
    click.echo(f"jitway: {' '.join(sentence.split())}", err=True)
    sys.exit(code)


def show(document: Any) -> None:
    """Prints one JSON document."""
    click.echo(json.dumps(document, indent=2 if sys.stdout.isatty() else None))


def ourselves() -> "Caller":
    """The caller of everything that is done from this machine's command line."""
    from jitway.gateway.caller import Caller
    from jitway.gateway.keys import SCOPES

    return Caller("cli", None, frozenset(SCOPES))


@main.command()
@as_json
def init(as_json: bool) -> None:
    """Make the database and the first key. Again changes nothing."""
    from jitway.clock import SystemClock
    from jitway.compose import database_shown, ledger
    from jitway.gateway.keys import SCOPES, create_key, list_keys
    from jitway.sql.migrate import migrate as apply_migrations

    settings = read_settings()

    async def work() -> dict[str, Any]:
        async with ledger(settings) as postgres:
            migrations = await apply_migrations(postgres)
            key, scopes = None, []
            if not await list_keys(postgres, ourselves()):
                made, key = await create_key(
                    postgres, SystemClock(), ourselves(), scopes=SCOPES, reason="jitway init"
                )
                scopes = made["scopes"]
            return {
                "key": key,
                "scopes": scopes,
                "database": database_shown(settings),
                "migrations": migrations,
            }

    done = run(settings, work)
    if as_json:
        show(done)
        return
    for name in done["migrations"]:
        click.echo(f"applied {name}")
    if done["key"] is None:
        click.echo(
            "A key exists already and is shown only once: nothing was changed. "
            "`jitway keys create` makes another."
        )
        return
    click.echo(f"The operator's key, shown only now:\n\n    {done['key']}\n")
    click.echo("Next: jitway serve")


@main.command()
@as_json
def migrate(as_json: bool) -> None:
    """Bring the database to the schema of this release."""
    from jitway.compose import ledger
    from jitway.sql.migrate import migrate as apply_migrations

    settings = read_settings()

    async def work() -> list[str]:
        async with ledger(settings) as postgres:
            return await apply_migrations(postgres)

    applied = run(settings, work)
    if as_json:
        show({"applied": applied})
        return
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo("Nothing to apply.")


@main.command()
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 takes a free one.")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes behind the one port.")
@click.option("--tls-cert", type=_FILE, help="Certificate (PEM): serves HTTPS.")
@click.option("--tls-key", type=_FILE, help="Its key (PEM).")
def serve(
    host: str | None,
    port: int | None,
    workers: int | None,
    tls_cert: Path | None,
    tls_key: Path | None,
) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    given: dict[str, Any] = {"host": host, "port": port, "workers": workers}
    given |= {"tls_cert": tls_cert, "tls_key": tls_key}
    settings = read_settings(
        FAILED, **{name: value for name, value in given.items() if value is not None}
    )
    if settings.workers == 1:
        from jitway.cli.serve import serve_until_stopped

        sys.exit(serve_until_stopped(settings))
    from jitway.cli.workers import supervise_until_stopped

    sys.exit(supervise_until_stopped(settings))


@main.command()
@as_json
def verify(as_json: bool) -> None:
    """Prove the books from the rows. Exits 1 when something is wrong, 2 when it cannot tell."""
    from jitway.compose import ledger
    from jitway.ledger.audit import Report
    from jitway.ledger.audit import verify as prove
    from jitway.sql.migrate import check_schema

    settings = read_settings()

    async def work() -> Report:
        async with ledger(settings) as postgres:
            await check_schema(postgres)
            return await prove(postgres)

    report = run(settings, work)
    if as_json:
        show(report.document())
    else:
        for invariant, rows in report.checked.items():
            click.echo(f"{invariant:<32} {rows:>12,} rows")
        for violation in report.violations:
            click.echo(f"VIOLATED {violation.invariant} {violation.subject}: {violation.detail}")
        for invariant, count in report.omitted.items():
            click.echo(f"VIOLATED {invariant}: {count:,} more")
        click.echo("The books are right." if report.ok else "The books are WRONG.")
    sys.exit(0 if report.ok else FAILED)


@main.command()
def stop() -> None:
    """End what an earlier, killed run left behind; the data stays."""
    from jitway.embedded import LeftBehind, stop_left_behind

    settings = read_settings()
    if settings.database_url:
        click.echo("DATABASE_URL is set: no PostgreSQL of jitway's own to stop.")
        return
    found = run(settings, lambda: stop_left_behind(settings.data_dir))
    if found is LeftBehind.IN_USE:
        fail("a jitway is running on this data; stop it with SIGTERM or Ctrl-C", FAILED)
    stopped = found is LeftBehind.STOPPED
    click.echo("Stopped the embedded PostgreSQL." if stopped else "Nothing was left behind.")


@main.command()
@as_json
def doctor(as_json: bool) -> None:
    """Look at every store and say what is wrong. Exits 1 when something is."""
    from jitway.cli.doctor import document, is_right, plan_of, tell
    from jitway.doctor import examine

    settings = read_settings()
    seen = run(settings, lambda: examine(plan_of(settings)))
    if as_json:
        show(document(settings, seen))
    else:
        tell(settings, seen)
    sys.exit(0 if is_right(seen) else FAILED)


@main.group()
def archive() -> None:
    """What happened, kept for people: searched at GET /v1/archive, made from the ledger."""


@archive.command("rebuild")
@as_json
def archive_rebuild(as_json: bool) -> None:
    """Make the archive equal to the ledger, while both are in use."""
    from jitway.cli.archive import rebuild_archive, tell

    settings = read_settings()
    done = run(settings, lambda: rebuild_archive(settings))
    if as_json:
        show(done)
    else:
        tell(done)


@main.command()
@click.argument("url")
@click.option("--key", required=True, help="An API key with the scopes authorize and operate.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), default=100.0, show_default=True)
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=20.0, show_default=True)
@click.option("--seed", type=int, help="The same seed draws the same traffic.")
@as_json
def simulate(
    url: str, key: str, rate: float, seconds: float, seed: int | None, as_json: bool
) -> None:
    """Send realistic card traffic to the gateway at URL, open loop."""
    from jitway.cli.simulation import play

    sys.exit(play(url, key=key, rate=rate, seconds=seconds, seed=seed, as_json=as_json))


@main.command()
@click.option("--env", "form", flag_value="env", help="Print the text of .env.example.")
@click.option("--markdown", "form", flag_value="markdown", help="Print the table of the docs.")
@as_json
def settings(form: str | None, as_json: bool) -> None:
    """Show every setting: its value, where it came from, and what it means."""
    from jitway.settings import env_example, markdown_table

    if form is not None:
        click.echo(env_example() if form == "env" else markdown_table(), nl=False)
        return
    rows = read_settings().shown()
    if as_json:
        show({row.name: {"value": value, "source": source} for row, value, source in rows})
        return
    for row, value, source in rows:
        click.echo(f"{row.name} = {value or '(not set)'}  [{source}]\n    {row.meaning}")


main.add_command(work)
main.add_command(dead_letters)
