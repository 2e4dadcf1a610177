"""What one run with faults came to, and what a row of the fault table is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """Judged by the independent checker (`tests/instruments/crash/checker.py`) after the faults ended.

    Args:
        lost: inputs that are neither delivered, ignored nor held with a reason (I1).
        twice: things of which there is more than one on Drive (I2).
        half: what was visible without being whole (I3).
        other: wrong bytes, a ledger that is not honest, something left behind, a bug (I4, I6, I7).
        recovered: it became idle by itself in bounded time (I5).
        kills: how many processes were killed.
        met: how often a fault really happened; a run in which none did proves nothing.
        told: what is no failure, but must be known: that two machines on one Drive make things twice.
    """

    seed: int
    lost: tuple[str, ...] = ()
    twice: tuple[str, ...] = ()
    half: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    recovered: bool = True
    kills: int = 0
    met: int = 0
    told: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that is wrong, each with its kind before it."""
        kinds = {"lost": self.lost, "twice": self.twice, "half": self.half, "other": self.other}
        found = tuple(f"{kind}: {text}" for kind, texts in kinds.items() for text in texts)
        return found if self.recovered else (*found, "did not recover")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the fault table.

    Args:
        number: 1 to 41.
        fault: in a few words, for the table.
        run: (seed, an empty directory, name of a control or "") → outcome. Same seed, same faults. Every row combines
            its fault with a kill at a random point for about half of the seeds.
        controls: guards which, taken away, make this row fail.
    """

    number: int
    fault: str
    run: Callable[[int, Path, str], Outcome]
    controls: tuple[str, ...] = ()
