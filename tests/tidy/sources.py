"""The files that the tidy tests look at, parsed once."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "jitway"


def python_files(*rooms: str) -> list[Path]:
    """The modules below these directories of the checkout."""
    return sorted(path for room in rooms for path in (ROOT / room).rglob("*.py"))


def text_files() -> Iterator[Path]:
    """Every file that people read and git keeps: code, scripts, documents, configuration."""
    for pattern in ("*.md", "*.toml", ".env.example", "compose.yaml", ".ci/*", "scripts/*"):
        yield from (path for path in ROOT.glob(pattern) if path.is_file())
    for room in ("src", "tests", "bench", "docs"):
        for path in (ROOT / room).rglob("*"):
            if path.suffix in {".py", ".sql", ".md", ".html", ".css", ".js", ".json"}:
                yield path


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(path.read_text(), str(path))


def name(path: Path) -> str:
    """How a file is called in messages and ratchets."""
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> Iterator[str]:
    """The dotted names that a module imports, wherever in it."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a module, nested ones too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
