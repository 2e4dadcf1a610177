"""The fault table of a test run, joined from the parts that several processes made."""

from __future__ import annotations

from collections.abc import Iterable

TABLE = "fault table"
"""The property of a test under which it records its part."""


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
