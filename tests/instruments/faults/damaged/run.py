"""Drops damaged files beside healthy exams, runs the real daemon until it is through, and judges what it made of them.

The judgement reads the ledger's tables, the manifests on the Drive and /proc; nothing of the daemon's.
"""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.instruments.faults.damaged.corpus import Damaged, damaged_files
from tests.instruments.faults.images import image_of, slices_of
from tests.support.phantom import Phantom, write_series
from tests.support.world import World

HEALTHY = tuple(
    Phantom(
        seed=700 + n,
        slices=6,
        rows=32,
        columns=32,
        series_number=n + 1,
        patient_id=f"PHANTOM-{n}",
        series_description="WELL",
    )
    for n in range(4)
)
"""Series that nothing is wrong with: each must come out whole."""
JOINED = tuple(
    Phantom(seed=800 + n, slices=8, rows=32, columns=32, series_number=n + 1, series_description="JOINED")
    for n in range(3)
)
"""Healthy series some of whose slices come a second time, damaged."""
FOLDER_OF = 60
CONVERTER = "dcm2niix"
MEMORY_GB = 1
_MAIN = "import sys; from daemon.cli.app import main; sys.exit(main())"
LOOK_EVERY_S = 0.02

Row = tuple[Any, ...]


@dataclass(slots=True)
class Report:
    """What became of the damaged files.

    Args:
        outcomes: kind of damage → outcome (``delivered``, ``dropped``, ``ignored``, ``held``) → number of files.
        codes: reason → number of files, of those that were ignored or held.
        problems: everything that must not be.
        peak_bytes: the most memory that the daemon's process ever had resident; of the largest converter, too.
    """

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    codes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    peak_bytes: int = 0
    converter_peak_bytes: int = 0
    conversions: int = 0
    took_s: float = 0.0

    @property
    def files(self) -> int:
        return sum(counts.total() for counts in self.outcomes.values())

    def count(self, outcome: str) -> int:
        return sum(counts[outcome] for counts in self.outcomes.values())


class Memory:
    """Watches how much memory a process and its converters have resident at most (VmHWM)."""

    def __init__(self, pid: int) -> None:
        self._pid, self._ended = pid, threading.Event()
        self.peak_bytes = self.converter_peak_bytes = 0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            self.peak_bytes = max(self.peak_bytes, _resident_bytes(self._pid, ""))
            for child in _children(self._pid):
                self.converter_peak_bytes = max(self.converter_peak_bytes, _resident_bytes(child, CONVERTER))

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()


def _resident_bytes(pid: int, name: str) -> int:
    """Return the peak so far, or 0 when the process is gone or has another name."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    if name and fields["Name"].strip() != name:
        return 0
    return int(fields.get("VmHWM", "0").split()[0]) * 1024


def _children(pid: int) -> list[int]:
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in children.read_text().split()]
        except OSError:
            continue
    return found


def run(home: Path, files: int, seed: int, *, at_most_s: float) -> Report:
    """Make the files, run the daemon over them, and judge.

    Args:
        home: an empty directory.
        at_most_s: the daemon is killed after so long, and that is a problem.
    """
    report = Report()
    world = World(
        home,
        {
            "work.convert_memory_gb": MEMORY_GB,
            "work.convert_timeout_s": 20,
            "work.transfer_workers": 8,
        },
    )
    dropped = _fill(world, files, seed)
    with world:
        world.drive.scan()
        with (home / "stderr").open("wb") as log:
            started_s = time.monotonic()
            daemon = subprocess.Popen(
                [sys.executable, "-c", _MAIN, "run", "--once", "--config", str(home / "config.toml")],
                cwd=home,
                stdout=log,
                stderr=log,
            )
            memory = Memory(daemon.pid)
            try:
                code = daemon.wait(at_most_s)
            except subprocess.TimeoutExpired:
                daemon.kill()
                code = daemon.wait()
                report.problems.append(f"the daemon was not through after {at_most_s:.0f} s")
            finally:
                memory.stop()
            report.took_s = time.monotonic() - started_s
        report.peak_bytes = memory.peak_bytes
        report.converter_peak_bytes = memory.converter_peak_bytes
        if code not in (0, 3):
            report.problems.append(f"the daemon ended with {code}: {_tail(home / 'stderr')}")
    _judge(world, dropped, report)
    return report


def _fill(world: World, files: int, seed: int) -> list[tuple[Damaged, Path]]:
    for phantom in HEALTHY:
        write_series(world.source / "Exams" / f"Well {phantom.seed}", phantom)
    for phantom in JOINED:
        write_series(world.source / "Exams" / f"Joined {phantom.seed}", phantom)
    chance = random.Random(f"names {seed}")
    dropped = []
    for number, damaged in enumerate(damaged_files(files, seed, JOINED)):
        name = f"{number:05d}{chance.choice(['.dcm', '', '.IMA'])}"
        path = world.source / "Exams" / f"Bad {number // FOLDER_OF:03d}" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(damaged.data)
        dropped.append((damaged, path))
    return dropped


# ── the judgement ────────────────────────────────────────────────────────────────────────────────────────────────


def _judge(world: World, dropped: Sequence[tuple[Damaged, Path]], report: Report) -> None:
    manifests = list(world.deliveries().values())
    named = {
        given["file_id"]: kind
        for manifest in manifests
        for kind in ("dropped", "inputs")
        for given in manifest[kind]
    }
    ledger = sqlite3.connect(f"file:{world.home / 'state' / 'ledger.sqlite3'}?mode=ro", uri=True)
    try:
        by_content: dict[str, list[Row]] = {}
        for row in ledger.execute(_FILES):
            by_content.setdefault(row[1], []).append(row)
        bugs = ledger.execute(
            "SELECT held_code, COUNT(*) FROM (SELECT held_code FROM file UNION ALL SELECT held_code FROM revision)"
            " WHERE held_code = 'BUG' GROUP BY 1"
        ).fetchall()
        report.conversions = ledger.execute("SELECT COUNT(*) FROM revision").fetchone()[0]
    finally:
        ledger.close()
    if bugs:
        report.problems.append(f"{bugs[0][1]} things are held BUG")
    for damaged, path in dropped:
        rows = by_content.get(hashlib.md5(damaged.data, usedforsecurity=False).hexdigest(), [])
        outcome, reason = _became(rows, named)
        report.outcomes.setdefault(damaged.kind, Counter())[outcome] += 1
        if outcome in ("ignored", "held"):
            report.codes[reason] += 1
        if outcome == "unaccounted":
            report.problems.append(f"{path.name} ({damaged.kind}, {damaged.base}): {reason}")
    for text in ("BUG:", "Traceback"):
        for log in (world.home / "stderr", *sorted((world.home / "logs").glob("*"))):
            if text in (said := log.read_text(errors="replace")):
                line = next(line for line in said.splitlines() if text in line)
                report.problems.append(f"{log.name} says {text}: {line[:2000]}")
    for phantom in HEALTHY:
        report.problems += _not_well(world, phantom)


_FILES = """
    SELECT f.file_id, f.md5_checksum, f.state, f.reason, f.held_code, f.held_remedy, r.state, r.reason, r.held_code, r.held_remedy
    FROM file f
    LEFT JOIN instance i ON i.file_id = f.file_id AND i.head_revision_id = f.head_revision_id
    LEFT JOIN revision r ON r.series_id = i.series_id
        AND r.n = (SELECT MAX(n) FROM revision WHERE series_id = i.series_id)
    WHERE f.current = 1
