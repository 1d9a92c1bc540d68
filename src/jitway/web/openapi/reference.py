"""`reference.py`: the API as one page for people, without a script and without another request."""

from collections.abc import Iterator
from functools import cache
from html import escape
from typing import Any

import msgspec

from jitway.web.openapi.description import document

STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin: 2.5rem 0 0.5rem; } summary { cursor: pointer; padding: 0.4rem 0; }
details { border-top: 1px solid var(--line); } details > div { padding: 0 0 1rem 1rem; }
code, pre { font: 14px/1.45 ui-monospace, monospace; } pre { overflow-x: auto; padding: 0.75rem;
border: 1px solid var(--line); border-radius: 6px; } b { display: inline-block; min-width: 4.5rem; }
table { border-collapse: collapse; } td { padding: 0.15rem 1.5rem 0.15rem 0; vertical-align: top; }
""".strip()


@cache
def reference() -> bytes:
    """The page as HTML."""
    described = document()
    parts = "".join(_parts(described))
    info = described["info"]
    about = "".join(f"<p>{escape(text)}</p>" for text in info["description"].split("\n\n"))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>jitway HTTP API</title><style>{STYLE}</style></head><body><main>"
        f"<h1>jitway {escape(info['version'])}: HTTP API</h1>{about}"
        '<p>The same for machines: <a href="/openapi.json">openapi.json</a>.</p>'
        f"{parts}{_forms(described)}</main></body></html>"
    ).encode()


def _parts(described: dict[str, Any]) -> Iterator[str]:
    by_tag: dict[str, list[str]] = {}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            told = _operation(path, method.upper(), operation)
            by_tag.setdefault(operation["tags"][0], []).append(told)
    for tag, operations in by_tag.items():
        yield f"<h2>{escape(tag)}</h2>{''.join(operations)}"


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    told = []
    if "description" in operation:
        told.append(_line("note", escape(operation["description"])))
    for parameter in operation["parameters"]:
        needed = "required" if parameter.get("required") else ""
        told.append(_line(f"{parameter['in']}: {parameter['name']}", needed))
    body = operation.get("requestBody")
    content = next(iter(body["content"].values())) if body is not None else {}
    if content:
        told.append(_line("body", _named(content["schema"])))
    for status, answer in operation["responses"].items():
        if "content" in answer:
            forms = [_named(one["schema"]) for one in answer["content"].values()]
            told.append(_line(status, " ".join(forms)))
    problems = [status for status, answer in operation["responses"].items() if "$ref" in answer]
    told.append(_line("problems", escape(", ".join(problems))))
    example = ""
    if "example" in content:
        pretty = msgspec.json.format(msgspec.json.encode(content["example"]), indent=2).decode()
        example = f"<pre>{escape(pretty)}</pre>"
    return (
        f"<details><summary><b>{method}</b> <code>{escape(path)}</code> "
        f"{escape(operation['summary'])}</summary><div><table>{''.join(told)}</table>{example}"
        "</div></details>"
    )


def _line(name: str, told: str) -> str:
    return f"<tr><td>{escape(name)}</td><td>{told}</td></tr>"


def _named(schema: dict[str, Any]) -> str:
    name = schema.get("$ref", "").rpartition("/")[2]
    shown = escape(name or schema.get("type", "anything"))
    return f'<a href="#{shown}">{shown}</a>' if name else shown


def _forms(described: dict[str, Any]) -> str:
    parts = []
    for name, schema in sorted(described["components"]["schemas"].items()):
        pretty = msgspec.json.format(msgspec.json.encode(schema), indent=2).decode()
        parts.append(
            f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>'
            f"<div><pre>{escape(pretty)}</pre></div></details>"
        )
    return f"<h2>Forms</h2>{''.join(parts)}"
