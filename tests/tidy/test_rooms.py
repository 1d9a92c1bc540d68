"""What the import contracts cannot say: purity of the domain, who reads the environment."""

import ast
import importlib
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path

import jitway
from tests.tidy.sources import PACKAGE, imported, name, python_files, tree

READS_SETTINGS = ("cli", "compose", "settings", "__main__.py")
# Standard, but they ask the world.
WORLDLY = {"asyncio", "logging", "os", "random", "secrets", "socket", "subprocess", "time", "uuid"}


def test_the_domain_is_pure() -> None:
    found = []
    for path in python_files("src/jitway/domain"):
        for module in imported(path):
            root = module.split(".")[0]
            ours = module.startswith("jitway.domain")
            if not ours and (root not in sys.stdlib_module_names or root in WORLDLY):
                found.append(f"{name(path)} imports {module}")
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncWith | ast.AsyncFor):
                found.append(f"{name(path)}:{node.lineno} waits")
            if isinstance(node, ast.Attribute) and node.attr in {"now", "utcnow", "today"}:
                found.append(f"{name(path)}:{node.lineno} asks a clock")
    assert not found, "\n".join(found)


def test_nothing_around_money_is_of_any_type() -> None:
    found = []
    for path in python_files("src/jitway/domain", "src/jitway/ledger"):
        for node in ast.walk(tree(path)):
            typed = getattr(node, "annotation", None) or getattr(node, "returns", None)
            if isinstance(typed, ast.Name) and typed.id == "Any":
                found.append(f"{name(path)}:{typed.lineno}")
    assert not found, "\n".join(found)


def test_only_settings_reads_the_environment() -> None:
    found = [
        f"{name(path)}:{node.lineno}"
        for path in outside("settings")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "environb"}
    ]
    assert not found, "\n".join(found)


def test_only_the_command_line_and_the_composition_root_import_settings() -> None:
    found = [
        f"{name(path)} imports {module}"
        for path in outside(*READS_SETTINGS)
        for module in imported(path)
        if module == "jitway.settings" or module.startswith("jitway.settings.")
    ]
    assert not found, "\n".join(found)


def test_what_a_package_promises_is_there() -> None:
    for module in ["jitway", *packages()]:
        promised = getattr(importlib.import_module(module), "__all__", [])
        for one in promised:
            assert hasattr(importlib.import_module(module), one), f"{module} has no {one}"
        assert len(promised) == len(set(promised)), f"{module} promises something twice"


def packages() -> Iterator[str]:
    for found in pkgutil.walk_packages(jitway.__path__, "jitway."):
        if found.ispkg:
            yield found.name


def outside(*rooms: str) -> Iterator[Path]:
    for path in python_files("src"):
        if path.relative_to(PACKAGE).parts[0] not in rooms:
            yield path
