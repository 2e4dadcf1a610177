"""How many requests a second Drive accepts: pure arithmetic; no clock, no lock, no I/O.

The limit is not documented for every account, it changes, and only refusals show it. Three known ways to find such a
limit were compared:

* Netflix's concurrency limits follow latency. A quota refuses instead of queueing, and its answers are as fast when it
  is nearly used up as when it is unused: latency says nothing about a quota.
* rclone's pacer widens the gap between requests at a refusal and narrows it with every success. It does not remember
  where the limit was, so it runs into the limit again and again.
* botocore's adaptive mode remembers the rate at which it was refused, and comes back to it along the curve of TCP
  CUBIC: quickly at first, flat near the limit, then faster and faster. This memory avoids refusals.

This module follows botocore, with three changes. First, the limit is not the rate at the moment of a refusal but the
units *counted* up to it, refused requests included. That is the quota itself, give or take one request, so a cut of 6 %
is enough where botocore cuts 30 %. Second, the curve advances with the budget used, not with time, because an idle
client learns nothing. Third, the sum of the last minute is limited as well, because a server that meters a sliding
minute keeps refusing for long after a burst, at any rate.

These counts show both known kinds of metering. A server with a *token bucket* has an empty bucket at each refusal, so
the units sent between two refusals are the units it granted. A server with a *sliding minute* refuses at the same sum
over the last minute each time: two refusals in a row at the same sum identify it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from daemon.rules.backoff import Backoff

WINDOW_S = 60.0
SLOT_S = 0.05
"""The resolution of the meter; the jitter of the latency makes a finer one useless."""
BURST_S = 0.5
"""Unused rate may be saved up for so long, for threads that wake late."""

CUT = 0.94
"""Where the curve begins, as a fraction of the measured limit."""
RETURN_S = 22.0
"""Seconds of full use until the curve is back at the limit; after as many more it is 6 % above."""
RETURN_REQUESTS = 150
"""At least so many requests are sent between two attempts beyond the limit: each attempt costs a refusal or two."""
RETURN_MOST_S = 60.0
RETURN_GUESSED_S = 12.0
"""The same where the limit was estimated, not measured."""
GONE_AT = 1.2
"""After so many further returns without a refusal the limit no longer exists, and growth is free."""
DOUBLE_S = 24.0
"""Free growth: seconds of full use until the rate has doubled."""
CLIMB_S = 3.0
"""The same between the careful start and the expected rate, until the first refusal."""
GROWTH_MOST = 4.0
"""The rate grows beyond the known limit only while at least a quarter of it is used."""

FILLED = 0.95
"""And only while the last minute is as full as it may be: a gap in it hides the limit."""

SHARP_CUT = 0.75
"""The cut when nothing could be measured."""
CUT_MOST = 0.5
TWICE_CUT_MOST = 0.25
"""The deepest cuts after one refusal, and after two that agree: another client may have used the quota, and then our own
count says little."""
NEAR = 1.15
"""Up to this multiple of the limit a refusal confirms it; above it no limit is known."""
SHORT_GAP_S, LONG_GAP_S = 2.0, 40.0
RECENT_S = 10.0
JUST_S = 1.0
SAME = 0.005
FULL = 0.998
"""How far the last minute is filled while the curve is below its limit."""

SILENCE_S = 4.0
"""A bucket's debt of a few requests is paid sooner; a longer row of refusals has another reason."""
PAUSE_MOST_S = 8.0
SILENT_FOR_LONG_S = 120.0
LONG_PAUSE_MOST_S = 64.0
PROBE_LOST_S = 2.0
LOOK_AGAIN_S = 0.05
LEAST_PER_S = 0.01
LEAST_WAIT_S = 1e-6


