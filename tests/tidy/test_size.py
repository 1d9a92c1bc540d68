"""Nothing grows beyond what one reads at a sitting; what already did may only shrink."""

import ast

from tests.tidy.sources import functions, name, python_files

FILE_LINES_MAX = 400
TEST_FILE_LINES_MAX = 600  # scenarios of one thing are read one by one
FUNCTION_LINES_MAX = 60

# The ratchet: too long today, with its length; lower a number when it shrinks, never raise one.
LONG_FILES: dict[str, int] = {}
LONG_TEST_FILES: dict[str, int] = {}
LONG_FUNCTIONS: dict[str, int] = {}


def test_no_module_is_longer_than_it_may_be() -> None:
    found = too_long(lines_of("src", "bench"), LONG_FILES, FILE_LINES_MAX)
    found += too_long(lines_of("tests"), LONG_TEST_FILES, TEST_FILE_LINES_MAX)
    assert not found, "\n".join(found)


def test_no_function_is_longer_than_it_may_be() -> None:
    lengths = {
        f"{name(path)}:{function.name}": body_lines(function)
        for path in python_files("src")
        for function in functions(path)
    }
    found = too_long(lengths, LONG_FUNCTIONS, FUNCTION_LINES_MAX)
    assert not found, "\n".join(found)


def lines_of(*rooms: str) -> dict[str, int]:
    return {name(path): len(path.read_text().splitlines()) for path in python_files(*rooms)}


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the name to the end, the docstring not counted."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def too_long(lengths: dict[str, int], ratchet: dict[str, int], lines_max: int) -> list[str]:
    grown = [
        f"{what} has {lines} lines, {ratchet.get(what, lines_max)} are allowed"
        for what, lines in lengths.items()
        if lines > ratchet.get(what, lines_max)
    ]
    loose = [
        f"{what} has shrunk to {lengths.get(what, 0)}: tighten its ratchet of {lines}"
        for what, lines in ratchet.items()
        if lengths.get(what, 0) < lines
    ]
    return grown + loose
