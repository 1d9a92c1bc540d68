"""`operations.py`: every route with what it takes and answers; a test holds it to the route table.

Bodies are the ones that decode requests, so the forms cannot differ.
"""

from dataclasses import dataclass
from typing import Any

from jitway.archive.store import AUTHORIZATIONS, TRANSACTIONS, WEBHOOKS, Collection
from jitway.client.documents import (
    Account,
    Authorization,
    Card,
    Cardholder,
    Owner,
    Page,
    Program,
    Transfer,
)
from jitway.gateway.lists import LISTS
from jitway.gateway.states import TURNS
from jitway.web.openapi.answers import (
    Act,
    Anything,
    DeadLetter,
    Headroom,
    Health,
    Key,
    NewKey,
    Status,
    Webhook,
)
from jitway.wire import administration, bodies, native

REQUIRED, OPTIONAL = "required", "optional"
PAGING = ("limit", "cursor")
TIMES = ("from", "to")

_KEY_UNLESS_TRIED = "The Idempotency-Key is required, unless dry_run is true."
_SIGNED = (
    "Instead of an API key, a source whose secret the gateway has signs what it sends, in the "
    "headers webhook-id, webhook-timestamp and webhook-signature (Standard Webhooks)."
)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    Args:
        summary: a few words.
        tag: the part of the API it belongs to.
        answer: the form of its good answer; None where that is text.
        status: of its good answer.
        body: what it takes: a form, `dict` for any object, `str` for a file of lines.
        query: its parameters.
        key: whether an `Idempotency-Key` is `required`, `optional` or of no meaning.
        note: what the forms cannot say.
        is_open: whether nobody needs an API key.
        may_be_unready: whether 503 is an answer of the same form.
    """

    summary: str
    tag: str
    answer: Any
    status: int = 200
    body: Any = None
    query: tuple[str, ...] = ()
    key: str = ""
    note: str = ""
    is_open: bool = False
    may_be_unready: bool = False


_MADE = {"programs": Program, "cardholders": Cardholder, "accounts": Account, "cards": Card}
_CREATED = {
    "programs": bodies.Program,
    "cardholders": bodies.Cardholder,
    "accounts": bodies.Account,
    "cards": bodies.Card,
}
_CHANGED = {
    "programs": administration.ProgramChange,
    "cardholders": administration.CardholderChange,
    "accounts": administration.AccountChange,
    "cards": administration.CardChange,
}
_CARD_TURNS = ("freeze", "unfreeze", "close")

Operations = dict[tuple[str, str], Operation]


def _page_of(form: Any) -> Any:
    return Page[form]


def _authorizations() -> Operations:
    tag, path = "Authorizations", "/v1/authorizations"
    filters = ("card", "account", "decision", "reason", *TIMES, *PAGING)
    return {
        (path, "POST"): Operation(
            "May this be funded?", tag, Authorization, body=native.AuthorizationBody, key=REQUIRED
        ),
        (path, "GET"): Operation(
            "Authorizations, the newest first", tag, Page[Authorization], query=filters
        ),
        (f"{path}/{{id}}", "GET"): Operation("One, and why", tag, Authorization),
        (f"{path}/{{id}}/captures", "POST"): Operation(
            "Take reserved money", tag, Transfer, 201, body=bodies.Capture, key=REQUIRED
        ),
        (f"{path}/{{id}}/reversals", "POST"): Operation(
            "Release reserved money", tag, Transfer, 201, body=bodies.Reversal, key=REQUIRED
        ),
    }


def _things() -> Operations:
    found: Operations = {}
    for kind, form in _MADE.items():
        tag, path, one = kind.capitalize(), f"/v1/{kind}", kind[:-1]
        query = (*LISTS[kind].filters, "program", *PAGING)
        found |= {
            (path, "POST"): Operation(
                f"Make a {one}", tag, form, 201, body=_CREATED[kind], key=OPTIONAL
            ),
            (path, "GET"): Operation(
                f"All {kind}, the newest first", tag, _page_of(form), query=query
            ),
            (f"{path}/{{id}}", "GET"): Operation(f"A {one} as it is now", tag, form),
            (f"{path}/{{id}}", "PATCH"): Operation(
                f"Change a {one}", tag, form, body=_CHANGED[kind], key=OPTIONAL
            ),
        }
        for verb in TURNS[one] if one in TURNS else _CARD_TURNS:  # noqa: SIM401 there, one is a Kind
            found[f"{path}/{{id}}/{verb}", "POST"] = Operation(
                f"{verb.capitalize()} a {one}", tag, form, body=bodies.CardState, key=OPTIONAL
            )
    return found


def _controls() -> Operations:
    found: Operations = {}
    for kind in ("programs", "cardholders", "cards"):
        path, tag = f"/v1/{kind}/{{id}}/controls", kind.capitalize()
        found[path, "GET"] = Operation("Controls, and what is used of them", tag, Headroom)
        found[path, "PUT"] = Operation(
            "Replace the controls", tag, Owner, body=bodies.Controls, key=OPTIONAL
        )
    return found


def _money() -> Operations:
    path, tag = "/v1/accounts/{id}", "Accounts"
    return {
        (f"{path}/{name}s", "POST"): Operation(
            f"A {name}", tag, Transfer, 201, body=bodies.Movement, key=REQUIRED
        )
        for name in ("deposit", "withdrawal")
    }


def _keys() -> Operations:
    path, tag = "/v1/keys", "Keys and audit"
    query = (*LISTS["keys"].filters, "program", *PAGING)
    acts = ("program", "subject", "actor", "action", *TIMES, *PAGING)
    return {
        (path, "GET"): Operation("All keys, without secrets", tag, Page[Key], query=query),
        (path, "POST"): Operation("Make a key", tag, NewKey, 201, body=administration.Key),
        (f"{path}/{{id}}", "GET"): Operation("A key without its secret", tag, Key),
        (f"{path}/{{id}}/rotate", "POST"): Operation(
            "Give a key a second secret", tag, NewKey, 201, body=administration.Rotation
        ),
        (f"{path}/{{id}}/revoke", "POST"): Operation(
            "Revoke a key", tag, Key, body=bodies.CardState
        ),
        ("/v1/audit", "GET"): Operation("Who did what, and why", tag, Page[Act], query=acts),
    }


def _bulk() -> Operations:
    query = ("program", "dry_run", "strict", "reason")
    return {
        (f"/v1/bulk/{kind}", "POST"): Operation(
            summary, "Bulk", Anything, body=str, query=query, key=OPTIONAL, note=note
        )
        for kind, summary, note in (
            ("cards", "Cards, with what they need, from a file of lines", ""),
            ("funding", "Deposits from a file of lines", _KEY_UNLESS_TRIED),
        )
    }


def _operators() -> Operations:
    letters, tag = "/v1/dead-letters", "Operation"
    found: Operations = {
        (letters, "GET"): Operation(
            "What could not be handled", tag, Page[DeadLetter], query=("queue", *PAGING)
        ),
        (f"{letters}/{{id}}", "GET"): Operation("One, whole", tag, DeadLetter, query=("queue",)),
        ("/v1/profile", "GET"): Operation("Where the milliseconds go", tag, Anything),
        ("/v1/webhooks/{source}", "POST"): Operation(
            "Take in a webhook", tag, Webhook, body=dict, key=OPTIONAL, note=_SIGNED
        ),
    }
    for act in ("replay", "discard"):
        found[f"{letters}/{{id}}/{act}", "POST"] = Operation(
            f"{act.capitalize()} one", tag, DeadLetter, body=bodies.CardState, query=("queue",)
        )
    for collection in (AUTHORIZATIONS, TRANSACTIONS, WEBHOOKS):
        found[f"/v1/archive/{collection.name}", "GET"] = _archive(collection)
    return found


def _archive(collection: Collection) -> Operation:
    query = (*sorted(collection.filters), "program", *TIMES, *PAGING)
    return Operation(f"Search the {collection.name}", "Archive", Page[Anything], query=query)


def _probes() -> Operations:
    tag = "Probes"
    return {
        ("/health", "GET"): Operation(
            "How every service is", tag, Health, is_open=True, may_be_unready=True
        ),
        ("/ready", "GET"): Operation(
            "Whether to send requests", tag, Status, is_open=True, may_be_unready=True
        ),
        ("/live", "GET"): Operation("Whether the process answers", tag, Status, is_open=True),
        ("/metrics", "GET"): Operation("For Prometheus", tag, None, is_open=True),
    }


OPERATIONS: Operations = {
    **_authorizations(),
    **_things(),
    **_controls(),
    **_money(),
    **_keys(),
    **_bulk(),
    **_operators(),
    **_probes(),
}
