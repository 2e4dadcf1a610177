"""Sees each sync that SQLite does, from outside: a VFS before its own, set up through its public C interface.

`fsync` is not among the system calls that ``xSetSystemCall`` can replace, so ``xSync`` of each open file is: the VFS
hands out files whose table of methods is a copy with another ``xSync``. Only the sync of a directory, which happens
inside, is seen through the system call ``openDirectory`` that comes before it.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_OK = 0
_POINTER = ctypes.sizeof(ctypes.c_void_p)


def _structure(name: str, numbers: str, pointers: str) -> type[ctypes.Structure]:
    fields: list[Any] = [(field, ctypes.c_int) for field in numbers.split()]
    fields += [(field, ctypes.c_void_p) for field in pointers.split()]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


# sqlite3.h, `sqlite3_vfs` (version 3) and `sqlite3_io_methods` (version 3). Both only grow at their ends.
_Vfs = _structure(
    "_Vfs",
    "version file_size path_max",
    "next name app_data open delete access full_pathname dl_open dl_error dl_sym dl_close randomness sleep"
    " current_time last_error current_time_ms set_system_call get_system_call next_system_call",
)
_Methods = _structure(
    "_Methods",
    "version",
    "close read write truncate sync file_size lock unlock check_reserved control sector_size characteristics"
    " shm_map shm_lock shm_barrier shm_unmap fetch unfetch",
)
_SIZE_OF_METHODS = {1: 13 * _POINTER, 2: 17 * _POINTER, 3: 19 * _POINTER}
"""By version: an older table ends earlier."""

_P, _INT = ctypes.c_void_p, ctypes.c_int
_OpenFile = ctypes.CFUNCTYPE(_INT, _P, _P, _P, _INT, _P)
_Sync = ctypes.CFUNCTYPE(_INT, _P, _INT)
_Read = ctypes.CFUNCTYPE(_INT, _P, _P, _INT, ctypes.c_int64)
_FileSize = ctypes.CFUNCTYPE(_INT, _P, _P)
_OpenDirectory = ctypes.CFUNCTYPE(_INT, ctypes.c_char_p, _P)
_GetSystemCall = ctypes.CFUNCTYPE(_P, _P, ctypes.c_char_p)
_SetSystemCall = ctypes.CFUNCTYPE(_INT, _P, ctypes.c_char_p, _P)

Opened = Callable[[str], int | None]
"""Path → the file's inode; None: its syncs need not be seen."""
Synced = Callable[[int, Callable[[], bytes], Callable[[], int]], int]
"""(inode, what reads the file's content, what syncs it) → SQLite's code."""


def _libraries() -> Iterator[str | None]:
    """Yield where the SQLite of this Python may be: a shared library, the extension, the program itself."""
    try:
        mapped = {
            line.split(maxsplit=5)[-1].strip() for line in Path("/proc/self/maps").read_text().splitlines()
        }
    except OSError:
        return
    yield from sorted(path for path in mapped if "libsqlite3" in Path(path).name)
    yield getattr(sys.modules.get("_sqlite3"), "__file__", None)
    yield None


def _find() -> tuple[Any, str]:
    """Return the library and "", or None and why not."""
    connection = sqlite3.connect(":memory:")
    (source_id,) = connection.execute("SELECT sqlite_source_id()").fetchone()
    connection.close()
    for path in _libraries():
        try:
            library = ctypes.CDLL(path)
            library.sqlite3_sourceid.restype = ctypes.c_char_p
            library.sqlite3_vfs_find.restype = ctypes.c_void_p
            if library.sqlite3_sourceid().decode() != source_id:
                continue
            vfs = _Vfs.from_address(library.sqlite3_vfs_find(None))
        except (AttributeError, OSError, TypeError):
            continue
        if vfs.version >= 3 and ctypes.string_at(vfs.name) == b"unix":
            return library, ""
    return None, "the SQLite of this Python has no interface that can be reached (linked statically?)"


_INSTALLED: list[Watch] = []
"""Never let go: C code calls what hangs on them until the process ends."""
_LIBRARY, REASON = _find()
AVAILABLE = _LIBRARY is not None


