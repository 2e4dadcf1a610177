"""The real planner between a model of Drive and a clock that the test sets: one thread, bytes that name their instance.

Real are intake, findings, tree, ledger, settling, workers' judgement, every step's decisions, reserving and delivering.
Replaced are HTTP (`drive.ModelDrive`), the hints' files (dictionaries), threads (a queue of which the test takes), the
header reader (`contents.read_instance`) and dcm2niix (`make`). The ledger is a real SQLite file on tmpfs where there is
one: `:memory:` would not outlive the process that a restart ends.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from daemon.outside.cache import Cache, PageToken
from daemon.outside.volumes import nifti
from daemon.rules.config import FolderRef, Settings
from daemon.rules.config import settings as sections
from daemon.rules.errors import Scope, Trouble
from daemon.rules.model import Instance, Volume
from daemon.service import workers
from daemon.service.failures import Failures
from daemon.service.housekeeping import Housekeeping
from daemon.service.parts import Parts, build
from daemon.service.resources import Resources
from daemon.service.rounds import Rounds
from daemon.service.standing import Standing
from daemon.service.suspensions import suspend_loop
from daemon.service.workers import Workers
from daemon.steps import convert, read
from daemon.steps.check.proof import Proof
from daemon.steps.intake.true_up import SECOND_LOOK_S
from daemon.steps.pipeline import Lane
from tests.instruments.faults.planner.contents import read_instance
from tests.instruments.faults.planner.drive import ModelDrive, Time
from tests.support.commits import around_commits
from tests.support.crash import Crash

TMPFS = Path("/dev/shm")
QUIET_S = 120.0
MOST_ROUNDS = 400


class NoRest(AssertionError):
    """The planner does not come to an end."""


class ModelClock:
    """`daemon.outside.clock.Clock` over the test's time: what it says at its start, carried on without jumps."""

    def __init__(self, time: Time) -> None:
        self._time = time
        self._off_s = time.machine_off_s

    def now(self) -> float:
        return self._time.server_epoch_s + self._off_s

    def wall(self) -> float:
        return self._time.server_epoch_s + self._time.machine_off_s

    def drift_s(self) -> float:
        return self.wall() - self.now()


class ModelCache(Cache):
    """The hints over dictionaries that outlive a restart."""

    def __init__(
        self, kept: dict[str, Any], clock: Callable[[], float], on_token: Callable[[], None]
    ) -> None:
        self._kept = kept
        self._clock = clock
        self._on_token = on_token

    def page_token(self, feed: str = "") -> PageToken | None:
        return self._kept.get("token")

    def remember_page_token(self, token: PageToken, feed: str = "") -> bool:
        self._on_token()
        self._kept["token"] = token
        self._on_token()
        return True

    def forget_page_token(self, feed: str = "") -> bool:
        return self._kept.pop("token", None) is not None

    def get(self, kind: str, key: str) -> Any | None:
        stored_s, ttl_s, value = self._kept.get(f"{kind}:{key}", (0.0, 0.0, None))
        return value if 0 <= self._clock() - stored_s < ttl_s else None

    def put(self, kind: str, key: str, value: Any, ttl_s: float) -> bool:
        self._kept[f"{kind}:{key}"] = (self._clock(), ttl_s, value)
        return True

    def forget(self, kind: str, key: str) -> bool:
        return self._kept.pop(f"{kind}:{key}", None) is not None

    def close(self) -> None:
        pass


class ModelConnection:
    """Gives out the model instead of a client."""

    def __init__(self, drive: ModelDrive) -> None:
        self._drive = drive

    def open(self, **_: Any) -> Any:
        return self._drive

    def close(self) -> None:
        pass


class _Queue(Executor):
    """A pool whose work waits until the test takes it."""

    def __init__(self, work: list[tuple[Future[None], Callable[..., None], tuple[Any, ...]]]) -> None:
        self._work = work

    def submit(self, function: Callable[..., None], /, *arguments: Any, **_: Any) -> Future[None]:  # type: ignore[override]
        future: Future[None] = Future()
        self._work.append((future, function, arguments))
        return future

    def shutdown(self, *_: Any, **__: Any) -> None:
        pass


