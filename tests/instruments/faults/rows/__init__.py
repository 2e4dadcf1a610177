"""The fault table: one row for each fault, run for some seeds."""

from __future__ import annotations

import importlib
import importlib.util

from tests.instruments.faults.outcome import Row

MODULES = ("kills", "transfers", "source", "service", "machine", "state", "ledger_rows", "poison", "swizzle")


def _collect() -> dict[int, Row]:
    rows: dict[int, Row] = {}
    for name in MODULES:
        if importlib.util.find_spec(f"{__name__}.{name}") is None:
            continue
        for row in importlib.import_module(f"{__name__}.{name}").ROWS:
            if row.number in rows:
                raise ValueError(f"row {row.number} is there twice")
            rows[row.number] = row
    return dict(sorted(rows.items()))


ROWS: dict[int, Row] = _collect()
