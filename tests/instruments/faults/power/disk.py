"""What a disk could hold after the power went: from a recorder's journal and what the killed process left."""

from __future__ import annotations

import json
import os
import random
import shutil
import stat
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.instruments.faults.power.recorder import CONTENTS, NAME_OF_LOG, kind_of

SECTORS = (512, 4096)
KEPT = (0.0, 0.25, 0.5, 0.75)
"""How likely an unsynced change is to survive, chosen once for each disk: with 0 every one is lost."""
Names = dict[int, dict[str, int]]
"""Folder's inode → name → inode."""
Slot = tuple[int, str]
"""A folder's inode and a name in it."""


@dataclass(frozen=True, slots=True)
class Lost:
    """What of the unsynced is not as the process left it. Paths below the directory, sorted; `.` is the directory.

    Args:
        contents: files whose content is not the last one that was written.
        names: names that are gone, back again, or stand for another file.
    """

    contents: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.contents or self.names)


@dataclass(slots=True)
class Inode:
    """A file, folder or link. `durable`: the content of a file when it was last synced; `current`: None: unknown."""

    kind: str
    mode: int = 0o600
    durable: bytes = b""
    current: bytes | None = None
    target: str = ""
    modified_ns: int | None = None


@dataclass(slots=True)
class Tree:
    """One outcome: path below the directory (`.` itself) → inode and, for a file, its content."""

    entries: dict[str, tuple[int, Inode, bytes]] = field(default_factory=dict)


class Disk:
    """What is durable, and what the killed process saw. `tree` may be asked for many seeds."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._root: Slot = (0, "")
        self._durable: Names = defaultdict(dict)
        self._current: Names = defaultdict(dict)
        self._was: dict[int, Slot] = {}
        self._inodes: dict[int, Inode] = {}

    @classmethod
    def read(cls, state_dir: Path, before: Path, journal: Path) -> Disk:
        """See `lose`. Nothing is changed.

        Raises:
            RuntimeError: the recorder missed something, or `before` is not a copy of what it found.
        """
        disk = cls(state_dir)
        for line in (journal / NAME_OF_LOG).read_text().splitlines():
            fact = json.loads(line)
            match fact["what"]:
                case "root":
                    disk._root = (fact["parent"], fact["name"])
                case "names":
                    disk._names_synced(fact["of"], fact["names"])
                case "found":
                    disk._inode(fact["file"], "file").durable = _found(before / fact["path"])
                case "content":
                    saved = journal / CONTENTS / fact["saved"]
                    # Gone when a newer one follows.
                    disk._inode(fact["file"], "file").durable = saved.read_bytes() if saved.exists() else b""
                case "was":
                    disk._was[fact["inode"]] = (fact["of"], fact["name"])
                case "failed":
                    raise RuntimeError(f"the recorder missed something:\n{fact['why']}")
        if os.path.lexists(state_dir):
            disk._look(disk._root, state_dir)
        return disk

    def _inode(self, number: int, kind: str) -> Inode:
        return self._inodes.setdefault(number, Inode(kind))

    def _names_synced(self, folder: int, names: dict[str, dict[str, Any]]) -> None:
        for entry in names.values():
            if entry["alone"]:
                # It came here by a rename: one step, so that its old name is as durably gone as the new one is there.
                for others in self._durable.values():
                    for name in [name for name, inode in others.items() if inode == entry["inode"]]:
                        del others[name]
            inode = self._inode(entry["inode"], entry["kind"])
            inode.mode = stat.S_IMODE(entry["mode"])
            inode.target = entry.get("target", "")
        self._durable[folder] = {name: entry["inode"] for name, entry in names.items()}
        # What was renamed away from here cannot come back to it.
        self._was = {inode: slot for inode, slot in self._was.items() if slot[0] != folder}

    def _look(self, slot: Slot, path: Path) -> None:
        """Take in what the process left."""
        seen = path.lstat()
        self._current[slot[0]][slot[1]] = seen.st_ino
        inode = self._inode(seen.st_ino, kind_of(seen.st_mode))
        inode.mode, inode.modified_ns = stat.S_IMODE(seen.st_mode), seen.st_mtime_ns
        if inode.kind == "file":
            inode.current = path.read_bytes()
        elif inode.kind == "link":
            inode.target = os.readlink(path)  # noqa: PTH115
        elif inode.kind == "folder":
            for entry in sorted(path.iterdir()):
                self._look((seen.st_ino, entry.name), entry)

    # ── one outcome ──────────────────────────────────────────────────────────────────────────────────────────

    def lose(self, seed: int) -> Lost:
        """Put an outcome in the directory's place; return what is otherwise than the process left it."""
        tree = self.tree(seed)
        _write(tree, self._state_dir)
        whole = self._walk(self._current, lambda _, inode: inode.current or b"")
        contents = {
            path
            for path, (number, inode, content) in tree.entries.items()
            if path in whole.entries and whole.entries[path][0] == number and inode.kind == "file"
            if whole.entries[path][2] != content
        }
        names = {
            path
            for path in tree.entries.keys() | whole.entries.keys()
            if tree.entries.get(path, (None,))[0] != whole.entries.get(path, (None,))[0]
        }
        return Lost(tuple(sorted(contents)), tuple(sorted(names)))

    def tree(self, seed: int) -> Tree:
        """Return one outcome; the same seed gives the same one."""
        chance = random.Random(seed)
        names = self._names(chance, chance.choice(KEPT))
        kept = chance.choice(KEPT)
        return self._walk(names, lambda path, inode: _content(inode, random.Random(f"{seed} {path}"), kept))

    def _names(self, chance: random.Random, kept: float) -> Names:
        outcome: Names = defaultdict(dict)
        for folder in self._durable.keys() | self._current.keys():
            outcome[folder] = dict(self._durable.get(folder, {}))
        for group in self._changes():
            if chance.random() < kept:
                for folder, name in group:
                    now = self._current.get(folder, {}).get(name)
                    if now is None:
                        outcome[folder].pop(name, None)
                    else:
                        outcome[folder][name] = now
            else:
                self._undo(group, outcome, chance)
        return outcome

    def _undo(self, group: list[Slot], outcome: Names, chance: random.Random) -> None:
        """A file that had no durable name may yet be found under the one it was renamed from."""
        before = {self._durable.get(folder, {}).get(name) for folder, name in group}
        for slot in group:
            new = self._current.get(slot[0], {}).get(slot[1])
            if new is None or new in before or new not in self._was or chance.random() < 0.5:
                continue
            folder, name = self._was[new]
            if (folder, name) != slot and name not in outcome[folder]:
                outcome[folder][name] = new

    def _changes(self) -> list[list[Slot]]:
        """Return the unsynced changes of names, in an order that inodes do not decide; those of one rename together."""
        labels = self._labels()
        changed = [
            (folder, name)
            for folder in self._durable.keys() | self._current.keys()
            for name in self._durable.get(folder, {}).keys() | self._current.get(folder, {}).keys()
            if self._durable.get(folder, {}).get(name) != self._current.get(folder, {}).get(name)
        ]
        changed.sort(key=lambda slot: (labels.get(slot[0], ""), slot[1]))
        left = {self._durable[f][n]: (f, n) for f, n in changed if n in self._durable.get(f, {})}
        groups: dict[Slot, list[Slot]] = {slot: [slot] for slot in changed}
        for slot in changed:
            moved = self._current.get(slot[0], {}).get(slot[1])
            other = left.get(moved) if moved is not None else None
            if other is not None and groups[other] is not groups[slot]:
                both = groups[other] + groups[slot]
                for member in both:
                    groups[member] = both
        return list({id(group): group for group in groups.values()}.values())

    def _labels(self) -> dict[int, str]:
        """Return a path of each folder, as it is now or else as it was durable."""
        found: dict[int, str] = {}
        for names in (self._current, self._durable):
            for path, number, _ in self._below(names):
                found.setdefault(number, path)
        return found

    def _below(self, names: Names) -> Iterator[tuple[str, int, Inode]]:
        """Yield what can be reached from the directory: (path, number, inode), folders before what is in them."""
        first = names.get(self._root[0], {}).get(self._root[1])
        waiting = [(".", first, frozenset[int]())] if first is not None else []
        while waiting:
            path, number, around = waiting.pop()
            inode = self._inodes[number]
            yield path, number, inode
            if inode.kind == "folder" and number not in around:
                waiting += [
                    (name if path == "." else f"{path}/{name}", inside, around | {number})
                    for name, inside in sorted(names.get(number, {}).items())
                ]

    def _walk(self, names: Names, content: Any) -> Tree:
        return Tree(
            {
                path: (number, inode, content(path, inode) if inode.kind == "file" else b"")
                for path, number, inode in self._below(names)
            }
        )


