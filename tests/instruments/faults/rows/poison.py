"""Row 38: what comes in is poison: for the converter, for the reader of headers, or by its name."""

from __future__ import annotations

import random
import re
import sqlite3
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from daemon.outside.volumes import nifti
from daemon.steps import convert
from tests.instruments.faults.engine import Plan
from tests.instruments.faults.rows.machine import _left_running
from tests.instruments.faults.rows.parts import CHEST, HEAD, row, small
from tests.instruments.faults.rows.stages import all_of
from tests.instruments.faults.world import FaultWorld, note_met
from tests.support.phantom import Phantom, slice_of, write_series

POISON = Phantom(seed=38, slices=3, rows=24, columns=24, series_number=8, series_description="POISON")
OUTPUT_BYTES = 4 << 20
LOOP_TIMEOUT_S = 150
"""Seconds of the world; one of the machine's is thirty, and the healthy series must be through in that."""
LEFT_AT_MOST_BYTES = 4 << 20
"""Of a held series nothing but the beginning of the converter's log may stay in the spool."""

# ── the converter ────────────────────────────────────────────────────────────────────────────────────────────────

_CONVERTER = """\
#!{python} -IS
import os, signal, sys, time
from pathlib import Path

out, inputs = Path(sys.argv[-2]), Path(sys.argv[-1])
if not any({uid!r} in path.read_bytes() for path in inputs.iterdir()):
    os.execv({real!r}, [{real!r}, *sys.argv[1:]])
with open({met!r}, "a") as met:
    met.write("met\\n")
{body}
"""


@dataclass(frozen=True, slots=True)
class Misdeed:
    """What a converter does with the poisoned series, and the code with which that series must be held."""

    body: str
    code: str
    tried: int = convert.CONVERTER_TRIES


_CRASH = "os.kill(os.getpid(), signal.SIGSEGV)"
_MISDEEDS = (
    Misdeed(_CRASH, "CONVERTER_CRASHED"),
    Misdeed("while True: pass", "CONVERTER_TIMEOUT"),
    Misdeed("f = open(out / 'volume.nii', 'wb')\nwhile True: f.write(bytes(1 << 16))", "CONVERTER_OUTPUT_TOO_LARGE", 1),
    # What the kernel does when the machine is out of memory.
    Misdeed("os.kill(os.getpid(), signal.SIGKILL)", "CONVERTER_MEMORY"),
    Misdeed(
        "for n in range(10 ** 6):\n    (out / f'v{n}').touch(); time.sleep(0.001)", "CONVERTER_OUTPUT_TOO_LARGE", 1
    ),
    Misdeed(f"(out / 'volume.nii.gz').write_bytes(b'half'); {_CRASH}", "CONVERTER_CRASHED"),
    Misdeed("while True: print('x' * 999)", "CONVERTER_OUTPUT_TOO_LARGE", 1),
    Misdeed("(out / 'volume.nii.gz').write_bytes(b'half')", "CONVERTER_FAILED", 1),
)  # fmt: skip


def _misconverted(misdeed: Misdeed) -> Plan:
    """The converter does that with one series only; the others beside it come out whole."""
    timeout_s = LOOP_TIMEOUT_S if misdeed.code == "CONVERTER_TIMEOUT" else 3600
    return Plan(
        fill=_with_poisoned_series,
        config={"work.convert_timeout_s": timeout_s},
        change=partial(_put_in_place, misdeed),
        holds=frozenset({misdeed.code}),
        judge=all_of(
            lambda world: _held_after(world, misdeed),
            partial(_delivered, but=POISON.series_uid, count=2),
            _little_left,
            _left_running,
        ),
    )


def _with_poisoned_series(root: Path) -> None:
    small(root)
    write_series(root / "DICOM" / "Exam A" / "CT poisoned", POISON)
    write_series(root / "DICOM" / "Exam Z" / "CT", CHEST)


