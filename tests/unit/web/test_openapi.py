"""The description has every route, and only those; the forms in it are those that decode."""

import re
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest

from jitway.web.handlers import ROUTES
from jitway.web.openapi.description import description, document
from jitway.web.openapi.examples import EXAMPLES
from jitway.web.openapi.operations import OPERATIONS
from jitway.web.openapi.reference import reference
from jitway.web.problems import CATALOGUE

NOT_IN_THE_TABLE = {
    ("/v1/authorizations", "POST"),
    ("/v1/webhooks/{source}", "POST"),
    ("/health", "GET"),
    ("/ready", "GET"),
    ("/live", "GET"),
    ("/metrics", "GET"),
}


def test_every_route_is_described_and_nothing_else() -> None:
    assert OPERATIONS.keys() == {(path, method) for path, method, *_ in ROUTES} | NOT_IN_THE_TABLE


def test_every_body_has_an_example_that_fits() -> None:
    components = document()["components"]
    for (path, method), body in EXAMPLES.items():
        operation = document()["paths"][path][method.lower()]
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        jsonschema.validate(body, {**schema, "components": components})
    asked = {
        key
        for key, one in OPERATIONS.items()
        if one.body not in (None, str) and not getattr(one.body, "MAY_BE_ABSENT", False)
    }
    assert asked <= EXAMPLES.keys()


def test_every_reference_leads_somewhere() -> None:
    described = document()

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if "$ref" in value else []
            return own + [one for member in value.values() for one in references(member)]
        if isinstance(value, list):
            return [one for member in value for one in references(member)]
        return []

    for reference_ in references(described):
        place: Any = described
        for step in reference_.removeprefix("#/").split("/"):
            place = place[step]


def test_names_are_given_once_and_codes_are_those_of_the_catalogue() -> None:
    described = document()
    ids = [one["operationId"] for path in described["paths"].values() for one in path.values()]
    assert len(ids) == len(set(ids))
    assert described["x-problem-codes"] == {code: of for code, (of, _) in CATALOGUE.items()}
    assert msgspec.json.decode(description()) == described


def test_the_page_for_people_needs_nothing_else() -> None:
    page = reference().decode()
    for path, _ in OPERATIONS:
        assert path in page
    assert "<script" not in page
    links = re.findall(r'(?:href|src)="([^"]*)"', page)
    assert links
    assert all(link.startswith("#") or link == "/openapi.json" for link in links)
    for link in links:
        if link.startswith("#"):
            assert f'id="{link[1:]}"' in page


def test_what_a_route_takes_beyond_the_others_is_said() -> None:
    paths = document()["paths"]
    programs = {one["name"] for one in paths["/v1/programs"]["get"]["parameters"]}
    assert "program" in programs
    for path, of in paths.items():
        if path.startswith("/v1/dead-letters/"):
            for operation in of.values():
                (form,) = (one for one in operation["parameters"] if one["in"] == "path")
                for id_ in ("order:7.created", "************1111", "x" * 255):
                    jsonschema.validate(id_, form["schema"])
                for wrong in ("", "a/b", "a b", "x" * 256):
                    with pytest.raises(jsonschema.ValidationError):
                        jsonschema.validate(wrong, form["schema"])
    for path, words in (
        ("/v1/bulk/funding", ("Idempotency-Key", "dry_run")),
        ("/v1/webhooks/{source}", ("webhook-id", "webhook-timestamp", "webhook-signature")),
    ):
        said = paths[path]["post"]["description"]
        assert all(word in said for word in words)
        assert said in reference().decode()


@pytest.mark.parametrize("path", sorted({path for path, _ in OPERATIONS}))
def test_paths_have_their_parameters(path: str) -> None:
    names = set(re.findall(r"\{(\w+)\}", path))
    for operation in document()["paths"][path].values():
        assert {one["name"] for one in operation["parameters"] if one["in"] == "path"} == names
