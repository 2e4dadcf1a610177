"""`demo`: an embedded Drive, sample exams and the real service, in a directory of its own. It touches nothing else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from daemon.cli import phantom
from daemon.rules.config import Settings, load
from daemon.rules.errors import Transient, Trouble
from daemon.rules.verdict_table import IGNORED
from daemon.service.control import calls, messages
from daemon.service.control.client import ControlClient, NotRunning

WITHIN_S = 110.0
LOOK_EVERY_S = 0.3
LATE_SLICE = 31
EXAM = phantom.Phantom(slices=60, rows=128, columns=128, spacing_mm=(2.75, 2.75, 5.0))
TILTED = phantom.Phantom(
    slices=24, rows=128, columns=128, spacing_mm=(2.75, 2.75, 5.0), tilt_deg=15.0, series_number=4,
    series_description="HEAD TILTED", study_instance_uid=EXAM.study_uid,
)  # fmt: skip
SAMPLES = (
    "CT_small.dcm", "MR_small.dcm", "MR_truncated.dcm", "reportsi.dcm", "zipMR.gz", "README.txt",
    "dicomdirtests/DICOMDIR",
)  # fmt: skip
"""From pydicom's own test files, which its wheel ships."""
CONFIG = """\
# Made by `sdd-dicom demo`. Put exams into drive/DICOM; volumes appear in drive/NIfTI.
[drive]
backend = "local"
poll_interval_s = 1
[quota]
units_per_minute = 1000000000   # the embedded Drive has no quota
[work]
spool_max_gb = 1
disk_reserve_gb = 0.1
[series]
quiet_s = 3                     # short, for the demo; the default is 120
"""
_NOT_FOR_US = ("SDD_DICOM_", "STATE_DIRECTORY", "LOGS_DIRECTORY", "RUNTIME_DIRECTORY", "CREDENTIALS_DIRECTORY",
               "NOTIFY_SOCKET", "WATCHDOG_", "GOOGLE_CREDS_FILE")  # fmt: skip
"""Variables that would point the demo to a real installation."""


class Unusable(Exception):
    """The directory cannot be used; the text says why."""


class DemoFailed(Exception):
    """The pipeline did not deliver what it should; the text says what is missing."""


def show(keep: Path | None, console: Console) -> int:
    """Run the demonstration and print what came of it; return the exit code.

    Args:
        keep: a new or empty directory in which everything stays; None: only the results stay, in a fresh directory
            under the system's one for temporary files.
    Raises:
        Unusable: `keep` holds something, or cannot be made.
        DemoFailed: the pipeline did not do what it promises; everything stays for a look.
    """
    home = _home(keep)
    try:
        _play(home, console)
    except (KeyboardInterrupt, SystemExit):
        if keep is None:
            shutil.rmtree(home, ignore_errors=True)
        raise
    except BaseException:
        console.print(f"All files of the demo are in {home}, its log in {home / 'logs'}", markup=False)
        raise
    _print_where(home, keep is not None, console)
    return 0


def _home(keep: Path | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="sdd-dicom-demo-"))
    home = keep.absolute()
    try:
        home.mkdir(parents=True, exist_ok=True)
        if any(home.iterdir()):
            raise Unusable(f"{home} is not empty: name a new directory")
    except OSError as exc:
        raise Unusable(f"{home} cannot be used: {exc.strerror}") from exc
    return home


def _play(home: Path, console: Console) -> None:
    steps = _Steps(console)
    (home / "config.toml").write_text(CONFIG)
    settings = load(home / "config.toml", {})
    late = _make_exams(home)
    files = sum(1 for path in (home / "drive" / "DICOM").rglob("*") if path.is_file())
    steps.say(f"Made a CT exam of a phantom and copied sample files of pydicom: {files} files in drive/DICOM")
    with _daemon(home) as process, console.status("Starting the service") as line:
        watch = _Watch(settings, process, steps, line.update)
        watch.until_running()
        steps.say("The service is up, with an embedded Drive that has the API of Google Drive")
        watch.until_delivered(revision=1)
        steps.say(f"Delivered without slice {LATE_SLICE}, which has not arrived; the verdict reports the gap")
        shutil.move(late, home / "drive" / "DICOM" / "Demo exam" / "part 2" / late.name)
        steps.say(f"Slice {LATE_SLICE} arrives late; the delivery is updated")
        watch.until_delivered(revision=2)
        steps.say("Updated: the same files, now complete")
        not_converted = watch.not_converted()
    console.print()
    _print_deliveries(home, console)
    _print_not_converted(not_converted, console)


def _make_exams(home: Path) -> Path:
    """Fill the source folder; return the slice that is to arrive late."""
    source, exam = home / "drive" / "DICOM", home / "drive" / "DICOM" / "Demo exam"
    made = phantom.write_series(home / "made", EXAM, extension="")
    for number, path in enumerate(made, start=1):
        if number != LATE_SLICE:
            part = exam / ("part 1" if number % 2 else "part 2")
            part.mkdir(parents=True, exist_ok=True)
            shutil.move(path, part / path.name)
    phantom.write_series(exam / "tilted", TILTED)
    mixed = source / "Mixed folder"
    mixed.mkdir()
    for path in _samples():
        shutil.copy(path, mixed / path.name)
    return made[LATE_SLICE - 1]


def _samples() -> Iterator[Path]:
    import pydicom

    directory = Path(pydicom.__file__).parent / "data" / "test_files"
    return (path for name in SAMPLES if (path := directory / name).is_file())


