"""How long to wait before the next try: exponential backoff, bounded, with jitter; no clock, no random numbers."""

from __future__ import annotations

from dataclasses import dataclass

NO_JITTER = (1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Backoff:
    """The waits between the tries of one thing.

    Args:
        first_s: the first wait, seconds.
        most_s: no wait grows beyond it, seconds.
        factor: how much longer each wait is than the one before it.
        jitter: lowest and highest number that a wait is multiplied by; it spreads callers that failed together.
    Raises:
        ValueError: a negative wait, a factor below 1, or a jitter whose ends are negative or swapped.
    """

    first_s: float
    most_s: float
    factor: float = 2.0
    jitter: tuple[float, float] = NO_JITTER

    def __post_init__(self) -> None:
        low, high = self.jitter
        if not (self.first_s >= 0 and self.most_s >= 0 and self.factor >= 1 and 0 <= low <= high):
            raise ValueError(f"not a backoff: {self}")

    def wait_s(self, attempt: int, retry_after_s: float | None = None, *, chance: float = 0.5) -> float:
        """Return the wait after a failed attempt, seconds.

        Args:
            attempt: 0 for the first failure; any size.
            retry_after_s: what the server asked for: the wait is at least that long, `most_s` or not.
            chance: 0 to 1, a random number: where between the ends of the jitter the wait lies.
        """
        low, high = self.jitter
        own_s = self._grown_s(attempt) * (low + (high - low) * chance)
        return max(own_s, retry_after_s or 0.0)

    def _grown_s(self, attempt: int) -> float:
        if not self.first_s:
            return 0.0
        try:
            return min(self.first_s * self.factor**attempt, self.most_s)
        except OverflowError:  # after a long weekend of failures: more than a float can hold
            return self.most_s
