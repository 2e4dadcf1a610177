"""Prints ``docs/codes.md`` from the tables of codes: ``python -m tests.codes_page > docs/codes.md``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from daemon.rules.code_table import GROUPS, Entry
from daemon.rules.codes import Exit, Kind, Scope
from daemon.rules.verdict_table import IGNORED, VERDICTS

ENDS = {
    Kind.TRANSIENT: "yes",
    Kind.REFUSED: "no",
    Kind.BUG: "no",
    None: "a few times, then held",
}
REACHES = {
    Scope.ITEM: "this file, series or request",
    Scope.FOLDER: "one output folder",
    Scope.UPLOADS: "all uploads",
    Scope.DOWNLOADS: "all downloads",
    Scope.DISK: "downloads and conversions",
    Scope.SERVICE: "all work",
    None: "it depends on the request: one item, one output folder, all uploads or all work",
}
EXITS = {
    Exit.OK: "Done",
    Exit.BUG: "A fault of sdd-dicom, or something on this machine is wrong",
    Exit.USAGE: "Wrong usage, or the command names something unknown",
    Exit.HELD: "`run --once`: something is held",
    Exit.WAITING: "`run --once`: only items that must wait longer than a minute are left",
    Exit.UNAVAILABLE: "A folder cannot be used, or the service does not run",
    Exit.TRY_AGAIN: "Another process works on the state directory, or the problem is temporary: try again",
    Exit.NOT_ALLOWED: "The credentials need a person, or this account may not do this",
    Exit.BAD_CONFIGURATION: "The configuration is wrong, or the state directory cannot be used",
    Exit.INTERRUPTED: "A command was interrupted with Ctrl-C",
}


def lines() -> Iterator[str]:
    """Yield the page, line by line."""
    yield "# Codes"
    yield ""
    yield "Every code that `sdd-dicom` shows: in `status`, `list --held`, `why`, `held.tsv`, the log and `manifest.json`. This page is generated from the"
    yield "tables in `daemon/rules/`; a test compares them."
    yield ""
    yield "*Retried: yes* means that the service tries again until it works; you do not have to act, unless the text says so. *No* means that a"
    yield "person must act first. A held item is tried again with `sdd-dicom retry ID`, `retry --reason CODE` or `retry --all`. If a code affects"
    yield "more than one item, the service tries again at least every two minutes. *Exit* is the exit code of a command, or of a start of the service, that fails with this code."
    for heading, group in GROUPS.items():
        yield ""
        yield f"## {heading}"
        yield ""
        yield from _table(
            ("code", "meaning", "what to do", "retried", "affects", "exit"),
            ((f"`{code}`", *_cells(entry)) for code, entry in sorted(group.items())),
        )
    yield ""
    yield "## Verdict codes, for researchers"
    yield ""
    yield "They are in `manifest.json` under `verdict`. A delivery with at least one `no` code is `no`. A delivery with other codes only is `with-care`."
    yield "A delivery without a code is `yes`. More: [researchers.md](researchers.md)."
    yield ""
    yield from _table(
        ("code", "verdict", "meaning", "what to do"),
        ((f"`{code}`", entry.usable, entry.meaning, entry.what_to_do) for code, entry in VERDICTS.items()),
    )
    yield ""
    yield "## Ignored files"
    yield ""
    yield "Nobody has to do anything about them. A series that holds no image is ignored with `NOT_IMAGE:` and the kind of its objects."
    yield ""
    yield from _table(
        ("reason", "meaning"),
        ((f"`{reason}`", f"The file is ignored: {text}") for reason, text in IGNORED.items()),
    )
    yield ""
    yield "## Exit codes"
    yield ""
    yield from _table(("exit", "meaning"), ((str(int(code)), EXITS[code]) for code in Exit))


def _cells(entry: Entry) -> tuple[str, ...]:
    return (
        entry.meaning,
        entry.advice,
        ENDS[entry.kind],
        REACHES[entry.scope],
        str(int(Exit.TRY_AGAIN if entry.kind is Kind.TRANSIENT else entry.exit_code)),
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    print("\n".join(lines()))
