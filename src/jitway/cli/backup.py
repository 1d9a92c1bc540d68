"""`backup.py`: `jitway backup` and `restore`: the embedded ledger to a directory, and back."""

import asyncio
import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from jitway.settings import Settings

FAILED, CANNOT_RUN = 1, 2
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--prove/--no-prove", default=True, show_default=True, help="Restore and verify it.")
@as_json
def backup(directory: Path, prove: bool, as_json: bool) -> None:
    """Copy the embedded ledger to DIRECTORY, while it serves.

    The copy is restored to a place of its own and its books are verified before it counts. With
    DATABASE_URL use the tools of your PostgreSQL.
    """
    from jitway.cli.main import fail, read_settings, run, show
    from jitway.embedded.backup import write_backup

    settings = _embedded(read_settings())
    on_progress = _counter() if sys.stderr.isatty() and not as_json else None

    async def work() -> dict[str, Any]:
        size = await write_backup(settings.data_dir, directory, on_progress=on_progress)
        return {"directory": str(directory), "bytes": size, "verify": None}

    done = run(settings, work)
    if prove:
        done["verify"] = _prove(settings, directory)
        if not done["verify"]["ok"]:
            fail(f"the books in {directory} are wrong: `jitway verify` says more", FAILED)
    if as_json:
        show(done)
        return
    click.echo(f"{directory}: {done['bytes'] / 1e6:,.1f} MB")
    if prove:
        click.echo("Restored to a place of its own and verified: the books are right.")


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@as_json
def restore(directory: Path, as_json: bool) -> None:
    """Make the backup in DIRECTORY the embedded ledger; there must be none yet."""
    from jitway.cli.main import fail, read_settings, run, show
    from jitway.embedded.backup import put_back

    settings = _embedded(read_settings())
    run(settings, lambda: put_back(directory, settings.data_dir))
    books = _books(settings)
    if as_json:
        show({"data_dir": str(settings.data_dir), "verify": books})
    if not books["ok"]:
        fail("it was restored, and its books are wrong: `jitway verify` says more", FAILED)
    if not as_json:
        click.echo(f"Restored to {settings.data_dir}; the books are right.")
        click.echo("Next: jitway archive rebuild, then jitway serve")


def _embedded(settings: "Settings") -> "Settings":
    from jitway.cli.main import fail

    if settings.database_url:
        fail(
            "DATABASE_URL is set, so the ledger is in a PostgreSQL of yours: use pg_basebackup, "
            "pg_dump or the snapshots of your provider",
            CANNOT_RUN,
        )
    return settings


def _prove(settings: "Settings", directory: Path) -> dict[str, Any]:
    from jitway.cli.main import run
    from jitway.embedded import stop_left_behind
    from jitway.embedded.backup import put_back

    place = run(settings, lambda: asyncio.to_thread(_place_of_proof, settings.data_dir))
    private = dataclasses.replace(settings, data_dir=place)
    try:
        run(private, lambda: put_back(directory, place))
        return _books(private)
    finally:
        try:
            run(private, lambda: stop_left_behind(place))
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _place_of_proof(data_dir: Path) -> Path:
    """An empty directory beside the ledger, where its server can reach the extracted copy."""
    from jitway.embedded import reachable_data_dir
    from jitway.embedded.places import explained

    beside = reachable_data_dir(data_dir, "backup")
    try:
        beside.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix="proof-", dir=beside))
        place.chmod(0o711)
    except OSError as error:
        raise explained(error, beside) from error
    return place


def _books(settings: "Settings") -> dict[str, Any]:
    from jitway.cli.main import run
    from jitway.compose import ledger
    from jitway.ledger.audit import verify

    async def work() -> Mapping[str, Any]:
        async with ledger(settings) as postgres:
            return (await verify(postgres)).document()

    return dict(run(settings, work))


def _counter() -> Any:
    def tell(size: int) -> None:
        click.echo(f"\r{size / 1e6:,.0f} MB", nl=False, err=True)

    return tell
