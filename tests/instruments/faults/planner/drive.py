"""A model of Drive in memory with what planning depends on: versions, feed, lagging listings, trash, reserved ids.

It has the methods of `daemon.outside.drive.client.Drive`. It is never kinder than the real one: a moved, trashed or restored
folder is one entry and none for what lies in it, listings show an older state than `get`, names are not unique, and a
feed may swallow a change or give its entries in another order. `tests/localdrive/test_drive_contract.py` compares it with
the embedded Drive.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from daemon.localdrive.store.items import guess_mime
from daemon.rules.errors import NotThere, PageTokenRefused, Refused, Transient, Trouble
from daemon.rules.model import FOLDER_MIME, SHORTCUT_MIME, Account, Change, ChangePage, File, FilePage

EPOCH_S = 1_795_000_000.0
ROOT_ID = "0Aroot"
PROPERTY_MOST_BYTES = 124
"""Key and value together."""
_DIGITS = re.compile(r"(\d+)")
EDIT = b"edited by a person"
"""What people write into a result: nobody else may write over it."""


def rfc3339_ms(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def md5_of(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@dataclass
class Time:
    """The time that passes, and how wrong the machine's clock is. Seconds."""

    passed_s: float = 0.0
    machine_off_s: float = 0.0

    @property
    def server_epoch_s(self) -> float:
        return EPOCH_S + self.passed_s


@dataclass(frozen=True)
class Item:
    """One state of an item. `head` counts its contents; `data` is None for folders and shortcuts."""

    file_id: str
    name: str
    mime: str
    parent: str
    created_s: float
    modified_s: float
    data: bytes | None = None
    head: int = 1
    version: int = 1
    explicitly_trashed: bool = False
    target: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_folder(self) -> bool:
        return self.mime == FOLDER_MIME

    @property
    def is_input(self) -> bool:
        """Whether people put it there and it has bytes."""
        return self.data is not None and not self.properties

    @property
    def head_id(self) -> str:
        return f"{self.file_id}-r{self.head}" if self.data is not None else ""


