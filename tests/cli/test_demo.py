"""The demonstration, from any directory, without network or configuration."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import ROOT, House


def demo(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(cwd), "SDD_DICOM_SERIES__QUIET_S": "900",
        "STATE_DIRECTORY": str(cwd / "not-this-one"), "https_proxy": "http://127.0.0.1:9", "COLUMNS": "80",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "daemon.cli", "demo", *arguments], cwd=cwd, env=environment, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip


def test_the_demo_delivers_and_leaves_only_results(tmp_path: Path) -> None:
    """A late slice makes a second revision; held and ignored files are told; nothing else is touched."""
    done = demo(tmp_path)
    [home] = tmp_path.iterdir()
    manifests = [json.loads(path.read_text()) for path in home.rglob("manifest.json")]

    assert done.returncode == 0, done.stdout + done.stderr
    assert home.name.startswith("sdd-dicom-demo-")
    assert [path.name for path in home.iterdir()] == ["NIfTI"]
    assert [
        (m["revision"], len(m["inputs"]), m["verdict"]["usable"]) for m in manifests if m["revision"] > 1
    ] == [(2, 60, "yes")]
    assert all(
        word in done.stdout for word in ("TRUNCATED", "ARCHIVE_UNSUPPORTED", "DICOMDIR", "NOT_IMAGE:SR")
    )
    assert all(str(path) in done.stdout for path in home.rglob("*.nii.gz"))
    assert "128 × 128 × 60" in done.stdout


def test_the_demo_keeps_out_of_a_directory_in_use(house: House) -> None:
    """What lies there already is somebody's."""
    done = house.do("demo", "--keep", str(house.home))

    assert done.code == 2
    assert "not empty" in done.err
