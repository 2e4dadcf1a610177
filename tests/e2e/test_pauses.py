"""A pause of the whole, or of a part, harms no item: nothing is held, given up or closed early, and nothing spins."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.cli.phantom import Phantom, write_series
from daemon.outside.volumes import nifti
from daemon.rules import breakers
from daemon.rules.backoff import Backoff
from daemon.rules.codes import Code
from daemon.rules.errors import NotThere, PageTokenRefused, Refused, Scope, Transient, Trouble
from daemon.rules.outcomes import Filed
from daemon.service.suspensions import suspend_loop
from tests.support.commits import around_commits
from tests.support.exams import QUIET, delivered, exam, late_slice, revisions, settled_down
from tests.support.world import RunningDaemon, World


def rounds(running: RunningDaemon, seconds: float) -> None:
    """Let the daemon work on for a while: a tenth of a second lies between two rounds at least."""
    seen = running.round_count
    running.until(lambda: running.round_count >= seen + seconds / 0.1)


def paused(running: RunningDaemon) -> list[Scope]:
    return [entry.scope for entry in running.parts.context.breakers.suspensions()]


@pytest.mark.parametrize("reason", ["accessNotConfigured", "dailyLimitExceeded"])
def test_a_service_that_is_refused_holds_no_revision(
    world: World, running: RunningDaemon, reason: str
) -> None:
    """The inputs of a late slice's revision are fetched again: that Drive refuses everybody says nothing of them."""
    exam(world, "exam", seed=1, leave_out=(3,))
    delivered(world, running, {1: (1, 3)})
    world.drive.fault(r"IM0001|alt=media", status=403, reason=reason, after=1, times=3)

    late_slice(world, "exam", 3, seed=1)
    running.until(
        lambda: Scope.SERVICE in paused(running) or bool(running.parts.context.ledger.revisions.held())
    )
    assert running.parts.context.ledger.revisions.held() == []
    running.parts.context.breakers.probe_now()
    world.drive.clear_faults()

    delivered(world, running, {1: (2, 4)})
    assert world.held() == []


def test_paused_downloads_are_not_asked_for_again_and_again(world: World, running: RunningDaemon) -> None:
    """A conversion that needs inputs back waits for the probe like every download."""
    exam(world, "exam", seed=2, leave_out=(3,))
    delivered(world, running, {2: (1, 3)})
    tried = 0
    fetch = running.parts.context.drive.download

    def closed(file: object, target: Path, **kwargs: object) -> None:
        nonlocal tried
        if running.parts.context.ledger.revisions.due(1e12, ["SETTLED"], 1):  # type: ignore[list-item]
            tried += 1
            raise Transient("RATE_LIMITED", "too much", scope=Scope.DOWNLOADS)
        fetch(file, target, **kwargs)  # type: ignore[arg-type]

    running.parts.context.drive.download = closed  # type: ignore[method-assign,assignment]
    late_slice(world, "exam", 3, seed=2)
    running.until(lambda: tried > 0)
    rounds(running, 2.0)
    running.parts.context.drive.download = fetch  # type: ignore[method-assign]

    assert tried < 5
    running.parts.context.breakers.probe_now()
    delivered(world, running, {2: (2, 4)})


def test_only_an_upload_shows_that_uploads_work_again(world: World, running: RunningDaemon) -> None:
    """Ids may be reserved while the Drive is full; each series more would let all try their uploads at once."""
    exam(world, "first", seed=3, leave_out=(3,))
    delivered(world, running, {3: (1, 3)})
    world.drive.fault(r"/upload/", status=403, reason="storageQuotaExceeded", times=-1)
    exam(world, "second", seed=4)
    running.until(lambda: Scope.UPLOADS in paused(running))
    opened = []
    really = running.parts.context.breakers.restore
    running.parts.context.breakers.restore = lambda scope: bool(opened.append(scope)) or really(scope)  # type: ignore[method-assign]

    late_slice(world, "first", 3, seed=3)
    newest = running.parts.context.ledger.revisions.newest
    running.until(lambda: (row := newest(1)) is not None and (row.n, row.state) == (2, "RESERVED"))

    assert Scope.UPLOADS not in opened
    world.drive.clear_faults()
    running.parts.context.breakers.probe_now()
    delivered(world, running, {3: (2, 4), 4: (1, 4)})


