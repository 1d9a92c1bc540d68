"""S6, generated from the route table: what belongs to another program is not there, on any route.

A new route fails here until it is said what a stranger would send to it.
"""

import json
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

import pytest

from jitway.gateway.keys import SCOPES
from jitway.web.handlers import ROUTES
from jitway.wire import administration, bodies, bulk, forms
from tests.integration.http.gateway import Gateway, Response

DEAD_LETTER = (
    "INSERT INTO dead_letter (queue, id, routing_key, body, cause, attempts, replays, history,"
    " first_failed_at, last_failed_at)"
    " VALUES ('webhook-queue', 'msg-1', 'webhook.lost', '{}', 'lost', 1, 0, '[]', now(), now())"
)
# Well formed, and nobody's.
NOBODY = "0" * 32
# A body that each writing route would take from the owner. Ids are named by what they are of.
SENT: dict[tuple[str, str], dict[str, Any] | None] = {
    ("POST", "/v1/authorizations/{id}/captures"): {"amount": 1},
    ("POST", "/v1/authorizations/{id}/reversals"): {"amount": 1},
    ("POST", "/v1/programs"): {"name": "P", "currency": "USD", "time_zone": "UTC"},
    ("PATCH", "/v1/programs/{id}"): {"name": "Q"},
    ("POST", "/v1/cardholders"): {"program": "program"},
    ("PATCH", "/v1/cardholders/{id}"): {"name": "Q"},
    ("POST", "/v1/accounts"): {"cardholder": "cardholder", "currency": "USD"},
    ("PATCH", "/v1/accounts/{id}"): {"credit_line": 1},
    ("POST", "/v1/accounts/{id}/deposits"): {"amount": 1},
    ("POST", "/v1/accounts/{id}/withdrawals"): {"amount": 1},
    ("POST", "/v1/cards"): {"cardholder": "cardholder", "account": "account"},
    ("PATCH", "/v1/cards/{id}"): {"last4": "1234"},
    ("PUT", "/v1/programs/{id}/controls"): {"limits": []},
    ("PUT", "/v1/cardholders/{id}/controls"): {"limits": []},
    ("PUT", "/v1/cards/{id}/controls"): {"limits": []},
    ("POST", "/v1/keys"): {"scopes": ["admin"], "program": "program"},
    **{
        ("POST", f"/v1/{kind}/{{id}}/{verb}"): None
        for kind, verbs in {
            "programs": ("suspend", "resume", "close"),
            "cardholders": ("suspend", "resume", "close"),
            "accounts": ("freeze", "unfreeze", "close"),
            "cards": ("freeze", "unfreeze", "close"),
            "keys": ("rotate", "revoke"),
            "dead-letters": ("replay", "discard"),
        }.items()
        for verb in verbs
    },
}
# Files, one line each; a line that cannot be is reported, and the file is answered.
FILES: dict[str, list[dict[str, Any]]] = {
    "/v1/bulk/cards": [
        {"external_id": "x", "cardholder": "cardholder"},
        {"external_id": "x", "cardholder_external_id": "h", "account": "account"},
    ],
    "/v1/bulk/funding": [{"key": "x", "account": "account", "amount": 1}],
}
# Other bodies of the same routes, for ids that stand in place of others.
SENT_TOO = {("POST", "/v1/accounts"): {"program": "program", "currency": "USD"}}
ID_FIELDS = {"program", "cardholder", "account", "card"}
# About the operator of all programs: not there for anybody else.
OPERATORS = {("GET", "/v1/profile"), ("POST", "/v1/programs")}
LISTS = {
    "/v1/authorizations",
    "/v1/programs",
    "/v1/cardholders",
    "/v1/accounts",
    "/v1/cards",
    "/v1/keys",
    "/v1/audit",
    "/v1/dead-letters",
    "/v1/archive/authorizations",
    "/v1/archive/transactions",
    "/v1/archive/webhooks",
}
FILTERS = ("program", "cardholder", "account", "card", "subject", "actor")


@dataclass
class Tenants:
    """Two programs: the things of the first, and those of the second with its keys."""

    gateway: Gateway
    theirs: dict[str, str]
    mine: dict[str, str]
    nobodys: dict[str, str]
    keys: dict[str, str]

    async def ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, scope: str = "all"
    ) -> Response:
        headers = {"Authorization": f"Bearer {self.keys[scope]}"}
        return await self.gateway.call(method, path, body, headers)

    async def send(self, path: str, line: dict[str, Any] | None) -> Response:
        """A file of one line."""
        headers = {
            "Authorization": f"Bearer {self.keys['all']}",
            "Content-Type": "application/x-ndjson",
        }
        return await self.gateway.call("POST", path, json.dumps(line).encode(), headers)


