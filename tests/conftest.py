"""What all tests share: the real data, where it is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.world import DATA


@pytest.fixture(scope="session")
def data() -> Path:
    """Real exams with reference volumes; they are not part of the project."""
    if not DATA.is_dir():
        pytest.skip("the reference data is absent (../shared/data)")
    return DATA
