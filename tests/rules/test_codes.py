"""The tables of codes are complete, the pages agree with them, and no code is spelt anywhere else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.cli.exits import report
from daemon.rules import errors
from daemon.rules.code_table import CODES, GROUPS
from daemon.rules.codes import AbandonReason, Code, DropReason, Exit, IgnoreReason, Kind, Scope, VerdictCode
from daemon.rules.errors import Refused, Transient, Trouble
from daemon.rules.geometry import NOT_A_VOLUME
from daemon.rules.lifecycle import FileState, SeriesState
from daemon.rules.verdict_table import IGNORED, VERDICTS
from daemon.service.process import exit_code_of
from tests import codes_page

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "daemon").rglob("*.py"))
ENUMS = (Code, VerdictCode, IgnoreReason)
NAMES = {member.value for enum in ENUMS for member in enum}
OTHERS_WORDS = {
    # SQLite's own names of errors, without their prefix.
    "daemon/outside/cache.py": {"LOCKED"},
    "daemon/outside/ledger/database.py": {"LOCKED"},
    # The kind of a storage class: ``NOT_IMAGE:DICOMDIR``.
    "daemon/rules/series.py": {"DICOMDIR"},
}
"""Where another vocabulary has the same word."""
NO_CODES = {"GOOGLE_CREDS_FILE", "NOT_IMAGE", "REBUILD"}
"""Other words in capitals."""


def spelt(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, text) for each literal that is a code, an SQL text that quotes one, or what a code is compared with.

    The last one is found misspelt, too: it would never be equal, and mypy lets a code be compared with any text.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(is_code(side) for side in (node.left, *node.comparators)):
            for side in ast.walk(node):
                if isinstance(side, ast.Constant) and isinstance(side.value, str) and side.value.isupper():
                    yield side.lineno, side.value
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for word in {node.value, *re.findall(r"'([A-Z_0-9]+)'", node.value)} & NAMES:
                yield node.lineno, word


def is_code(side: ast.AST) -> bool:
    """Whether the value is held in something called code."""
    name = getattr(side, "attr", getattr(side, "id", ""))
    return name in ("code", "held_code")


def raised() -> Iterator[tuple[str, str, str]]:
    """Yield (place, class, code) for each trouble that is made of a class and a code in so many words."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("Refused", "Transient", "Unusable")
                and node.args
                and isinstance(node.args[0], ast.Attribute)
                and ast.unparse(node.args[0].value) == "Code"
            ):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node.func.id, node.args[0].attr


def test_no_code_is_spelt_outside_the_enums() -> None:
    """A literal could be misspelt, and neither mypy nor a test would see it."""
    found = [
        f"{name}:{line} {word}"
        for path in SOURCES
        if (name := path.relative_to(ROOT).as_posix()) != "daemon/rules/codes.py"
        for line, word in spelt(ast.parse(path.read_text(encoding="utf-8")))
        if word not in OTHERS_WORDS.get(name, set())
    ]

    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        'Refused("TRUNCATED", "x")',
        "db.rows(\"… held_code = 'INPUTS_GONE'\")",
        'code == "GAP"',
        'exc.code == "NOT_YET_VISIBEL"',
        'exc.code in ("STOPING", X)',
    ],
)
def test_a_spelt_code_is_found(source: str) -> None:
    assert list(spelt(ast.parse(source)))


def test_the_tables_are_complete() -> None:
    assert [code for code in Code if code not in CODES] == []
    assert sum(len(group) for group in GROUPS.values()) == len(CODES)
    assert [code for code in VerdictCode if code not in VERDICTS] == []
    assert [reason for reason in IgnoreReason if reason not in IGNORED] == []
    assert set(codes_page.EXITS) == set(Exit)


@pytest.mark.parametrize("enum", [*ENUMS, DropReason, AbandonReason], ids=lambda enum: enum.__name__)
def test_the_value_of_a_code_is_its_name(enum: type[Code]) -> None:
    """Ledgers, manifests and other people's scripts hold the values."""
    assert [member for member in enum if member.value != member.name] == []


def test_every_code_is_used() -> None:
    """A code that nothing raises would stay in the documentation for ever."""
    texts = [
        path.read_text(encoding="utf-8")
        for path in SOURCES
        if path.name != "codes.py" and "code_table" not in path.parts and path.name != "verdict_table.py"
    ]
    used = {
        word
        for text in texts
        for word in re.findall(r"\b(?:Code|VerdictCode|IgnoreReason)\.([A-Z_0-9]+)", text)
    }

    assert sorted(NAMES - used) == []


