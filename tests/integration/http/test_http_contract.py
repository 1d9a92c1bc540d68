"""What the OpenAPI document allows to be asked is answered as it says.

Requests are drawn from the document, good and bad ones, with ids that exist and ids that do not.
The seed is fixed; `python -m schemathesis` against a running gateway draws others.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks

from chaos.gateway import Gateway
from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.web.openapi.description import document
from jitway.web.openapi.examples import EXAMPLES
from jitway.web.openapi.operations import OPERATIONS as DESCRIBED
from tests.conftest import database_url
from tests.end_to_end.conftest import PATIENT

SCHEMA = schemathesis.openapi.from_dict(document())
OPERATIONS: dict[str, Any] = {
    f"{method} {path}": SCHEMA[path][method] for path, method in DESCRIBED
}
DRAWN = 3
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
# What may not be had for reasons of the moment: too many at once, or a deadline of a millisecond.
BUSY = {429, 503}


class World:
    """A gateway as a process, its operator's key, and things that exist."""

    def __init__(self, gateway: Gateway, key: str) -> None:
        self.url = f"http://127.0.0.1:{gateway.port}"
        self.headers = {"Authorization": f"Bearer {key}"}
        self.ids: dict[str, str] = {}

    def ask(self, label: str, body: Any, **path: str) -> Any:
        """Sends a good request; what it is answered."""
        case = OPERATIONS[label].Case(
            path_parameters=path, body=body, media_type="application/json"
        )
        case.headers = {**self.headers, "Idempotency-Key": f"made-{label}-{path}".replace(" ", "")}
        response = case.call(base_url=self.url)
        assert response.status_code in (200, 201), response.text
        return response.json()

    def furnish(self) -> None:
        """Makes one of each, with the bodies that the document shows."""
        for label in ("programs", "cardholders", "accounts", "cards"):
            body = self.with_ids(EXAMPLES[f"/v1/{label}", "POST"])
            self.ids[label] = self.ask(f"POST /v1/{label}", body)["id"]
        deposit = EXAMPLES["/v1/accounts/{id}/deposits", "POST"]
        self.ask("POST /v1/accounts/{id}/deposits", deposit, id=self.ids["accounts"])
        asked = self.with_ids(EXAMPLES["/v1/authorizations", "POST"])
        self.ids["authorizations"] = self.ask("POST /v1/authorizations", asked)["id"]

    def with_ids(self, body: Any) -> Any:
        """The body with ids of things that exist."""
        if not isinstance(body, dict):
            return body
        of = {"program": "programs", "cardholder": "cardholders"}
        of |= {"account": "accounts", "card": "cards"}
        known = {name: self.ids[kind] for name, kind in of.items() if kind in self.ids}
        return body | {name: id_ for name, id_ in known.items() if name in body}


@pytest.fixture(scope="module")
async def world(
    server: PostgreSQLAdapter,
    server_url: str,
    template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[World]:
    name = f"{template}_contract"
    await server.execute_query(f"CREATE DATABASE {name} TEMPLATE {template}")
    place: Path = tmp_path_factory.mktemp("contract")
    settings = {**PATIENT, "DATABASE_URL": database_url(server_url, name)}
    gateway = Gateway(place / "unused", place / "gateway.log", settings)
    try:
        made = await gateway.command("keys", "create", "--scopes", "authorize,read,operate,admin")
        await gateway.start()
        world = World(gateway, made[1]["key"])
        world.furnish()
        yield world
    finally:
        await gateway.kill()
        await server.execute_query(f"DROP DATABASE {name} WITH (FORCE)")


def test_what_is_shown_as_an_example_works(world: World) -> None:
    for (path, method), body in EXAMPLES.items():
        if "{id}" not in path or "keys" in path:
            continue
        kind = path.split("/")[2]
        if kind in world.ids:
            world.ask(f"{method} {path}", world.with_ids(body), id=world.ids[kind])


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("label", OPERATIONS)
def test_it_is_answered_as_it_is_described(label: str, mode: GenerationMode, world: World) -> None:
    operation = OPERATIONS[label]
    part = urlsplit(operation.path).path.split("/")[2:3]

    @hypothesis.seed(1)
    @hypothesis.settings(
        max_examples=DRAWN,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
    @hypothesis.given(
        case=operation.as_strategy(generation_mode=mode), exists=hypothesis.strategies.booleans()
    )
    def agree(case: Any, exists: bool) -> None:
        case.headers = {**(case.headers or {}), **world.headers}
        if exists:
            case.body = world.with_ids(case.body)
            if part and part[0] in world.ids and "id" in (case.path_parameters or {}):
                case.path_parameters["id"] = world.ids[part[0]]
        response = case.call(base_url=world.url)
        if response.status_code in BUSY:
            return
        case.validate_response(response, checks=[not_a_server_error, *CHECKS])

    try:
        agree()
    except hypothesis.errors.Unsatisfiable:
        # Nothing that it could be asked in a wrong way.
        assert mode is GenerationMode.NEGATIVE
    except FailureGroup as failures:
        pytest.fail("\n\n".join(str(failure) for failure in failures.exceptions))
