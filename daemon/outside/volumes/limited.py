"""A launcher, run as a script of its own: limits itself, then becomes the converter. Standard library only.

    python -I -S limited.py MEMORY_BYTES FILE_BYTES PARENT_PID PROGRAM [ARGUMENT…]

`preexec_fn` is not safe in a program with threads, and `prlimit` on a child that already runs comes late; here
the limits stand before the converter's first instruction. Costs some 30 ms for each series.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Limit this process and replace it. Exits 127 when the program cannot be started."""
    memory_bytes, file_bytes, parent_pid = (int(argument) for argument in arguments[:3])
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(5)
    # The converter must not outlive the service: it would write into a directory that the next start cleans.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(127)  # the service died before the line above took effect
    # Python ignores both signals; a converter that inherits that would not die of a full limit.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execv(arguments[3], arguments[3:])
    except OSError:
        os._exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])
