"""Finds what people changed in the directory, and applies it to the Drive.

The comparison of disk and index runs in a thread and only reads. Its differences are applied on the event loop. There
each one is checked against disk and index again, because the API may have moved the item in between.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from daemon.localdrive.directory.walk import Differences, Entry, Row, Signature, Walk, signature_of
from daemon.localdrive.store.blobs import hash_file
from daemon.localdrive.store.drive import Drive
from daemon.localdrive.store.items import Blob, Item, guess_mime, iso, new_id, new_revision_id
from daemon.rules.model import FOLDER_MIME

_BATCH_BYTES = 64 << 20
_BATCH_FILES = 200


class Scanner:
    """Compares disk and index repeatedly. A file is stable when two comparisons see the same signature."""

    def __init__(self, drive: Drive) -> None:
        self._drive = drive
        self._reader = drive.store.reader()
        self._seen: dict[str, Signature] = {}
        self._missing: set[str] = set()
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        """Scan until cancelled. A big tree is scanned less often: scanning takes at most about a tenth of the time."""
        while True:
            interval = self._drive.settings.scan_interval_s
            started = time.monotonic()
            if interval > 0:
                try:
                    await self.look()
                except Exception:
                    logging.getLogger("uvicorn.error").warning(
                        "A scan of the directory failed", exc_info=True
                    )
            took = time.monotonic() - started
            await asyncio.sleep(max(interval, took * 10, 0.05))

    async def scan(self) -> None:
        """Compare twice without a pause: a file that does not change in between counts as stable."""
        await self.look()
        await self.look()

    async def look(self) -> None:
        async with self._lock:
            await self._look()

    async def _look(self) -> None:
        found = await asyncio.to_thread(self._compare)
        if found is None:
            return
        ids: dict[str, str] = {}
        for entry in found.moved:
            self._move(entry, ids)
        for entry in found.new_folders:
            self._add_folder(entry, ids)
        seen: dict[str, Signature] = {}
        ready = []
        for entry in found.files:
            seen[entry.path] = entry.signature
            if self._seen.get(entry.path) == entry.signature:
                ready.append(entry)
        self._seen = seen
        if ready:
            open_inodes = await asyncio.to_thread(_written_inodes, str(self._drive.tree.directory))
            ready = [entry for entry in ready if entry.signature[:2] not in open_inodes]
        for batch in _batches(ready):
            blobs = await asyncio.to_thread(_hash_all, batch)
            with self._drive.store.transaction():
                for entry, blob in zip(batch, blobs, strict=True):
                    if blob is not None:
                        self._take(entry, blob, ids)
        for file_id in found.missing & self._missing:
            self._gone(file_id)
        self._missing = found.missing

    # ── looking (in a thread)

    def _rows(self) -> list[Row]:
        rows = self._reader.execute(
            "SELECT id, parent, disk_name, mime, dev, ino, size, mtime_ns FROM items WHERE disk_name != x'' AND trashed=0"
        )
        return [
            Row(i, parent, os.fsdecode(name), mime == FOLDER_MIME, (dev, ino, size, mtime))
            for i, parent, name, mime, dev, ino, size, mtime in rows
        ]

    def _compare(self) -> Differences | None:
        tree = self._drive.tree
        if not tree.hidden.is_dir():
            return None  # the disk is not mounted, so nothing can be called missing
        rows = self._rows()
        walk = Walk(rows)
        roots = [(self._drive.store.root_id, str(tree.directory))]
        roots += [(row[0], str(tree.hidden / "drives" / row[0])) for row in list(self._drive.store.drives())]
        for root_id, path in roots:
            walk.folder(path, root_id)
        return walk.differences()

    # ── applying (on the event loop)

    def _parent(self, entry: Entry, ids: dict[str, str]) -> Item | None:
        return self._drive.store.folders.get(ids.get(entry.parent, entry.parent))

    def _still_there(self, entry: Entry) -> bool:
        with suppress(OSError):
            now = os.lstat(entry.path)
            if entry.is_folder:
                return stat.S_ISDIR(now.st_mode) and (now.st_dev, now.st_ino) == entry.signature[:2]
            return signature_of(now) == entry.signature
        return False

    def _place(self, entry: Entry, ids: dict[str, str]) -> Item | None:
        """Return the folder of the entry; None where disk and index no longer agree about its place."""
        parent = self._parent(entry, ids)
        if parent is None or not self._still_there(entry):
            return None
        if str(self._drive.tree.path(parent) / entry.name) != entry.path:
            return None
        return parent

    def _move(self, entry: Entry, ids: dict[str, str]) -> None:
        item, parent = self._drive.store.get(entry.row_id), self._place(entry, ids)
        if item is None or parent is None or item.trashed:
            return
        with suppress(KeyError, OSError):
            if (
                os.lstat(self._drive.tree.path(item)).st_ino == entry.signature[1]
                and item.disk_name != entry.name
            ):
                return  # still at its old place as well: a hard link
        changes = replace(
            item, parent=parent.id, drive_id=parent.drive_id, disk_name=entry.name, version=item.version + 1
        )
        if item.disk_name != entry.name:
            changes = replace(changes, name=_drive_name(entry.name), modified=iso(time.time()))
        if changes.parent == item.parent and changes.disk_name == item.disk_name:
            return
        with self._drive.store.transaction():
            other = self._drive.store.on_disk(parent.id, entry.name)
            if other is not None and other.id != item.id:
                self._drive.store.drop(other.id)
                self._drive.record("delete", other, other, source="disk", removed=True)
            self._drive.store.put(changes)
            op = "move" if changes.parent != item.parent else "rename"
            self._drive.record(op, changes, item, source="disk")

    def _add_folder(self, entry: Entry, ids: dict[str, str]) -> None:
        parent = self._place(entry, ids)
        if parent is None or self._drive.store.on_disk(parent.id, entry.name) is not None:
            return
        now = iso(time.time())
        item = Item(
            id=new_id(),
            parent=parent.id,
            name=_drive_name(entry.name),
            disk_name=entry.name,
            mime=FOLDER_MIME,
            created=now,
            modified=now,
            drive_id=parent.drive_id,
            dev=entry.signature[0],
            ino=entry.signature[1],
            owner=self._owner(parent),
        )
        with self._drive.store.transaction():
            self._drive.store.use_id(item.id)
            self._drive.store.put(item)
            self._drive.record("create", item, None, source="disk")
        ids[entry.path] = item.id

    def _owner(self, parent: Item) -> str:
        """Return the owner of a new item: in a tree that is shared with us, the user who shared it."""
        top = self._drive.tree.shared_top(parent)
        return top.owner if top is not None else ""

    def _take(self, entry: Entry, blob: Blob, ids: dict[str, str]) -> None:
        """Give a new file an id, or a known one its new content."""
        parent = self._place(entry, ids)
        if parent is None:
            return
        name = _drive_name(entry.name)
        before = self._drive.store.on_disk(parent.id, entry.name)
        modified = iso(entry.signature[3] / 1e9)
        if before is not None and (before.is_folder or _signature(before) == entry.signature):
            return
        if before is None:
            now = iso(time.time())
            item = Item(
                id=new_id(), parent=parent.id, name=name, disk_name=entry.name, mime=guess_mime(name), created=now,
                modified=modified, drive_id=parent.drive_id, head=new_revision_id(), original_name=name,
                owner=self._owner(parent),
            )  # fmt: skip
            self._drive.store.use_id(item.id)
        else:
            item = replace(before, version=before.version + 1, modified=modified)
            if (before.md5, before.dev, before.ino) != (blob.md5, blob.dev, blob.ino):
                item = replace(item, head=new_revision_id(), mime=guess_mime(before.name))
        item = replace(
            item, size=blob.size, md5=blob.md5, sha1=blob.sha1, sha256=blob.sha256, dev=blob.dev, ino=blob.ino,
            mtime_ns=blob.mtime_ns,
        )  # fmt: skip
        self._drive.store.put(item)
        if before is None or before.head != item.head:
            self._drive.store.add_revision(item, time.time())
        self._drive.record("create" if before is None else "content", item, before, source="disk")

    def _gone(self, file_id: str) -> None:
        item = self._drive.store.get(file_id)
        if item is None or item.trashed:
            return
        with suppress(KeyError, OSError):
            now = os.lstat(self._drive.tree.path(item))
            if stat.S_ISDIR(now.st_mode) == item.is_folder and (not item.is_folder or now.st_ino == item.ino):
                return
        self._drive.remove(item, source="disk")


def _signature(item: Item) -> Signature:
    return item.dev, item.ino, item.size, item.mtime_ns


def _drive_name(disk_name: str) -> str:
    return os.fsencode(disk_name).decode("utf-8", "replace")


def _batches(entries: list[Entry]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        batch.append(entry)
        size += entry.signature[2]
        if size > _BATCH_BYTES or len(batch) >= _BATCH_FILES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _hash_all(entries: list[Entry]) -> list[Blob | None]:
    """Return each file as a blob; None for one that changed or cannot be read meanwhile."""
    found: list[Blob | None] = []
    for entry in entries:
        blob = None
        with suppress(OSError):
            blob = hash_file(Path(entry.path), sync=False)
            if (blob.dev, blob.ino, blob.size, blob.mtime_ns) != entry.signature:
                blob = None
        found.append(blob)
    return found


def _written_inodes(root: str) -> set[tuple[int, int]]:
    """Return (device, inode) of the files below `root` that some process has open for writing, as far as `/proc` shows it to us."""
    found = set()
    root = os.path.realpath(root) + os.sep
    for process in os.listdir("/proc"):  # noqa: PTH208
        if not process.isdigit():
            continue
        with suppress(OSError):
            for handle in os.listdir(f"/proc/{process}/fd"):  # noqa: PTH208
                with suppress(OSError, ValueError, IndexError):
                    if not os.readlink(f"/proc/{process}/fd/{handle}").startswith(root):  # noqa: PTH115
                        continue
                    lines = Path(f"/proc/{process}/fdinfo/{handle}").read_text().splitlines()
                    flags = next(line for line in lines if line.startswith("flags:"))
                    if int(flags.split()[1], 8) & (os.O_WRONLY | os.O_RDWR):
                        now = os.stat(f"/proc/{process}/fd/{handle}")  # noqa: PTH116
                        found.add((now.st_dev, now.st_ino))
    return found