class Watch:
    """Stands between SQLite and its files, for the rest of the process.

    Args:
        opened: called with the path of each file after it was opened.
        synced: called in place of each file's sync; must call the sync that it is given.
        directory_synced: called with a directory's path just before SQLite syncs it.
        failed: called with an exception that met one of them; C code cannot pass it on.
    Raises:
        RuntimeError: `AVAILABLE` is False.
    """

    def __init__(
        self,
        *,
        opened: Opened,
        synced: Synced,
        directory_synced: Callable[[str], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        if not AVAILABLE:
            raise RuntimeError(REASON)
        self._opened, self._synced = opened, synced
        self._directory_synced, self._failed = directory_synced, failed
        self._inodes: dict[int, int] = {}
        self._tables: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self._kept: list[Any] = []
        """Everything that C code points to."""

    def install(self) -> None:
        """Become the default VFS: files opened from now on are seen."""
        _INSTALLED.append(self)
        address = _LIBRARY.sqlite3_vfs_find(None)
        self._vfs = _Vfs.from_address(address)
        self._address = address
        self._open = _OpenFile(self._vfs.open)
        ours = _Vfs.from_buffer_copy(self._vfs)
        name, opening = ctypes.create_string_buffer(b"power"), _OpenFile(self._open_file)
        ours.name, ours.open, ours.next = ctypes.addressof(name), ctypes.cast(opening, _P).value, None
        system_call = _GetSystemCall(self._vfs.get_system_call)(address, b"openDirectory")
        self._open_directory = _OpenDirectory(system_call)
        directory = _OpenDirectory(self._see_directory)
        self._kept += [ours, name, opening, directory]
        codes = (
            _SetSystemCall(self._vfs.set_system_call)(address, b"openDirectory", ctypes.cast(directory, _P)),
            _LIBRARY.sqlite3_vfs_register(ctypes.byref(ours), 1),
        )
        if codes != (_OK, _OK):
            raise RuntimeError(f"SQLite refused to be watched: {codes}")

    # ── called by SQLite ─────────────────────────────────────────────────────────────────────────────────────

    def _open_file(self, _: int, name: int | None, file: int, flags: int, out_flags: int | None) -> int:
        code: int = self._open(self._address, name, file, flags, out_flags)
        if code != _OK or not name:  # without a name: a temporary file that is gone with the process
            return code
        try:
            inode = self._opened(os.fsdecode(ctypes.string_at(name)))
            if inode is not None:
                self._inodes[file] = inode
                methods = ctypes.c_void_p.from_address(file)
                methods.value = self._table(methods.value or 0)
        except BaseException as exc:  # noqa: BLE001 - C code cannot pass it on
            self._failed(exc)
        return code

    def _table(self, original: int) -> int:
        """Return the address of a copy of a table of methods, with our sync in it."""
        if original not in self._tables:
            size = _SIZE_OF_METHODS[min(3, ctypes.c_int.from_address(original).value)]
            table = ctypes.create_string_buffer(ctypes.string_at(original, size), size)
            theirs = _Methods.from_address(original)
            sync, read, file_size = _Sync(theirs.sync), _Read(theirs.read), _FileSize(theirs.file_size)

            def sync_file(file: int, flags: int) -> int:
                def content() -> bytes:
                    length = ctypes.c_int64()
                    code = file_size(file, ctypes.byref(length))
                    data = ctypes.create_string_buffer(max(1, length.value))
                    code = code or read(file, data, length.value, 0)
                    if code != _OK:
                        raise OSError(f"SQLite reads its own file with code {code}")
                    return data.raw[: length.value]

                try:
                    return self._synced(self._inodes[file], content, lambda: int(sync(file, flags)))
                except BaseException as exc:  # noqa: BLE001 - as above
                    self._failed(exc)
                    return int(sync(file, flags))

            ours = _Sync(sync_file)
            ctypes.c_void_p.from_buffer(table, _Methods.sync.offset).value = ctypes.cast(ours, _P).value
            self._kept += [ours, sync, read, file_size]
            self._tables[original] = table
        return ctypes.addressof(self._tables[original])

    def _see_directory(self, name: bytes, out: int) -> int:
        code = self._open_directory(name, out)
        if code == _OK:
            try:
                self._directory_synced(os.path.dirname(os.fsdecode(name)) or ".")  # noqa: PTH120
            except BaseException as exc:  # noqa: BLE001 - as above
                self._failed(exc)
        return int(code)