"""


def _became(rows: Sequence[Row], named: Mapping[str, str]) -> tuple[str, str]:
    """Return what became of a content, and why; of copies the one that fared worst."""
    if not rows:
        return "unaccounted", "the ledger does not know it"
    found = [_became_one(row, named) for row in rows]
    return next((each for each in found if each[0] == "unaccounted"), found[0])


def _became_one(row: Row, named: Mapping[str, str]) -> tuple[str, str]:
    file_id, _, state, reason, held, remedy, its_state, its_reason, its_held, its_remedy = row
    if held:
        return ("held", held) if remedy else ("unaccounted", f"held {held} without a remedy")
    if state == "IGNORED":
        return ("ignored", reason) if reason else ("unaccounted", "ignored without a reason")
    if its_held:
        return ("held", its_held) if its_remedy else ("unaccounted", f"held {its_held} without a remedy")
    if its_state == "IGNORED":
        return (
            ("ignored", its_reason) if its_reason else ("unaccounted", "its series ignored without a reason")
        )
    if state == "FILED" and its_state == "DELIVERED" and file_id in named:
        return ("delivered" if named[file_id] == "inputs" else "dropped"), ""
    return "unaccounted", f"the file {state}, its series {its_state}"


def _not_well(world: World, phantom: Phantom) -> list[str]:
    """Return what is wrong with the delivery of a healthy series: its voxels are compared with its slices."""
    name = f"the healthy series {phantom.seed}"
    found = {
        folder: manifest
        for folder, manifest in world.deliveries().items()
        if manifest["series_instance_uid"] == phantom.series_uid
    }
    if len(found) != 1:
        return [f"{name} is delivered {len(found)} times"]
    [(folder, manifest)] = found.items()
    wrong = []
    for result in manifest["results"]:
        path = folder / result["name"]
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != result["sha256"]:
            wrong.append(f"{name}: {result['name']} is not what the manifest says")
    sources = sorted((world.source / "Exams" / f"Well {phantom.seed}").iterdir())
    images = [
        image_of(path, hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()) for path in sources
    ]
    wanted = Counter(image.pixels for image in images if image is not None)
    there: Counter[str] = Counter()
    for volume in manifest["volumes"]:
        there += Counter(slices_of(folder / volume["name"]))
    if there != wanted or wanted.total() != phantom.slices:
        wrong.append(f"{name}: {there.total()} slices came of {wanted.total()}, not all of them its own")
    if len(manifest["inputs"]) != phantom.slices:
        wrong.append(f"{name}: {json.dumps(len(manifest['inputs']))} inputs of {phantom.slices}")
    return wrong


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-1500:]
