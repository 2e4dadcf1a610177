"""A daemon and an embedded Drive around one temporary directory: the whole program over real HTTP and real files."""

from __future__ import annotations

import gzip
import json
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import nibabel
import numpy

from daemon.rules.config import Settings, load
from daemon.rules.errors import Scope, Trouble
from daemon.service.housekeeping import Housekeeping
from daemon.service.once import run_once
from daemon.service.parts import Parts, build
from daemon.service.resources import Resources
from daemon.service.rounds import Rounds
from daemon.service.standing import Standing
from daemon.service.suspensions import suspend_loop
from daemon.service.workers import Workers
from tests.support.drive import DriveServer

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


BASE_CONFIG: Mapping[str, Any] = {
    "drive.backend": "google",
    "auth.token_file": "token.json",
    "quota.units_per_minute": 100_000_000,
    "work.disk_reserve_gb": 0,
}
"""What every daemon on an embedded Drive is configured with; `drive.api_endpoint` comes with the Drive."""


def write_config(home: Path, values: Mapping[str, Any]) -> None:
    """Write ``{"series.quiet_s": 0.2}`` and the like as `config.toml`."""
    sections: dict[str, list[str]] = {}
    for key, value in values.items():
        section, name = key.split(".")
        sections.setdefault(section, []).append(f"{name} = {json.dumps(value)}")
    text = "".join(f"[{name}]\n" + "\n".join(lines) + "\n" for name, lines in sections.items())
    (home / "config.toml").write_text(text)


def write_token(path: Path) -> None:
    """Write an authorized-user file whose access token never expires here."""
    path.write_text(
        json.dumps(
            {
                "type": "authorized_user",
                "client_id": "client",
                "client_secret": "secret",
                "refresh_token": "refresh",
                "token": "test-token",
                "expiry": "2099-01-01T00:00:00Z",
                "scopes": ["https://www.googleapis.com/auth/drive"],
            }
        )
    )
    path.chmod(0o600)


