"""The independent checker for runs with faults: what must hold with no clean run to compare with.

It reads the Drive's history and contents, the ledger's tables, the logs and the directories; nothing of the daemon's.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tests.instruments.crash.checker import FOLDER, MANIFEST, SHORTCUT, Checker
from tests.instruments.crash.tree import Effect, Item
from tests.instruments.faults.images import Image, image_of, slices_of

if TYPE_CHECKING:
    from tests.instruments.faults.world import FaultWorld

PEOPLE = "quotaUser=people"
SECRETS = ("test-token", "upload_id=", "Phantom^", "PHANTOM-", "Bearer ")
"""What no log may hold, beside the names of files and folders."""
SHORTEST_NAME = 5
"""Names shorter than this may be words."""


class Judge(Checker):
    """Looks at one world whose daemon says that it has nothing to do.

    Args:
        holds: codes with which things may be held; None: any but BUG.
    """

    def __init__(self, world: FaultWorld, *, holds: frozenset[str] | None = None) -> None:
        super().__init__(world.home, _by_whom(world), 0, [world.contents])
        self._world = world
        self._holds = holds

    UNFINISHED: ClassVar[dict[str, str]] = {
        what: sql
        for what, sql in Checker.UNFINISHED.items()
        # Of something that is held, or that was taken away meanwhile, both may be left.
        if what not in ("waits", "folder not made")
    }

    def look(self) -> Any:
        """Judge everything; what is wrong is in `found`."""
        self._held_staging = {
            folder_id
            for (folder_id,) in self._rows("SELECT staging_folder_id FROM revision WHERE held_code != ''")
        }
        self.look_at_history()
        self._manifests = dict(self._live_manifests())
        self._ledger()
        self._everything_came_through()
        self._right_bytes()
        self._honest()
        self._held()
        self._spool()
        self._clean_logs()
        return None

    def _output_id(self) -> str:
        """Return the first folder of that name that people did not throw away; renamed ones are followed by their id."""
        made = [
            effect["file_id"]
            for effect in self._history
            if effect["op"] == "create"
            and effect["name"] == "NIfTI"
            and effect["parent"] not in self._tree.items
        ]
        thrown = {effect["file_id"] for effect in self._history if effect["trashed"]}
        return next((file_id for file_id in made if file_id not in thrown), made[0] if made else "")

    def _may_lie_about(self, item: Item) -> bool:
        """What a held revision has in staging waits there for its `retry`; what people moved is theirs."""
        if any(step.file_id in self._held_staging for step in self._tree.way(item)):
            return True
        return any(
            effect["file_id"] == item.file_id and effect["source"] != "api" for effect in self._history
        )

    def _spool(self) -> None:
        """Nothing is left but what held revisions wait with."""
        held = {
            f"{series_id}-{n}-{attempt}"
            for series_id, n, attempt in self._rows(
                "SELECT series_id, n, attempt FROM revision WHERE held_code != ''"
            )
        }
        for path in (self._home / "state" / "spool").rglob("*"):
            if path.is_file() and not held & set(path.parts):
                self.wrong(f"left in the spool: {path.relative_to(self._home)}")

    # ── I1: nothing lost

    def _everything_came_through(self) -> None:
        """Each live input is in the newest manifest of its series, ignored and no image, or held."""
        rows = {
            (file_id, head): (state, reason, held)
            for file_id, head, state, reason, held in self._rows(
                "SELECT file_id, head_revision_id, state, reason, held_code FROM file WHERE current = 1"
            )
        }
        series = self._series()
        for item in self._inputs():
            found = rows.get((item.file_id, item.head_revision_id))
            if found is None:
                continue  # `_nothing_lost` has said it
            state, reason, held = found
            image = self._image(item.md5_checksum)
            if held:
                continue
            if state == "IGNORED":
                if not reason:
                    self.wrong(f"{item.name} is ignored without a reason", "lost")
                if image is not None:
                    self.wrong(f"{item.name} is an image and ignored: {reason}", "lost")
                continue
            if image is None:
                self.wrong(f"{item.name} is no image, and {state}", "lost")
                continue
            known = series.get(image.series_uid)
            if known is None:
                self.wrong(f"{item.name}: its series is not in the ledger", "lost")
                continue
            held, folder_id = known
            if held or self._people_took(folder_id):
                continue
            manifest = self._manifests.get(folder_id)
            if manifest is None:
                self.wrong(f"{item.name}: its series has no delivery", "lost")
                continue
            named = [*manifest["inputs"], *manifest["dropped"]]
            if item.md5_checksum not in {each["md5_checksum"] for each in named}:
                self.wrong(f"{item.name}: its content is not in the manifest of its series", "lost")

    def _inputs(self) -> list[Item]:
        source_id = self._tree.top("DICOM")
        return [
            item
            for item in self._tree.live()
            if item.mime_type not in (FOLDER, SHORTCUT) and self._tree.is_under(item, source_id)
        ]

    def _series(self) -> dict[str, tuple[str, str]]:
        """Return series UID → (code with which its newest revision is held, its delivery's folder)."""
        return {
            uid: (held or "", folder_id)
            for uid, folder_id, held in self._rows(
                "SELECT series_instance_uid, delivery_folder_id, (SELECT held_code FROM revision r"
                " WHERE r.series_id = s.series_id ORDER BY n DESC LIMIT 1) FROM series s"
            )
        }

    def _people_took(self, folder_id: str) -> bool:
        """Whether people trashed or deleted the delivery: then it is not made again."""
        return any(
            effect["file_id"] == folder_id
            and effect["op"] in ("trash", "delete")
            and effect["source"] != "api"
            for effect in self._history
        )

    def _image(self, md5_checksum: str) -> Image | None:
        path = self._bytes.get(md5_checksum)
        return image_of(path, md5_checksum) if path is not None else None

    # ── I4: right bytes

    def _live_manifests(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for folder in self._tree.live():
            if folder.kind != "delivery" or not self._is_published(folder):
                continue
            found = [item for item in self._tree.children(folder.file_id) if item.name == MANIFEST]
            path = self._bytes.get(found[0].md5_checksum) if len(found) == 1 else None
            if path is None:
                self.wrong(f"{folder.name} has {len(found)} manifests", "half")
                continue
            yield folder.file_id, json.loads(path.read_bytes())

    def _right_bytes(self) -> None:
        """What the manifests name was on the Drive, and the volumes hold exactly its pixels."""
        contents = {
            (effect["file_id"], effect["head_revision_id"]): effect["md5_checksum"]
            for effect in self._history
            if effect["md5_checksum"]
        }
        for folder_id, manifest in self._manifests.items():
            name = self._tree.items[folder_id].name
            for place, count in Counter(map(_place, [*manifest["inputs"], *manifest["dropped"]])).items():
                if count > 1:
                    self.wrong(f"{name}: {place} is {count} times in the manifest", "twice")
            for given in [*manifest["inputs"], *manifest["dropped"]]:
                if contents.get(_place(given)[:2]) != given["md5_checksum"]:
                    self.wrong(f"{name}: {_place(given)} never was {given['md5_checksum']}")
            if not self._people_touched(folder_id):
                for missing in self._missing(self._tree.items[folder_id], manifest):
                    self.wrong(f"{name}: {missing} is not what the manifest says", "half")
                self._same_pixels(folder_id, name, manifest)

    def _same_pixels(self, folder_id: str, name: str, manifest: Mapping[str, Any]) -> None:
        images = [self._image(given["md5_checksum"]) for given in manifest["inputs"]]
        uids = {image.series_uid if image is not None else "" for image in images}
        if uids != {manifest["series_instance_uid"]}:
            self.wrong(f"{name}: the inputs are of the series {sorted(uids)}")
            return
        wanted = Counter(image.pixels for image in images if image is not None)
        children = {item.file_id: item for item in self._tree.children(folder_id)}
        there: Counter[str] = Counter()
        for result in manifest["results"]:
            # A second volume that dcm2niix makes of uneven slices is interpolated.
            item = children.get(result["file_id"])
            if item is not None and item.name.endswith(".nii.gz") and "_Eq" not in item.name:
                path = self._bytes.get(item.md5_checksum)
                there += Counter(slices_of(path)) if path is not None else Counter()
        if there != wanted:
            self.wrong(
                f"{name}: {there.total()} slices, of which {(there & wanted).total()} are of {wanted.total()} inputs"
            )

    def _people_touched(self, folder_id: str) -> bool:
        """Whether people changed the delivery itself: then it is theirs."""
        mine = {folder_id, *(item.file_id for item in self._tree.items.values() if item.parent == folder_id)}
        return any(
            effect["file_id"] in mine and effect["source"] != "api" and effect["op"] != "view"
            for effect in self._history
        )

    # ── I6: an honest ledger

    def _honest(self) -> None:
        """What the ledger calls delivered lies on Drive: its id, size, md5, name and folder, not trashed."""
        rows = self._rows(
            "SELECT s.delivery_folder_id, r.name, r.file_id, r.size_bytes, r.md5_checksum, r.verified,"
            " v.state FROM series s JOIN revision v ON v.series_id = s.series_id AND v.n = s.delivered_n"
            " JOIN result r ON r.series_id = s.series_id AND r.n = s.delivered_n"
        )
        sizes = {effect["file_id"]: effect["size_bytes"] for effect in self._history}
        for folder_id, name, file_id, size_bytes, md5_checksum, verified, state in rows:
            if self._people_took(folder_id) or self._people_touched(folder_id):
                continue
            item = self._tree.items.get(file_id)
            have = item and (item.name, item.parent, item.md5_checksum, sizes[file_id])
            if (
                item is None
                or not self._tree.is_live(item)
                or have != (name, folder_id, md5_checksum, size_bytes)
            ):
                self.wrong(f"the ledger calls {name} ({file_id}) delivered, Drive has {have}")
            if not verified or state != "DELIVERED":
                self.wrong(f"{name}: delivered, but verified = {verified} and the revision {state}")
        known = {folder_id for (folder_id,) in self._rows("SELECT delivery_folder_id FROM series")}
        for folder_id in self._manifests.keys() - known:
            self.wrong(f"the ledger does not know the delivery {folder_id}")

    def _held(self) -> None:
        for what, code in self._rows(
            "SELECT file_id, held_code FROM file WHERE held_code != '' AND current = 1 AND whereabouts = 'PRESENT'"
            " UNION ALL SELECT series_id || '/' || n, held_code FROM revision"
            " WHERE held_code != '' AND state != 'SUPERSEDED'"
        ):
            if self._holds is not None and code not in self._holds:
                self.wrong(f"{what} is held {code}")

    # ── I7: clean

    def _clean_logs(self) -> None:
        names = {
            effect["name"]
            for effect in self._history
            if effect["source"] == "disk" and len(effect["name"]) >= SHORTEST_NAME
        } - {"DICOM", "NIfTI"}
        for path in [self._home / "daemon.log", *(self._home / "logs").glob("*")]:
            if not path.exists():
                continue
            text = path.read_text(errors="replace")
            for secret in sorted({*names, *SECRETS}):
                if secret in text:
                    line = next(line for line in text.splitlines() if secret in line)
                    self.wrong(f"{path.name} holds {secret!r}: {line[:300]}")


def unfinished(state: Path) -> list[str]:
    """Return what a ledger still owes; `run --once` says 3 when something is held, whatever else waits."""
    path = state / "ledger.sqlite3"
    if not path.exists():
        return ["there is no ledger"]
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return [
            what
            for what, sql in {
                "a rebuild": "SELECT 1 FROM meta WHERE key = 'rebuild'",
                "a file to read": "SELECT 1 FROM file WHERE current = 1 AND whereabouts = 'PRESENT'"
                " AND state NOT IN ('FILED', 'IGNORED') AND held_code = ''",
                "a revision": "SELECT 1 FROM revision"
                " WHERE state NOT IN ('DELIVERED', 'IGNORED', 'SUPERSEDED') AND held_code = ''",
                "a series to look at": "SELECT 1 FROM series WHERE dirty = 1",
                "a listing": "SELECT 1 FROM listing WHERE done = 0",
                "orphan": "SELECT 1 FROM orphan",
            }.items()
            if connection.execute(sql).fetchone()
        ]
    except sqlite3.Error as exc:
        return [f"a ledger that can be read ({exc})"]
    finally:
        connection.close()


def _place(given: Mapping[str, Any]) -> tuple[str, str, str]:
    return given["file_id"], given["head_revision_id"], given["member"]


def _by_whom(world: FaultWorld) -> Sequence[Effect]:
    """Return the history, with people's own requests told from the daemon's."""
    peoples = {entry["seq"] for entry in world.drive.every_request() if PEOPLE in entry["query"]}
    return [
        {**effect, "source": "people"} if effect["request"] in peoples else effect
        for effect in world.drive.history()
    ]
