"""Power loss for a process that was killed: what was fsynced stays, the rest is lost, kept or torn by a seed.

`record` watches one directory from inside a forked process; `lose` turns what that process left into what a disk
could hold after the power went. The model:

* **Content.** A file is durable as it was when it was last given to fsync or fdatasync (SQLite's own included).
  Each sector (512 bytes or 4 KiB) in which it differs from that afterwards is lost, kept, or torn (its beginning
  new, the rest old), in any order or from the front; so is its new size, and what lies between is zeros. A file never synced
  may be empty. Bytes that nobody wrote never change.
* **Names.** A name (made, renamed, removed) is durable once its *directory* was fsynced. fsync of a file does not
  make its own name durable, as POSIX has it and unlike ext4, xfs and btrfs. SQLite can live with that: it fsyncs the
  directory with the first sync of a new journal or WAL. Unsynced changes of names are undone or not, each by itself
  and in any order.
* **A rename is one step**, as on every file system with a journal: undone or not, never both names, never half.
  Two things are harsher. If only the directory that it left was synced, its undoing loses the file. If neither name
  was ever durable, the old one, the new one or none is left.
* What `record` found in the directory when it began is durable. The directory's own name is watched, too.

Not modelled: contents that a file had between two syncs and that were overwritten since (an unsynced v1 under an
unsynced v2), barriers that a journal keeps across files, sync_file_range, O_SYNC, sync(2) and fsync by child processes
(what they write is seen, and is lost unless this process syncs it), extended attributes, a disk that lies about fsync.
"""

from __future__ import annotations

from pathlib import Path

from tests.instruments.faults.power.disk import Disk, Lost
from tests.instruments.faults.power.recorder import Recorder
from tests.instruments.faults.power.sqlite import AVAILABLE, REASON

__all__ = ["AVAILABLE", "REASON", "Disk", "Lost", "Recorder", "lose", "record"]


def record(state_dir: Path, journal: Path) -> Recorder:
    """Note in `journal` what becomes durable below `state_dir`, from now until this process ends.

    For a forked process only, before it opens anything: it replaces ``os.fsync`` and ``os.fdatasync``, puts itself
    between SQLite and its files, and cannot be taken out again. What is done through ``from os import fsync`` that
    ran earlier is not seen. Whoever puts points to kill around ``os.fsync`` does it after this.

    Args:
        state_dir: need not exist yet; its parent must.
        journal: a directory that is made; on the same machine, outside `state_dir`, empty or absent.
    Raises:
        RuntimeError: SQLite cannot be watched in this Python (`AVAILABLE` is False, `REASON` says why).
    """
    recorder = Recorder(state_dir, journal)
    recorder.install()
    return recorder


def lose(state_dir: Path, before: Path, journal: Path, seed: int) -> Lost:
    """Replace `state_dir` by what a disk could hold after the power went; return what became of the unsynced.

    Call it when every process that wrote below `state_dir` has ended. Nothing may have touched the directory since
    (a copy of it will not do: files are known by their inodes). The same run and seed give the same disk; a run
    whose threads came in another order may give another one.

    Args:
        before: a copy of `state_dir` from just before the recording process was started:
            ``shutil.copytree(state_dir, before, symlinks=True)``; absent where there was none. A control socket
            in it must be left out (``ignore=shutil.ignore_patterns("*.sock")``).
        journal: what `record` was given.
        seed: chooses what is lost.
    """
    return Disk.read(state_dir, before, journal).lose(seed)
