"""`description.py`: the whole API as one OpenAPI 3.1 document, made from the operations. Pure."""

import re
from functools import cache
from typing import Any

import msgspec

from jitway import __version__
from jitway.domain.decision import DeclineReason
from jitway.web.openapi.answers import Problem
from jitway.web.openapi.examples import EXAMPLES
from jitway.web.openapi.operations import OPERATIONS, REQUIRED, Operation
from jitway.web.problems import CATALOGUE

_REFERENCE = "#/components/schemas/{name}"
_PROMISE = (
    "Everything under /v1 keeps its names, shapes and meanings: members may be added to answers, "
    "optional members and parameters to requests, values to `reason` and `code`. What must change "
    "otherwise becomes /v2, and /v1 is served beside it for a year. Unknown members of requests "
    "are refused, unknown members of answers are to be ignored."
)
# What any route may answer besides its own: by the edge, the key, or a store that is away.
_ALWAYS = (400, 404, 408, 429, 431, 503)
_WITH_KEY = (401, 403)
_WITH_BODY = (409, 413, 415)
_PARAMETERS: dict[str, dict[str, Any]] = {
    "dry_run": {"type": "boolean"},
    "strict": {"type": "boolean"},
    "limit": {"type": "integer", "minimum": 1, "maximum": 200},
    "from": {"type": "string", "format": "date-time"},
    "to": {"type": "string", "format": "date-time"},
    "amount_min": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
    "amount_max": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
}
# What a sender named its message; a slash would be another path.
_FOREIGN = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-.0-~]+$"}
_LINES = ("text/csv", "application/x-ndjson")
_TEXT = {"type": "string", "minLength": 1, "maxLength": 128}
_KEY = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}


@cache
def description() -> bytes:
    """The document as JSON."""
    return msgspec.json.encode(document())


def document() -> dict[str, Any]:
    """The document."""
    answers = [one.answer for one in OPERATIONS.values() if one.answer is not None]
    taken = [one.body for one in OPERATIONS.values() if one.body not in (None, dict, str)]
    forms = list(dict.fromkeys([Problem, *answers, *taken]))
    schemas, components = _plain_names(
        *msgspec.json.schema_components(forms, ref_template=_REFERENCE)
    )
    by_form = dict(zip(map(_name, forms), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for (path, method), operation in OPERATIONS.items():
        paths.setdefault(path, {})[method.lower()] = _operation(path, method, operation, by_form)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "jitway",
            "version": __version__,
            "description": f"A self-hosted JIT funding gateway for card programs.\n\n{_PROMISE}",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {name: _portable(schema) for name, schema in components.items()},
            "responses": _problems(by_form[_name(Problem)]),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "x-decline-reasons": [reason.value for reason in DeclineReason],
        "x-problem-codes": {code: status for code, (status, _) in CATALOGUE.items()},
    }


def _operation(
    path: str, method: str, operation: Operation, by_form: dict[str, Any]
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": _operation_id(path, method),
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [*_path_parameters(path), *_query(operation), *_headers(operation)],
        "responses": _responses(operation, by_form),
        "security": [] if operation.is_open else [{"key": []}],
    }
    if operation.note:
        described["description"] = operation.note
    if operation.body is not None:
        described["requestBody"] = {
            "required": not getattr(operation.body, "MAY_BE_ABSENT", False),
            "content": _body(operation.body, EXAMPLES.get((path, method)), by_form),
        }
    return described


def _body(form: Any, example: Any, by_form: dict[str, Any]) -> dict[str, Any]:
    if form is str:
        return {kind: {"schema": {"type": "string"}} for kind in _LINES}
    content = {"schema": {"type": "object"} if form is dict else _portable(by_form[_name(form)])}
    if example is not None:
        content["example"] = example
    return {"application/json": content}


def _responses(operation: Operation, by_form: dict[str, Any]) -> dict[str, Any]:
    if operation.answer is None:
        good: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
    else:
        good = {"application/json": {"schema": _portable(by_form[_name(operation.answer)])}}
    found = {str(operation.status): {"description": operation.summary, "content": good}}
    with_key = () if operation.is_open else _WITH_KEY
    with_body = () if operation.body is None else _WITH_BODY
    for status in sorted((*_ALWAYS, *with_key, *with_body)):
        found[str(status)] = {"$ref": f"#/components/responses/{status}"}
    if operation.may_be_unready:
        found["503"] = {"description": "not now", "content": good}
    return found


def _problems(schema: Any) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": schema}}
    codes: dict[int, list[str]] = {}
    for code, (status, _) in CATALOGUE.items():
        codes.setdefault(status, []).append(code)
    return {
        str(status): {"description": ", ".join(of), "content": content}
        for status, of in sorted(codes.items())
    }


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": _path_form(path)}
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _path_form(path: str) -> dict[str, Any]:
    if path.startswith("/v1/dead-letters/"):
        return _FOREIGN
    pattern = "^[A-Za-z0-9_-]+$"
    return {"type": "string", "minLength": 1, "maxLength": 64, "pattern": pattern}


def _query(operation: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "schema": _PARAMETERS.get(name, _TEXT)}
        for name in operation.query
    ]


def _headers(operation: Operation) -> list[dict[str, Any]]:
    if not operation.key:
        return []
    required = operation.key == REQUIRED
    return [{"name": "Idempotency-Key", "in": "header", "required": required, "schema": _KEY}]


def _operation_id(path: str, method: str) -> str:
    words = re.findall(r"[A-Za-z0-9]+", path.removeprefix("/v1"))
    return "_".join([method.lower(), *words]).replace("-", "_")


def _plain_names(schemas: Any, components: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Forms of one name stand in different modules; a request's then ends in `Body`."""
    plain = {}
    for name in components:
        last = name.rpartition(".")[2].strip("_")
        of_request = name.startswith("jitway.wire.")
        plain[name] = f"{last}Body" if of_request else last.replace("Page_", "PageOf")
    assert len(set(plain.values())) == len(plain), "two forms of one name"
    encoded = msgspec.json.encode([schemas, components]).decode()
    for name, short in plain.items():
        encoded = encoded.replace(f'schemas/{name}"', f'schemas/{short}"')
    schemas, components = msgspec.json.decode(encoded)
    return schemas, {plain[name]: schema for name, schema in components.items()}


def _name(form: Any) -> str:
    return str(form)


def _portable(schema: Any) -> Any:
    r"""JSON Schema's patterns know no `\A` and `\Z`; everything else stays."""
    if isinstance(schema, dict):
        return {
            name: value.replace("\\A", "^").replace("\\Z", "$")
            if name == "pattern"
            else _portable(value)
            for name, value in schema.items()
        }
    return [_portable(one) for one in schema] if isinstance(schema, list) else schema
