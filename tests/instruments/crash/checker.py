"""Judges a world after the crash: it reads the Drive's history, files and the ledger's tables, nothing of the daemon's.

What it calls *whole*: a delivery folder whose manifest names, by id and sha256, what lies in it (DESIGN.md, 4.7).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from tests.instruments.crash.tree import Effect, Item, Tree

FOLDER = "application/vnd.google-apps.folder"
SHORTCUT = "application/vnd.google-apps.shortcut"
MANIFEST = "manifest.json"
KINDS = ("lost", "twice", "half", "other")
MOST_CHARACTERS = 500
"""Of one difference: a whole manifest would hide the rest."""


# ── what a run left ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Picture:
    """What must be the same after a clean run and after a crash: no ids that a run made, no times."""

    deliveries: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Folder's path → name → content."""
    wholes: dict[str, list[Any]] = field(default_factory=dict)
    """Folder's path → the contents in which it ever was whole, in order."""
    effects: Counter[str] = field(default_factory=Counter)
    """What was made, moved, filled anew or trashed through the API, and how often."""
    held_tsv: list[list[str]] = field(default_factory=list)
    files: list[Any] = field(default_factory=list)
    revisions: list[Any] = field(default_factory=list)


@dataclass(slots=True)
class Verdict:
    """What the run left, and what is wrong with it whatever a clean run would have left."""

    picture: Picture
    problems: list[str]