def test_an_outcome_that_cannot_be_written_holds_its_item(world: World, running: RunningDaemon) -> None:
    """Tried again at once, it would fail at once, for ever."""
    files = running.parts.context.ledger.files
    apply, tried = files.apply, 0
    paths = exam(world, "exam", seed=7)
    delivered(world, running, {7: (1, 4)})

    def fails(row: object, outcome: object, now: float, clock_s: float) -> None:
        nonlocal tried
        if isinstance(outcome, Filed):
            tried += 1
            raise UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed")
        apply(row, outcome, now, clock_s)  # type: ignore[arg-type]

    files.apply = fails  # type: ignore[method-assign,assignment]
    world.drop(paths[0], to="odd")
    running.until(lambda: tried > 0)
    rounds(running, 2.0)

    assert tried == 1
    assert [row.held_code for row in files.held()] == ["BUG"]


def by_hand(running: RunningDaemon, true: Callable[[], bool]) -> None:
    """Make rounds, each step ended before the next round, until `true()`."""
    for _ in range(1000):
        if true():
            return
        running.round()
        assert running.parts.workers.drain(30)
    raise AssertionError("what the test waits for did not happen")


def dispatched(running: RunningDaemon) -> None:
    """Take what is due twenty times, without a word from Drive in between."""
    for _ in range(20):
        running.rounds.dispatch()
        assert running.parts.workers.drain(30)


class Refusing:
    """The ledger refuses the commits of the threads whose names begin with `threads`, if any."""

    def __init__(self) -> None:
        self.threads = ""
        self.count = 0

    def commit(self, _: sqlite3.Connection, really: Callable[[], object]) -> None:
        if self.threads and threading.current_thread().name.startswith(self.threads):
            self.count += 1
            full = sqlite3.OperationalError("database or disk is full")
            full.sqlite_errorname = "SQLITE_FULL"
            raise full
        really()


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Refusing:
    """Named before `running`, which opens the ledger."""
    refusing = Refusing()
    monkeypatch.setattr(sqlite3, "connect", around_commits(refusing.commit))
    return refusing


