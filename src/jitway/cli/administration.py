"""`administration.py`: `jitway programs`, `cardholders`, `accounts`, `cards` and `audit`.

The same verbs as over HTTP, by whoever may reach the database. Parsing and printing only.
"""

import secrets
from collections.abc import Callable
from datetime import datetime
from typing import IO, Any

import click

from jitway.cli.asking import (
    Words,
    answered,
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
_PREFIXES = {"program": "prg", "cardholder": "chd", "account": "acc", "card": "crd"}
_COLUMNS = {
    "program": ("id", "status", "currency", "time_zone", "name"),
    "cardholder": ("id", "status", "program", "external_id", "name"),
    "account": ("id", "status", "cardholder", "currency", "posted", "held", "available"),
    "card": ("id", "status", "cardholder", "account", "external_id", "last4"),
}
_STATUSES = {
    "program": ("active", "suspended", "closed"),
    "cardholder": ("active", "suspended", "closed"),
    "account": ("active", "frozen", "closed"),
    "card": ("active", "frozen", "closed"),
}
_FILTERS = {
    "program": (),
    "cardholder": ("program", "external_id"),
    "account": ("program", "cardholder", "currency"),
    "card": ("program", "cardholder", "account", "external_id"),
}
_TURNS = {
    "program": ("suspend", "resume", "close"),
    "cardholder": ("suspend", "resume", "close"),
    "account": ("freeze", "unfreeze", "close"),
    "card": ("freeze", "unfreeze", "close"),
}
_MEANINGS = {
    "suspend": "Let nothing more be approved on the {} ID.",
    "freeze": "Let nothing more be approved on the {} ID.",
    "resume": "Let the {} ID spend again.",
    "unfreeze": "Let the {} ID spend again.",
    "close": "Close the {} ID for good.",
}
# What may be changed, by the option and the field.
_CHANGES = {
    "program": ("name",),
    "cardholder": ("external_id", "name"),
    "account": ("credit_line",),
    "card": ("external_id", "last4", "valid_from", "valid_until"),
}
_VALIDITY = {"valid_from", "valid_until"}
_WITH_CONTROLS = ("program", "cardholder", "card")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _group(kind: str) -> click.Group:
    """What all four have: list, show, change, their states and their controls."""
    prefix = _PREFIXES[kind]
    group = click.Group(
        f"{kind}s",
        help=f"Make, list, show and change {kind}s.",
        epilog=examples(
            f"jitway {kind}s list --limit 10", f"jitway {kind}s show {prefix}_... --json"
        ),
    )
    group.add_command(_list(kind))
    group.add_command(_show(kind))
    group.add_command(_change(kind))
    for verb in _TURNS[kind]:
        group.add_command(_turn(kind, verb))
    if kind in _WITH_CONTROLS:
        group.add_command(_controls(kind))
    return group


def _list(kind: str) -> click.Command:
    filters = [
        click.option(_option(name), help=f"Only with this {name.replace('_', ' ')}.")
        for name in _FILTERS[kind]
    ]
    status = click.option("--status", type=click.Choice(_STATUSES[kind]))

    @click.command("list", epilog=examples(f"jitway {kind}s list --status active --json"))
    @with_options(*filters, status, *page_options)
    @as_json
    def command(limit: int, cursor: str | None, as_json: bool, **given: str | None) -> None:
        from jitway.gateway.lists import Page, list_things

        chosen = {name: value for name, value in given.items() if value is not None}
        page = ask(
            lambda postgres, _clock, caller: list_things(
                postgres, caller, f"{kind}s", chosen, Page(limit, cursor)
            )
        )
        listed(page, _COLUMNS[kind], as_json=as_json)

    command.help = f"List {kind}s, the newest first."
    return command


def _show(kind: str) -> click.Command:
    @click.command("show", epilog=examples(f"jitway {kind}s show {_PREFIXES[kind]}_... --json"))
    @click.argument("id_", metavar="ID")
    @as_json
    def command(id_: str, as_json: bool) -> None:
        from jitway.gateway import read

        look: Callable[..., Any] = getattr(read, kind)
        told(ask(lambda postgres, _clock, caller: look(postgres, caller, id_)), as_json=as_json)

    command.help = f"Show the {kind} ID as it is now."
    return command


def _change(kind: str) -> click.Command:
    fields = _CHANGES[kind]
    options = [
        click.option(_option(name), type=int if name == "credit_line" else str) for name in fields
    ]
    optional = [name for name in fields if kind in ("cardholder", "card")]
    clear = click.option(
        "--clear",
        multiple=True,
        type=click.Choice([name.replace("_", "-") for name in optional]),
        help="Take this value away.",
    )
    sample = f"{_option(fields[0])} {'5000' if fields[0] == 'credit_line' else 'NEW'}"

    @click.command(
        "change", epilog=examples(f"jitway {kind}s change {_PREFIXES[kind]}_... {sample}")
    )
    @click.argument("id_", metavar="ID")
    @with_options(*options, *([clear] if optional else []), why)
    @as_json
    def command(
        id_: str, reason: str | None, as_json: bool, clear: tuple[str, ...] = (), **given: Any
    ) -> None:
        from jitway.gateway.changes import change

        changes = {name: value for name, value in given.items() if value is not None}
        changes |= {name.replace("-", "_"): None for name in clear}
        thing = answered(
            lambda postgres, clock, caller: change(
                postgres, clock, caller, kind, id_, _checked(kind, changes), reason=reason
            )
        )
        told(thing, as_json=as_json)

    command.help = f"Change the {kind} ID; what is not named stays as it is."
    return command


def _checked(kind: str, changes: dict[str, Any]) -> dict[str, Any]:
    """The changes, in the forms that HTTP takes."""
    import msgspec

    from jitway.wire import administration
    from jitway.wire.bodies import decode_body

    form: type[administration.Change] = getattr(administration, f"{kind.capitalize()}Change")
    return decode_body(form, msgspec.json.encode(changes)).changes()


def _turn(kind: str, verb: str) -> click.Command:
    example = f"jitway {kind}s {verb} {_PREFIXES[kind]}_..."

    @click.command(verb, epilog=examples(f'{example} --reason "reported lost"'))
    @click.argument("id_", metavar="ID")
    @why
    @as_json
    def command(id_: str, reason: str | None, as_json: bool) -> None:
        from jitway.gateway import administer, states

        async def change_state(postgres: Any, clock: Any, caller: Any) -> Any:
            if kind == "card":
                change = getattr(administer, f"{verb}_card")
                return await change(postgres, clock, caller, id_, reason=reason)
            of: Any = kind
            return await states.turn(postgres, clock, caller, of, id_, verb, reason=reason)

        thing = answered(change_state)
        told(thing, as_json=as_json)

    command.help = _MEANINGS[verb].format(kind)
    return command


def _controls(kind: str) -> click.Command:
    example = f"jitway {kind}s controls {_PREFIXES[kind]}_..."

    @click.command("controls", epilog=examples(f"{example} controls.json", f"{example} -"))
    @click.argument("id_", metavar="ID")
    @click.argument("file", type=click.File("rb"))
    @why
    @as_json
    def command(id_: str, file: IO[bytes], reason: str | None, as_json: bool) -> None:
        from jitway.gateway.controls import set_controls
        from jitway.wire.bodies import Controls, controls_of, decode_body

        raw = file.read()

        async def verb(postgres: Any, clock: Any, caller: Any) -> Any:
            controls = controls_of(decode_body(Controls, raw))
            of: Any = kind
            return await set_controls(postgres, clock, caller, of, id_, controls, reason=reason)

        told(answered(verb), as_json=as_json)

    command.help = f"Replace the controls of the {kind} ID by the JSON of FILE (- is stdin)."
    return command


programs = _group("program")
cardholders = _group("cardholder")
accounts = _group("account")
cards = _group("card")


@programs.command(
    "create",
    epilog=examples("jitway programs create --name Acme --currency USD --time-zone Europe/Paris"),
)
@click.option("--name", required=True, type=Words("Text"), help="For people.")
@click.option("--currency", required=True, help="ISO 4217, such as USD.")
@click.option("--time-zone", default="UTC", show_default=True, help="The calendar of its limits.")
@why
@as_json
def create_program(as_json: bool, **fields: Any) -> None:
    """Make a program."""
    _create("program", fields, as_json=as_json)


@cardholders.command(
    "create", epilog=examples("jitway cardholders create --program prg_... --external-id user-456")
)
@click.option("--program", required=True, help="prg_...")
@click.option("--external-id", help="Your own id; once in a program.")
@click.option("--name", type=Words("Text"), help="For people.")
@why
@as_json
def create_cardholder(as_json: bool, **fields: Any) -> None:
    """Make a cardholder."""
    _create("cardholder", fields, as_json=as_json)


@accounts.command(
    "create",
    epilog=examples("jitway accounts create --cardholder chd_... --currency USD"),
)
@click.option("--cardholder", help="chd_..., unless it is the program's own.")
@click.option("--program", help="prg_..., unless it is a cardholder's.")
@click.option("--currency", required=True, help="ISO 4217, such as USD.")
@click.option("--credit-line", type=int, default=0, help="Minor units that may be borrowed.")
@why
@as_json
def create_account(as_json: bool, **fields: Any) -> None:
    """Make a funding account."""
    _create("account", fields, as_json=as_json)


@cards.command(
    "create", epilog=examples("jitway cards create --cardholder chd_... --account acc_...")
)
@click.option("--cardholder", required=True, help="chd_...")
@click.option("--account", required=True, help="acc_..., whose money it spends.")
@click.option("--external-id", help="Your own id; once in a program.")
@click.option("--last4", help="Four digits.")
@click.option("--valid-from", help="Its first date, or an RFC 3339 instant.")
@click.option("--valid-until", help="Its last date, or an RFC 3339 instant.")
@why
@as_json
def create_card(as_json: bool, **fields: Any) -> None:
    """Make a card, active at once."""
    _create("card", fields, as_json=as_json)


def _create(kind: str, fields: dict[str, Any], *, as_json: bool) -> None:
    import msgspec

    from jitway.gateway import administer
    from jitway.wire import bodies

    given = {name: value for name, value in fields.items() if value is not None}

    async def verb(*asked: Any) -> Any:
        body = bodies.decode_body(getattr(bodies, kind.capitalize()), msgspec.json.encode(given))
        members = {name: getattr(body, name) for name in given}
        for name in _VALIDITY & members.keys():
            members[name] = bodies.validity_of(members[name], name)
        return await getattr(administer, f"create_{kind}")(*asked, None, **members)

    told(answered(verb, missing=CANNOT_RUN), as_json=as_json)


def _movement(name: str, verb_name: str, meaning: str) -> None:
    example = f"jitway accounts {name} acc_... --amount 10000"

    @accounts.command(name, help=meaning, epilog=examples(f"{example} --key payday-2026-05"))
    @click.argument("id_", metavar="ID")
    @click.option("--amount", type=click.IntRange(1), required=True, help="Minor units.")
    @click.option("--key", help="The same key moves the money once; none: every call does.")
    @click.option("--description", type=Words("LongText"), help="Kept with the transfer.")
    @why
    @as_json
    def command(id_: str, amount: int, key: str | None, as_json: bool, **words: Any) -> None:
        from jitway.gateway import fund
        from jitway.gateway.caller import Idempotency
        from jitway.wire.bodies import Movement, check_idempotency_key

        async def verb(*asked: Any) -> Any:
            body = Movement(amount, **words)
            text = check_idempotency_key(key or secrets.token_hex(16))
            idempotency = Idempotency.of(text, "CLI", f"{name} {id_}", body.canonical())
            move = getattr(fund, verb_name)
            return await move(*asked, idempotency, id_, amount=amount, **words)

        told(answered(verb), as_json=as_json)


_movement("deposit", "deposit", "Move money into the account ID.")
_movement("withdraw", "withdraw", "Move money from the account ID back to its program.")


@click.command(
    epilog=examples(
        "jitway audit --subject crd_...",
        "jitway audit --action card.frozen --from 2026-01-01T00:00:00Z --json",
    )
)
@click.option("--subject", help="The id of what was changed.")
@click.option("--actor", help="Who: key_..., cli or system.")
@click.option("--action", help="Such as card.frozen.")
@click.option("--program", help="prg_...")
@click.option("--from", "from_", callback=instant, help="At this instant or later (RFC 3339).")
@click.option("--to", callback=instant, help="Before this instant.")
@with_options(*page_options)
@as_json
def audit(
    limit: int,
    cursor: str | None,
    as_json: bool,
    from_: datetime | None,
    to: datetime | None,
    **asked: str | None,
) -> None:
    """Show who did what, before, after and why, the newest first."""
    from jitway.gateway.trail import ActsAsked, list_acts

    acts = ActsAsked(from_=from_, to=to, limit=limit, cursor=cursor, **asked)
    page = ask(lambda postgres, _clock, caller: list_acts(postgres, caller, acts))
    listed(page, ("recorded_at", "actor", "action", "subject", "reason"), as_json=as_json)