class Checker:
    """Looks at one world.

    Args:
        home: holds ``drive/`` and ``state/``.
        history: every effect on the Drive, in order.
        since_seq: effects up to this one happened before the run that was killed.
        contents: directories with bytes that were on the Drive at some time.
    """

    UNFINISHED: ClassVar[dict[str, str]] = {
        "file stuck": "SELECT file_id, state FROM file WHERE current = 1 AND whereabouts = 'PRESENT'"
        " AND state NOT IN ('FILED', 'IGNORED') AND held_code = ''",
        "revision stuck": "SELECT series_id, n, state FROM revision"
        " WHERE state NOT IN ('DELIVERED', 'IGNORED', 'SUPERSEDED') AND held_code = ''",
        "a fault of the program": "SELECT file_id FROM file WHERE held_code = 'BUG'"
        " UNION ALL SELECT n FROM revision WHERE held_code = 'BUG'",
        "waits": "SELECT file_id FROM file WHERE not_before_epoch_s > 0"
        " UNION ALL SELECT n FROM revision WHERE not_before_epoch_s > 0",
        "listing owed": "SELECT folder_id FROM listing WHERE done = 0",
        "question open": "SELECT file_id FROM question",
        "recheck open": "SELECT folder_id FROM recheck",
        "orphan": "SELECT file_id FROM orphan",
        "series to look at": "SELECT series_id FROM series WHERE dirty = 1",
        "folder not made": "SELECT item_id FROM made_item WHERE made = 0",
    }
    """What must be nowhere in the ledger: what → rows of it."""

    def __init__(
        self, home: Path, history: Sequence[Effect], since_seq: int, contents: Sequence[Path]
    ) -> None:
        self._home = home
        self._history = history
        self._since_seq = since_seq
        self._bytes = _by_md5([home / "drive", *contents])
        self.found: dict[str, list[str]] = {kind: [] for kind in KINDS}
        """Kind → what is wrong."""
        self._picture = Picture()
        self._tree = Tree()

    def look_at_history(self) -> list[str]:
        """Return what was wrong on the Drive at any moment, and what is there twice in the end."""
        self._replay()
        self._nothing_twice()
        return self.problems

    def look(self) -> Verdict:
        """Judge everything: the history, the deliveries, the ledger, the spool."""
        self.look_at_history()
        self._deliveries()
        self._ledger()
        self._spool()
        return Verdict(self._picture, self.problems)

    def wrong(self, what: str, kind: str = "other") -> None:
        """Something is wrong; `kind` is one of `KINDS`."""
        self.found[kind].append(what)

    @property
    def problems(self) -> list[str]:
        return [text for texts in self.found.values() for text in texts]

    # ── at every moment

    def _replay(self) -> None:
        """Go through the history: inputs are never touched, nothing half is ever visible."""
        for effect in self._history:
            fresh = effect["seq"] > self._since_seq and effect["source"] == "api"
            before = self._visible() if fresh else {}
            if fresh:
                self._inputs_untouched(effect)
            self._tree.apply(effect)
            if fresh:
                self._count(effect)
                for folder_id in before.keys() | self._visible().keys():
                    self._nothing_half(folder_id, before.get(folder_id), effect)

    def _inputs_untouched(self, effect: Effect) -> None:
        item = self._tree.items.get(effect["file_id"])
        what = f"effect {effect['seq']}: {effect['op']} of {effect['name']}"
        if item is not None and not item.ours:
            self.wrong(f"{what}: an item of people's was touched")
        source_id = self._tree.top("DICOM")
        if effect["parent"] == source_id or self._tree.is_under(_item(effect), source_id):
            self.wrong(f"{what}: something was written into the source")
        if effect["op"] == "delete":
            self.wrong(f"{what}: something was deleted for good")

    def _count(self, effect: Effect) -> None:
        """Count an effect under a name that is the same in every run. `held.tsv` may be written again."""
        properties = effect["properties"]
        if properties.get("sdd_kind") == "held" and effect["op"] != "create":
            return
        said = [properties.get(key, "") for key in ("sdd_kind", "sdd_series", "sdd_rev", "sdd_mirrors")]
        self._picture.effects[" ".join([effect["op"], effect["name"], *filter(None, said)])] += 1

    def _visible(self) -> dict[str, tuple[str, bool]]:
        """Return delivery folder → (md5 of its manifest, whether it is whole), for those that are published.

        Where the output has no parent that can be written, staging lies in it, by its marker known as what it is.
        """
        output_id = self._output_id()
        return {
            item.file_id: self._state(item)
            for item in self._tree.items.values()
            if item.kind == "delivery"
            and output_id
            and self._tree.is_under(item, output_id)
            and not any(step.kind == "staging" for step in self._tree.way(item))
            and self._tree.is_live(item)
        }

    def _state(self, folder: Item) -> tuple[str, bool]:
        manifests = [item for item in self._tree.children(folder.file_id) if item.name == MANIFEST]
        if len(manifests) != 1:
            return f"{len(manifests)} manifests", False
        md5 = manifests[0].md5_checksum
        if md5 not in self._bytes:
            return md5, False
        return md5, not self._missing(folder, json.loads(self._bytes[md5].read_bytes()))

    def _missing(self, folder: Item, manifest: Mapping[str, Any]) -> list[str]:
        """Return the results that the manifest names and that are not there, whole, under their ids."""
        there = {item.file_id: item for item in self._tree.children(folder.file_id)}
        missing = []
        for result in manifest["results"]:
            item = there.get(result["file_id"])
            if (
                item is None
                or item.name != result["name"]
                or self._sha256(item.md5_checksum) != result["sha256"]
            ):
                missing.append(result["name"])
        return missing

    def _sha256(self, md5_checksum: str) -> str:
        path = self._bytes.get(md5_checksum)
        return hashlib.sha256(path.read_bytes()).hexdigest() if path is not None else ""

    def _nothing_half(self, folder_id: str, before: tuple[str, bool] | None, effect: Effect) -> None:
        """A folder appears whole. Later it may be seen changing, but a manifest never comes before its results."""
        now = self._visible().get(folder_id)
        at = f"effect {effect['seq']} ({effect['op']} of {effect['name']}): delivery {folder_id}"
        if now is None:
            self.wrong(f"{at} went out of sight", "half")
            return
        manifest, whole = now
        if before is None and not whole:
            self.wrong(f"{at} became visible before it was whole ({manifest})", "half")
        if before is not None and before[0] != manifest and not whole:
            self.wrong(f"{at} has a new manifest before its results ({manifest})", "half")
        if whole and (before is None or before[0] != manifest or not before[1]):
            folder = self._tree.items[folder_id]
            seen = self._picture.wholes.setdefault(self._tree.path(folder), [])
            content = _contents_named(json.loads(self._bytes[manifest].read_bytes()))
            if not seen or seen[-1] != content:
                seen.append(content)

    # ── in the end

    def _nothing_twice(self) -> None:
        live = self._tree.live()
        things: dict[str, list[Any]] = {
            "result": [
                (i.series, i.name)
                for i in live
                if i.kind == "result" and (self._is_published(i) or not self._may_lie_about(i))
            ],
            "delivery folder": [i.series for i in live if i.kind == "delivery"],
            "output folder for": [
                (i.parent, i.properties["sdd_mirrors"]) for i in live if i.kind == "mirror"
            ],
            "staging folder": ["" for i in live if i.kind == "staging"],
            "held.tsv": ["" for i in live if i.kind == "held"],
            "in the root:": [i.name for i in live if i.parent not in self._tree.items],
        }
        for what, keys in things.items():
            for key, count in Counter(keys).items():
                if count > 1:
                    self.wrong(f"{count} times {what} {key}", "twice")
        for staging in (item for item in live if item.kind == "staging"):
            for left in self._tree.children(staging.file_id):
                if not self._may_lie_about(left):
                    self.wrong(f"left in staging: {left.kind} {left.name}")
        for item in live:
            if item.kind not in ("result", "delivery") or self._may_lie_about(item):
                continue
            if item.ours and not self._is_published(item):
                self.wrong(f"{item.kind} {item.name} lies outside the output")

    def _may_lie_about(self, _: Item) -> bool:
        """Whether an item that belongs to no visible delivery may be there."""
        return False

    def _is_published(self, item: Item) -> bool:
        return self._tree.is_under(item, self._output_id())

    def _output_id(self) -> str:
        return self._tree.top("NIfTI")

    def _deliveries(self) -> None:
        for folder in self._tree.live():
            if folder.kind != "delivery":
                continue
            children = self._tree.children(folder.file_id)
            held = {child.name: self._bytes.get(child.md5_checksum) for child in children}
            path = self._tree.path(folder)
            if any(found is None for found in held.values()):
                self.wrong(f"{path} holds bytes that are on no disk")
                continue
            self._picture.deliveries[path] = {name: _content(found) for name, found in held.items() if found}
            manifest_path = held.get(MANIFEST)
            if manifest_path is None:
                self.wrong(f"{path} has no manifest")
                continue
            manifest = json.loads(manifest_path.read_bytes())
            for name in self._missing(folder, manifest):
                self.wrong(f"{path}: {name} is not what the manifest says")
            named = {MANIFEST} | {result["name"] for result in manifest["results"]}
            for name in held.keys() - named:
                self.wrong(f"{path}: {name} is not in the manifest")
            self._owned(folder, {child.name: child.file_id for child in children})
        for item in self._tree.live():
            if item.kind == "held":
                lines = self._bytes[item.md5_checksum].read_text().splitlines()
                self._picture.held_tsv = [line.split("\t")[1:] for line in lines]

    def _owned(self, folder: Item, children: Mapping[str, str]) -> None:
        """The ledger knows each result of the delivery by the id that it has."""
        owned = dict(
            self._rows(
                "SELECT name, file_id FROM current_result JOIN series USING (series_id) WHERE delivery_folder_id = ?",
                folder.file_id,
            )
        )
        if owned != children:
            self.wrong(
                f"{folder.name}: the ledger owns {sorted(owned)}, the folder has {sorted(children)}, or other ids"
            )

    # ── the ledger

    def _rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(f"file:{self._home / 'state' / 'ledger.sqlite3'}?mode=ro", uri=True)
        try:
            return connection.execute(sql, values).fetchall()
        finally:
            connection.close()

    def _ledger(self) -> None:
        self._picture.files = sorted(
            self._rows(
                "SELECT md5_checksum, whereabouts, state, reason, held_code FROM file WHERE current = 1"
            )
        )
        self._picture.revisions = sorted(
            self._rows(
                "SELECT series_instance_uid, n, delivered_n, state, reason, held_code, attempt,"
                " (SELECT count(*) FROM revision_input i WHERE i.series_id = r.series_id AND i.n = r.n)"
                " FROM revision r JOIN series USING (series_id)"
            )
        )
        for what, sql in self.UNFINISHED.items():
            for row in self._rows(sql):
                self.wrong(f"ledger: {what}: {row}")
        self._nothing_lost()
        self._token()

    def _nothing_lost(self) -> None:
        """Every file that lies in the source now is known with its newest content, and as lying there."""
        source_id = self._tree.top("DICOM")
        known = set(
            self._rows(
                "SELECT file_id, head_revision_id FROM file WHERE current = 1 AND whereabouts = 'PRESENT'"
            )
        )
        for item in self._tree.live():
            if item.mime_type in (FOLDER, SHORTCUT) or not self._tree.is_under(item, source_id):
                continue
            if (item.file_id, item.head_revision_id) not in known:
                self.wrong(f"lost: {item.name} in the source is not known", "lost")
        for file_id, _ in known:
            if file_id not in self._tree.items or not self._tree.is_live(self._tree.items[file_id]):
                self.wrong(f"lost: that {file_id} left is not known", "lost")

    def _token(self) -> None:
        """The page token is never ahead of the ledger."""
        meta = dict(self._rows("SELECT key, value FROM meta"))
        cache = self._home / "state" / "cache" / "tokens" / "cache.db"
        if not cache.exists():
            return
        connection = sqlite3.connect(f"file:{cache}?mode=ro", uri=True)
        try:
            found = connection.execute("SELECT value FROM Cache WHERE key LIKE 'page-token:%'").fetchall()
        finally:
            connection.close()
        for (text,) in found:
            record = json.loads(text)
            if record["generation"] != meta["generation"] or record["feed_seq"] > int(meta["feed_seq"]):
                self.wrong("the page token is ahead of the ledger")

    def _spool(self) -> None:
        for path in (self._home / "state" / "spool").rglob("*"):
            if path.is_file():
                self.wrong(f"left in the spool: {path.relative_to(self._home)}")


