"""What people do to their exams and to our deliveries: each action picks its thing by number from what is there."""

from __future__ import annotations

from daemon.rules import markers
from tests.instruments.faults.planner.contents import Content
from tests.instruments.faults.planner.drive import EDIT, ROOT_ID, Item
from tests.instruments.faults.planner.world import ModelWorld

BULK = 22
"""So many files at once are a mass, whatever the ledger holds: more than twenty, and more than a fifth."""


class People:
    """Actions on the model Drive. A number picks one of the things there are, in the order in which they came."""

    def __init__(self, world: ModelWorld) -> None:
        self._world = world
        self._drive = world.drive
        self.touched: set[str] = set()
        """Marks of series whose delivery somebody edited, trashed, moved out or deleted, at any time."""
        self.bulk_left = False
        """Whether so many files left together once that they may be held."""
        exam = self._drive.add("exam A", world.source, None)
        self._drive.add("part", exam, None)
        self._drive.add("exam B", world.source, None)
        self._drive.add("sub", world.elsewhere, None)

    # ── what there is ────────────────────────────────────────────────────────────────────────────────────────

    def _pick(self, found: list[Item], number: int) -> Item | None:
        return found[number % len(found)] if found else None

    def _theirs(self) -> list[Item]:
        fixed = {ROOT_ID, self._world.top, self._world.source, self._world.output, self._world.elsewhere}
        return [
            item for item in self._drive.items.values() if not item.properties and item.file_id not in fixed
        ]

    def folder(self, number: int) -> str:
        """Return one of the folders that hold, or may hold, inputs: the source and the one outside among them."""
        found = [self._world.source, self._world.elsewhere]
        found += [item.file_id for item in self._theirs() if item.is_folder]
        return found[number % len(found)]

    def _file(self, number: int) -> Item | None:
        return self._pick([item for item in self._theirs() if item.is_input], number)

    # ── inputs ───────────────────────────────────────────────────────────────────────────────────────────────

    def upload(self, folder: int, content: Content) -> None:
        self._drive.add(f"slice {content.number}", self.folder(folder), content.data)

    def upload_exam(self, folder: int, series: int, count: int) -> None:
        for number in range(1, count + 1):
            self._drive.add(
                f"slice {number}", self.folder(folder), Content(series=series, number=number).data
            )

    def make_folder(self, folder: int) -> None:
        self._drive.add("exam", self.folder(folder), None)

    def replace(self, file: int, content: Content) -> None:
        """New content under the same id."""
        if item := self._file(file):
            self._drive.change(item.file_id, data=content.data)

    def rename(self, number: int) -> None:
        if item := self._pick(self._theirs(), number):
            self._drive.change(item.file_id, name=f"{item.name}'")

    def view(self, number: int) -> None:
        """An entry of the feed without a change that anybody can see."""
        if item := self._pick(self._theirs(), number):
            self._drive.change(item.file_id)

    def delete(self, number: int) -> None:
        if item := self._pick(self._theirs(), number):
            self._leaves(item)
            self._drive.remove(item.file_id)

    def trash(self, number: int) -> None:
        if item := self._pick([item for item in self._theirs() if not item.explicitly_trashed], number):
            self._leaves(item)
            self._drive.change(item.file_id, explicitly_trashed=True)

    def restore(self, number: int) -> None:
        if item := self._pick([item for item in self._theirs() if item.explicitly_trashed], number):
            self._drive.change(item.file_id, explicitly_trashed=False)

    def move(self, number: int, folder: int) -> None:
        item = self._pick(self._theirs(), number)
        if item is None:
            return
        to = self.folder(folder)
        if to in (item.file_id, item.parent) or self._drive.lies_under(self._drive.items[to], item.file_id):
            return
        self._leaves(item)
        self._drive.change(item.file_id, parent=to)

    def copy(self, number: int, folder: int) -> None:
        """A file, or a folder with what lies in it, as a new one with a new time."""
        if (item := self._pick(self._theirs(), number)) and not item.target:
            to = self.folder(folder)
            if to != item.file_id and not self._drive.lies_under(self._drive.items[to], item.file_id):
                self._copy(item, to)

    def _copy(self, item: Item, to: str) -> None:
        made = self._drive.add(item.name, to, item.data)
        for child in self._drive.children(item.file_id):
            if not child.target and not child.properties and not child.explicitly_trashed:
                self._copy(child, made)

    def shortcut(self, number: int, folder: int) -> None:
        if (item := self._pick(self._theirs(), number)) and not item.target:
            self._drive.add_shortcut(item.name, self.folder(folder), item.file_id)

    def _leaves(self, item: Item) -> None:
        self._touch(item)  # a delivery may have been moved into it
        below = sum(1 for other in self._drive.items.values() if self._drive.lies_under(other, item.file_id))
        self.bulk_left |= below >= BULK - 1

    # ── deliveries ───────────────────────────────────────────────────────────────────────────────────────────

    def _ours(self, *kinds: markers.Kind) -> list[Item]:
        return [
            item
            for item in self._drive.items.values()
            if item.properties.get(markers.KIND) in kinds and self._is_visible(item)
        ]

    def _is_visible(self, item: Item) -> bool:
        return not any(
            folder.properties.get(markers.KIND) == markers.Kind.STAGING for folder in self._drive.above(item)
        )

    def _touch(self, item: Item) -> None:
        self.touched.add(item.properties.get(markers.SERIES, ""))
        for other in self._drive.items.values():
            if self._drive.lies_under(other, item.file_id):
                self.touched.add(other.properties.get(markers.SERIES, ""))

    def edit_result(self, number: int) -> None:
        if item := self._pick(self._ours(markers.Kind.RESULT), number):
            self._touch(item)
            self._drive.change(item.file_id, data=EDIT)

    def trash_ours(self, number: int) -> None:
        """A result, a delivery, or a folder that stands for one of the source."""
        found = self._ours(markers.Kind.RESULT, markers.Kind.DELIVERY, markers.Kind.MIRROR)
        if item := self._pick([item for item in found if not item.explicitly_trashed], number):
            self._touch(item)
            self._drive.change(item.file_id, explicitly_trashed=True)

    def restore_ours(self, number: int) -> None:
        found = self._ours(markers.Kind.RESULT, markers.Kind.DELIVERY, markers.Kind.MIRROR)
        if item := self._pick([item for item in found if item.explicitly_trashed], number):
            self._touch(item)
            self._drive.change(item.file_id, explicitly_trashed=False)

    def delete_ours(self, number: int) -> None:
        if item := self._pick(self._ours(markers.Kind.RESULT, markers.Kind.DELIVERY), number):
            self._touch(item)
            self._drive.remove(item.file_id)

    def move_result(self, number: int) -> None:
        if item := self._pick(self._ours(markers.Kind.RESULT), number):
            self._touch(item)
            self._drive.change(item.file_id, parent=self._world.elsewhere)

    def move_delivery(self, number: int, folder: int) -> None:
        """Anywhere, the source included: it is followed by its id, and never taken for input."""
        if item := self._pick(self._ours(markers.Kind.DELIVERY), number):
            to = self._world.output if folder % 3 == 0 else self.folder(folder)
            if self._drive.is_trashed(self._drive.items[to]) or self._drive.items[to].explicitly_trashed:
                self._touch(item)
            self._drive.change(item.file_id, parent=to)

    def rename_delivery(self, number: int) -> None:
        if item := self._pick(self._ours(markers.Kind.DELIVERY), number):
            self._drive.change(item.file_id, name="renamed by a person")
