"""`bulk.py`: `jitway bulk`: cards and funding from files, with progress and a report by line."""

import json
import sys
from collections.abc import Callable
from typing import IO, Any

import click

from jitway.cli.asking import as_json, ask, examples, why, with_options

_FORMS = {"csv": "csv", "ndjson": "ndjson", "jsonl": "ndjson"}
_BYTES_MAX = 64 * 1024 * 1024
# Of failed lines on a terminal; `--json` has all of them.
_SHOWN_MAX = 20


@click.group(
    epilog=examples(
        "jitway bulk cards new-cards.csv --program prg_... --dry-run",
        "jitway bulk funding payday.ndjson --program prg_... --json",
    )
)
def bulk() -> None:
    """Make cards and move money from files: CSV or NDJSON, one thing to do on each line."""


_options = with_options(
    click.argument("file", type=click.File("rb")),
    click.option("--program", required=True, help="prg_..., of everything in the file."),
    click.option("--format", "form", type=click.Choice(["csv", "ndjson"]), help="As it is named."),
    click.option("--dry-run", is_flag=True, help="Do all of it, undo it, and report."),
    click.option(
        "--strict",
        is_flag=True,
        help="Try the whole file first and do nothing unless every line can be done; then do it in"
        " chunks of 200 lines, and stop at the first chunk in which a line is refused after all.",
    ),
    why,
    as_json,
)


@bulk.command("cards", epilog=examples("jitway bulk cards new-cards.csv --program prg_..."))
@_options
def bulk_cards(file: IO[bytes], as_json: bool, **options: Any) -> None:
    """Make a card for each line of FILE, with cardholder and account where they are missing.

    Columns: external_id; cardholder or cardholder_external_id; cardholder_name, account, currency,
    credit_line, last4 where wanted. A card that is there stays as it is.
    """
    from jitway.gateway.bulk_cards import CardWork

    _take(CardWork(), file, as_json=as_json, **options)


@bulk.command("funding", epilog=examples("jitway bulk funding payday.csv --program prg_..."))
@_options
def bulk_funding(file: IO[bytes], as_json: bool, **options: Any) -> None:
    """Deposit money for each line of FILE; a line with a key that was done is not done again.

    Columns: key, amount; account or card_external_id; description where wanted.
    """
    from jitway.gateway.bulk_funding import FundingWork

    _take(FundingWork(), file, as_json=as_json, **options)


def _take(
    work: Any,
    file: IO[bytes],
    *,
    program: str,
    form: str | None,
    dry_run: bool,
    strict: bool,
    reason: str | None,
    as_json: bool,
) -> None:
    from jitway.cli.main import CANNOT_RUN, FAILED, show
    from jitway.gateway.bulk import answer_file
    from jitway.gateway.bulk_lines import Line, Ordered
    from jitway.wire.bulk import read_lines

    form = form or _form_of(getattr(file, "name", ""))
    raw = _read(file)
    ordered = Ordered(program, dry_run, strict, reason)

    async def verb(postgres: Any, clock: Any, caller: Any) -> Any:
        lines = [Line(*one) for one in read_lines(work.kind, form, raw)]
        return await answer_file(
            postgres, clock, caller, work, lines, ordered, progress=_progress()
        )

    report = json.loads(ask(verb, missing=CANNOT_RUN).body)
    if as_json:
        show(report)
    else:
        _tell(report)
    sys.exit(FAILED if report["failed"] else 0)


def _form_of(name: str) -> str:
    form = _FORMS.get(name.rpartition(".")[2].lower())
    if form is None:
        raise click.UsageError("say --format csv or --format ndjson")
    return form


def _read(file: IO[bytes]) -> bytes:
    raw = file.read(_BYTES_MAX + 1)
    if len(raw) > _BYTES_MAX:
        raise click.UsageError(f"a file has at most {_BYTES_MAX:,} bytes: send it in parts")
    return raw


def _progress() -> Callable[[int, int], None]:
    """One line on standard error: rewritten on a terminal, else a new one now and then."""
    terminal = sys.stderr.isatty()
    next_at = 0

    def tell(done: int, of: int) -> None:
        nonlocal next_at
        if terminal:
            click.echo(f"\r{done:,} of {of:,} lines", err=True, nl=done == of)
        elif done >= next_at or done == of:
            click.echo(f"{done:,} of {of:,} lines", err=True)
            next_at = done + 2_000

    return tell


def _tell(report: dict[str, Any]) -> None:
    failed = [line for line in report["data"] if line["outcome"] == "failed"]
    for line in failed[:_SHOWN_MAX]:
        error = line["error"]
        field = f" ({error['field']})" if error["field"] else ""
        click.echo(f"line {line['line']}: {error['detail']}{field}")
    if len(failed) > _SHOWN_MAX:
        click.echo(f"... and {len(failed) - _SHOWN_MAX:,} more: --json has all of them")
    made, unchanged = report["made"], report["unchanged"]
    if report["dry_run"]:
        click.echo(f"Would make {made:,}; {unchanged:,} are there already; {len(failed):,} cannot.")
    elif not report["applied"]:
        click.echo(f"Nothing was done: {len(failed):,} of {report['lines']:,} lines cannot be.")
    else:
        left_out = f"; {report['left_out']:,} left out" if report["left_out"] else ""
        click.echo(
            f"Made {made:,}; {unchanged:,} were there already; {len(failed):,} failed{left_out}."
        )