def test_every_trouble_is_of_the_kind_that_the_table_tells() -> None:
    """The documentation says whether it ends by itself."""
    kinds = {"Transient": Kind.TRANSIENT, "Refused": Kind.REFUSED, "Unusable": Kind.REFUSED}
    found = list(raised())

    assert len(found) > 80
    assert [row for row in found if CODES[Code(row[2])].kind not in (None, kinds[row[1]])] == []


@pytest.mark.parametrize("code", Code)
def test_who_must_act_is_told_how(code: Code) -> None:
    entry = CODES[code]

    assert entry.meaning[0].isupper() or entry.meaning.startswith(("dcm2niix", "held.tsv", "`"))
    assert not entry.meaning.endswith(".")
    assert not entry.advice.endswith(".")
    assert entry.kind is Kind.TRANSIENT or entry.advice
    assert "|" not in entry.meaning + entry.advice


def test_a_trouble_takes_remedy_and_scope_from_the_table() -> None:
    trouble = Transient(Code.DISK_FULL, "no room")

    assert (trouble.remedy, trouble.scope) == (CODES[Code.DISK_FULL].remedy, Scope.DISK)
    assert Refused(Code.NO_PERMISSION, "x", remedy="Do this", scope=Scope.FOLDER).scope is Scope.FOLDER


EXIT_CODES = [
    pytest.param(Refused(Code.LOCKED, "x"), 75, id="locked"),
    pytest.param(Refused(Code.LOGIN_LOST, "x"), 77, id="credentials"),
    pytest.param(Refused(Code.SHARED_DRIVE_GONE, "x"), 69, id="drive"),
    pytest.param(Refused(Code.LEDGER_DAMAGED, "x"), 78, id="ledger"),
    pytest.param(Refused(Code.UNKNOWN_TARGET, "x"), 2, id="target"),
    pytest.param(Refused(Code.NOT_RUNNING, "x"), 69, id="not-running"),
    pytest.param(Refused(Code.CONTROL_DENIED, "x"), 77, id="socket"),
    pytest.param(Refused(Code.DAMAGED, "x"), 1, id="no-code-of-a-start"),
    pytest.param(Transient(Code.NETWORK, "x"), 75, id="passes"),
    pytest.param(Trouble(Code.BAD_REQUEST, "x"), 1, id="bug"),
]


@pytest.mark.parametrize(("trouble", "code"), EXIT_CODES)
def test_the_table_tells_the_exit_code(trouble: Trouble, code: int) -> None:
    assert exit_code_of(trouble) == report(trouble) == code


def test_the_verdict_follows_from_the_table() -> None:
    assert {code for code, entry in VERDICTS.items() if entry.usable == "no"} == NOT_A_VOLUME


def test_the_page_of_codes_is_printed_from_the_tables() -> None:
    """After a change: ``python -m tests.codes_page > docs/codes.md``."""
    page = (ROOT / "docs" / "codes.md").read_text(encoding="utf-8").splitlines()

    assert page == list(codes_page.lines())


@pytest.mark.parametrize(
    "page", ["README.md", "docs/administrators.md", "docs/researchers.md", "systemd/INSTALL.md"]
)
def test_every_code_that_a_page_names_exists(page: str) -> None:
    known = NAMES | {reason.value for reason in DropReason} | {*FileState, *SeriesState} | NO_CODES
    named = set(re.findall(r"`([A-Z][A-Z0-9_]{2,})`", (ROOT / page).read_text(encoding="utf-8")))

    assert sorted(word for word in named - known if not word.startswith("SDD_DICOM_")) == []


def test_the_page_for_researchers_agrees_with_the_table() -> None:
    """Its rows are (codes, verdict, …)."""
    text = (ROOT / "docs" / "researchers.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[A-Z_`, ]+`) \| (yes|with-care|no) \|", text, re.MULTILINE)
    told_there = {code: usable for codes, usable in rows for code in re.findall(r"`([A-Z_]+)`", codes)}

    assert told_there == {code.value: entry.usable for code, entry in VERDICTS.items()}


def test_the_page_for_administrators_names_every_exit_code() -> None:
    text = (ROOT / "docs" / "administrators.md").read_text(encoding="utf-8")
    named = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}

    assert named == {int(code) for code in Exit}


def test_errors_pass_on_kind_and_scope() -> None:
    assert (errors.Kind, errors.Scope) == (Kind, Scope)
