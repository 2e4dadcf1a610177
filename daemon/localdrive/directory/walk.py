"""Compares the directory with the rows of the index: what moved, what is new, what is missing. Only reads."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from daemon.localdrive.store.items import is_temporary_name
from daemon.localdrive.store.tree import HIDDEN, MAX_DEPTH

Signature = tuple[int, int, int, int]
"""(device, inode, size, mtime in ns)"""


@dataclass(slots=True)
class Row:
    """The fields of an item that the comparison needs."""

    id: str
    parent: str
    disk_name: str
    is_folder: bool
    signature: Signature


@dataclass(slots=True)
class Entry:
    """Something on disk at `path`; `parent` is an item's id, or the path of a folder that has none yet."""

    path: str
    parent: str
    name: str
    is_folder: bool
    signature: Signature
    row_id: str = ""
    depth: int = 0


@dataclass(slots=True)
class Differences:
    """The differences between disk and index that one walk found."""

    moved: list[Entry] = field(default_factory=list)
    new_folders: list[Entry] = field(default_factory=list)
    files: list[Entry] = field(default_factory=list)
    """New files, and known files with new content (`row_id` is set)."""
    missing: set[str] = field(default_factory=set)


class Walk:
    """One walk over the disk against the rows of the index."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = {row.id: row for row in rows}
        self._children: dict[str, dict[str, Row]] = {}
        self._by_inode: dict[tuple[int, int], Row] = {}
        for row in rows:
            self._children.setdefault(row.parent, {})[row.disk_name] = row
            self._by_inode[row.signature[:2]] = row
        self._found = Differences()
        self._matched: set[str] = set()
        self._walked: set[str] = set()
        self._unmatched: list[Entry] = []

    def differences(self) -> Differences:
        """Return the differences. Call once, after every root was walked (`folder`)."""
        for entry in self._unmatched:
            self._place_unmatched(entry)
        for parent in self._walked:
            self._found.missing.update(
                row.id for row in self._children.get(parent, {}).values() if row.id not in self._matched
            )
        return self._found

    def folder(self, path: str, item_id: str, depth: int = 0) -> None:
        """Compare one folder and everything below. Symbolic links are not followed and not served."""
        try:
            with os.scandir(path) as listing:
                entries = [(e.name, e.path, e.stat(follow_symlinks=False)) for e in _readable(listing)]
        except OSError:
            # Unreadable, or gone since: nothing below it counts as missing here. The walk of its parent decides about the folder.
            return
        self._walked.add(item_id)
        known = self._children.get(item_id, {})
        for name, entry_path, now in entries:
            is_folder = stat.S_ISDIR(now.st_mode)
            if not is_folder and not stat.S_ISREG(now.st_mode):
                continue
            row = known.get(name)
            if (row is None and is_temporary_name(name)) or name == HIDDEN:
                continue
            if is_folder and depth >= MAX_DEPTH:
                continue
            entry = Entry(entry_path, item_id, name, is_folder, signature_of(now), depth=depth)
            if row is not None and row.is_folder == is_folder:
                if is_folder and row.signature[:2] == entry.signature[:2]:
                    self._matched.add(row.id)
                    self.folder(entry_path, row.id, depth + 1)
                    continue
                if not is_folder and row.signature == entry.signature:
                    self._matched.add(row.id)
                    continue
            # Which item moved is known only after every row that is still at its place has been matched.
            self._unmatched.append(entry)

    def _place_unmatched(self, entry: Entry) -> None:
        moved = self._by_inode.get(entry.signature[:2])
        if moved is not None and moved.id not in self._matched and self._is_same(moved, entry):
            here = moved.parent == entry.parent and moved.disk_name == entry.name
            if not here:
                self._matched.add(moved.id)
                entry.row_id = moved.id
                self._found.moved.append(entry)
                if entry.is_folder:
                    self._below(entry, moved.id)
                return
        if entry.is_folder:
            self._found.new_folders.append(entry)
            self._below(entry, entry.path)
            return
        row = self._children.get(entry.parent, {}).get(entry.name)
        if row is not None and not row.is_folder and row.id not in self._matched:
            self._matched.add(row.id)
            entry.row_id = row.id
        self._found.files.append(entry)

    def _below(self, entry: Entry, item_id: str) -> None:
        before = len(self._unmatched)
        self.folder(entry.path, item_id, entry.depth + 1)
        new, self._unmatched[before:] = self._unmatched[before:], []
        for below in new:
            self._place_unmatched(below)

    def _is_same(self, row: Row, entry: Entry) -> bool:
        """Whether the entry is the row's own inode, and not a new one with the same number."""
        if row.is_folder != entry.is_folder:
            return False
        if not entry.is_folder:
            return row.signature == entry.signature
        known = self._children.get(row.id, {})
        if not known:
            return True
        with suppress(OSError), os.scandir(entry.path) as listing:
            return any(e.name in known and known[e.name].signature[1] == e.inode() for e in listing)
        return False


def _readable(listing: Iterator[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
    for entry in listing:
        with suppress(FileNotFoundError):
            entry.stat(follow_symlinks=False)
            yield entry


def signature_of(now: os.stat_result) -> Signature:
    return now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns
