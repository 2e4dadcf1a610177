"""README, INSTALL.md and the pages in docs/ are true where a program can tell: links, commands, version, length, pictures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from daemon import __version__
from daemon.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "systemd" / "INSTALL.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
FORMER_LINES, FORMER_WORDS = 181, 1822
"""The README above its contributor part in version 0.1.0; half of it is the limit."""
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?<!-[a-zA-Z] )(?<!-aG )(?<![\w-])sdd-dicom +([a-z][^`#|\n]*)")
LINK = re.compile(r"\]\(([^)\s]+)\)")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def anchors(page: Path) -> set[str]:
    """Return the anchors that a Markdown reader makes of the page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands_in(page: Path) -> list[str]:
    """Return what follows ``sdd-dicom`` in the page's code, blocks and spans."""
    return [text for code in CODE.findall(page.read_text()) for text in COMMAND.findall(code)]


def options_of(words: list[str]) -> set[str] | None:
    """Return the options of the command that the words begin with (``["drive", "serve", …]``); None: there is none."""
    found: Any = typer.main.get_command(app)
    for word in words:
        if not hasattr(found, "commands"):
            break
        if (found := found.commands.get(word)) is None:
            return None
    return {option for parameter in found.params for option in parameter.opts} | {"--help"}


@pages
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    lost = []
    for link in LINK.findall(page.read_text()):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)

    assert lost == []


@pages
def test_every_command_and_option_that_a_page_names_exists(page: Path) -> None:
    unknown = []
    for text in commands_in(page):
        options = options_of(text.split())
        if options is None or not set(re.findall(r"--[a-z][a-z-]*", text)) <= options:
            unknown.append(text)

    assert unknown == []


def test_the_readme_names_every_command_that_people_use_daily() -> None:
    named = {text.split()[0] for text in commands_in(ROOT / "README.md")}

    assert named >= {"demo", "run", "login", "check", "status", "list", "why", "retry", "process", "crawl"}


def test_the_readme_is_half_as_long_as_it_was_above_the_contributor_part() -> None:
    text = (ROOT / "README.md").read_text().split("## For contributors")[0]

    assert len(text.splitlines()) <= FORMER_LINES // 2
    assert len(text.split()) <= FORMER_WORDS // 2


def test_the_newest_entry_of_the_changelog_is_this_version() -> None:
    headings = re.findall(r"^## (\S+)(?: - (\S+))?$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    version, date = next(heading for heading in headings if heading[0] != "Unreleased")
    assert version == __version__
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", date)


@pytest.mark.parametrize("picture", ["demo.svg", "preview.jpg"])
def test_the_pictures_of_the_readme_are_small_and_need_nothing_from_elsewhere(picture: str) -> None:
    data = (ROOT / "docs" / "images" / picture).read_bytes()

    assert len(data) < 150_000
    assert not re.findall(rb"(?:src|href|url\()\W*https?://", data)