def _found(path: Path) -> bytes:
    if not path.is_file():
        raise RuntimeError(f"{path} is missing: what was copied before the run is not what it found")
    return path.read_bytes()


def _content(inode: Inode, chance: random.Random, kept: float) -> bytes:
    """Return what a disk holds of a file: synced bytes, and of the others what chance left."""
    old, new = inode.durable, inode.current
    if new is None or old == new:
        return old
    how = chance.choice(("whole", "whole", "in order", "sectors", "sectors"))
    if how == "whole":
        return new if chance.random() < kept else old
    if how == "in order":
        # Written back from the front, until the power went.
        cut = chance.randint(0, len(new)) // SECTORS[0] * SECTORS[0]
        return new[:cut] + old[cut:]
    shorter, longer = sorted((len(old), len(new)))
    size_bytes = chance.choice((len(old), len(new), chance.randint(shorter, longer)))
    sector = chance.choice(SECTORS)
    # What is beyond the new end was not written: those bytes are the old ones, where they are there at all.
    written = new + old[len(new) :]
    parts = []
    for at in range(0, size_bytes, sector):
        wanted = written[at : at + sector].ljust(sector, b"\0")
        there = old[at : at + sector].ljust(sector, b"\0")
        if wanted != there and chance.random() >= kept:
            cut = chance.randrange(1, sector) if chance.random() < 0.2 else 0
            wanted = wanted[:cut] + there[cut:]
        parts.append(wanted)
    return b"".join(parts)[:size_bytes]


def _write(tree: Tree, directory: Path) -> None:
    if os.path.lexists(directory):
        shutil.rmtree(directory)
    for path, (_, inode, content) in tree.entries.items():
        target = directory / path
        if inode.kind == "folder":
            target.mkdir(mode=0o700)
        elif inode.kind == "link":
            target.symlink_to(inode.target)
        elif inode.kind == "file":
            target.write_bytes(content)
            target.chmod(inode.mode)
            if inode.modified_ns is not None:
                os.utime(target, ns=(inode.modified_ns, inode.modified_ns))
    for path, (_, inode, _) in reversed(tree.entries.items()):
        if inode.kind == "folder":
            (directory / path).chmod(inode.mode)