class World:
    """`drive` serves `root`; `settings` point a daemon at it. Source `DICOM`, output `NIfTI`.

    Args:
        home: a temporary directory.
        overrides: ``{"series.quiet_s": 0.2}`` and the like, written into config.toml.
        drive: serves ``home / "drive"``; None: one is made with `drive_settings`.
    """

    def __init__(
        self,
        home: Path,
        overrides: Mapping[str, Any] | None = None,
        *,
        drive: DriveServer | None = None,
        **drive_settings: Any,
    ) -> None:
        self.home = home
        self.root = home / "drive"
        self.source = self.root / "DICOM"
        self.output = self.root / "NIfTI"
        self.source.mkdir(parents=True, exist_ok=True)
        self.drive = drive or DriveServer(self.root, **drive_settings)
        self.config: dict[str, Any] = {**BASE_CONFIG, "work.transfer_workers": 4, **(overrides or {})}

    def __enter__(self) -> Self:
        self.drive.start()
        self.drive.scan()
        self.login()
        self.configure()
        return self

    def __exit__(self, *_: object) -> None:
        self.drive.stop()

    def login(self) -> None:
        """Write the token file, as `sdd-dicom login` does."""
        write_token(self.home / "token.json")

    def configure(self, changes: Mapping[str, Any] | None = None) -> None:
        """Write config.toml, with these keys changed: ``{"drive.output": "elsewhere"}``."""
        self.config |= changes or {}
        write_config(self.home, {"drive.api_endpoint": self.drive.endpoint, **self.config})

    @property
    def settings(self) -> Settings:
        return load(self.home / "config.toml", {})

    # ── the source, as people fill it ────────────────────────────────────────────────────────────────────────

    def drop(self, path: Path, *, to: str = "", name: str = "") -> Path:
        """Copy a file or a folder into the source folder."""
        target = self.source / to / (name or path.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, target, dirs_exist_ok=True, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(path, target)
        return target

    # ── the daemon ───────────────────────────────────────────────────────────────────────────────────────────

    def run_once(self) -> int:
        """Scan the directory, then work off everything there is; return the exit code."""
        self.drive.scan()
        return run_once(self.settings)

    # ── what came out ────────────────────────────────────────────────────────────────────────────────────────

    def deliveries(self) -> dict[Path, dict[str, Any]]:
        """Return folder → manifest of every delivery in the output folder."""
        return {
            path.parent: json.loads(path.read_text()) for path in sorted(self.output.rglob("manifest.json"))
        }

    def held(self) -> list[dict[str, str]]:
        """Return the lines of `held.tsv`."""
        path = self.output / "held.tsv"
        if not path.exists():
            return []
        head, *lines = path.read_text().splitlines()
        return [dict(zip(head.split("\t"), line.split("\t"), strict=True)) for line in lines]


def same_volume(path: Path, reference: Path) -> bool:
    """Return whether two NIfTI files have the same voxels and the same affine."""
    made, wanted = nibabel.load(path), nibabel.load(reference)
    return bool(
        made.shape == wanted.shape
        and numpy.array_equal(numpy.asarray(made.dataobj), numpy.asarray(wanted.dataobj))
        and numpy.allclose(made.affine, wanted.affine, atol=1e-6)
    )


class RunningDaemon:
    """The service's rounds in a thread: polls and dispatches until stopped, like the service's jobs.

    Outside a `with` block, `build` gives the parts, and the test makes its own rounds until `close`.

    Args:
        workers: makes the workers: `functools.partial(Workers, in_flight=...)` and the like.
    """

    parts: Parts
    rounds: Rounds
    housekeeping: Housekeeping
    standing: Standing

    def __init__(
        self, world: World, *, once: bool = False, workers: Callable[..., Workers] = Workers
    ) -> None:
        self.stop = threading.Event()
        self.on_news: Callable[[], None] = lambda: None
        self.resources = Resources(world.settings)
        self._world = world
        self._once = once
        self._workers = workers
        self._built = False
        self._resting = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self.failed: BaseException | None = None
        self.round_count = 0
        """How many rounds were made, those in which nothing may be asked included."""

    def build(self) -> None:
        """Build the parts, once."""
        if self._built:
            return
        self.parts = build(
            self.resources,
            stop=self.stop,
            once=self._once,
            on_news=lambda: self.on_news(),
            workers=self._workers,
        )
        self.rounds = Rounds(self.parts)
        self.housekeeping = Housekeeping(self.parts)
        self.standing = Standing(self.parts)
        self._built = True

    def close(self) -> None:
        """End all steps and close the parts."""
        if self._built:
            self.parts.workers.stop()
            self.parts.workers.drain(30)
        self.resources.close()

    def __enter__(self) -> RunningDaemon:
        self.build()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join(30)
        self.close()
        if self.failed is not None:
            raise self.failed

    def _loop(self) -> None:
        try:
            while not self.stop.is_set() and not self._resting.is_set():
                self._world.drive.scan()
                try:
                    self.round()
                except Trouble as exc:
                    if not self.stop.is_set():
                        suspend_loop(self.parts.context, exc)
                self.round_count += 1
                self.stop.wait(0.1)
        except BaseException as exc:  # noqa: BLE001 - shown by the test's own thread
            self.failed = exc

    def rest(self) -> None:
        """End the rounds, so that the test makes its own."""
        self._resting.set()
        self._thread.join(30)

    def round(self) -> None:
        """Do once what the service's jobs do."""
        context = self.parts.context
        if context.breakers.allowance(Scope.SERVICE, context.clock.now()) != 0:
            self.parts.intake.feed.poll()
            self.rounds.drive_answered()
            while self.parts.intake.listings.process_next():
                pass
        self.rounds.dispatch()
        self.housekeeping.tidy()

    def until(self, true: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Wait until `true()`; fail when it does not come."""
        waiter = threading.Event()
        for _ in range(int(timeout_s / 0.05)):
            if self.failed is not None:
                raise self.failed
            if true():
                return
            waiter.wait(0.05)
        raise AssertionError("what the test waits for did not happen")


def gunzip(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())
