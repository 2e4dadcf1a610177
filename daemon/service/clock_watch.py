"""Notices when the machine's clock was set, or stood still with the machine."""

from __future__ import annotations

from collections.abc import Callable

from loguru import logger

CLOCK_JUMP_S = 1.0
"""How far the machine's clock must move away from the steady one to count as set; slewing is slower."""


class ClockWatch:
    """Compares the machine's clock with a steady one, look by look.

    Args:
        drift_s: how far the two are apart now.
        on_jump: called after a jump: the scheduler goes by the machine's clock, and set back a day, no job would
            run for a day.
    """

    def __init__(self, drift_s: float, on_jump: Callable[[], None]) -> None:
        self.drift_s = drift_s
        """How far the clocks were apart when that last counted."""
        self._on_jump = on_jump

    def look(self, drift_s: float) -> None:
        """Take in how far the clocks are apart now."""
        moved_s = drift_s - self.drift_s
        if abs(moved_s) >= CLOCK_JUMP_S:
            logger.warning("The clock of this machine moved by {:.0f} s: every job runs now", moved_s)
            self.drift_s = drift_s
            self._on_jump()
        elif abs(moved_s) > CLOCK_JUMP_S / 2:
            self.drift_s = drift_s