class Meter:
    """The units sent in the last minute, in slots of 50 ms."""

    def __init__(self) -> None:
        self._slots: deque[tuple[float, float]] = deque()
        self._sum = 0.0

    def add(self, now: float, units: float) -> None:
        self._sum += units
        if self._slots and now - self._slots[-1][0] < SLOT_S:
            at, had = self._slots[-1]
            self._slots[-1] = (at, had + units)
        else:
            self._slots.append((now, units))

    def sum(self, now: float) -> float:
        """Return the units of the last minute; older ones are dropped."""
        while self._slots and self._slots[0][0] <= now - WINDOW_S:
            self._sum -= self._slots.popleft()[1]
        if not self._slots:
            self._sum = 0.0  # Rounding must not add up over months.
        return self._sum

    def since(self, at: float) -> float:
        """Return the units sent after `at`, a time within the last minute."""
        total = 0.0
        for when, units in reversed(self._slots):
            if when <= at:
                break
            total += units
        return total

    def room_at(self, now: float, limit: float) -> float:
        """Return when the sum is at most `limit`, or zero, if nothing more is sent."""
        left = self.sum(now)
        for at, units in self._slots:
            if left <= limit:
                break
            left -= units
            now = at + WINDOW_S
        return now


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that was sent.

    Args:
        at: when.
        units: its price.
        minute: the units of the minute before it, itself not counted.
    """

    at: float
    units: float
    minute: float


class Rate:
    """A rate limit that adapts itself. All times are monotonic seconds; units may be anything that is counted.

    A request may be sent while the bucket is not in debt, and may overdraw it, so that cheap requests never starve an
    expensive one; the next one waits until the debt is paid. After a pause nothing is saved up: the waiting requests are
    sent one by one. After a refusal one request is sent as a probe, and the others wait for its answer.

    Args:
        most_per_s: an upper bound.
        start_per_s: the first rate.
        expected_per_s: the documented rate. Below it the rate grows quickly, above it slowly.
        first_pause_s: about the pause after the first of several refusals in a row; it doubles with each.
        burst_s: how much may be saved up until the first refusal, seconds at the present rate.
    """

    def __init__(
        self,
        now: float,
        *,
        most_per_s: float,
        start_per_s: float,
        expected_per_s: float = 0.0,
        first_pause_s: float = 0.5,
        burst_s: float = BURST_S,
    ) -> None:
        self.most_per_s = max(most_per_s, LEAST_PER_S)
        self.per_s = min(max(start_per_s, LEAST_PER_S), self.most_per_s)
        self.limit_per_s: float | None = None
        """The limit as measured or estimated last; None: never refused."""
        self.paused_until = now
        self._pauses = Backoff(first_pause_s, PAUSE_MOST_S, jitter=(0.5, 1.0))
        self._long_pauses = replace(self._pauses, most_s=LONG_PAUSE_MOST_S)
        self._expected_per_s = expected_per_s
        self._burst_s = burst_s
        self._begun_at = now
        self._meter = Meter()
        self.minute_limit: float | None = None
        """The largest sum over a minute that the server accepts; None: it is not known to meter a sliding minute."""
        self._level = self.per_s * burst_s
        self._filled_at = now
        self.mean_units = 0.0
        """The mean price of recent requests; 0: none was sent."""
        # Along the curve.
        self._used_s = 0.0
        self._return_s = RETURN_S
        # The last refusal, and the row of refusals it ended.
        self._cut_at = float("-inf")
        self._counted_from = float("-inf")
        self._minute_at_cut = 0.0
        self._row = 0
        self._row_began_at = now
        self._row_units = 0.0
        self._probe_until = now

    # ── may I send

    def wait_s(self, now: float, units: float) -> float:
        """Return how long the next request has to wait, seconds; 0: it may be sent."""
        self._fill(now)
        wait_s = max(self.paused_until - now, 0.0) + max(-self._level / self.per_s, 0.0)
        if self._row and self._probe_until > now:
            wait_s = max(wait_s, min(self._probe_until - now, LOOK_AGAIN_S))
        if self.minute_limit is not None:
            limit = self.minute_limit * max(FULL, self._curve())
            wait_s = max(wait_s, self._meter.room_at(now, limit - units) - now)
        # Rounding leaves debts smaller than the clock can measure; the wait for them would never end.
        return wait_s if wait_s > LEAST_WAIT_S else 0.0

    def spend(self, now: float, units: float) -> Sent:
        """Count a request that is sent; keep the result until its answer is there."""
        self._fill(now)
        sent = self.sent(now, units)
        if units:
            self._level -= units
            self._meter.add(now, units)
            self.mean_units = units if not self.mean_units else self.mean_units * 0.98 + units * 0.02
        if self._row:
            self._probe_until = now + PROBE_LOST_S
        return sent

    def sent(self, now: float, units: float) -> Sent:
        """Return what to judge a request by that is sent now; nothing is counted."""
        return Sent(now, units, self._meter.sum(now))

    def is_at_limit(self, now: float) -> bool:
        """Return whether a refusal is likely: the rate is in use at the known limit, or one has just come."""
        if now - self._cut_at < JUST_S:
            return True
        limit = self.limit_per_s
        return limit is not None and self.per_s >= limit * 0.98 and self.recent_per_s(now) >= limit * 0.9

    def recent_per_s(self, now: float) -> float:
        """Return the rate of the last ten seconds."""
        return self._meter.since(now - RECENT_S) / min(RECENT_S, max(now - self._begun_at, 1.0))

    # ── what came of it

    def accepted(self, now: float, sent: Sent) -> None:
        """Drive accepted a request: the curve advances."""
        if sent.at <= self._cut_at:
            return  # The answer to a request from before the refusal says nothing about now.
        if self._row > 1:
            self._end_silence(sent)
        self._row = 0
        if self.limit_per_s is None:
            if self._is_used(now):
                double_s = CLIMB_S if self.per_s < self._expected_per_s else DOUBLE_S
                self.per_s *= 2 ** (sent.units / self.per_s / double_s)
        elif self.per_s < self.limit_per_s or self._is_used(now):
            self._used_s += sent.units / self.per_s
            self.per_s = self.limit_per_s * self._curve()
        self.per_s = min(max(self.per_s, LEAST_PER_S), self.most_per_s)

    def refused(self, now: float, sent: Sent, retry_after_s: float | None, jitter: float) -> None:
        """Drive refused a request for its rate. Requests that were sent together count as one refusal.

        Args:
            retry_after_s: `Retry-After`, already bounded; None when there was none.
            jitter: a random number from 0 to 1; spreads daemons that were refused together.
        """
        self._fill(now)
        # With a larger burst the next refusal would measure the burst and not the limit.
        self._burst_s = min(self._burst_s, BURST_S)
        if sent.at > self._cut_at and now >= self.paused_until:
            self._cut(now, sent)
            pauses = self._pauses if now - self._row_began_at < SILENT_FOR_LONG_S else self._long_pauses
            self.paused_until = now + pauses.wait_s(self._row - 1, chance=jitter)
        if retry_after_s is not None:
            self.paused_until = max(self.paused_until, now + retry_after_s)
        self._level = min(self._level, 0.0)
        self._filled_at = max(self._filled_at, self.paused_until)

    # ── what is learnt from it

    def _cut(self, now: float, sent: Sent) -> None:
        gap_s, was = sent.at - self._counted_from, self._minute_at_cut
        counted = self._meter.since(self._counted_from) if gap_s < WINDOW_S else 0.0
        self._cut_at = self._counted_from = now
        self._probe_until = now
        self._row += 1
        self._row_units += sent.units
        if self._row > 1:
            # Nothing was accepted in between, so only the sum can have become smaller.
            self._minute_at_cut = min(was, sent.minute)
            return
        self._row_began_at, self._row_units = sent.at, sent.units
        same = gap_s < WINDOW_S and abs(sent.minute - was) <= sent.minute * SAME + 2 * sent.units
        # While nothing leaves the minute its sum is the same for every server.
        same = same and was + counted - sent.minute > 0
        if not same or gap_s >= LONG_GAP_S:
            # Otherwise a limit that sinks a little each time would count as the same all the way down.
            self._minute_at_cut = sent.minute
        known = self.limit_per_s is not None and self.per_s <= self.limit_per_s * NEAR
        if same:
            self.learn(sent.minute / WINDOW_S, minute=sent.minute, cut_most=TWICE_CUT_MOST)
        elif known and gap_s >= LONG_GAP_S:
            self.learn(sent.minute / WINDOW_S, minute=sent.minute)
        elif not known:
            self.learn(min(self.recent_per_s(now), self.per_s) * 0.9, guessed=True)
        elif gap_s >= SHORT_GAP_S:
            self.learn(min(counted / gap_s, self.per_s))
        else:
            self.learn(self.per_s * SHARP_CUT / CUT, guessed=True)

    def _end_silence(self, sent: Sent) -> None:
        """Learn from the first accepted request after several refusals in a row."""
        self._counted_from = sent.at
        silence_s = sent.at - self._row_began_at
        if silence_s < SILENCE_S:
            self.learn(self.per_s * SHARP_CUT / CUT, guessed=True)
            return
        # A sliding minute accepts again somewhere between the sum refused last and the sum accepted now; a very slow
        # bucket accepts as soon as the refused requests are paid for.
        by_minute = (self._minute_at_cut + sent.minute) / 2 / WINDOW_S
        by_debt = self._row_units / silence_s
        limit = min(max(by_minute, by_debt), self.limit_per_s or self.per_s)
        minute = limit * WINDOW_S if by_minute >= by_debt else None
        self.learn(limit, minute=minute, guessed=True, cut_most=TWICE_CUT_MOST)

    def learn(
        self,
        limit_per_s: float,
        *,
        minute: float | None = None,
        guessed: bool = False,
        cut_most: float = CUT_MOST,
    ) -> None:
        """Begin a new curve toward a limit.

        Args:
            limit_per_s: the limit, bounded by `cut_most` and `most_per_s`.
            minute: the largest sum over a minute that the server accepts; None: it does not meter a sliding minute.
            guessed: the limit was estimated, not measured; the curve returns to it sooner.
            cut_most: the new limit is at least this fraction of the present rate.
        """
        limit_per_s = max(limit_per_s, self.per_s * cut_most)
        if minute is not None:
            minute = max(minute, limit_per_s * WINDOW_S)
        self.limit_per_s = min(max(limit_per_s, LEAST_PER_S), self.most_per_s)
        self.minute_limit = minute
        self._used_s = 0.0
        spaced_s = RETURN_REQUESTS * self.mean_units / self.limit_per_s
        self._return_s = RETURN_GUESSED_S if guessed else min(max(RETURN_S, spaced_s), RETURN_MOST_S)
        self.per_s = max(self.limit_per_s * CUT, LEAST_PER_S)

    def _curve(self) -> float:
        """Return the allowed rate as a fraction of the limit: from CUT, flat around 1, then steeper and steeper."""
        returns = self._used_s / self._return_s - 1
        if returns <= GONE_AT:
            return 1 + (1 - CUT) * returns**3
        gone_s = (returns - GONE_AT) * self._return_s
        return (1 + (1 - CUT) * GONE_AT**3) * 2 ** min(gone_s / DOUBLE_S, 64.0)

    def _is_used(self, now: float) -> bool:
        if self.minute_limit is not None:
            return self._meter.sum(now) >= self.minute_limit * FILLED
        allowed_s = min(max(now - self._begun_at, 1.0), WINDOW_S)
        return self._meter.sum(now) * GROWTH_MOST >= self.per_s * allowed_s

    def _fill(self, now: float) -> None:
        if now > self._filled_at:
            self._level = min(self._level + (now - self._filled_at) * self.per_s, self.per_s * self._burst_s)
            self._filled_at = now
