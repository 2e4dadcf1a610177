"""The lock of a state directory, which is where the directory comes to be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from daemon.service.lock import lock


def test_the_name_of_a_new_state_directory_survives_a_loss_of_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However well the ledger is written: with its directory's own name it would be gone, and all delivered again."""
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_ino), fsync(fd))[1])
    state_dir = tmp_path / "var" / "state"

    os.close(lock(state_dir, state_dir / "lock"))

    assert {path.stat().st_ino for path in (tmp_path, tmp_path / "var")} <= set(synced)