class ModelDrive:
    """Items with their history, a feed, reserved ids; and the requests that the daemon makes.

    Args:
        time: the server's clock.
        on_request: called with the kind before a request has its effect, and again after it.
    """

    drive_id = ""

    class budget:
        """No bytes go anywhere, so no day's budget is kept."""

        @staticmethod
        def save() -> None:
            pass

    def __init__(self, time: Time, on_request: Callable[[str], None]) -> None:
        self._time = time
        self._on_request = on_request
        self.items: dict[str, Item] = {}
        self._history: dict[str, list[tuple[float, Item | None]]] = {}
        self._changed_at: dict[str, int] = {}
        self._gone: set[str] = set()
        self._seq = 0
        self._entered_at_s: dict[int, float] = {}
        self._tokens: dict[str, tuple[list[str], int]] = {}
        self._refused_below = 0
        self._list_tokens: dict[str, tuple[str, bool, int]] = {}
        self._made = 0
        self.reserved: set[str] = set()
        self.contents: dict[tuple[str, str], Item] = {}
        """(file id, head revision) → the item when it had that content."""
        self.lied_about: set[str] = set()
        """Ids of which the feed or a listing has hidden something."""
        self.swallowed: set[str] = set()
        """Ids of which the feed has hidden something."""
        self.violations: list[str] = []
        # How awkward it is just now.
        self.page_size = 1000
        self.lag_s = 0.0
        self.feed_lag_s = 0.0
        self.shuffle: random.Random | None = None
        self.repeats = False
        self.keeps_revisions = True
        """Whether files count as large: a large file is read by its head revision, a small one as it is now."""
        self.swallows_next = False
        self.published: list[str] = []
        """Folders that the daemon moved, in order: looked at by the checks."""
        root = Item(ROOT_ID, "My Drive", FOLDER_MIME, "", time.server_epoch_s, time.server_epoch_s)
        self.items[ROOT_ID] = root
        self._history[ROOT_ID] = [(time.server_epoch_s, root)]

    # ── what people, and the daemon through its requests, do ─────────────────────────────────────────────────

    def add(self, name: str, parent: str, data: bytes | None, *, mime: str = "", target: str = "") -> str:
        """Make an item as a person does; without data and mime a folder."""
        self._made += 1
        now = self._time.server_epoch_s
        mime = mime or (FOLDER_MIME if data is None else "application/octet-stream")
        item = Item(f"p{self._made:05d}", name, mime, parent, now, now, data, target=target)
        self._store(item)
        return item.file_id

    def add_shortcut(self, name: str, parent: str, target: str) -> str:
        return self.add(name, parent, None, mime=SHORTCUT_MIME, target=target)

    def change(self, file_id: str, **changes: Any) -> None:
        """Change an item; new `data` makes a new head revision."""
        item = self.items[file_id]
        if "data" in changes:
            changes |= {"head": item.head + 1}
        if {"data", "name", "properties"} & changes.keys():
            changes |= {"modified_s": self._time.server_epoch_s}
        self._store(replace(item, **changes, version=item.version + 1 + self._seq % 3))

    def remove(self, file_id: str) -> None:
        """Delete for good, with everything below: one entry for the item, none for what was in it."""
        for child in [item.file_id for item in self.items.values() if item.parent == file_id]:
            self._remove(child)
        self._remove(file_id)
        self._enter(file_id)

    def _remove(self, file_id: str) -> None:
        for child in [item.file_id for item in self.items.values() if item.parent == file_id]:
            self._remove(child)
        if self.items.pop(file_id, None) is not None:
            self._gone.add(file_id)
            self._changed_at.pop(file_id, None)
            self._history[file_id].append((self._time.server_epoch_s, None))

    def _store(self, item: Item) -> None:
        self.items[item.file_id] = item
        self._history.setdefault(item.file_id, []).append((self._time.server_epoch_s, item))
        if item.data is not None:
            self.contents.setdefault((item.file_id, item.head_id), item)
        self._enter(item.file_id)

    def _enter(self, file_id: str) -> None:
        if self.swallows_next and file_id not in self.reserved:
            self.swallows_next = False
            self.lied_about.add(file_id)
            self.swallowed.add(file_id)
            # What came before is swallowed too: an entry is the current state.
            self._changed_at.pop(file_id, None)
            return
        self._seq += 1
        self._changed_at[file_id] = self._seq
        self._entered_at_s[self._seq] = self._time.server_epoch_s

    def tokens_expire(self) -> None:
        """Every page token given until now is refused from here on."""
        self._refused_below = len(self._tokens)
        self._list_tokens.clear()

    def _shown_end(self) -> int:
        """Return the place up to which the feed shows its entries."""
        end, as_of = self._seq, self._time.server_epoch_s - self.feed_lag_s
        while end and self._entered_at_s[end] > as_of:
            end -= 1
        return end

    def feed_is_behind(self) -> bool:
        """Whether something has happened that the feed does not show yet."""
        return self._shown_end() < self._seq

    # ── how things are ───────────────────────────────────────────────────────────────────────────────────────

    def above(self, item: Item) -> Iterator[Item]:
        """Yield the folders above an item, the nearest first."""
        parent = self.items.get(item.parent)
        while parent is not None:
            yield parent
            parent = self.items.get(parent.parent)

    def is_trashed(self, item: Item) -> bool:
        return item.explicitly_trashed or any(folder.explicitly_trashed for folder in self.above(item))

    def lies_under(self, item: Item, folder_id: str) -> bool:
        return any(folder.file_id == folder_id for folder in self.above(item))

    def children(self, folder_id: str) -> list[Item]:
        return [item for item in self.items.values() if item.parent == folder_id]

    def entered(self, file_id: str) -> int:
        """Return the place of the item's newest entry in the feed; 0: it has none."""
        return self._changed_at.get(file_id, 0)

    def read_up_to(self, token: str) -> int:
        """Return the place in the feed up to which a token's owner has read; with a page open, where that began."""
        rest, end = self._tokens[token]
        return min((self.entered(file_id) - 1 for file_id in rest if self.entered(file_id)), default=end)

    def _file(self, item: Item) -> File:
        return File(
            file_id=item.file_id,
            name=item.name,
            mime_type=item.mime,
            size_bytes=len(item.data or b""),
            md5_checksum=md5_of(item.data) if item.data is not None else "",
            head_revision_id=item.head_id,
            version=item.version,
            created_time=rfc3339_ms(item.created_s),
            modified_time=rfc3339_ms(item.modified_s),
            parents=(item.parent,) if item.parent else (),
            trashed=self.is_trashed(item),
            explicitly_trashed=item.explicitly_trashed,
            shortcut_target_id=item.target,
            properties=dict(item.properties),
            sha256_checksum=hashlib.sha256(item.data).hexdigest() if item.data is not None else "",
        )

    # ── requests that read ───────────────────────────────────────────────────────────────────────────────────

    root: File | None = None

    def root_id(self) -> str:
        return ROOT_ID

    def get(self, file_id: str) -> File:
        self._on_request("get")
        return self._file(self._there(ROOT_ID if file_id == "root" else file_id))

    def _there(self, file_id: str) -> Item:
        if file_id not in self.items:
            raise NotThere(f"no {file_id}")
        return self.items[file_id]

    def account(self) -> Account:
        self._on_request("about")
        return Account("me@model.test")

    def _listed(self) -> Iterator[Item]:
        """Yield the items as listings show them: as they were `lag_s` ago."""
        as_of = self._time.server_epoch_s - self.lag_s
        for file_id, states in self._history.items():
            shown = None
            for at, state in states:
                if at <= as_of:
                    shown = state
            if shown != self.items.get(file_id):
                self.lied_about.add(file_id)
            if shown is not None:
                yield shown

    def list_children(self, folder_id: str, page_token: str = "", *, trashed: bool = False) -> FilePage:
        self._on_request("list")
        self._there(folder_id)
        first = 0
        if page_token:
            *query, first = self._list_tokens.get(page_token, ("", False, 0))
            if query != [folder_id, trashed]:
                raise PageTokenRefused("no token of this listing")
        files = [self._file(item) for item in self._listed() if item.parent == folder_id]
        files = [file for file in files if trashed or not file.trashed]
        files.sort(key=lambda file: (_natural(file.name), file.file_id))
        self._mix(files)
        if self.shuffle is not None:
            # A later page is asked for in the same order: a shuffled listing comes as one page.
            return FilePage(tuple(files))
        following, end = "", first + self.page_size
        if end < len(files):
            following = f"list-{len(self._list_tokens) + 1}-{self._refused_below}"
            self._list_tokens[following] = (folder_id, trashed, end)
        return FilePage(tuple(files[first:end]), following)

    def _mix(self, things: list[Any]) -> None:
        if self.shuffle is not None:
            self.shuffle.shuffle(things)

    def find_child(self, parent_id: str, name: str, folders_only: bool = True) -> tuple[File, ...]:
        self._on_request("list")
        self._there(parent_id)
        return tuple(
            self._file(item)
            for item in self._listed()
            if item.parent == parent_id and item.name == name and (item.is_folder or not folders_only)
            if not self.is_trashed(item)
        )

    def find_marked(self, key: str, value: str) -> tuple[File, ...]:
        self._on_request("list")
        return tuple(self._file(item) for item in self._listed() if item.properties.get(key) == value)

    def find_shared(self, name: str) -> tuple[File, ...]:
        self._on_request("list")
        return ()

    def _token(self, rest: list[str], end: int) -> str:
        token = f"t{len(self._tokens) + 1}"
        self._tokens[token] = (rest, end)
        return token

    def start_page_token(self) -> str:
        self._on_request("startPageToken")
        return self._token([], self._shown_end())

    def changes(self, page_token: str) -> ChangePage:
        self._on_request("changes")
        if page_token not in self._tokens or int(page_token[1:]) <= self._refused_below:
            raise PageTokenRefused("no token, or an expired one")
        rest, end = self._tokens[page_token]
        if not rest:
            shown = self._shown_end()
            newer = [(seq, file_id) for file_id, seq in self._changed_at.items() if end < seq <= shown]
            rest, end = [file_id for _, file_id in sorted(newer)], max(end, shown)
            self._mix(rest)
            if self.repeats:
                rest = [file_id for file_id in rest for _ in range(2)]
                self._mix(rest)
        entries = tuple(self._entry(file_id) for file_id in rest[: self.page_size])
        if len(rest) > self.page_size:
            return ChangePage(entries, next_page_token=self._token(rest[self.page_size :], end))
        return ChangePage(entries, new_start_page_token=self._token([], end) if rest else page_token)

    def _entry(self, file_id: str) -> Change:
        item = self.items.get(file_id)
        return Change(file_id, item is None, None if item is None else self._file(item))

    def download(self, file: File, target: Path, *, resume: bool = False, progress: Any = None) -> None:
        self._on_request("download")
        if file.is_folder or file.is_shortcut:
            raise Refused("NOT_DOWNLOADABLE", f"{file.file_id} has no bytes of its own")
        item = self._there(file.file_id)
        if item.head_id != file.head_revision_id and self.keeps_revisions:
            item = self.contents[(file.file_id, file.head_revision_id)]
        assert item.data is not None
        if len(item.data) != file.size_bytes:
            raise Transient("SIZE_MISMATCH", f"other bytes of {file.file_id} came")
        if md5_of(item.data) != file.md5_checksum:
            raise Transient("MD5_MISMATCH", f"other bytes of {file.file_id} came")
        target.write_bytes(item.data)

    # ── requests that write ──────────────────────────────────────────────────────────────────────────────────

    def generate_ids(self, count: int) -> tuple[str, ...]:
        self._on_request("generateIds")
        first = len(self.reserved)
        ids = tuple(f"g{number:06d}" for number in range(first, first + count))
        self.reserved.update(ids)
        return ids

    def _own(self, what: str, file_id: str) -> None:
        if file_id not in self.reserved:
            self.violations.append(f"{what} of {file_id}, which is not ours")

    def _create(self, item: Item) -> File:
        self._own("create", item.file_id)
        self._on_request("create")
        if item.file_id in self._gone or item.file_id not in self.reserved:
            raise Refused("ID_REFUSED", f"{item.file_id} cannot be used")
        if item.file_id not in self.items:
            self._check_folder(item.parent)
            self._check_properties(item.properties)
            self._store(replace(item, mime=guess_mime(item.name, item.mime)))
        self._on_request("created")
        return self._file(self.items[item.file_id])

    def _check_folder(self, file_id: str) -> None:
        if not self._there(file_id).is_folder:
            raise Refused("FORBIDDEN", f"{file_id} is no folder")

    @staticmethod
    def _check_properties(properties: Mapping[str, str]) -> None:
        for key, value in properties.items():
            if len(key.encode()) + len(value.encode()) > PROPERTY_MOST_BYTES:
                raise Refused("FORBIDDEN", f"the property {key} is too long")

    def create_folder(
        self, *, file_id: str, name: str, parent_id: str, properties: Mapping[str, str]
    ) -> File:
        now = self._time.server_epoch_s
        return self._create(
            Item(file_id, name, FOLDER_MIME, parent_id, now, now, properties=dict(properties))
        )

    def upload(
        self,
        *,
        file_id: str,
        name: str,
        parent_id: str,
        path: Path,
        mime_type: str,
        properties: Mapping[str, str],
        size_bytes: int,
        md5_checksum: str,
        **_: Any,
    ) -> File:
        data = self._bytes(path, size_bytes, md5_checksum)
        now = self._time.server_epoch_s
        return self._create(
            Item(file_id, name, mime_type, parent_id, now, now, data, properties=dict(properties))
        )

    def _bytes(self, path: Path, size_bytes: int, md5_checksum: str) -> bytes:
        data = path.read_bytes() if path.exists() else b""
        if len(data) != size_bytes or md5_of(data) != md5_checksum:
            raise Refused("SPOOL_ALTERED", "other bytes than announced")
        return data

    def _update(self, what: str, file_id: str, **changes: Any) -> File:
        self._own(what, file_id)
        self._on_request("update")
        item = self._there(file_id)
        if "data" in changes and item.data is None:
            raise Refused("NOT_DOWNLOADABLE", f"{file_id} has no bytes of its own")
        if "properties" in changes:
            changes["properties"] = {**item.properties, **changes["properties"]}
            self._check_properties(changes["properties"])
        self.change(file_id, **changes)
        self._on_request("updated")
        return self._file(self.items[file_id])

    def update_content(
        self,
        *,
        file_id: str,
        path: Path,
        properties: Mapping[str, str],
        size_bytes: int,
        md5_checksum: str,
        **_: Any,
    ) -> File:
        data = self._bytes(path, size_bytes, md5_checksum)
        if file_id in self.items and self.items[file_id].data == EDIT:
            self.violations.append(f"what a person wrote into {file_id} is overwritten")
        return self._update("update", file_id, data=data, properties=properties)

    def move(self, file_id: str, *, to: str, from_: str) -> File:
        item = self._there(file_id)
        if item.parent != from_ or to == from_:
            raise Trouble("BAD_REQUEST", f"{file_id} does not lie in {from_}")
        self._check_folder(to)
        if to == file_id or self.lies_under(self.items[to], file_id):
            raise Refused("FORBIDDEN", f"{file_id} cannot be moved into itself")
        moved = self._update("move", file_id, parent=to)
        self.published.append(file_id)
        return moved

    def rename(self, file_id: str, name: str) -> File:
        return self._update("rename", file_id, name=name)

    def set_trashed(self, file_id: str, trashed: bool) -> File:
        return self._update("trash", file_id, explicitly_trashed=trashed)

    def delete(self, file_id: str) -> None:
        self._own("delete", file_id)
        self._on_request("delete")
        self._there(file_id)
        self.remove(file_id)
        self._on_request("deleted")


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Return what sorts names as Drive's `name_natural` does: numbers by their value, case ignored."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in _DIGITS.split(name.lower())]
