"""Reading and writing beside each other: what a request costs, which limit a refusal is about, whose turn it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.localdrive.server.quota import Bucket, Minute
from daemon.outside.drive.lanes import (
    START_UNITS_PER_S,
    START_WRITES_PER_S,
    FairShare,
    Lane,
    Lanes,
    lane_of,
    price,
)


def lanes(units_per_minute: float = 325_000) -> Lanes:
    return Lanes(0.0, units_per_minute)


@pytest.mark.parametrize(
    ("kind", "units"),
    [
        ("get", 5),
        ("list", 100),
        ("changes", 100),
        ("download", 200),
        ("create", 50),
        ("update", 50),
        ("delete", 50),
        ("generateIds", 5),
        ("about", 5),
        ("chunk", 5),
    ],
)
def test_prices_are_drives(kind, units):
    assert price(kind) == units


@pytest.mark.parametrize("kind", ["create", "update", "delete", "chunk"])
def test_uploads_wait_with_the_writes(kind):
    assert lane_of(kind) is Lane.WRITES


def test_the_start_is_careful():
    one = lanes()

    assert (one.units.per_s, one.writes.per_s) == (START_UNITS_PER_S, START_WRITES_PER_S)
    assert START_UNITS_PER_S / price("download") == 10


def test_the_writes_of_one_delivery_go_together():
    """Two a second is a lasting rate: a series' folder, results and move need not be strung out along it."""
    one = lanes()
    for _ in range(8):
        assert one.wait_s("create", 0.0) == 0
        one.accepted(one.count("create", 0.0), 0.0)
    for _ in range(2):
        one.count("create", 0.0)

    assert one.wait_s("create", 0.0) > 0


def test_what_drive_documents_is_reached_within_seconds():
    """Twice as long, and a thousand files would take a tenth longer than they need."""
    one, now = lanes(), 0.0
    while one.units.per_s < 325_000 / 60 * 0.999:
        now += one.wait_s("download", now)
        one.accepted(one.count("download", now), now)

    assert 2 < now < 6


def test_a_server_of_our_own_is_used_at_once():
    assert lanes(1e9).units.per_s > 1e6


def test_the_bound_holds_for_reads_and_writes_together():
    one, now, spent = lanes(6_000), 0.0, 0.0
    while now < 600:
        for kind in ("download", "update"):
            while (wait_s := one.wait_s(kind, now)) > 0:
                now += wait_s
            one.accepted(one.count(kind, now), now)
            spent += price(kind)

    assert spent <= 100 * (now + 2)


