"""The checks that every commit passes, run as tests so that one command shows all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["ruff", "check", "."], id="ruff check"),
        pytest.param(["ruff", "format", "--check", "."], id="ruff format"),
        pytest.param(["mypy", "--strict", "daemon"], id="mypy"),
    ],
)
def test_the_code_is_clean(arguments: list[str]) -> None:
    found = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert found.returncode == 0, found.stdout + found.stderr


def test_no_machine_stands_in_the_tree() -> None:
    """No path of a developer's machine, no registry's address: the tree installs anywhere."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\0")
    words = ["/work" + "/main", "/root" + "/.pyenv", "file:///opt" + "/pypi"]
    found = [
        (name, word)
        for name in filter(None, listed)
        if (ROOT / name).is_file()
        for word in words
        if word.encode() in (ROOT / name).read_bytes()
    ]

    assert found == []
