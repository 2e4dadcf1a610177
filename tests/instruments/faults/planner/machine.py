"""Histories of people, of a Drive that lags and repeats itself, and of a daemon that dies: made up by hypothesis."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.instruments.faults.planner.checks import MASS, Checks
from tests.instruments.faults.planner.contents import SERIES, Content
from tests.instruments.faults.planner.people import BULK, People
from tests.instruments.faults.planner.world import ModelWorld, mixed

NUMBERS = st.integers(0, 40)
SERIES_NUMBERS = st.sampled_from([0, 0, 0, *range(len(SERIES))])
IMAGES = st.builds(
    Content,
    kind=st.just("image"),
    series=SERIES_NUMBERS,
    number=st.integers(1, 4),
    variant=st.sampled_from([0, 0, 1]),
)
CONTENTS = st.one_of(
    IMAGES,
    IMAGES,
    st.builds(Content, kind=st.just("image"), series=SERIES_NUMBERS, number=st.just(1), patient=st.just(1)),
    st.builds(Content, kind=st.sampled_from(["report", "junk", "archive"]), series=SERIES_NUMBERS),
)
THEN = st.sampled_from(["", "", "tick", "tick", "read", "rest"])
"""What the daemon does after something people did: nothing yet, every job once, reading only, all there is."""
COUNT: dict[str, int] = {"examples": 0, "rules": 0, "steps": 0, "crashes": 0, "requests": 0}
"""What all machines of this process did: a run that tried nothing proves nothing."""


class Planner(RuleBasedStateMachine):
    """After every rule `Checks.always` holds; at rest, and at the end, so does `Checks.at_rest`."""

    def __init__(self) -> None:
        super().__init__()
        self._patch = pytest.MonkeyPatch()
        self.world = ModelWorld(self._patch)
        self.people = People(self.world)
        self.checks = Checks(self.world, self.people)
        COUNT["examples"] += 1

    def teardown(self) -> None:
        try:
            self._end()
        finally:
            COUNT["steps"] += self.world.steps
            COUNT["crashes"] += self.world.crashes
            COUNT["requests"] += self.world.points
            self.world.close()
            self._patch.undo()

    def _end(self) -> None:
        """Faults stop; everything comes to rest, first by itself, then with what a person may do about it."""
        world = self.world
        world.drive.shuffle, world.drive.repeats, world.drive.page_size = None, False, 1000
        world.drive.swallows_next = False
        world.mortal(world.rest)
        self.checks.at_rest(crawled=False)
        world.true_up_and_rest()
        self.checks.at_rest(crawled=True)
        world.parts.context.ledger.files.retry(world.now)
        world.parts.context.ledger.revisions.retry(world.now)
        world.true_up_and_rest()
        self.checks.at_rest(crawled=True, retried=True)
        before = self._deliveries()
        world.restart(lose_hints=True)
        world.true_up_and_rest()
        self.checks.at_rest(crawled=True, retried=True)
        assert self._deliveries() == before, "a restart without hints changed what was at rest"

    def _deliveries(self) -> dict[str, tuple[int, int]]:
        return {
            item.file_id: (item.version, item.head)
            for item in self.world.drive.items.values()
            if item.file_id in self.world.drive.reserved and item.name != "held.tsv"
        }

    @invariant()
    def always(self) -> None:
        COUNT["rules"] += 1
        self.checks.always()

    @initialize(folder=NUMBERS, series=SERIES_NUMBERS, count=st.integers(1, 3))
    def begin(self, folder: int, series: int, count: int) -> None:
        self.people.upload_exam(folder, series, count)

    # ── inputs ───────────────────────────────────────────────────────────────────────────────────────────────

    def _later(self) -> None:
        self.world.wait(1.0)

    def _then(self, what: str) -> None:
        work = {"": lambda: None, "tick": self.world.tick, "read": self.world.read, "rest": self.world.rest}
        self.world.mortal(work[what])

    @rule(folder=NUMBERS, content=CONTENTS, then=THEN)
    def upload(self, folder: int, content: Content, then: str) -> None:
        self._later()
        self.people.upload(folder, content)
        self._then(then)

    @rule(folder=NUMBERS, series=SERIES_NUMBERS, count=st.integers(2, 4), then=THEN)
    def upload_exam(self, folder: int, series: int, count: int, then: str) -> None:
        self._later()
        self.people.upload_exam(folder, series, count)
        self._then(then)

    @rule(folder=NUMBERS, content=IMAGES)
    def late_slice(self, folder: int, content: Content) -> None:
        """Everything is at rest when it comes."""
        self.world.mortal(self.world.rest)
        self._later()
        self.people.upload(folder, content)

    @rule(folder=NUMBERS)
    def make_folder(self, folder: int) -> None:
        self.people.make_folder(folder)

    @rule(file=NUMBERS, content=CONTENTS, then=THEN)
    def upload_again(self, file: int, content: Content, then: str) -> None:
        self._later()
        self.people.replace(file, content)
        self._then(then)

    @rule(number=NUMBERS)
    def rename(self, number: int) -> None:
        self._later()
        self.people.rename(number)

    @rule(number=NUMBERS)
    def view(self, number: int) -> None:
        self.people.view(number)

    @rule(number=NUMBERS, then=THEN)
    def delete(self, number: int, then: str) -> None:
        self._later()
        self.people.delete(number)
        self._then(then)

    @rule(number=NUMBERS, then=THEN)
    def trash(self, number: int, then: str) -> None:
        self._later()
        self.people.trash(number)
        self._then(then)

    @rule(number=NUMBERS, then=THEN)
    def restore(self, number: int, then: str) -> None:
        self._later()
        self.people.restore(number)
        self._then(then)

    @rule(number=NUMBERS, folder=NUMBERS, then=THEN)
    def move(self, number: int, folder: int, then: str) -> None:
        self._later()
        self.people.move(number, folder)
        self._then(then)

    @rule(number=NUMBERS, folder=NUMBERS, then=THEN)
    def copy(self, number: int, folder: int, then: str) -> None:
        self._later()
        self.people.copy(number, folder)
        self._then(then)

    # ── deliveries ───────────────────────────────────────────────────────────────────────────────────────────

    @rule(number=NUMBERS, then=THEN)
    def edit_result(self, number: int, then: str) -> None:
        self.people.edit_result(number)
        self._then(then)

    @rule(number=NUMBERS, then=THEN)
    def trash_ours(self, number: int, then: str) -> None:
        self.people.trash_ours(number)
        self._then(then)

    @rule(number=NUMBERS, then=THEN)
    def restore_ours(self, number: int, then: str) -> None:
        self.people.restore_ours(number)
        self._then(then)

    @rule(number=NUMBERS, then=THEN)
    def delete_ours(self, number: int, then: str) -> None:
        self.people.delete_ours(number)
        self._then(then)

    @rule(number=NUMBERS, then=THEN)
    def move_result(self, number: int, then: str) -> None:
        self.people.move_result(number)
        self._then(then)

    @rule(number=NUMBERS, folder=NUMBERS, then=THEN)
    def move_delivery(self, number: int, folder: int, then: str) -> None:
        self.people.move_delivery(number, folder)
        self._then(then)

    @rule(number=NUMBERS)
    def rename_delivery(self, number: int) -> None:
        self.people.rename_delivery(number)

    # ── the daemon, piece by piece ───────────────────────────────────────────────────────────────────────────

    @rule()
    def poll(self) -> None:
        self.world.mortal(self.world.poll)

    @rule(most=st.integers(1, 5))
    def pay(self, most: int) -> None:
        self.world.mortal(lambda: self.world.pay(most))

    @rule()
    def dispatch(self) -> None:
        self.world.mortal(self.world.dispatch)

    @precondition(lambda self: self.world.queue)
    @rule(choice=NUMBERS)
    def step(self, choice: int) -> None:
        self.world.mortal(lambda: self.world.step(choice))

    @rule()
    def all_jobs(self) -> None:
        self.world.mortal(self.world.tick)

    @rule(seconds=st.sampled_from([1.0, 30.0, 121.0, 900.0, 2000.0, 90_000.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.wait(seconds)

    @rule()
    def comes_to_rest(self) -> None:
        self.world.mortal(self.world.rest)
        self.checks.at_rest(crawled=False)

    @rule()
    def is_crawled(self) -> None:
        self.world.mortal(self.world.true_up_and_rest)
        self.checks.at_rest(crawled=True)

    @rule()
    def is_crawled_early(self) -> None:
        """Listings have not caught up: they may show what was there some minutes ago."""
        self.world.mortal(self._crawl_and_tick)

    def _crawl_and_tick(self) -> None:
        self.world.parts.intake.true_up.enqueue()
        self.world.tick()

    # ── what goes wrong ──────────────────────────────────────────────────────────────────────────────────────

    @rule(lose_hints=st.booleans())
    def restart(self, lose_hints: bool) -> None:
        self.world.restart(lose_hints=lose_hints)

    @rule(after=st.integers(1, 60), rounds=st.integers(1, 3))
    def dies(self, after: int, rounds: int) -> None:
        """Between any two requests and commits, the token's among them."""
        self.world.crash(after, lambda: [self.world.tick() for _ in range(rounds)])

    @rule(after=st.integers(1, 8), folder=NUMBERS, content=IMAGES)
    def dies_polling(self, after: int, folder: int, content: Content) -> None:
        """With something to read: an empty page cannot be skipped."""
        self._later()
        self.people.upload(folder, content)
        self.world.crash(after, self.world.poll)

    @rule(seconds=st.sampled_from([10 * 365 * 86_400.0, -86_400.0, 3600.0, -3600.0]), restart=st.booleans())
    def clock_jumps(self, seconds: float, restart: bool) -> None:
        self.world.time.machine_off_s += seconds
        if restart:
            self.world.restart()

    @rule()
    def feed_swallows_the_next_change(self) -> None:
        self.world.drive.swallows_next = True

    @rule(size=st.sampled_from([1, 2, 3, 1000]), repeats=st.booleans(), seed=st.none() | st.integers(0, 99))
    def pages_come(self, size: int, repeats: bool, seed: int | None) -> None:
        """In pages of this size, entries twice, and in another order than they happened."""
        self.world.drive.page_size = size
        self.world.drive.repeats = repeats
        self.world.drive.shuffle = None if seed is None else mixed(seed)

    @rule(seconds=st.sampled_from([0.0, 60.0, 300.0]))
    def listings_lag(self, seconds: float) -> None:
        self.world.drive.lag_s = seconds

    @rule(seconds=st.sampled_from([0.0, 5.0, 60.0]))
    def feed_lags(self, seconds: float) -> None:
        self.world.drive.feed_lag_s = seconds

    @rule(keeps=st.booleans())
    def old_revisions_can_be_read(self, keeps: bool) -> None:
        self.world.drive.keeps_revisions = keeps

    @rule()
    def page_tokens_expire(self) -> None:
        self.world.drive.tokens_expire()

    @precondition(lambda self: not self.people.bulk_left)
    @rule(series=SERIES_NUMBERS, back=st.booleans())
    def a_whole_exam_leaves_at_once(self, series: int, back: bool) -> None:
        """It is held for a person, and coming back ends that."""
        world, drive = self.world, self.world.drive
        world.mortal(world.true_up_and_rest)
        exam = drive.add("large exam", world.source, None)
        for number in range(1, BULK + 1):
            drive.add("slice", exam, Content(series=series, number=100 + number).data)
        world.mortal(world.true_up_and_rest)
        self.people.bulk_left = True
        drive.change(exam, explicitly_trashed=True)
        world.mortal(world.rest)
        held = world.rows("SELECT count(*) FROM file WHERE current = 1 AND held_code = ?", MASS)[0][0]
        total = world.rows("SELECT count(*) FROM file WHERE current = 1 AND whereabouts = 'PRESENT'")[0][0]
        swallowed = exam in drive.lied_about
        assert swallowed or held >= BULK or (total + BULK) / 5 >= BULK, "a mass left, and nobody is told"
        if back:
            drive.change(exam, explicitly_trashed=False)