def make(
    inputs: Sequence[tuple[str, Path]],
    prefix: str,
    work_dir: Path,
    _: nifti.Limits,
    *,
    instances: Sequence[Instance],
) -> nifti.Conversion:
    """Stand for dcm2niix: a volume that names its images, and a text beside it where their number is odd."""
    work_dir.mkdir()
    images = b"\n".join(path.read_bytes() for _, path in inputs)
    files = {f"{prefix}.nii.gz": images, f"{prefix}.json": b"{}"}
    if len(instances) % 2:
        files[f"{prefix}.bval"] = images[::-1]
    for name, data in files.items():
        (work_dir / name).write_bytes(data)
    return nifti.Conversion(
        volumes=(Volume(f"{prefix}.nii.gz", "plain", f"{prefix}.json", (1, 1, len(instances))),),
        files=tuple(work_dir / name for name in files),
        warnings=(),
        arguments=(),
        version="none",
        findings=(),
        log_path=work_dir / "log",
    )


class ModelWorld:
    """One Drive, one ledger, and the daemon that lives between them; it may die and start again.

    Args:
        patch: undone by who gave it.
    """

    resources: Resources
    parts: Parts
    rounds: Rounds
    housekeeping: Housekeeping
    standing: Standing

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.time = Time()
        self.drive = ModelDrive(self.time, self._point)
        self.home = Path(tempfile.mkdtemp(prefix="planner-", dir=TMPFS if TMPFS.is_dir() else None))
        top = self.drive.add("top", self.drive.root_id(), None)
        self.source = self.drive.add("DICOM", top, None)
        self.output = self.drive.add("NIfTI", top, None)
        self.elsewhere = self.drive.add("elsewhere", top, None)
        self.top = top
        self.fuse = 0
        """After how many more points the process dies; 0: it does not."""
        self.points = 0
        self.crashes = 0
        self.steps = 0
        self.bugs: list[str] = []
        """Tracebacks of steps that failed as none may."""
        self.hints_kept: dict[str, Any] = {}
        self.queue: list[tuple[Future[None], Callable[..., None], tuple[Any, ...]]] = []
        self._settings = _settings(self.home, self.source, self.output)
        self._patch(patch)
        logger.disable("daemon")
        self.start()

    def _patch(self, patch: pytest.MonkeyPatch) -> None:
        queue, bugs = self.queue, self.bugs

        self._workers = partial(Workers, pool=lambda *_: _Queue(queue))

        class WatchedFailures(Failures):
            def known(self, exc: Exception) -> Exception:
                found = super().known(exc)
                if not isinstance(found, Trouble):
                    bugs.append("".join(traceback.format_exception(found)))
                return found

        patch.setattr(workers, "Failures", WatchedFailures)
        patch.setattr(sqlite3, "connect", around_commits(self._commit, below=self.home))
        patch.setattr(read, "read_instance", read_instance)
        patch.setattr(convert, "read_instance", read_instance)
        patch.setattr(nifti, "convert", make)
        # There are no pixels here that could be read a second time.
        patch.setattr(convert, "prove", lambda *_, **__: Proof({}))
        # Whatever is written on the way (held.tsv) stays on the same file system.
        patch.setattr(tempfile, "tempdir", str(self.home))

    # ── life and death ───────────────────────────────────────────────────────────────────────────────────────

    def _point(self, _: str) -> None:
        """A place at which the process may die."""
        self.points += 1
        if self.fuse:
            self.fuse -= 1
            if not self.fuse:
                raise Crash

    def _commit(self, _: sqlite3.Connection, really: Callable[[], object]) -> None:
        if not self._is_up:
            really()
            return
        self._point("commit")
        really()
        self._point("committed")

    def start(self) -> None:
        self._is_up = False
        self.queue.clear()
        self.resources = Resources(
            self._settings,
            open_cache=lambda _: ModelCache(
                self.hints_kept, lambda: ModelClock(self.time).wall(), lambda: self._point("token")
            ),
            connection=ModelConnection(self.drive),
        )
        self.parts = build(
            self.resources,
            stop=threading.Event(),
            clock=lambda: ModelClock(self.time),  # type: ignore[arg-type,return-value]
            workers=self._workers,
        )
        self.rounds = Rounds(self.parts)
        self.housekeeping = Housekeeping(self.parts)
        self.standing = Standing(self.parts)
        self._is_up = True

    def restart(self, *, lose_hints: bool = False) -> None:
        """A new process over the same ledger."""
        self.fuse = 0
        self.resources.close()
        if lose_hints:
            self.hints_kept.clear()
        self.start()

    def close(self) -> None:
        self.resources.close()
        shutil.rmtree(self.home, ignore_errors=True)
        logger.enable("daemon")

    def mortal(self, work: Callable[[], Any]) -> None:
        """Do work; where the process dies of it, start it again."""
        try:
            work()
        except Crash:
            self.crashes += 1
            self.restart()

    def crash(self, after: int, work: Callable[[], Any]) -> None:
        """Do work in which the process dies at the `after`-th point, if there are so many."""
        self.fuse = after
        self.mortal(work)
        self.fuse = 0

    # ── what the service's jobs do ───────────────────────────────────────────────────────────────────────────

    def _guarded(self, job: Callable[[], Any]) -> Any:
        try:
            return job()
        except Trouble as exc:
            suspend_loop(self.parts.context, exc)
            return 0

    def poll(self) -> int:
        """Read the feed to its end; return how many entries there were."""

        def job() -> int:
            if self.parts.context.breakers.allowance(Scope.SERVICE, self.now) == 0:
                return 0
            entries = self.parts.intake.feed.poll()
            self.rounds.drive_answered()
            return entries

        return int(self._guarded(job))

    def pay(self, most: int = 10_000) -> int:
        """Do what is owed, up to so many things; return how many there were."""

        def job() -> int:
            paid = 0
            while paid < most and self.parts.intake.listings.process_next():
                paid += 1
            assert paid < 10_000, "what is owed does not end"
            return paid

        return int(self._guarded(job))

    def true_up(self) -> None:
        interval_s = self._settings.drive.crawl_interval_h * 3600
        if not 0 < self.parts.intake.true_up.due_in_s() <= max(interval_s, SECOND_LOOK_S):
            self.parts.intake.true_up.enqueue(interval_s)

    def dispatch(self) -> int:
        return int(self._guarded(self.rounds.dispatch))

    def step(self, choice: int) -> bool:
        """Take one of the steps that are under way; return whether there was one."""
        if not self.queue:
            return False
        _, function, arguments = self.queue.pop(choice % len(self.queue))
        self.steps += 1
        function(*arguments)
        return True

    def tick(self) -> int:
        """Every job once, and all steps; return how much moved."""
        moved = self.poll() + self.pay()
        self.true_up()
        moved += self.dispatch()
        while self.step(0):
            moved += 1
        self._guarded(self.housekeeping.tidy)
        return moved

    def read(self) -> None:
        """Take in what Drive shows and read every file; make and deliver nothing."""
        self.poll()
        self.pay()
        lanes, self.parts.workers.open_lanes = self.parts.workers.open_lanes, frozenset({Lane.DOWNLOAD})
        while self.parts.workers.fill() or self.queue:
            self.step(0)
        self.parts.workers.open_lanes = lanes

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def now(self) -> float:
        return self.parts.context.clock.now()

    def wait(self, seconds: float) -> None:
        self.time.passed_s += seconds
        self.parts.workers.download_clock_s += seconds

    def rest(self) -> None:
        """Go on until nothing is left to do by itself.

        Raises:
            NoRest: that does not come.
        """
        for _ in range(MOST_ROUNDS):
            if self.tick():
                continue
            wait_s = self.standing.next_wait_s()
            if wait_s is None and not self.parts.rebuild.required:
                if not self.drive.feed_is_behind():
                    return
                wait_s = self.drive.feed_lag_s
            self.wait(min(max(wait_s or 0.0, QUIET_S / 4), 86_400.0))
        raise NoRest(f"not at rest after {MOST_ROUNDS} rounds: {self.standing.one_line()}")

    def true_up_and_rest(self) -> None:
        """Let listings catch up, crawl, and go on until nothing is left: what the feed swallowed is found."""
        self.rest()
        self.wait(self.drive.lag_s + 1)
        self.parts.intake.true_up.enqueue()
        self.rest()

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """Look into the ledger."""
        return self.parts.context.ledger.database.rows(sql, values)


def _settings(home: Path, source: str, output: str) -> Settings:
    return Settings(
        drive=sections.Drive(source=FolderRef("id", source), output=FolderRef("id", output)),
        work=sections.Work(transfer_workers=4, disk_reserve_gb=0),
        series=sections.Series(quiet_s=QUIET_S),
        results=sections.Results(preview=False),
        path=home / "config.toml",
        state_dir=home / "state",
        logs_dir=home / "logs",
        control_socket=home / "socket",
        local_root=home / "drive",
        token_file=home / "token.json",
    )


def mixed(seed: int) -> random.Random:
    return random.Random(seed)
