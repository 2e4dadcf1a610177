"""Many threads share few arenas of the C library's memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from daemon.service.memory import MOST_ARENAS

THREADS = """
import ctypes, sys, threading
from daemon.service import memory
if sys.argv[1] == "few" and not memory.keep_few_arenas():
    sys.exit(77)
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.fopen.restype = ctypes.c_void_p
together = threading.Barrier(8)
def work():
    for _ in range(1000):
        libc.malloc(1000)
    together.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
file = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, ctypes.c_void_p(file))
libc.fclose(ctypes.c_void_p(file))
"""


def arenas(tmp_path: Path, how: str) -> int:
    path = tmp_path / f"{how}.xml"
    ended = subprocess.run([sys.executable, "-c", THREADS, how, str(path)], check=False)
    if ended.returncode == 77:
        pytest.skip("this C library has no mallopt")
    return path.read_text().count("<heap nr=")


def test_eight_threads_share_two_arenas(tmp_path: Path) -> None:
    assert arenas(tmp_path, "many") > MOST_ARENAS
    assert arenas(tmp_path, "few") <= MOST_ARENAS