@pytest.fixture(scope="module")
async def tenants(shared: Gateway) -> Tenants:
    theirs = await owned_by(shared)
    await shared.services.postgres.execute_query(DEAD_LETTER)
    theirs |= {"dead-letter": "msg-1", "authorization": (await shared.authorize()).json["id"]}
    await shared.furnish()
    mine = await owned_by(shared)
    keys = {
        scope: await shared.new_key(*scopes, program=mine["program"])
        for scope, scopes in {"all": SCOPES, **{one: (one,) for one in SCOPES}}.items()
    }
    nobodys = {name: f"{id_.partition('_')[0]}_{NOBODY}" for name, id_ in theirs.items()}
    return Tenants(shared, theirs, mine, nobodys | {"dead-letter": "msg-2"}, keys)


async def owned_by(gateway: Gateway) -> dict[str, str]:
    """The ids of what was made last, and of a key of that program."""
    things = ("program", "cardholder", "account", "card")
    owned: dict[str, str] = {name: getattr(gateway, name)["id"] for name in things}
    admin = await gateway.new_key("admin", "operate", program=owned["program"])
    headers = {"Authorization": f"Bearer {admin}"}
    listed = (await gateway.call("GET", "/v1/keys", None, headers)).json["data"]
    return owned | {"key": listed[0]["id"]}


def noun(path: str) -> str:
    """What the id in a path is of."""
    return path.split("/")[2].removesuffix("s")


def told(response: Response, asked: str = "") -> tuple[int, dict[str, Any]]:
    """What somebody learns from a refusal, but for its request id and the id they sent."""
    problem = response.json
    del problem["request_id"]
    if asked:
        problem["detail"] = problem["detail"].replace(asked, "")
    return response.status, problem


def filled(body: dict[str, Any] | None, ids: dict[str, str]) -> dict[str, Any] | None:
    """A body with the ids that it names."""
    if body is None:
        return None
    return {name: ids[name] if name in ID_FIELDS else value for name, value in body.items()}


WITH_ID = [(method, path) for path, method, _, _ in ROUTES if "{id}" in path]
WRITING = [(method, path) for path, method, _, _ in ROUTES if method != "GET"]
WITHOUT_ID = [path for path, method, _, _ in ROUTES if method == "GET" and "{id}" not in path]


def test_every_route_is_covered() -> None:
    files = {("POST", path) for path in FILES}
    assert set(WRITING) == set(SENT) | files, "say what a stranger would send to a new route"
    lists = {path for path in WITHOUT_ID if ("GET", path) not in OPERATORS}
    assert lists == LISTS, "say that a new list is one, so that it is looked through"


def test_every_field_that_names_a_thing_is_covered() -> None:
    kinds = [kind for room in (bodies, administration, bulk) for kind in vars(room).values()]
    fields = {
        name
        for kind in kinds
        if isinstance(kind, type) and issubclass(kind, bodies.Body)
        for name, hint in get_type_hints(kind, include_extras=True).items()
        if hint == forms.Id or forms.Id in get_args(hint)
    }
    lines = [line for lines in FILES.values() for line in lines]
    sent = [body for body in (*SENT.values(), *SENT_TOO.values(), *lines) if body]
    assert fields <= {name for body in sent for name in body}
    assert fields <= ID_FIELDS


@pytest.mark.parametrize(("method", "path"), WITH_ID)
async def test_things_of_others_are_not_there(tenants: Tenants, method: str, path: str) -> None:
    before = await tenants.gateway.rows()
    body = filled(SENT.get((method, path)), tenants.theirs)
    ids = (tenants.theirs[noun(path)], tenants.nobodys[noun(path)], "nonsense")
    answers = [await tenants.ask(method, path.replace("{id}", id_), body) for id_ in ids]
    theirs, nobodys, _ = answers
    assert theirs.status == 404
    first, *others = (told(answer, id_) for answer, id_ in zip(answers, ids, strict=True))
    assert others == [first, first]
    assert [*theirs.headers] == [*nobodys.headers]
    assert await tenants.gateway.rows() == before


