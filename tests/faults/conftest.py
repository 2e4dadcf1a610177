"""Shows the fault table at the end of a test run, wherever its parts were made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

TABLE = "fault table"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    parts = [
        text
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, text in getattr(report, "user_properties", ())
        if name == TABLE
    ]
    if not parts:
        return
    terminalreporter.section(TABLE)
    terminalreporter.write_line(joined(parts))


def joined(parts: Iterable[str]) -> str:
    """Return one table of several, with one heading and its rows in their order, what is told of a row below it."""
    heading = ""
    rows: dict[int, list[str]] = {}
    for part in parts:
        heading, *lines = part.splitlines()
        for line in lines:
            if (first := line.split()[0]).isdigit():
                rows[number := int(first)] = []
            rows[number].append(line)
    return "\n".join([heading, *(line for number in sorted(rows) for line in rows[number])])
