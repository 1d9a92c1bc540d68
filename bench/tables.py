"""Results as people and as machines read them: Markdown tables and one JSON document."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def markdown(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; numbers stand to the right, and are rounded to what can be trusted."""
    cells = [[_told(value) for value in row] for row in rows]
    widths = [
        max(len(column), *(len(row[index]) for row in cells)) if cells else len(column)
        for index, column in enumerate(columns)
    ]
    is_number = [
        bool(cells) and all(_looks_like_number(row[index]) for row in cells)
        for index in range(len(columns))
    ]

    def line(values: Sequence[str]) -> str:
        padded = (
            value.rjust(width) if right else value.ljust(width)
            for value, width, right in zip(values, widths, is_number, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rules = ("-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, is_number, strict=True))
    return "\n".join([line(columns), f"| {' | '.join(rules)} |", *map(line, cells)])


def _told(value: Any) -> str:
    if isinstance(value, float):
        # Three significant digits: the fourth is the machine's mood.
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "-" if value is None else str(value)


def _looks_like_number(text: str) -> bool:
    return text == "-" or text.replace(",", "").replace(".", "", 1).lstrip("-").isdigit()


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """One JSON document in a file."""
    path.write_text(json.dumps(document, indent=2, sort_keys=False) + "\n")


def percentiles_ms(histogram_ms: Mapping[str, float]) -> list[float]:
    """p50, p95, p99 and the greatest, as columns of a table."""
    return [histogram_ms[name] for name in ("p50", "p95", "p99", "max")]
