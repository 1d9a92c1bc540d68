"""`keys.py`: `jitway keys`: API keys are made, listed, rotated and revoked."""

from datetime import datetime
from typing import Any

import click

from jitway.cli.asking import (
    Words,
    as_json,
    ask,
    examples,
    instant,
    listed,
    page_options,
    told,
    why,
    with_options,
)

CANNOT_RUN = 2


@click.group(
    epilog=examples(
        "jitway keys create --scopes authorize --program prg_...",
        "jitway keys rotate key_... --until 2026-01-31T12:00:00Z",
        "jitway keys list --status good",
    )
)
def keys() -> None:
    """Make, list, rotate and revoke API keys."""


@keys.command("create", epilog=examples("jitway keys create --scopes read --name dashboard"))
@click.option("--program", help="The only program it sees (prg_...); none: all of them.")
@click.option(
    "--scopes", default="authorize,read,operate", show_default=True, help="Separated by commas."
)
@click.option("--name", type=Words("Text"), help="For people.")
@click.option("--expires-at", callback=instant, help="When it ends by itself (RFC 3339).")
@why
@as_json
def keys_create(
    program: str | None,
    scopes: str,
    name: str | None,
    expires_at: datetime | None,
    reason: str | None,
    as_json: bool,
) -> None:
    """Make a key; it is shown only once."""
    from jitway.gateway.keys import create_key

    chosen = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    made, text = ask(
        lambda postgres, clock, caller: create_key(
            postgres,
            clock,
            caller,
            scopes=chosen,
            program_id=program,
            name=name,
            expires_at=expires_at,
            reason=reason,
        ),
        missing=CANNOT_RUN,
    )
    _show_once(made, text, as_json=as_json)


@keys.command("list", epilog=examples("jitway keys list --program prg_... --json"))
@click.option("--program", help="Only keys of this program (prg_...).")
@click.option("--status", type=click.Choice(["good", "expired", "revoked"]))
@with_options(*page_options)
@as_json
def keys_list(
    program: str | None, status: str | None, limit: int, cursor: str | None, as_json: bool
) -> None:
    """List keys, the newest first, without their secrets."""
    from jitway.gateway.lists import Page, list_things

    given = {"program": program, "status": status}
    filters = {name: value for name, value in given.items() if value is not None}
    page = ask(
        lambda postgres, _clock, caller: list_things(
            postgres, caller, "keys", filters, Page(limit, cursor)
        )
    )
    columns = ("id", "name", "program", "scopes", "created_at", "expires_at", "revoked_at")
    listed(page, columns, as_json=as_json)


@keys.command("show", epilog=examples("jitway keys show key_..."))
@click.argument("key_id", metavar="ID")
@as_json
def keys_show(key_id: str, as_json: bool) -> None:
    """Show the key ID, without its secrets."""
    from jitway.gateway.keys import key

    told(ask(lambda postgres, _clock, caller: key(postgres, caller, key_id)), as_json=as_json)


@keys.command(
    "rotate", epilog=examples("jitway keys rotate key_... --until 2026-01-31T12:00:00Z --json")
)
@click.argument("key_id", metavar="ID")
@click.option(
    "--until",
    callback=instant,
    help="When the secret before ends (RFC 3339); none: in a day. An instant that has passed: now.",
)
@why
@as_json
def keys_rotate(key_id: str, until: datetime | None, reason: str | None, as_json: bool) -> None:
    """Give the key ID a new secret; the one before stays good for a while."""
    from jitway.gateway.keys import rotate_key

    made, text = ask(
        lambda postgres, clock, caller: rotate_key(
            postgres, clock, caller, key_id, until=until, reason=reason
        )
    )
    _show_once(made, text, as_json=as_json)


@keys.command("revoke", epilog=examples('jitway keys revoke key_... --reason "left the company"'))
@click.argument("key_id", metavar="ID")
@why
@as_json
def keys_revoke(key_id: str, reason: str | None, as_json: bool) -> None:
    """Revoke the key ID; every gateway refuses it within a second."""
    from jitway.cli.main import show
    from jitway.gateway.keys import revoke_key

    key = ask(
        lambda postgres, clock, caller: revoke_key(postgres, clock, caller, key_id, reason=reason)
    )
    if as_json:
        show(key)
    else:
        click.echo(f"{key['id']} was revoked at {key['revoked_at']}.")


def _show_once(made: dict[str, Any], text: str, *, as_json: bool) -> None:
    from jitway.cli.main import show

    if as_json:
        show({"id": made["id"], "key": text})
    else:
        click.echo(f"{made['id']}\n\n    {text}\n")
