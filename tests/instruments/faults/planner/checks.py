"""What must be true of Drive and of the ledger, judged from the model's own knowledge of what people did."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from daemon.rules import markers
from daemon.rules.lifecycle import FINAL, FileState, SeriesState
from daemon.rules.series import content_key
from daemon.steps.pipeline import STEPS
from tests.instruments.faults.planner.contents import SERIES, Content
from tests.instruments.faults.planner.drive import Item, md5_of
from tests.instruments.faults.planner.people import People
from tests.instruments.faults.planner.world import ModelWorld

PERSONS = frozenset({"EDITED", "DELIVERY_TRASHED"})
MASS = "MASS_VANISHED"
MANIFEST = "manifest.json"


def mark_of(series: int) -> str:
    return markers.series_tag_of(*SERIES[series])


@dataclass(frozen=True)
class Input:
    """An entry of a manifest; `dropped` is a reason or empty."""

    file_id: str
    head_id: str
    md5: str
    dropped: str = ""


@dataclass(frozen=True)
class Expected:
    """What the next revision of a series would be made of: md5s that must be in it, and such as may."""

    must: frozenset[str]
    may: frozenset[str]


class Checks:
    """Looks after each rule, and harder at rest."""

    def __init__(self, world: ModelWorld, people: People) -> None:
        self._world = world
        self._drive = world.drive
        self._people = people
        self._frozen: dict[tuple[int, int], tuple[frozenset[tuple[str, ...]], str]] = {}
        self.delivered: dict[str, tuple[Input, ...]] = {}
        """Mark of the series → inputs of the manifest that became visible last."""
        self._made: dict[str, tuple[str, bytes]] = {}
        self._versions: dict[str, int] = {}

    # ── after each rule ──────────────────────────────────────────────────────────────────────────────────────

    def always(self) -> None:
        """Raise AssertionError for what must never be seen, whatever is under way."""
        assert self._drive.violations == []
        assert not self._world.bugs, self._world.bugs[0]
        self._see_deliveries()
        self._one_delivery_each()
        self._every_state_has_a_step()
        self._inputs_are_frozen()
        self._token_is_not_ahead()
        self._nothing_gets_older()

    def _visible(self) -> Iterator[Item]:
        """Yield the delivery folders that people can see, those in the trash too."""
        for item in self._drive.items.values():
            if item.properties.get(markers.KIND) == markers.Kind.DELIVERY and not any(
                folder.properties.get(markers.KIND) == markers.Kind.STAGING
                for folder in self._drive.above(item)
            ):
                yield item

    def _one_delivery_each(self) -> None:
        count: dict[str, int] = defaultdict(int)
        for folder in self._visible():
            if not self._drive.is_trashed(folder):
                count[folder.properties[markers.SERIES]] += 1
        assert all(number == 1 for number in count.values()), f"twice: {dict(count)}"

    def _see_deliveries(self) -> None:
        """Notice manifests that became visible, and judge each by the one before it."""
        for folder in self._visible():
            for child in self._drive.children(folder.file_id):
                if child.name != MANIFEST or not self._is_as_made(child):
                    continue
                mark = folder.properties[markers.SERIES]
                assert child.data is not None
                if self._made.get(mark) == (child.file_id, child.data):
                    continue
                first = child.file_id != self._made.get(mark, ("", b""))[0]
                self._made[mark] = (child.file_id, child.data)
                found = json.loads(child.data)
                inputs = (*_inputs(found, "inputs"), *_inputs(found, "dropped"))
                if first and mark not in self._people.touched:
                    self._is_whole(folder, found)
                self._judge_inputs(mark, inputs)
                self._judge_less(mark, self.delivered.get(mark, ()), inputs)
                self.delivered[mark] = inputs

    @staticmethod
    def _is_as_made(item: Item) -> bool:
        """Whether a result has the content that its marker names."""
        return (
            item.data is not None
            and item.properties.get(markers.SHA256) == hashlib.sha256(item.data).hexdigest()
        )

    def _is_whole(self, folder: Item, manifest: Any) -> None:
        """What a manifest names lies beside it, and nothing else of ours does."""
        there = {
            child.name: hashlib.sha256(child.data or b"").hexdigest()
            for child in self._drive.children(folder.file_id)
            if child.name != MANIFEST and not child.explicitly_trashed
        }
        named = {entry["name"]: entry["sha256"] for entry in manifest["results"]}
        assert there == named, f"half visible: {folder.file_id}"

    def _judge_inputs(self, mark: str, inputs: tuple[Input, ...]) -> None:
        """One patient, one series, and of two contents of one image the newest one."""
        contents = {entry.md5: self._content(entry) for entry in inputs}
        assert all(mark_of(content.series) == mark for content in contents.values()), "of another series"
        assert len({content.patient for content in contents.values()}) == 1, "two patients in one volume"
        first_times: dict[str, float] = {}
        for entry in inputs:
            at = self._drive.contents[(entry.file_id, entry.head_id)].modified_s
            first_times[entry.md5] = min(at, first_times.get(entry.md5, at))
        newest: dict[int, str] = {}
        for md5 in sorted(contents, key=lambda md5: (round(first_times[md5], 3), md5)):
            if contents[md5].kind == "image":
                newest[contents[md5].number] = md5
        kept = [entry.md5 for entry in inputs if not entry.dropped]
        assert sorted(kept) == sorted(newest.values()), f"not the newest: {mark}"

    def _content(self, entry: Input) -> Content:
        item = self._drive.contents[(entry.file_id, entry.head_id)]
        assert item.data is not None
        assert md5_of(item.data) == entry.md5
        return Content.of(item.data)

    def _judge_less(self, mark: str, before: tuple[Input, ...], after: tuple[Input, ...]) -> None:
        """A content that is no longer used gave way to a newer one of its file."""
        now = {entry.md5 for entry in after}
        for entry in before:
            if entry.md5 not in now:
                later = [self._drive.contents[key] for key in self._later(entry)]
                assert any(
                    Content.of(item.data or b"").is_instance
                    and (
                        mark_of(Content.of(item.data or b"").series) != mark
                        or md5_of(item.data or b"") in now
                    )
                    for item in later
                ), f"less replaced more: {entry}"

    def _later(self, entry: Input) -> list[tuple[str, str]]:
        heads = [key for key in self._drive.contents if key[0] == entry.file_id]
        return heads[heads.index((entry.file_id, entry.head_id)) + 1 :]

    def _every_state_has_a_step(self) -> None:
        """Settling alone is no step: it looks at all gathering series together."""
        for kind, table in ((FileState, "file"), (SeriesState, "revision")):
            for row in self._world.rows(f"SELECT DISTINCT state FROM {table}"):
                assert kind(row[0]) in {*STEPS, *FINAL, SeriesState.GATHERING}

    def _inputs_are_frozen(self) -> None:
        sets: dict[tuple[int, int], set[tuple[str, ...]]] = defaultdict(set)
        for row in self._world.rows(
            "SELECT series_id, n, file_id, head_revision_id, member, md5_checksum FROM revision_input"
        ):
            sets[(row[0], row[1])].add(tuple(row)[2:])
        for row in self._world.rows("SELECT series_id, n, state, content_key FROM revision"):
            found = frozenset(sets[(row[0], row[1])])
            if row["state"] == SeriesState.GATHERING or (row["state"] == "SUPERSEDED" and not found):
                assert not found
                continue
            assert row["content_key"] == content_key(entry[-1] for entry in found)
            assert self._frozen.setdefault((row[0], row[1]), (found, row["content_key"])) == (
                found,
                row["content_key"],
            ), f"inputs of {tuple(row)[:2]} changed"

    def _token_is_not_ahead(self) -> None:
        """What lies before the stored token is in the ledger, or is owed."""
        context = self._world.parts.context
        record = self._world.parts.cache.page_token()
        crawls = context.ledger.crawls
        if record is None or record.generation != crawls.generation:
            return
        assert record.feed_seq <= crawls.feed_seq
        if crawls.has_pending_listings() or context.ledger.rebuilding.cause is not None:
            return
        read = self._drive.read_up_to(record.token)
        versions = dict(
            tuple(row) for row in self._world.rows("SELECT file_id, version FROM file WHERE current = 1")
        )
        for item in self.live_inputs():
            way = [item, *self._way(item)]
            known = all(0 < self._drive.entered(step.file_id) <= read for step in way)
            if known and not self._drive.lied_about & {step.file_id for step in way}:
                assert versions.get(item.file_id, -1) >= item.version, f"{item.file_id} was skipped"

    def _nothing_gets_older(self) -> None:
        """What the ledger knows of a file is never replaced by an older observation."""
        for file_id, version in self._world.rows("SELECT file_id, version FROM file WHERE current = 1"):
            assert version >= self._versions.get(file_id, 0), f"{file_id} is seen as it was earlier"
            self._versions[file_id] = version

    def _way(self, item: Item) -> list[Item]:
        """Return the folders between an input and the source."""
        way = []
        for folder in self._drive.above(item):
            if folder.file_id == self._world.source:
                break
            way.append(folder)
        return way

    # ── what is to be expected ───────────────────────────────────────────────────────────────────────────────

    def live_inputs(self) -> Iterator[Item]:
        """Yield the inputs that lie in the source, not in the trash, by whatever way."""
        for item in self._drive.items.values():
            if item.is_input and not self._drive.is_trashed(item) and self._is_in_source(item, frozenset()):
                yield item

    def _is_in_source(self, item: Item, seen: frozenset[str]) -> bool:
        if item.file_id in seen or item.file_id == self._world.output:
            return False
        if item.file_id == self._world.source:
            return True
        seen |= {item.file_id}
        parent = self._drive.items.get(item.parent)
        if parent is not None and self._is_in_source(parent, seen):
            return True
        return any(
            self._is_in_source(self._drive.items[other.parent], seen)
            for other in self._drive.items.values()
            if other.target == item.file_id and not self._drive.is_trashed(other)
        )

    def expected(self, series: int) -> Expected:
        """Return what must and may be in the series: what is there, and what was delivered and only vanished."""
        must: set[str] = set()
        may: set[str] = set()
        present = {item.file_id: item for item in self.live_inputs()}
        mass = {row[0] for row in self._world.rows("SELECT file_id FROM file WHERE held_code = ?", MASS)}
        for item in present.values():
            assert item.data is not None
            content = Content.of(item.data)
            if content.series == series and content.is_instance:
                must.add(md5_of(item.data))
        for row in self._world.rows(
            "SELECT file_id, md5_checksum FROM file WHERE current = 1 AND held_code = ?", MASS
        ):
            may.add(row[1])
        for entry in self.delivered.get(mark_of(series), ()):
            later = [Content.of(self._drive.contents[key].data or b"") for key in self._later(entry)]
            gave_way = entry.file_id in present and later and later[-1].is_instance
            if entry.file_id in mass:
                may.add(entry.md5)  # it counts on as it is, whatever that is
            elif not gave_way:
                must.add(entry.md5)
        return Expected(frozenset(must), frozenset(may | must))

    # ── at rest ──────────────────────────────────────────────────────────────────────────────────────────────

    def at_rest(self, *, crawled: bool, retried: bool = False) -> None:
        """Everything was done that can be done.

        Args:
            crawled: a crawl came last, so that what the feed swallowed is known too.
            retried: nothing is held for a reason that has passed.
        """
        self.always()
        held_files = dict(
            tuple(row)
            for row in self._world.rows(
                "SELECT file_id, held_code FROM file WHERE current = 1 AND held_code != ''"
            )
        )
        if crawled:
            for item in self.live_inputs():
                self._input_is_accounted_for(item, held_files)
        if crawled or not self._drive.lied_about:
            for series in range(len(SERIES)):
                self._series_is_right(series, retried=retried)
        self._held_is_justified(held_files)
        self._gone_is_gone()
        self._nothing_is_left_over()

    def _input_is_accounted_for(self, item: Item, held_files: dict[str, str]) -> None:
        rows = self._world.rows(
            "SELECT head_revision_id, state, reason, whereabouts FROM file WHERE file_id = ? AND current = 1",
            item.file_id,
        )
        assert rows, f"lost: {item.file_id}"
        row = rows[0]
        assert row["head_revision_id"] == item.head_id, f"stale: {item.file_id}"
        assert row["whereabouts"] == "PRESENT", f"{item.file_id} counts as {row['whereabouts']}"
        content = Content.of(item.data or b"")
        if content.kind == "junk":
            assert (row["state"], row["reason"]) == ("IGNORED", "NOT_DICOM")
        elif content.kind == "archive":
            assert held_files.get(item.file_id) == "ARCHIVE_UNSUPPORTED"
        else:
            assert row["state"] == "FILED", f"{item.file_id} is {row['state']} {held_files.get(item.file_id)}"

    def _newest(self, series: int) -> Any:
        rows = self._world.rows(
            "SELECT r.*, s.delivered_n, s.delivery_folder_id FROM revision r JOIN series s USING (series_id)"
            " WHERE study_instance_uid = ? AND series_instance_uid = ? ORDER BY n DESC LIMIT 1",
            *SERIES[series],
        )
        return rows[0] if rows else None

    def _series_is_right(self, series: int, *, retried: bool) -> None:
        mark, expected, newest = mark_of(series), self.expected(series), self._newest(series)
        delivered = frozenset(entry.md5 for entry in self.delivered.get(mark, ()))
        contents = self._contents(series)
        code = newest["held_code"] if newest is not None and newest["state"] != "SUPERSEDED" else ""
        if code in PERSONS:
            assert mark in self._people.touched, f"held {code}, and nobody touched it"
            if retried:
                assert not self._is_untouched(newest, mark), f"held {code}, and it is as we made it"
            return
        if code == "INPUTS_GONE":
            assert self._is_unreadable(newest)
            return
        patients = {contents[md5].patient for md5 in expected.must}
        if code == "IDENTITY_CONFLICT":
            assert len({contents[md5].patient for md5 in expected.may}) > 1, "held for no stranger"
            return
        assert not code, f"held {code}"
        assert len(patients) < 2, "a stranger is among them, and nobody is told"
        if mark in self._people.touched and delivered and expected.must <= delivered:
            return  # what a revision left half done before somebody touched it is not looked at
        if not delivered and not expected.must:
            return
        if newest is not None and newest["state"] == "IGNORED":
            images = [md5 for md5 in expected.must if contents[md5].kind == "image"]
            assert not images, "ignored, and has images"
            return
        assert newest is not None, f"series {series} was never begun"
        assert expected.must <= delivered, f"series {series} lacks {len(expected.must - delivered)} contents"
        # Left without instances, as each of its files became another series', it keeps its delivery.
        assert not expected.may or delivered <= expected.may, (
            f"series {series} has {len(delivered - expected.may)} contents too many"
        )
        if mark not in self._people.touched:
            self._is_delivered(newest, mark)

    def _contents(self, series: int) -> dict[str, Content]:
        found = {}
        for item in self._drive.contents.values():
            if item.is_input:
                assert item.data is not None
                found[md5_of(item.data)] = Content.of(item.data)
        return found

    def _is_delivered(self, newest: Any, mark: str) -> None:
        assert self._is_untouched(newest, mark), f"{mark} is not as it was made"

    def _is_untouched(self, newest: Any, mark: str) -> bool:
        """Whether the delivery lies there as its manifest says."""
        folder = self._drive.items.get(newest["delivery_folder_id"])
        if folder is None or self._drive.is_trashed(folder):
            return False
        children = {child.name: child for child in self._drive.children(folder.file_id)}
        children = {name: child for name, child in children.items() if not child.explicitly_trashed}
        if MANIFEST not in children or not all(map(self._is_as_made, children.values())):
            return False
        manifest = json.loads(children[MANIFEST].data or b"")
        named = {entry["name"]: entry["file_id"] for entry in manifest["results"]}
        return {n: c.file_id for n, c in children.items() if n != MANIFEST} == named

    def _is_unreadable(self, newest: Any) -> bool:
        """Whether an input of the revision is gone, or was replaced."""
        for row in self._world.rows(
            "SELECT file_id, head_revision_id FROM revision_input WHERE series_id = ? AND n = ?",
            newest["series_id"],
            newest["n"],
        ):
            item = self._drive.items.get(row[0])
            if item is None or item.head_id != row[1]:
                return True
        return False

    def _held_is_justified(self, held_files: dict[str, str]) -> None:
        for file_id, code in held_files.items():
            item = self._drive.items.get(file_id)
            kinds = [
                Content.of(state.data or b"").kind
                for key, state in self._drive.contents.items()
                if key[0] == file_id
            ]
            if code == "ARCHIVE_UNSUPPORTED":
                assert "archive" in kinds
            elif code == MASS:
                assert self._people.bulk_left
            else:
                # Its bytes could not be had: gone, or replaced, and the feed has not said so.
                assert item is None or self._drive.lied_about or self._drive.is_trashed(item), (
                    f"{file_id} {code}"
                )

    def _gone_is_gone(self) -> None:
        """Absence from a listing is a question, never a deletion."""
        for row in self._world.rows("SELECT file_id FROM file WHERE current = 1 AND whereabouts = 'GONE'"):
            item = self._drive.items.get(row[0])
            way = set() if item is None else {row[0], *(step.file_id for step in self._drive.above(item))}
            assert item is None or way & self._drive.swallowed, f"{row[0]} counts as deleted"

    def _nothing_is_left_over(self) -> None:
        world = self._world
        assert not world.queue
        assert not world.parts.context.ledger.crawls.has_pending_listings()
        assert world.parts.context.ledger.files.unread() == (0, 0)
        assert world.parts.context.ledger.revisions.open_count() == 0
        assert not world.parts.context.breakers.suspensions()
        live = {
            item.file_id
            for item in self._drive.items.values()
            if item.properties.get(markers.KIND) in (markers.Kind.DELIVERY, markers.Kind.ATTEMPT)
            and item not in self._visible()
            and not self._drive.is_trashed(item)
        }
        held = {row[0] for row in world.rows("SELECT staging_folder_id FROM revision WHERE held_code != ''")}
        assert live <= held, f"left in staging: {live - held}"
        tsv = [
            i
            for i in self._drive.children(world.output)
            if i.properties.get(markers.KIND) == markers.Kind.HELD
        ]
        assert any(not item.explicitly_trashed for item in tsv) == bool(world.standing.held_count())


def _inputs(manifest: Any, key: str) -> Iterator[Input]:
    for entry in manifest[key]:
        yield Input(
            entry["file_id"], entry["head_revision_id"], entry["md5_checksum"], entry.get("reason", "")
        )