@pytest.mark.parametrize(
    ("method", "path", "body", "name"),
    [
        (*route, body, name)
        for table in (SENT, SENT_TOO)
        for route, body in table.items()
        for name in sorted(ID_FIELDS.intersection(body or {}))
    ],
)
async def test_bodies_cannot_name_things_of_others(
    tenants: Tenants, method: str, path: str, body: dict[str, Any], name: str
) -> None:
    before = await tenants.gateway.rows()
    mine = tenants.mine
    theirs = await tenants.ask(method, path, filled(body, mine | {name: tenants.theirs[name]}))
    nobodys = await tenants.ask(method, path, filled(body, mine | {name: tenants.nobodys[name]}))
    assert theirs.status == 404
    assert told(theirs) == told(nobodys)
    assert await tenants.gateway.rows() == before


@pytest.mark.parametrize(
    ("path", "line"), [(path, line) for path, lines in FILES.items() for line in lines]
)
async def test_files_cannot_name_things_of_others(
    tenants: Tenants, path: str, line: dict[str, Any]
) -> None:
    before = await tenants.gateway.rows()
    told_of: list[object] = []
    for whose in (tenants.theirs, tenants.nobodys):
        asked = f"{path}?program={whose['program']}"
        told_of.append(told(await tenants.send(asked, filled(line, tenants.mine))))
        assert told_of[-1] == told_of[0]
    for whose in (tenants.theirs, tenants.nobodys):
        answered = await tenants.send(path, filled(line, whose))
        assert (answered.status, answered.json["failed"]) == (200, 1)
        told_of.append(answered.json["data"])
    assert told_of[2] == told_of[3]
    for table in ("cardholder", "account", "card", "transfer"):
        assert (await tenants.gateway.rows())[table] == before[table]


@pytest.mark.parametrize("path", sorted(LISTS))
async def test_lists_do_not_show_things_of_others(tenants: Tenants, path: str) -> None:
    listed = await tenants.ask("GET", path)
    assert (listed.status, [*listed.json]) == (200, ["data", "next_cursor"])
    text = json.dumps(listed.json)
    assert not [id_ for id_ in tenants.theirs.values() if id_ in text]
    for name in FILTERS:
        about = {"subject": "card", "actor": "key"}.get(name, name)
        found = await tenants.ask("GET", f"{path}?{name}={tenants.theirs[about]}")
        if found.status == 400:
            assert found.code == "unknown_field"
            continue
        assert found.json == {"data": [], "next_cursor": None}


@pytest.mark.parametrize(("method", "path"), sorted(OPERATORS))
async def test_what_is_about_all_programs_is_the_operators(
    tenants: Tenants, method: str, path: str
) -> None:
    refused = await tenants.ask(method, path, SENT.get((method, path)))
    assert refused.status == 404


@pytest.mark.parametrize("scope", SCOPES)
async def test_each_scope_opens_its_routes_and_no_other(tenants: Tenants, scope: str) -> None:
    for path, method, scopes, _ in ROUTES:
        route = path.replace("{id}", tenants.nobodys.get(noun(path), ""))
        body = filled(SENT.get((method, path)), tenants.nobodys)
        response = await tenants.ask(method, route, body, scope=scope)
        assert (response.status == 403) == (scope not in scopes), (method, path)


async def test_no_route_is_open_without_a_key(tenants: Tenants) -> None:
    for path, method, _, _ in ROUTES:
        route = path.replace("{id}", tenants.nobodys.get(noun(path), ""))
        body = filled(SENT.get((method, path)), tenants.nobodys)
        response = await tenants.gateway.call(method, route, body, {"Authorization": ""})
        assert response.status == 401, (method, path)


async def test_a_card_of_others_is_not_found_by_an_authorization(tenants: Tenants) -> None:
    body = {"card": "", "amount": 1, "currency": "USD"}
    for card in (tenants.theirs["card"], tenants.nobodys["card"]):
        body["card"] = card
        decision = (await tenants.ask("POST", "/v1/authorizations", body)).json
        assert (decision["decision"], decision["reason"]) == ("declined", "card_not_found")
        assert (decision["account"], decision["available"]) == (None, None)
    for scope in ("read", "operate", "admin"):
        response = await tenants.ask("POST", "/v1/authorizations", body, scope=scope)
        assert response.status == 403