# ── the service ───────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _daemon(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `sdd-dicom run` as a process of its own; it is ended in order, whatever happens here."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_FOR_US)}
    # The package need not be installed: it is found where this file lies.
    root = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "daemon.cli", "run", "--config", str(home / "config.toml")]
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with (home / "daemon.txt").open("wb") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=home, env=environment
        )
    try:
        yield process
    finally:
        signal.signal(signal.SIGTERM, before)
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True, slots=True)
class _NotConverted:
    """A file that was not converted: held, or ignored for this reason."""

    name: str
    held_code: str
    remedy: str
    ignored: str


class _Steps:
    """Lines with the seconds since the start."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started_s = time.monotonic()

    def say(self, text: str) -> None:
        self._console.print(Text(f"{time.monotonic() - self._started_s:5.1f} s  {text}"))

    @property
    def left_s(self) -> float:
        return WITHIN_S - (time.monotonic() - self._started_s)


class _Watch:
    """Asks the service for its progress, as `status` and `list` do."""

    def __init__(
        self,
        settings: Settings,
        process: subprocess.Popen[bytes],
        steps: _Steps,
        update: Callable[[str], None],
    ) -> None:
        self._client = ControlClient(settings, timeout_s=20.0)
        self._process = process
        self._steps = steps
        self._update = update

    def _wait(self, what: str) -> None:
        if self._process.poll() is not None:
            raise DemoFailed(f"the service ended with exit code {self._process.returncode}")
        if self._steps.left_s < 0:
            raise DemoFailed(f"{what} took longer than {WITHIN_S:.0f} s")
        time.sleep(LOOK_EVERY_S)

    def until_running(self) -> None:
        while not self._client.is_running():
            self._wait("starting the service")

    def until_delivered(self, revision: int) -> None:
        """Wait until the phantom's series is delivered in this revision, and nothing else is under way."""
        while True:
            try:
                status = self._client.ask(calls.STATUS)
                if self._is_delivered(revision) and not (status.files.left or status.series.open):
                    return
                self._update(_progress(status))
            except (NotRunning, Transient):
                pass  # it is busy, or ending: the wait below finds out
            self._wait(f"revision {revision}")

    def _is_delivered(self, revision: int) -> bool:
        return any(
            row.series_instance_uid == EXAM.series_uid and row.delivered_revision >= revision
            for row in self._client.series()
        )

    def not_converted(self) -> list[_NotConverted]:
        """Return the files that were not converted, with their names: they are the demo's own."""
        try:
            files = list(self._client.files(names=True))
            reasons = {row.series_instance_uid: row.reason for row in self._client.series(state="IGNORED")}
        except Trouble as exc:
            raise DemoFailed(str(exc)) from exc
        found = []
        for row in files:
            of_series = [reasons[uid] for uid in row.series_instance_uids if uid in reasons]
            ignored = row.reason if row.state == "IGNORED" else " ".join(of_series)
            if row.held_code or ignored:
                found.append(_NotConverted(row.name or row.file_id, row.held_code, row.remedy, ignored))
        return found


def _progress(status: messages.StatusAnswer) -> str:
    files, series = status.files, status.series
    return (
        f"{files.read + files.ignored} of {files.total} files read; series: {series.gathering} collecting instances,"
        f" {series.converting} to convert, {series.uploading} to upload, {series.deliveries} delivered"
    )


# ── the results ──────────────────────────────────────────────────────────────────────────────────────────────────


def _print_deliveries(home: Path, console: Console) -> None:
    table = Table(title="Delivered", title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("series", "images", "rev", "volume", "shape", "usable"):
        table.add_column(column, no_wrap=True)
    sentences: list[str] = []
    for path in sorted((home / "drive" / "NIfTI").rglob("manifest.json")):
        manifest = json.loads(path.read_text())
        name, verdict = path.parent.name, manifest["verdict"]
        first = (name, str(len(manifest["inputs"])), str(manifest["revision"]))
        for number, volume in enumerate(manifest["volumes"]):
            shape = " × ".join(str(length) for length in volume["shape"])
            table.add_row(
                *(("", "", "") if number else first),
                volume["role"],
                shape,
                "" if number else verdict["usable"],
            )
        sentences += [f"  {name}: {sentence}" for sentence in verdict["sentences"]]
    console.print(table)
    for sentence in sentences:
        console.print(Text(sentence))


def _print_not_converted(not_converted: Sequence[_NotConverted], console: Console) -> None:
    held = [row for row in not_converted if row.held_code]
    ignored = [row for row in not_converted if row.ignored]
    if held:
        console.print(
            "\nHeld for a person (a service that keeps running also lists them in held.tsv, in the output folder)"
        )
    for row in held:
        console.print(Text(f"  {row.name}: {row.held_code}. {row.remedy}"))
    if ignored:
        console.print("\nIgnored")
    for row in ignored:
        console.print(Text(f"  {row.name}: {_why_ignored(row.ignored)}"))


def _why_ignored(reason: str) -> str:
    texts: dict[str, str] = {code.value: text for code, text in IGNORED.items()}
    return f"{texts[reason]} ({reason})" if reason in texts else reason


def _print_where(home: Path, keep: bool, console: Console) -> None:
    results = home / "drive" / "NIfTI"
    shutil.rmtree(home / "made", ignore_errors=True)
    if not keep:
        shutil.move(results, home / "NIfTI")
        results = home / "NIfTI"
        for path in home.iterdir():
            if path == results:
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    console.print()
    console.print(Text("Volumes (each folder also holds sidecars, a preview and a manifest):"))
    for path in sorted(results.rglob("*.nii.gz")):
        console.print(Text(f"  {path}"))
    if keep:
        console.print(
            Text(
                f"Everything is kept in {home}. Continue with: sdd-dicom run --config {home / 'config.toml'}"
            )
        )
    else:
        console.print(Text(f"Nothing else was kept. Remove the volumes with: rm -r {home}"))
