"""Where the keys of a TOML text stand, which the standard library's reader does not tell; no I/O."""

from __future__ import annotations

import re

Path = tuple[str, ...]

_TABLE = re.compile(r"\[\[?\s*")
_KEY = re.compile(r"""[ \t]*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))[ \t]*""")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"""+'
    r"|'{3}.*?'{3,}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)+")


def key_lines(text: str) -> dict[Path, int]:
    """Return the line, from 1, on which each table and each key of a valid TOML text first stands.

    Keys inside an inline table or an array are left out: their line is the line of the table or array.
    """
    lines: dict[Path, int] = {}
    table: Path = ()
    at = 0
    while True:
        if blank := _BLANK.match(text, at):
            at = blank.end()
        if at >= len(text):
            return lines
        line = text.count("\n", 0, at) + 1
        opening = _TABLE.match(text, at)
        path, at = _dotted_key(text, opening.end() if opening else at)
        if opening:
            table, at = path, _end_of_line(text, at)
        else:
            path, at = table + path, _end_of_value(text, at + 1)
        for depth in range(1, len(path) + 1):
            lines.setdefault(path[:depth], line)


def line_of(lines: dict[Path, int], path: Path) -> int | None:
    """Return the line of a key or, where it does not stand, of the nearest table around it."""
    return next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)


def _dotted_key(text: str, at: int) -> tuple[Path, int]:
    parts: list[str] = []
    while match := _KEY.match(text, at):
        parts.append(next(group for group in match.groups() if group is not None))
        at = match.end()
        if text[at : at + 1] != ".":
            break
        at += 1
    return tuple(parts), at


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _end_of_value(text: str, at: int) -> int:
    """Return where the line after a value ends: a value may be a text or an array of many lines."""
    depth = 0
    while at < len(text):
        if string := _STRING.match(text, at):
            at = string.end()
            continue
        character = text[at]
        if character == "#":
            at = _end_of_line(text, at)
            continue
        if character == "\n" and depth <= 0:
            return at
        depth += (character in "[{") - (character in "]}")
        at += 1
    return at