def _put_in_place(misdeed: Misdeed, state_dir: Path) -> None:
    """In the daemon's process: dcm2niix is a program that misbehaves with the poisoned series alone."""
    home = state_dir.parent
    program = home / "converter"
    program.write_text(
        _CONVERTER.format(
            python=sys.executable,
            uid=POISON.series_uid.encode(),
            real=str(nifti.dcm2niix.bin),
            met=str(home / "met"),
            body=misdeed.body,
        )
    )
    program.chmod(0o755)
    nifti.dcm2niix.bin = str(program)
    limits = convert._limits
    # A gigabyte each time would be the machine's to bear.
    convert._limits = lambda *given: replace(limits(*given), output_bytes=OUTPUT_BYTES)


def _held_after(world: FaultWorld, misdeed: Misdeed) -> Sequence[str]:
    """The poisoned series was tried so often, and is held with its reason and a remedy."""
    found = _ask(
        world,
        "SELECT held_code, held_remedy, tries FROM revision JOIN series USING (series_id) WHERE series_instance_uid = ?",
        POISON.series_uid,
    )
    if len(found) != 1 or found[0][0] != misdeed.code or not found[0][1]:
        return [f"other: the poisoned series is {found}, not held {misdeed.code}"]
    # A kill may come between a failure and its count, and whoever was killed while it tried had not failed.
    tried = len((world.home / "met").read_text().splitlines())
    if not misdeed.tried <= tried <= misdeed.tried + world.kills:
        return [f"other: the poisoned series was converted {tried} times, with {world.kills} kills"]
    return []


def _little_left(world: FaultWorld) -> Sequence[str]:
    left = {path: path.stat().st_size for path in (world.state / "spool").rglob("*") if path.is_file()}
    if sum(left.values()) > LEFT_AT_MOST_BYTES:
        return [f"other: {sum(left.values())} bytes are left in the spool: {sorted(left)[:3]}"]
    return []


# ── the reader of headers ────────────────────────────────────────────────────────────────────────────────────────


def _unreadable(chance: random.Random) -> Plan:
    """Other formats, empty files, and headers that claim what no file can hold, in the folder of a healthy series."""
    seed = chance.random()
    return Plan(
        fill=lambda root: _with_unreadable(root, random.Random(seed)),
        holds=frozenset({"TRUNCATED", "DAMAGED", "ARCHIVE_UNSUPPORTED", "NO_UID"}),
        judge=partial(_delivered, but="", count=1),
    )


def _with_unreadable(root: Path, chance: random.Random) -> None:
    small(root)
    note_met(root.parent / "state")
    folder = root / "DICOM" / "Exam A" / "CT"
    good = folder.joinpath("IM0001.dcm").read_bytes()
    pixels = good.rindex(b"\xe0\x7f\x10\x00")
    poison = {
        "empty.dcm": b"",
        "picture.dcm": b"\x89PNG\r\n\x1a\n" + chance.randbytes(3000),
        "page.dcm": b"<!DOCTYPE html><html>Sign in</html>",
        "paper.dcm": b"%PDF-1.7\n" + chance.randbytes(900),
        "exam.zip": b"PK\x03\x04" + chance.randbytes(900),
        "noise": bytes(128) + b"DICM" + chance.randbytes(5000),
        "half.dcm": good[: chance.randint(400, len(good) - 1)],
        "pixels-4gb.dcm": good[: pixels + 8] + struct.pack("<I", 0xFFFFFFFE) + good[pixels + 12 :],
        "deep": _deep(good, pixels),
    }
    for name, value in poison.items():
        (folder / name).write_bytes(value)
    claims = slice_of(replace(HEAD, seed=39), 1)
    claims.Rows = claims.Columns = 65535
    claims.NumberOfFrames = 2**31 - 1
    aside = root.parent / "aside"
    claims.save_as(aside, enforce_file_format=True)
    aside.replace(folder / "claims.dcm")


def _deep(good: bytes, pixels: int) -> bytes:
    """A sequence in a sequence, ten thousand deep."""
    head = b"\x40\0\x75\x02SQ\0\0" + b"\xff" * 4 + b"\xfe\xff\x00\xe0" + b"\xff" * 4
    return good[:pixels] + head * 10_000


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────

