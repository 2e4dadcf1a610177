"""A measured figure beside its bar; as a table for people, as JSON for everything else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """One result of a benchmark.

    Args:
        name: what was measured, in words.
        value: in the bar's terms.
        least, most: the bar; None: there is none on this side.
        percent: shown as a percentage.
        unit: shown behind the value.
    """

    name: str
    value: float
    least: float | None = None
    most: float | None = None
    percent: bool = False
    unit: str = ""

    @property
    def passes(self) -> bool | None:
        """Whether the bar is met; None: there is no bar."""
        if self.least is None and self.most is None:
            return None
        return (self.least is None or self.value >= self.least) and (
            self.most is None or self.value <= self.most
        )

    def _shown(self, value: float) -> str:
        if self.percent:
            return f"{value * 100:.2f} %"
        text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"
        return f"{text} {self.unit}".rstrip()

    def row(self) -> tuple[str, str, str, str]:
        """Return name, value, bar and verdict as they are shown."""
        bars = [f"≥ {self._shown(self.least)}"] if self.least is not None else []
        bars += [f"≤ {self._shown(self.most)}"] if self.most is not None else []
        verdict = {True: "met", False: "MISSED", None: ""}[self.passes]
        return self.name, self._shown(self.value), " and ".join(bars), verdict


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as aligned columns, a heading first."""
    rows = [("figure", "measured", "bar", ""), *(figure.row() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        f"{name:<{widths[0]}}  {value:>{widths[1]}}  {bar:>{widths[2]}}  {verdict}".rstrip()
        for name, value, bar, verdict in rows
    )


def write_json(path: Path, name: str, figures: Iterable[Figure]) -> None:
    """Write the figures of one benchmark."""
    rows = [{**asdict(figure), "passes": figure.passes} for figure in figures]
    path.write_text(json.dumps({"benchmark": name, "figures": rows}, indent=1, ensure_ascii=False) + "\n")
