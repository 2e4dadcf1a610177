"""Shows the fault table at the end of a test run, wherever its parts were made."""

from __future__ import annotations

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
    # Each part has the heading; the rows of all come in their order.
    heading = parts[0].splitlines()[0]
    rows = {line for part in parts for line in part.splitlines()[1:]}
    terminalreporter.write_line("\n".join([heading, *sorted(rows, key=lambda line: int(line.split()[0]))]))
