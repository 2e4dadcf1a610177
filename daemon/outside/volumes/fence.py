"""Runs a module of this program in a separate, limited process: hostile bytes must not crash the service."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

LAUNCHER = Path(__file__).with_name("limited.py")


class Fenced(Exception):
    """The module did not come to its end: `reason` is ``time``, ``memory`` or ``crash``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def run(module: str, job: bytes, *, timeout_s: float, memory_bytes: int, file_bytes: int) -> bytes:
    """Run ``python -m module`` with `job` on its standard input; return what it printed.

    It gets no environment except the path of the packages, and no terminal; it ends with this process.

    Args:
        memory_bytes: of address space. file_bytes: of the largest file that it may write.
    Raises:
        Fenced: it was stopped, crashed, or ended with an error.
    """
    command = [
        sys.executable,
        "-I",
        "-S",
        str(LAUNCHER),
        str(memory_bytes),
        str(file_bytes),
        str(os.getpid()),
    ]
    command += [sys.executable, "-m", module]
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {
        "PATH": "/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": paths,
        # Threads of the algebra library would cost address space, and nothing here multiplies matrices.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    try:
        ended = subprocess.run(
            command,
            input=job,
            capture_output=True,
            env=environment,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Fenced("time") from None
    if ended.returncode:
        raise Fenced("memory" if b"MemoryError" in ended.stderr[-4096:] else "crash")
    return ended.stdout
