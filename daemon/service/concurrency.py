"""How many transfers are worth having under way: pure arithmetic, no clock, no lock.

More at once help as long as each of them takes as long as it would alone: then the line only waits. When each takes
longer the more there are, they share what there is (a narrow line, a quota, a slow disk), and more of them cost
memory, connections and timeouts for nothing. So the number follows the ratio of the time that a transfer takes when
little is under way to the time that it takes now, as Netflix's gradient does, with the square root of the number as
room to grow. Times of small and large files are not compared with each other: each size has a base of its own.

It begins with as many as it may have. The base is what transfers take by twos: from time to time a few are let
through like that, sooner where they have taken long for a while, because lines change. The base never follows the
times of now by itself: then each rise would allow the next one.
"""

from __future__ import annotations

import math
from collections import defaultdict

QUIET = 2
"""Few enough to see what a transfer takes when the line is quiet."""
LEAST_SEEN = 8
"""Transfers between two decisions; twice the number under way, when that is more."""
TOLERANCE = 1.5
CHANGE = 0.5
FIRST_LOOK = 20
LOOK_EVERY = 200
"""So many decisions lie between two looks at the base, of two decisions each."""
LOOK_WHEN_LONG = 20
"""So many decisions with long times in a row are reason enough."""


class InFlight:
    """The number of transfers to have under way, between 1 and `most`.

    Args:
        most: an upper bound, at least 1.
    """

    def __init__(self, most: int) -> None:
        self._most = max(most, 1)
        self._target = float(self._most)
        self._base_s: dict[int, float] = {}
        self._took_s: defaultdict[int, list[float]] = defaultdict(list)
        self._seen = 0
        self._was_full = False
        self._long = 0
        self._until_look = FIRST_LOOK
        self._looks = 0
        """Decisions left of a look at the base: first those that began before it must end, then it is measured."""

    @property
    def number(self) -> int:
        """How many transfers there should be now."""
        return min(QUIET, self._most) if self._looks else max(1, min(self._most, int(self._target)))

    def done(self, took_s: float, size_bytes: int, under_way: int) -> None:
        """A transfer succeeded.

        Args:
            took_s: from its start to its end, its waits for the quota included.
            under_way: how many there were when it ended, itself included.
        """
        self._took_s[_class(size_bytes)].append(max(took_s, 1e-6))
        self._was_full = self._was_full or under_way >= self.number
        self._seen += 1
        if self._seen >= max(LEAST_SEEN, 2 * int(self._target)):
            self._decide()
            self._took_s.clear()
            self._seen, self._was_full = 0, False

    def _decide(self) -> None:
        means = {size: sum(times) / len(times) for size, times in self._took_s.items()}
        if self._looks:
            self._looks -= 1
            if not self._looks:
                self._base_s.update(means)
                self._long, self._until_look = 0, LOOK_EVERY
            return
        for size, mean in means.items():
            self._base_s[size] = min(self._base_s.get(size, mean), mean)
        if not self._was_full:
            return
        expected = sum(self._base_s[size] * len(times) for size, times in self._took_s.items())
        ratio = TOLERANCE * expected / sum(sum(times) for times in self._took_s.values())
        self._long = self._long + 1 if ratio < 1 else 0
        target = self._target * max(0.5, min(1.0, ratio)) + math.sqrt(self._target)
        self._target += (target - self._target) * CHANGE
        self._target = max(1.0, min(self._target, float(self._most)))
        self._until_look -= 1
        if self._until_look <= 0 or self._long >= LOOK_WHEN_LONG:
            self._looks = 2


def _class(size_bytes: int) -> int:
    """Return the size's class: 64 KB and less, 256 KB, 1 MB …"""
    return max(0, (size_bytes >> 16).bit_length() + 1) // 2
