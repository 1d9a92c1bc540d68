"""`dashboard.py`: `jitway dashboard-link`: a way into the live page without typing a key."""

import sys
from typing import Any

import click

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.command("dashboard-link")
@click.option("--url", help="Of the gateway; none: the one that the settings name.")
@click.option("--key-id", metavar="ID", help="Whose rights it gives; none: the operator's newest.")
@click.option(
    "--minutes", type=click.IntRange(1, 1440), default=10, show_default=True, help="Good so long."
)
@as_json
def dashboard_link(url: str | None, key_id: str | None, minutes: int, as_json: bool) -> None:
    """Print an address of the live page that lets one browser in, once."""
    from jitway.cli.main import CANNOT_RUN, FAILED, fail, read_settings, run, show
    from jitway.cli.profile import CannotAsk, address_of
    from jitway.compose import ledger
    from jitway.errors import NotFound
    from jitway.gateway.sessions import link_address, make_login_link
    from jitway.sql.migrate import check_schema

    settings = read_settings()
    if url is None:
        try:
            url = address_of(settings)
        except CannotAsk as error:
            fail(str(error), CANNOT_RUN)

    async def work() -> dict[str, Any] | None:
        async with ledger(settings) as postgres:
            await check_schema(postgres)
            try:
                token, caller = await make_login_link(postgres, key_id, ttl_s=minutes * 60.0)
            except NotFound:
                return None
        return {"url": link_address(url, token), "key": caller.key_id, "minutes": minutes}

    made = run(settings, work)
    if made is None:
        fail("no such key may look at the page: `jitway keys create --scopes read`", FAILED)
    if as_json:
        show(made)
        return
    click.echo(made["url"])
    if sys.stdout.isatty():
        click.echo(f"Good once, for {minutes} minutes, with the rights of {made['key']}.", err=True)
