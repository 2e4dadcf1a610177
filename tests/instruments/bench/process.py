"""The real `sdd-dicom` as a process, and what it takes: seconds, CPU, memory; its children (dcm2niix) apart."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

LOOK_S = 0.02
"""The high-water mark of memory goes with the process: what it says this long before the end counts."""
CHILDREN_EVERY = 10
"""Of so many looks one is for the children as well, which takes a walk over all processes."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_AFTER_THE_NAME, _PARENT, _USER, _SYSTEM = 3, 4, 14, 15
"""proc_pid_stat(5) counts fields from 1; what follows the name, which may hold blanks, begins with the third."""


@dataclass(frozen=True, slots=True)
class Took:
    """What a process took.

    Args:
        exit_code: negative: the signal that ended it.
        wall_s: from its start to its end.
        cpu_s: of its own threads, as its end tells it; children are not in it.
        peak_bytes: the most memory it ever held (VmHWM).
        children_peak_bytes: the most that one of its children held; 0: none was met.
    """

    exit_code: int
    wall_s: float
    cpu_s: float
    peak_bytes: int
    children_peak_bytes: int


class Program:
    """One process, looked at from outside; killed at the end of the `with` block if it still runs.

    Args:
        command: `sdd_dicom(…)`, or any other.
        log: where its standard output and standard error go.
        told: further variables of its environment.
    """

    def __init__(self, command: list[str], log: Path, told: Mapping[str, str] | None = None) -> None:
        self._command, self._log, self._told = command, log, told or {}
        self._peak_bytes = 0
        self._children_peak_bytes = 0
        self._cpu_s = 0.0
        self._ended = threading.Event()

    def __enter__(self) -> Program:
        with self._log.open("ab") as log:
            self._began_s = time.monotonic()
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment() | self._told,
            )
        self.pid = self._process.pid
        self._looking = threading.Thread(target=self._look_on, daemon=True)
        self._looking.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._ended.set()
        self._looking.join()

    def check(self) -> None:
        """Make sure that it still runs. Raises: RuntimeError, with the end of its log."""
        if self._process.poll() is not None:
            raise RuntimeError(f"{self._command[-4:]} ended with {self._process.returncode}: {self.tail()}")

    def cpu_s(self) -> float:
        """Return the CPU seconds of all its threads until now; of its children nothing."""
        self._look()
        return self._cpu_s

    def peak_bytes(self) -> int:
        """Return the most memory that it held until now."""
        self._look()
        return self._peak_bytes

    def children_peak_bytes(self) -> int:
        """Return the most that one of its children held until now."""
        self._look_for_children()
        return self._children_peak_bytes

    def stop(self, timeout_s: float = 60.0) -> Took:
        """Ask for an orderly end, and wait for it."""
        self._process.send_signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float) -> Took:
        """Wait for its end.

        Raises:
            TimeoutError: it did not come; the end of its log says where it stands.
        """
        until_s = time.monotonic() + timeout_s
        while os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.monotonic() > until_s:
                raise TimeoutError(f"{self._command[-4:]} does not end: {self.tail()}")
            time.sleep(LOOK_S / 4)
        wall_s = time.monotonic() - self._began_s
        # It has ended and is not yet reaped: now its CPU seconds are complete.
        self._look()
        self._ended.set()
        return Took(self._process.wait(), wall_s, self._cpu_s, self._peak_bytes, self._children_peak_bytes)

    def tail(self, length: int = 2000) -> str:
        """Return the end of what it wrote."""
        return self._log.read_text(errors="replace")[-length:]

    # ── looking ──────────────────────────────────────────────────────────────────────────────────────────────

    def _look_on(self) -> None:
        for number in itertools.count():
            if self._ended.wait(LOOK_S):
                break
            self._look()
            if number % CHILDREN_EVERY == 0:
                self._look_for_children()

    def _look(self) -> None:
        self._cpu_s = max(self._cpu_s, _cpu_s(self.pid))
        self._peak_bytes = max(self._peak_bytes, _peak_bytes(self.pid))

    def _look_for_children(self) -> None:
        own = _command_of(self.pid)
        for child in _children(self.pid):
            # Until it has become another program a child shares this one's memory, and names the same command.
            if _command_of(child) != own:
                self._children_peak_bytes = max(self._children_peak_bytes, _peak_bytes(child))


def sdd_dicom(*arguments: str) -> list[str]:
    """Return the command that runs the program of this source tree."""
    return [sys.executable, "-m", "daemon.cli", *arguments]


def environment() -> dict[str, str]:
    """Return this process' environment without what would configure the program."""
    root = str(Path(__file__).resolve().parents[3])
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SDD_", "NOTIFY_"))}
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, [root, kept.get("PYTHONPATH", "")]))}


def _stat(pid: int) -> list[str]:
    """Return the fields behind the name; nothing when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _cpu_s(pid: int) -> float:
    fields = _stat(pid)
    return sum(int(fields[at - _AFTER_THE_NAME]) for at in (_USER, _SYSTEM)) / _TICKS_PER_S if fields else 0.0


def _peak_bytes(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # It ended meanwhile.
    return 0


def _command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _children(pid: int) -> list[int]:
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [
        each for each in pids if (fields := _stat(each)) and int(fields[_PARENT - _AFTER_THE_NAME]) == pid
    ]