_ON_DISK = (
    "it's", "back\\slash", "new\nline", "\N{SKULL AND CROSSBONES}\N{BRAIN}.dcm", ".hidden slice", "n" * 255, "\N{BRAIN}" * 63, "-rf slice",
    "%s%n%s%n", "$(touch poisoned)", "`reboot` now", "*?[a-z]", "  spaces  ", "trailing. ", "NUL.dcm", "tab\there",
)  # fmt: skip
"""No name that a directory can hold is forbidden in Drive."""
_ON_DRIVE = (
    "same name.dcm",
    "same name.dcm",
    "../../../../outside.dcm",
    "/etc/passwd",
    "..",
    "w" * 700,
    "",
    "a/b/c\n'd'",
)
"""Names that only Drive can hold: two alike, longer than any directory takes, paths."""
_SAFE = re.compile(r"[A-Za-z0-9._-]{1,120}")


def _odd_names(chance: random.Random) -> Plan:
    """Files and folders with such names, from the start; and, by the browser, some that no directory can hold."""
    names = chance.sample(_ON_DISK, 8)
    given = chance.sample(_ON_DRIVE, 4)
    return Plan(
        fill=lambda root: _with_odd_names(root, names),
        between=[lambda world: _rename(world, given)],
        holds=frozenset(),
        judge=all_of(partial(_delivered, but="", count=3), _safe_paths),
    )


def _with_odd_names(root: Path, names: Sequence[str]) -> None:
    small(root)
    note_met(root.parent / "state")
    folder = root / "DICOM" / names[0] / names[1]
    for path, name in zip(write_series(folder, CHEST), names[2:], strict=False):
        path.rename(folder / name)


def _rename(world: FaultWorld, names: Sequence[str]) -> None:
    """Another series comes, and its files get their names in the browser before the daemon looks."""
    folder = world.source / "Exam P"
    paths = write_series(folder, replace(POISON, slices=len(names)))
    world.scan()
    for path, name in zip(paths, names, strict=True):
        file_id = world.item(f"DICOM/Exam P/{path.name}").file_id
        world.patch(file_id, {"name": name})


def _safe_paths(world: FaultWorld) -> Sequence[str]:
    """No name of Drive's is one of a local file: neither in the state, nor beside it."""
    paths = [path.relative_to(world.home) for path in world.home.rglob("*") if world.root not in path.parents]
    odd = [path for path in paths if not all(_SAFE.fullmatch(part) for part in path.parts)]
    return [f"other: a local file is called {path}" for path in odd[:3]]


# ── judging ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _delivered(world: FaultWorld, *, but: str, count: int) -> Sequence[str]:
    """Every series but that one is delivered, whole as the judge has seen already, and there are so many."""
    rows = _ask(
        world, "SELECT series_instance_uid, delivered_n FROM series WHERE series_instance_uid != ?", but
    )
    delivered = sum(1 for _, n in rows if n)
    return [] if delivered == count else [f"lost: {delivered} healthy series are delivered, not {count}"]


def _ask(world: FaultWorld, sql: str, *values: object) -> list[tuple[object, ...]]:
    ledger = sqlite3.connect(f"file:{world.state / 'ledger.sqlite3'}?mode=ro", uri=True)
    try:
        return ledger.execute(sql, values).fetchall()
    finally:
        ledger.close()


_VARIANTS: Sequence[Callable[[random.Random], Plan]] = (
    _unreadable,
    lambda _: _misconverted(_MISDEEDS[0]),
    lambda _: _misconverted(_MISDEEDS[2]),
    _odd_names,
    *(partial(lambda misdeed, _: _misconverted(misdeed), misdeed) for misdeed in _MISDEEDS[3:]),
    lambda _: _misconverted(_MISDEEDS[1]),
)


def _poison(chance: random.Random, seed: int) -> Plan:
    return _VARIANTS[seed % len(_VARIANTS)](chance)


ROWS = (
    row(38, "poison: the converter crashes, hangs, fills the disk; odd formats, claims and names", _poison),
)