class TestWhatARefusalIsAbout:
    def test_a_refused_read_slows_the_units(self):
        one = lanes()
        one.refused(one.count("download", 10.0), 10.0, None, 1.0)

        assert one.wait_s("download", 10.0) > 0
        assert one.wait_s("create", 10.0) > 0

    def test_a_refused_write_does_not_slow_reads(self):
        """The 750 GB day speaks as a rate limit on uploads; downloads must go on."""
        one = lanes()
        one.refused(one.count("create", 10.0), 10.0, 600.0, 1.0)

        assert one.wait_s("download", 10.0) == 0
        assert one.wait_s("chunk", 10.0) == 600

    def test_a_refused_chunk_pauses_uploads_and_counts_for_nothing(self):
        one = lanes()
        before = one.writes.recent_per_s(10.0)
        one.refused(one.count("chunk", 10.0), 10.0, None, 1.0)

        assert one.wait_s("create", 10.0) > 0
        assert one.wait_s("download", 10.0) == 0
        assert one.writes.recent_per_s(10.0) == before

    def test_a_write_that_is_refused_with_the_reads_is_no_word_about_writes(self):
        one = lanes()
        before = one.writes.per_s
        read, write = one.count("download", 10.0), one.count("create", 10.0)
        one.refused(read, 10.1, None, 1.0)
        one.refused(write, 10.1, None, 1.0)

        assert one.writes.per_s == before
        assert one.writes.paused_until <= 10.1

    def test_a_second_refused_write_without_a_refused_read_is(self):
        one = lanes()
        one.refused(one.count("download", 10.0), 10.0, None, 1.0)
        one.refused(one.count("create", 10.5), 10.6, None, 1.0)
        assert one.writes.paused_until <= 10.6
        one.refused(one.count("create", 10.8), 10.9, None, 1.0)

        assert one.writes.paused_until > 10.9

    def test_a_refused_read_in_between_clears_the_writes(self):
        one = lanes()
        for now in (10.0, 20.0):
            one.refused(one.count("download", now), now, None, 1.0)
            one.refused(one.count("create", now + 0.5), now + 0.6, None, 1.0)

        assert one.writes.paused_until <= 20.6

    def test_chunks_are_no_cheap_writes(self):
        """Their number would make writes look cheap, and a limit be tried too often."""
        one = lanes()
        one.count("create", 10.0)
        for _ in range(100):
            one.count("chunk", 10.0)

        assert one.writes.mean_units == 1

    def test_a_burst_that_was_refused_is_not_taken_for_the_limit(self):
        """Eight writes every ten seconds, on an account held to three a second and six at once."""
        one, now, refused = lanes(), 0.0, 0
        level, filled_at = 6.0, 0.0
        for number in range(60):
            now, left = max(now, 10.0 * number), 8
            while left:
                if (wait_s := one.wait_s("create", now)) > 0:
                    now += wait_s
                    continue
                ticket = one.count("create", now)
                level, filled_at = min(6.0, level + (now - filled_at) * 3.0), now
                if level >= 1.0:
                    level -= 1.0
                    one.accepted(ticket, now + 0.1)
                    left -= 1
                else:
                    one.refused(ticket, now + 0.1, None, 1.0)
                    refused += 1
                now += 0.05

        assert refused <= 3
        assert one.writes.per_s >= 2.0

    def test_where_both_are_at_their_limit_it_is_about_writes(self):
        """Laid to the units each time, their limit would shrink with every look beyond that of the writes."""
        one = lanes()
        for rate in (one.units, one.writes):
            rate.limit_per_s = rate.per_s
        for now in range(20):
            for _ in range(10):
                one.count("download", float(now))
            for _ in range(2):
                one.count("create", float(now))
        one.refused(one.count("create", 20.0), 20.0, None, 1.0)

        assert one.writes.paused_until > 20
        assert one.units.paused_until <= 20

    @pytest.mark.parametrize("model", ["bucket", "minute"])
    def test_two_writes_a_second_are_found_and_reads_use_the_rest(self, model):
        """Workers that read and workers that write, against an account held to two writes a second."""
        one, writes, bucket, minute = lanes(), Bucket(), Bucket(), Minute()
        ends = dict.fromkeys(("download", "create"), 0.0)
        counts = {(kind, taken): 0 for kind in ends for taken in (True, False)}
        while (now := min(ends.values())) < 360:
            kind = min(ends, key=lambda each: ends[each])
            wait_s = one.wait_s(kind, now)
            if wait_s > 0:
                # Whose turn it is, is not the subject here: the reader comes a little late.
                ends[kind] = now + wait_s + (0.002 if kind == "download" else 0.0)
                continue
            ticket = one.count(kind, now)
            ends[kind] = now = now + 0.01
            units = price(kind)
            taken = (
                bucket.take(units, 325_000 / 60, now)
                if model == "bucket"
                else minute.take(units, 325_000, now)
            )
            taken = taken and (kind == "download" or writes.take(1, 2.0, now))
            counts[kind, taken] += now > 240
            if taken:
                one.accepted(ticket, now)
            else:
                one.refused(ticket, now, None, 1.0)

        assert 0.85 * 240 <= counts["create", True] <= 240 + 10
        left = (325_000 / 60 * 120 - 240 * 50) / 200
        assert counts["download", True] >= 0.9 * left
        assert counts["download", False] + counts["create", False] <= 0.02 * left


class TestTurns:
    def had(self, share: FairShare, lane: Lane, rounds: int, units: dict[Lane, float]) -> float:
        """Let whoever is first go; return the lane's part of all units."""
        total = dict.fromkeys(Lane, 0.0)
        for _ in range(rounds):
            first = share.first()
            share.count(first, units[first])
            total[first] += units[first]
        return total[lane] / sum(total.values())

    @given(st.floats(5, 200), st.floats(5, 200))
    def test_where_both_wait_uploads_get_a_quarter(self, read_units, write_units):
        units = {Lane.READS: read_units, Lane.WRITES: write_units}
        part = self.had(FairShare(), Lane.WRITES, 2000, units)

        assert part == pytest.approx(0.25, abs=0.03)

    def test_an_idle_hour_of_uploads_saves_nothing_up(self):
        """Else results of a long night would stop the intake of the morning."""
        share = FairShare()
        for _ in range(1000):
            share.count(Lane.READS, 200)
        part = self.had(share, Lane.WRITES, 100, {Lane.READS: 200, Lane.WRITES: 50})

        assert part < 0.3