def _item(effect: Effect) -> Item:
    tree = Tree()
    tree.apply(effect)
    return tree.items.get(effect["file_id"]) or Item("", "", effect["parent"], "", "", "", False, {}, True)


def _by_md5(directories: list[Path]) -> dict[str, Path]:
    found = {}
    for directory in directories:
        for path in directory.rglob("*"):
            if path.is_file() and not path.name.startswith("index.sqlite"):
                found[hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()] = path
    return found


def _content(path: Path) -> Any:
    """Return a file's content without what differs from run to run: times and ids in a manifest, gzip's packing."""
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        return hashlib.sha256(gzip.decompress(data)).hexdigest()
    if data[:1] != b"{" or b'"inputs"' not in data:
        return hashlib.sha256(data).hexdigest()
    manifest = json.loads(data)
    manifest.pop("made_at")
    for result in manifest["results"]:
        result.pop("file_id")
    for earlier in manifest["history"]:
        earlier.pop("made_at")
    return manifest


def _contents_named(manifest: Mapping[str, Any]) -> Any:
    """Return what a manifest says is in its folder."""
    return [
        manifest["revision"],
        sorted((result["name"], result["sha256"]) for result in manifest["results"]),
    ]


def differences(expected: Picture, found: Picture) -> list[str]:
    """Return in which ways the outcome differs from that of the clean run."""
    problems = []
    for what in ("deliveries", "wholes", "held_tsv", "files", "revisions"):
        wanted, have = getattr(expected, what), getattr(found, what)
        if wanted != have:
            problems.append(f"{what} differ from the clean run: {_short(wanted, have)}"[:MOST_CHARACTERS])
    for effect in expected.effects.keys() | found.effects.keys():
        wanted, have = expected.effects[effect], found.effects[effect]
        if wanted != have:
            problems.append(f"{have} times instead of {wanted}: {effect}")
    return problems


def _short(wanted: Any, have: Any) -> str:
    if isinstance(wanted, dict) and isinstance(have, dict):
        keys = [key for key in wanted.keys() | have.keys() if wanted.get(key) != have.get(key)]
        parts = [f"{key}: {_short(wanted.get(key), have.get(key))}" for key in sorted(keys)]
        return "; ".join(parts)
    if isinstance(wanted, list) and isinstance(have, list):
        return f"lacks {[x for x in wanted if x not in have]}, has {[x for x in have if x not in wanted]}"
    return f"{have!r} instead of {wanted!r}"