@pytest.mark.parametrize("step", ["download", "convert"])
def test_an_outcome_that_the_ledger_refuses_pauses_the_service(
    world: World, refused: Refusing, running: RunningDaemon, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Neither the outcome nor a hold or a wait can be committed: the row is due again at once, and must not spin."""
    monkeypatch.setattr(breakers, "PROBES", Backoff(100.0, 120.0))
    running.rest()
    refused.threads = step
    exam(world, "exam", seed=16)
    world.drive.scan()
    by_hand(running, lambda: refused.count > 0)
    dispatched(running)
    refused.threads = ""
    tried = refused.count

    # Each free worker may have been at it when the first one failed; each tries its outcome, and then a wait.
    assert tried <= 2 * running.parts.settings.work.transfer_workers
    [closed] = running.parts.context.breakers.suspensions()
    assert (closed.scope, closed.code) == (Scope.SERVICE, "LEDGER_FULL")
    running.parts.context.breakers.probe_now()
    by_hand(running, lambda: bool(world.deliveries()))
    assert running.standing.held_count() == 0


def test_a_fault_while_an_outcome_is_written_pauses_the_service(
    world: World, running: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the hold for the bug can be written: whatever it is, the machine must not be kept busy with it."""
    monkeypatch.setattr(breakers, "PROBES", Backoff(100.0, 120.0))
    running.rest()
    files = running.parts.context.ledger.files
    apply, hold, tried = files.apply, files.hold, 0

    def fails(*_: object) -> None:
        nonlocal tried
        tried += 1
        raise sqlite3.IntegrityError("datatype mismatch")

    files.apply = files.hold = fails  # type: ignore[method-assign,assignment]
    exam(world, "exam", seed=17)
    world.drive.scan()
    by_hand(running, lambda: tried > 0)
    dispatched(running)
    files.apply, files.hold = apply, hold  # type: ignore[method-assign]

    assert tried <= 2 * running.parts.settings.work.transfer_workers
    [closed] = running.parts.context.breakers.suspensions()
    assert (closed.scope, closed.code) == (Scope.SERVICE, "LEDGER_FAILED")
    running.parts.context.breakers.probe_now()
    by_hand(running, lambda: bool(world.deliveries()))
    assert running.standing.held_count() == 0


def test_a_404_on_what_has_no_id_pauses_the_service(world: World, running: RunningDaemon) -> None:
    """A proxy's 404 to the request for a start token, say: the loops go on, and it is said what they wait for."""
    exam(world, "exam", seed=18)
    delivered(world, running, {18: (1, 4)})
    world.drive.fault("/changes/startPageToken", status=404, reason="notFound", times=-1)

    def lost_and_paused() -> bool:
        # Again and again: a poll that is under way writes the page token it has just got.
        shutil.rmtree(running.parts.settings.cache_dir, ignore_errors=True)
        return paused(running) == [Scope.SERVICE]

    running.until(lost_and_paused)
    [closed] = running.parts.context.breakers.suspensions()
    assert closed.code == "PAGE_TOKEN_REFUSED"
    world.drive.clear_faults()
    running.parts.context.breakers.probe_now()
    exam(world, "another", seed=19)

    delivered(world, running, {18: (1, 4), 19: (1, 4)})


@pytest.mark.parametrize(
    "trouble", [NotThere("it is gone"), PageTokenRefused("no"), Refused(Code.FORBIDDEN, "what")]
)
def test_whatever_a_loop_meets_pauses_the_service(running: RunningDaemon, trouble: Trouble) -> None:
    """Each kind of trouble is made in its own way; in a loop all of them concern the whole."""
    running.rest()

    suspend_loop(running.parts.context, trouble)

    [closed] = running.parts.context.breakers.suspensions()
    assert (closed.scope, closed.code, closed.what) == (Scope.SERVICE, trouble.code, trouble.what)


def test_a_pause_with_a_full_spool_closes_no_series(tmp_path: Path) -> None:
    """While a person's pause lasts nothing is closed early, and nothing is said to be too large."""
    with World(tmp_path, {"series.quiet_s": 60.0, "work.spool_max_gb": 0.00003}) as world:
        for seed in (1, 2):
            write_series(
                world.source / "exam" / str(seed), Phantom(seed=seed, slices=12, rows=32, columns=32)
            )
        with RunningDaemon(world) as running:
            table = running.parts.context.ledger.revisions
            running.until(lambda: running.parts.workers.space_blocked and bool(table.gathering()))
            running.parts.context.breakers.pause()
            running.until(lambda: not running.parts.workers.running())
            before = [row.key for row in table.gathering()]
            rounds(running, 2.0)

            assert table.held() == []
            assert [row.key for row in table.gathering()] == before


def test_a_full_drive_is_waited_for_not_blamed_on_the_spool(tmp_path: Path) -> None:
    """Results that cannot go up fill the spool: that ends with the pause, and no series is too large for it."""
    with World(tmp_path, {**QUIET, "work.spool_max_gb": 0.00004}) as world:
        world.drive.fault(r"/upload/", status=403, reason="storageQuotaExceeded", times=-1)
        write_series(world.source / "first", Phantom(seed=1, slices=6, rows=32, columns=32))
        with RunningDaemon(world) as running:
            running.until(lambda: Scope.UPLOADS in paused(running))
            write_series(world.source / "second", Phantom(seed=2, slices=30, rows=32, columns=32))
            running.until(lambda: running.parts.workers.space_blocked)
            rounds(running, 4.0)
            ledger = running.parts.context.ledger

            assert running.parts.context.spool.used_bytes < 45_000
            assert ledger.revisions.held() == []
            assert ledger.files.held() == []
            world.drive.clear_faults()
            running.parts.context.breakers.probe_now()
            running.until(lambda: sorted(inputs for _, inputs in revisions(world).values()) == [6, 30])


def test_a_feed_that_refuses_every_token_is_asked_again_later(world: World, running: RunningDaemon) -> None:
    """One new start token is the answer to a refused one; a second refusal is a trouble."""
    exam(world, "exam", seed=9)
    delivered(world, running, {9: (1, 4)})
    world.drive.clear_requests()
    world.drive.fault(r"/changes\?", status=404, reason="notFound", times=-1)
    running.until(lambda: Scope.SERVICE in paused(running), 10)
    assert world.drive.requests()["by_kind"].get("startPageToken", 0) < 20
    world.drive.clear_faults()
    settled_down(world, running)

    delivered(world, running, {9: (1, 4)})


def test_a_report_that_cannot_be_written_pauses_nothing(world: World, running: RunningDaemon) -> None:
    """`held.tsv` must never break the work: it is made anew a minute later."""
    (world.source / "cut.dcm").write_bytes(exam(world, "exam", seed=10)[0].read_bytes()[:-50])
    running.until(lambda: len(world.held()) == 1)
    (world.output / "held.tsv").unlink()
    world.drive.scan()
    world.drive.fault("nothing")
    suspended, breakers = [], running.parts.context.breakers
    suspend = breakers.suspend
    breakers.suspend = lambda trouble, now: (suspended.append(trouble.code), suspend(trouble, now))[1]  # type: ignore[method-assign]

    (world.source / "cut2.dcm").write_bytes((world.source / "cut.dcm").read_bytes()[:-50])
    running.until(lambda: len(world.held()) == 2)

    assert suspended == []


def test_run_once_ends_in_order_when_the_report_cannot_be_written(world: World) -> None:
    paths = exam(world, "exam", seed=11)
    (world.source / "cut.dcm").write_bytes(paths[0].read_bytes()[:-50])
    assert world.run_once() == 3
    (world.output / "held.tsv").unlink()
    (world.source / "cut2.dcm").write_bytes(paths[1].read_bytes()[:-50])

    assert world.run_once() == 3
    assert len(world.held()) == 2


def test_a_full_disk_is_no_fault_of_ours(
    world: World, running: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever write meets it: the series waits, and nobody is told to report a bug."""
    really, met = nifti.convert, []

    def full(*args: object, **kwargs: object) -> object:
        if met:
            return really(*args, **kwargs)  # type: ignore[arg-type]
        met.append(1)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(nifti, "convert", full)
    exam(world, "exam", seed=13)
    running.until(lambda: bool(met))

    delivered(world, running, {13: (1, 4)})
    assert not running.parts.context.ledger.database.value("SELECT 1 FROM history WHERE event = 'Held'")


def test_a_lost_login_while_inputs_are_fetched_again_is_not_their_end(
    world: World, running: RunningDaemon
) -> None:
    exam(world, "exam", seed=12, leave_out=(3,))
    delivered(world, running, {12: (1, 3)})
    fetch = running.parts.context.drive.download
    lost = True

    def refused(file: object, target: Path, **kwargs: object) -> None:
        if lost and running.parts.context.ledger.revisions.due(1e12, ["SETTLED"], 1):  # type: ignore[list-item]
            raise Refused("LOGIN_LOST", "the login is lost", scope=Scope.SERVICE)
        fetch(file, target, **kwargs)  # type: ignore[arg-type]

    running.parts.context.drive.download = refused  # type: ignore[method-assign,assignment]
    late_slice(world, "exam", 3, seed=12)
    rounds(running, 2.0)
    assert running.parts.context.ledger.revisions.held() == []
    lost = False

    delivered(world, running, {12: (2, 4)})


def test_a_source_folder_in_the_trash_is_no_idle_one(world: World, running: RunningDaemon) -> None:
    """The service pauses and says so; restored, the folder goes on as it was."""
    exam(world, "exam", seed=1)
    delivered(world, running, {1: (1, 4)})
    source_id = running.parts.context.places.source_id
    service = world.drive.service()

    service.files().update(fileId=source_id, body={"trashed": True}).execute()
    running.until(
        lambda: [entry.code for entry in running.parts.context.breakers.suspensions()] == ["SOURCE_GONE"]
    )
    service.files().update(fileId=source_id, body={"trashed": False}).execute()
    running.until(lambda: paused(running) == [])
    exam(world, "another", seed=2)

    delivered(world, running, {1: (1, 4), 2: (1, 4)})


def test_a_full_folder_pauses_what_goes_into_it_and_nothing_else(
    world: World, running: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it is tried nothing is held, one delivery at a time tries, and room ends the pause."""
    monkeypatch.setattr(breakers, "PROBES", Backoff(0.1, 0.5))
    exam(world, "full/a", seed=1)
    delivered(world, running, {1: (1, 4)})
    [folder] = [path.parent for path in world.deliveries()]
    [mirror_id] = [
        effect["file_id"]
        for effect in world.drive.history()
        if (effect["name"], effect["source"], effect["op"]) == (folder.name, "api", "create")
    ]
    world.drive.fault(f"addParents={mirror_id}", action="folder_full", times=-1)

    for seed in (2, 3, 4):
        for path in write_series(world.home / str(seed), Phantom(seed=seed, slices=4, rows=32, columns=32)):
            world.drop(path, to="full/a", name=f"{seed}-{path.name}")
    exam(world, "other/b", seed=5)
    delivered(world, running, {1: (1, 4), 5: (1, 4)})
    rounds(running, 5.0)

    assert [(entry.scope, entry.code) for entry in running.parts.context.breakers.suspensions()] == [
        (Scope.FOLDER, "FOLDER_FULL")
    ]
    assert world.held() == []
    tried = sum(rule["met"] for rule in world.drive.faults())
    assert 8 < tried < 20, "a probe each half second, of one of the three"
    world.drive.clear_faults()
    delivered(world, running, dict.fromkeys(range(1, 6), (1, 4)))
    assert paused(running) == []
