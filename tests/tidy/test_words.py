"""One word, one meaning: the glossary's forbidden names, leftover marks, unexplained exceptions."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.tidy.sources import PACKAGE, functions, name, python_files, text_files, tree

# Parts of a name, as split at underscores and capitals; only those that can mean nothing else.
FORBIDDEN_PARTS = {
    "preauth": "authorization",
    "wallet": "account",
    "vendor": "merchant",
    "customer": "cardholder",
    "velocity": "window",
    "quota": "limit",
    "overdraft": "credit_line",
    "dlq": "dead_letter",
    "graveyard": "dead_letter",
    "dto": "view",
    "utils": "the noun it belongs to",
    "helpers": "the noun it belongs to",
    "helper": "the noun it belongs to",
}
FORBIDDEN_NAMES = {
    "card_number": "card_token",
    "pan": "card_token",
    "top_up": "increment",
    "force_post": "forced capture",
    "zero_auth": "account_verification",
    "negative_authorization": "refund_authorization",
    "ledger_balance": "posted",
    "open_to_buy": "available",
    "spendable": "available",
    "event_store": "outbox",
    "payload_wrapper": "envelope",
    "retry_count": "attempt",
    "cache_entry": "view",
}
# Verbs that say nothing; HTTP handlers handle and SQL is executed.
FORBIDDEN_VERBS = {"process", "manage", "perform", "do"}
FORBIDDEN_MODULES = {"utils", "helpers", "common", "misc", "manager", "service", "services"}
# The first two are public and inherited; the third is what the composition root yields.
NAMED_SO = {"DatabaseManager", "MessageQueueManager", "Services"}


def test_names_keep_to_the_glossary() -> None:
    found = []
    for path in python_files("src"):
        for word, line in names(path):
            parts = [part.lower() for part in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", word)]
            better = [FORBIDDEN_PARTS[part] for part in parts if part in FORBIDDEN_PARTS]
            if word.lower() in FORBIDDEN_NAMES:
                better.append(FORBIDDEN_NAMES[word.lower()])
            found += [f"{name(path)}:{line} {word}: say {other}" for other in better]
    assert not found, "\n".join(found)


def test_no_class_is_a_manager_or_a_service() -> None:
    found = [
        f"{name(path)}:{node.lineno} {node.name}: name what it does"
        for path in python_files("src")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
        if re.search(r"Manager|Service", node.name) and node.name not in NAMED_SO
    ]
    assert not found, "\n".join(found)


def test_verbs_say_what_happens() -> None:
    found = [
        f"{name(path)}:{function.lineno} {function.name}"
        for path in python_files("src")
        for function in functions(path)
        if function.name.strip("_").split("_")[0] in FORBIDDEN_VERBS
    ]
    assert not found, "\n".join(found)


def test_modules_are_named_after_nouns_of_the_product() -> None:
    found = [
        name(path)
        for path in PACKAGE.rglob("*")
        if path.stem in FORBIDDEN_MODULES and (path.is_dir() or path.suffix == ".py")
    ]
    assert not found, "\n".join(found)


def test_nothing_is_left_for_later() -> None:
    marks = re.compile(r"\b(TO" r"DO|FIX" r"ME|HA" r"CK)\b")
    found = [where for where in lines_with(marks) if "/static/" not in where]
    assert not found, "\n".join(found)


def test_no_path_of_a_machine_is_written_down() -> None:
    machine = re.compile(r"(?<![\w.])/(?:root|work|Users|mnt)/|(?<![\w.])/home/(?!ada\b)\w")
    found = list(lines_with(machine))
    assert not found, "\n".join(found)


def test_each_switched_off_check_says_why() -> None:
    silent = re.compile(
        r"#\s*(?:noqa:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*|noqa|type:\s*ignore(?:\[[\w, -]+\])?"
        r"|pragma: no (?:cover|branch))\s*$"
    )
    found = [where for where in lines_with(silent) if where.startswith("src/")]
    assert not found, "\n".join(found)


def test_every_module_says_what_it_is_for() -> None:
    found = [
        name(path)
        for path in python_files("src", "tests", "bench")
        if path.read_text().strip() and ast.get_docstring(tree(path)) is None
    ]
    assert not found, "\n".join(found)


def names(path: Path) -> Iterator[tuple[str, int]]:
    """The names a module gives to things."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno


def lines_with(pattern: re.Pattern[str]) -> Iterator[str]:
    for path in text_files():
        if path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
            if pattern.search(line):
                yield f"{name(path)}:{number}: {line.strip()}"
