"""The only module that runs dcm2niix: one run for each series, fenced in, its exit and output never taken on trust."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import dcm2niix

from daemon.outside.volumes import volumes as sorting
from daemon.outside.volumes.messages import summarise
from daemon.outside.volumes.volumes import assign_roles
from daemon.rules.codes import Code, VerdictCode
from daemon.rules.errors import Refused, disk_full
from daemon.rules.geometry import is_mosaic
from daemon.rules.model import Instance, Volume
from daemon.rules.series import undecodable_syntax
from daemon.rules.spacing import Remark

__all__ = ["Conversion", "Limits", "assign_roles", "convert", "version"]

ARGUMENTS = ("-g", "i", "-b", "y", "-ba", "y", "-3", "-z", "i", "-w", "2")
"""Source: reference/dicom.md, "Conversion with dcm2niix": each of them is there for a reason."""

MACHINE_CODES = frozenset(
    {Code.CONVERTER_FAILED, Code.CONVERTER_CRASHED, Code.CONVERTER_OUTPUT_TOO_LARGE, Code.NO_VOLUME}
)
"""Errors of the converter that a full or failing disk can cause, too."""

IMAGE_CODES = frozenset({Code.CONVERTER_FAILED, Code.NO_VOLUME, Code.UNSUPPORTED_SYNTAX})
"""Errors of the converter after which the images may still form a volume: it does not know how."""

RETRYABLE_CODES = frozenset({Code.CONVERTER_CRASHED, Code.CONVERTER_TIMEOUT, Code.CONVERTER_MEMORY})
"""Errors that a later try may not have: the machine was out of memory, or too busy."""

LOG_NAME = "converter.log"
_OWN_NAME = "volume"
"""What dcm2niix calls its files: it would alter our prefix (``__`` becomes ``_``), so the files are renamed."""
_LAUNCHER = Path(__file__).with_name("limited.py")
_LOG_KEPT_BYTES = 4 << 20
_POLL_S = 0.1
_FILE_COSTS_BYTES = 4096
"""What a file takes, however empty: so many of them fill a disk, too."""
_LINK_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
_MEMORY_PHRASE = "memory ran out"
_DISK_PHRASE = "the disk is full"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one conversion may take: seconds of wall time, bytes of address space, bytes of output in all.

    Whatever it writes counts as output: its log, and each file's own block.
    """

    timeout_s: float
    memory_bytes: int
    output_bytes: int


@dataclass(frozen=True, slots=True)
class Conversion:
    """What one run made.

    `files` are all files to deliver, volumes included. `warnings` are phrases without values; `findings` (code,
    sentence) belong into the verdict: `geometry.with_findings`. `log_path` holds the raw output, mode 0600: it
    quotes names. `arguments` go into the manifest: without the prefix and the local paths.
    """

    volumes: tuple[Volume, ...]
    files: tuple[Path, ...]
    warnings: tuple[str, ...]
    arguments: tuple[str, ...]
    version: str
    findings: tuple[Remark, ...]
    log_path: Path


@dataclass(frozen=True, slots=True)
class _Ended:
    returncode: int
    stopped_for: str
    """Empty, ``timeout`` or ``output``: why we killed it."""
    peak_bytes: int


def version() -> str:
    """Return the version of the pinned wheel, which is that of dcm2niix."""
    return str(dcm2niix.__version__)


