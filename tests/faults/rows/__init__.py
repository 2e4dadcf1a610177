"""The fault table: one row for each fault, run for some seeds."""

from __future__ import annotations

from tests.faults.outcome import Row

ROWS: dict[int, Row] = {}
