"""What a process took, seen from outside."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.instruments.bench.process import Program
from tests.support.process import wait_for

MB = 1_000_000


def python(script: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", script, *arguments]


def test_memory_and_cpu_are_its_own_and_not_its_childrens(tmp_path: Path) -> None:
    """The child works and holds far more than its parent."""
    end = tmp_path / "end"
    child = (
        "import os, sys, time; held = bytearray(200_000_000); sum(range(3_000_000))\n"
        "while not os.path.exists(sys.argv[1]): time.sleep(0.01)"
    )
    parent = (
        "import subprocess, sys; held = bytearray(50_000_000)\n"
        "subprocess.run([sys.executable, '-c', *sys.argv[1:]])"
    )
    with Program(python(parent, child, str(end)), tmp_path / "log") as program:
        wait_for(lambda: program.children_peak_bytes() > 200 * MB)
        end.touch()
        took = program.wait(60)

    assert took.exit_code == 0
    assert 50 * MB < took.peak_bytes < 100 * MB
    assert 200 * MB < took.children_peak_bytes < 250 * MB


def test_cpu_is_counted_to_the_end(tmp_path: Path) -> None:
    script = "import time\nwhile time.process_time() < 0.5: pass"
    with Program(python(script), tmp_path / "log") as program:
        took = program.wait(60)

    assert 0.45 < took.cpu_s < 0.7
    assert took.wall_s >= took.cpu_s * 0.9


def test_one_that_does_not_end_is_said_to_and_ended(tmp_path: Path) -> None:
    with Program(
        python("import time; print('on and on', flush=True); time.sleep(600)"), tmp_path / "log"
    ) as program:
        wait_for(lambda: "on and on" in program.tail())
        with pytest.raises(TimeoutError, match="on and on"):
            program.wait(0.05)
        program.check()

    with pytest.raises(RuntimeError, match="ended"):
        program.check()


def test_what_would_configure_the_program_does_not_reach_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDD_SERIES__QUIET_S", "3600")
    script = "import os; print([name for name in os.environ if name.startswith('SDD_')], os.environ['TOLD'])"
    with Program(python(script), tmp_path / "log", {"TOLD": "this"}) as program:
        program.wait(60)

    assert program.tail().split() == ["[]", "this"]