def fault() -> str:
    """Return why dcm2niix does not run on this machine; empty: it does."""
    try:
        ran = subprocess.run([dcm2niix.bin, "--version"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        return f"it does not start ({type(exc).__name__})"
    return "" if b"dcm2nii" in ran.stdout else f"it ends with {ran.returncode}"


def convert(
    inputs: Sequence[tuple[str, Path]],
    prefix: str,
    work_dir: Path,
    limits: Limits,
    *,
    instances: Sequence[Instance] = (),
) -> Conversion:
    """Convert the images of one series.

    Args:
        inputs: (link name, path) for each file; the names are made of ids, ``[A-Za-z0-9._-]``, and differ.
        prefix: what all results' names start with; `series.folder_name`.
        work_dir: a directory of this conversion alone; what an earlier attempt left in it is removed. Of a
            failure nothing but the beginning of the log stays in it.
        instances: what the headers of the inputs say, if known: names the transfer syntax when nothing comes out,
            and lets slices be counted.
    Raises:
        Refused: ``NO_VOLUME``, ``UNSUPPORTED_SYNTAX``, ``CONVERTER_CRASHED``, ``CONVERTER_TIMEOUT``,
            ``CONVERTER_MEMORY``, ``CONVERTER_OUTPUT_TOO_LARGE``, ``CONVERTER_FAILED``.
        Transient: ``DISK_FULL``.
        ValueError: a link name or the prefix could lead out of the directory.
        OSError: the work directory cannot be written.
    """
    if not _LINK_NAME.fullmatch(prefix):
        raise ValueError("the prefix must be made of letters, digits, dot, dash and underscore")
    undecodable = {undecodable_syntax(instance) for instance in instances} - {""}
    if instances and undecodable and all(undecodable_syntax(instance) for instance in instances):
        raise _unsupported(undecodable)
    out_dir, log_path = _prepare(inputs, work_dir)
    try:
        return _converted(inputs, prefix, work_dir, limits, instances, undecodable)
    except Exception:
        # A partial result is not needed, and a held series may stay for weeks: so its space is freed now.
        for directory in (work_dir / "in", out_dir):
            shutil.rmtree(directory, ignore_errors=True)
        raise
    finally:
        with contextlib.suppress(OSError):
            if log_path.stat().st_size > _LOG_KEPT_BYTES:
                os.truncate(log_path, _LOG_KEPT_BYTES)


def _converted(
    inputs: Sequence[tuple[str, Path]],
    prefix: str,
    work_dir: Path,
    limits: Limits,
    instances: Sequence[Instance],
    undecodable: set[str],
) -> Conversion:
    out_dir, log_path = work_dir / "out", work_dir / LOG_NAME
    ended = _run([*ARGUMENTS, "-f", _OWN_NAME, "-o", str(out_dir), str(work_dir / "in")], work_dir, limits)
    with log_path.open("rb") as log:
        lines = log.read(_LOG_KEPT_BYTES).decode("utf-8", "replace").splitlines()
    summary = summarise(lines)
    tight = max(2 * _decoded_bytes(inputs, instances), ended.peak_bytes) * 2 >= limits.memory_bytes
    _raise_for(ended, limits, ran_out=_MEMORY_PHRASE in summary.phrases, tight=tight)
    if _DISK_PHRASE in summary.phrases:
        # Not left to the check of the volumes: a sidecar that could not be written leaves no trace.
        raise disk_full("The converter could not write all of its output")
    if ended.returncode not in (0, 2, 8, 10):
        raise _failed(ended.returncode)
    _rename(out_dir, prefix)
    found = sorting.collect(out_dir, prefix)
    if not found:
        raise _nothing(instances, undecodable)
    findings = list(summary.findings)
    if ended.returncode != 0:
        findings.append(
            (
                VerdictCode.CONVERTER_WARNING,
                "The converter left some images out; look at the volume before you use it.",
            )
        )
    findings += _slices_missing(instances, found)
    return Conversion(
        volumes=found,
        files=tuple(sorted(path for path in out_dir.iterdir() if path.is_file())),
        warnings=summary.phrases,
        arguments=ARGUMENTS,
        version=version(),
        findings=tuple(findings),
        log_path=log_path,
    )


def nothing(work_dir: Path, why: str) -> Conversion:
    """Return the conversion of a run that made no volume; `why` becomes its one warning."""
    return Conversion((), (), (why,), ARGUMENTS, version(), (), work_dir / LOG_NAME)


def _prepare(inputs: Sequence[tuple[str, Path]], work_dir: Path) -> tuple[Path, Path]:
    in_dir, out_dir, log_path = work_dir / "in", work_dir / "out", work_dir / LOG_NAME
    work_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for directory in (in_dir, out_dir):
        if directory.exists():
            shutil.rmtree(directory)
        directory.mkdir(mode=0o700)
    log_path.unlink(missing_ok=True)
    os.close(os.open(log_path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    for name, path in inputs:
        if not _LINK_NAME.fullmatch(name):
            raise ValueError("a link name must be made of letters, digits, dot, dash and underscore")
        (in_dir / name).symlink_to(path.resolve())
    return out_dir, log_path


def _run(arguments: Sequence[str], work_dir: Path, limits: Limits) -> _Ended:
    """Run dcm2niix in a process group of its own until it ends or exceeds a limit."""
    command = [sys.executable, "-I", "-S", str(_LAUNCHER)]
    command += [
        str(limits.memory_bytes),
        str(limits.output_bytes),
        str(os.getpid()),
        str(dcm2niix.bin),
        *arguments,
    ]
    deadline = time.monotonic() + limits.timeout_s
    stopped_for, peak = "", 0
    with (work_dir / LOG_NAME).open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=work_dir,
            env=_environment(work_dir),
            process_group=0,
        )
        try:
            while True:
                try:
                    returncode = process.wait(_POLL_S)
                    break
                except subprocess.TimeoutExpired:
                    peak = max(peak, _peak_bytes(process.pid))
                    if time.monotonic() > deadline:
                        stopped_for = "timeout"
                    elif _written_bytes(work_dir) > limits.output_bytes:
                        stopped_for = "output"
                    if stopped_for:
                        _kill(process)
                        returncode = process.wait()
                        break
        finally:
            if process.returncode is None:
                _kill(process)
                process.wait()
    if not stopped_for and _written_bytes(work_dir) >= limits.output_bytes:
        stopped_for = "output"  # the limit of a single file stopped it, and it did not die of the signal
    return _Ended(returncode, stopped_for, peak)


def _rename(out_dir: Path, prefix: str) -> None:
    for path in list(out_dir.iterdir()):
        if path.name.startswith(_OWN_NAME):
            path.rename(path.with_name(prefix + path.name.removeprefix(_OWN_NAME)))


def _environment(work_dir: Path) -> Mapping[str, str]:
    """Nothing of the service's own: no settings file in HOME, no secrets, decimal points whatever the locale."""
    return {"PATH": "/usr/bin:/bin", "HOME": str(work_dir), "LC_ALL": "C", "TMPDIR": str(work_dir)}


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _written_bytes(work_dir: Path) -> int:
    """Return what a run takes on the disk, wherever below its directory; the links to its inputs are not its own."""
    total = 0
    for folder, folders, names in os.walk(work_dir):
        if folder == str(work_dir):
            folders.remove("in")
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(folder) / name).lstat().st_size + _FILE_COSTS_BYTES
        total += _FILE_COSTS_BYTES * len(folders)
    return total


def _peak_bytes(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmPeak:"):
                return int(line.split()[1]) * 1024
    return 0


def _decoded_bytes(inputs: Sequence[tuple[str, Path]], instances: Sequence[Instance]) -> int:
    """Return how much the pixels take uncompressed; dcm2niix holds them about twice (reference/dicom.md)."""
    decoded = sum(2 * (i.rows or 0) * (i.columns or 0) * i.number_of_frames for i in instances)
    return max(decoded, sum(path.stat().st_size for _, path in inputs))


def _raise_for(ended: _Ended, limits: Limits, *, ran_out: bool, tight: bool) -> None:
    """Raise for a run that a limit or a signal ended.

    When memory is refused, dcm2niix mostly says nothing: it crashes, or exits 1. `tight` tells that the series
    comes near the limit, so that lack of memory is what happened.
    """
    number = -ended.returncode
    if ended.stopped_for == "timeout":
        raise Refused(Code.CONVERTER_TIMEOUT, f"The converter did not end within {limits.timeout_s:.0f} s")
    if ended.stopped_for == "output" or number == signal.SIGXFSZ:
        raise Refused(
            Code.CONVERTER_OUTPUT_TOO_LARGE, f"The converter wrote more than {limits.output_bytes} bytes"
        )
    # A SIGKILL that was not sent by this program comes from the kernel, which was out of memory.
    if ran_out or number == signal.SIGKILL or (tight and (number > 0 or ended.returncode == 1)):
        raise Refused(
            Code.CONVERTER_MEMORY, f"The converter needs more than {limits.memory_bytes} bytes of memory"
        )
    if number > 0:
        raise Refused(Code.CONVERTER_CRASHED, f"The converter crashed with signal {number}")


def _nothing(instances: Sequence[Instance], undecodable: set[str]) -> Refused:
    syntaxes = undecodable or {i.transfer_syntax_uid for i in instances} - _UNCOMPRESSED
    if syntaxes:
        return _unsupported(syntaxes)
    return Refused(
        Code.NO_VOLUME,
        f"The converter made no volume of {len(instances) or 'these'} images and gave no error",
    )


def _unsupported(syntaxes: set[str]) -> Refused:
    return Refused(
        Code.UNSUPPORTED_SYNTAX, f"No decoder for the transfer syntax {', '.join(sorted(syntaxes))}"
    )


def _failed(returncode: int) -> Refused:
    meaning = {
        1: "an image is cut short or damaged",
        5: "input not readable",
        6: "output not writable",
        127: "not started",
    }
    what = f"The converter ended with exit code {returncode}"
    if returncode in meaning:
        what += f" ({meaning[returncode]})"
    remedy = "Export and upload the series again, then retry"
    if returncode == 127:
        remedy = "Install the program again and check work.convert_memory_gb, then retry"
    return Refused(Code.CONVERTER_FAILED, what, remedy=remedy)


_UNCOMPRESSED = frozenset(
    {"", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"}
)


def _slices_missing(instances: Sequence[Instance], found: Sequence[Volume]) -> list[Remark]:
    """Compare images in with slices out, where both are certain: single-frame images, no mosaics, one size."""
    if not instances or any(i.number_of_frames > 1 or is_mosaic(i) for i in instances):
        return []
    slices = 0
    for volume in found:
        if volume.role in ("resampled", "tilt-corrected"):
            continue
        count = 1
        for length in volume.shape[2:]:
            count *= length
        slices += count
    if slices >= len(instances):
        return []
    return [
        (
            VerdictCode.SLICES_MISSING,
            f"{len(instances)} images went in, {slices} slices came out: the volume is not complete.",
        )
    ]
