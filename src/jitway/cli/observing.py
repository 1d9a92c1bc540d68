"""`observing.py`: the commands that look at what was decided, and how long it took."""

import sys
from typing import Any

import click

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.command()
@click.argument("authorization", metavar="AUTHORIZATION")
@as_json
def why(authorization: str, as_json: bool) -> None:
    """Explain a decision: its rules, what they saw, and what became of the money."""
    from jitway.cli.main import FAILED, fail, ourselves, read_settings, run, show
    from jitway.cli.why import told
    from jitway.compose import ledger
    from jitway.errors import NotFound
    from jitway.gateway.explain import explained
    from jitway.sql.migrate import check_schema

    settings = read_settings()

    async def work() -> dict[str, Any] | None:
        async with ledger(settings) as postgres:
            await check_schema(postgres)
            try:
                return await explained(postgres, ourselves(), authorization)
            except NotFound:
                return None

    found = run(settings, work)
    if found is None:
        fail(f"there is no authorization {authorization}", FAILED)
    if as_json:
        show(found)
    else:
        click.echo(told(found))


@click.command()
@click.option("--url", help="Of the gateway; none: the one that the settings name.")
@click.option("--key", envvar="JITWAY_KEY", show_envvar=True, help="A key of the operator.")
@click.option("--window", type=click.Choice(["minute", "hour", "start"]), help="Of which time.")
@click.option("--watch", is_flag=True, help="Go on until Ctrl-C.")
@as_json
def profile(
    url: str | None, key: str | None, window: str | None, watch: bool, as_json: bool
) -> None:
    """Show where the milliseconds of a running gateway go, stage by stage."""
    from jitway.cli.main import CANNOT_RUN, fail, read_settings
    from jitway.cli.profile import CannotAsk, address_of, play

    if not key:
        fail("say which key to ask with: --key, or JITWAY_KEY", CANNOT_RUN)
    if url is None:
        settings = read_settings()
        try:
            url = address_of(settings)
        except CannotAsk as error:
            fail(str(error), CANNOT_RUN)
    sys.exit(play(url, key=key, window=window, watch=watch, as_json=as_json))
