"""The items of the Drive, from the history of its effects alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Effect = Mapping[str, Any]


@dataclass(slots=True)
class Item:
    """An item as it was after some effect. `ours`: it was made through the API, not by people."""

    file_id: str
    name: str
    parent: str
    mime_type: str
    md5_checksum: str
    head_revision_id: str
    trashed: bool
    properties: Mapping[str, str]
    ours: bool

    @property
    def kind(self) -> str:
        return self.properties.get("sdd_kind", "")

    @property
    def series(self) -> str:
        return self.properties.get("sdd_series", "")


class Tree:
    """The items of the Drive, effect after effect."""

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}

    def apply(self, effect: Effect) -> None:
        file_id = effect["file_id"]
        if effect["op"] == "delete":
            self.items.pop(file_id, None)
            return
        before = self.items.get(file_id)
        self.items[file_id] = Item(
            file_id=file_id,
            name=effect["name"],
            parent=effect["parent"],
            mime_type=effect["mime_type"],
            md5_checksum=effect["md5_checksum"],
            head_revision_id=effect["head_revision_id"],
            trashed=effect["trashed"],
            properties=effect["properties"],
            ours=before.ours if before is not None else effect["source"] == "api",
        )

    def way(self, item: Item) -> Iterator[Item]:
        """Yield the item and its folders, innermost first."""
        here: Item | None = item
        while here is not None:
            yield here
            here = self.items.get(here.parent)

    def is_live(self, item: Item) -> bool:
        return not any(step.trashed for step in self.way(item))

    def is_under(self, item: Item, folder_id: str) -> bool:
        return any(step.file_id == folder_id for step in self.way(item) if step is not item)

    def path(self, item: Item) -> str:
        return "/".join(step.name for step in reversed(list(self.way(item))))

    def live(self) -> list[Item]:
        return [item for item in self.items.values() if self.is_live(item)]

    def children(self, folder_id: str) -> list[Item]:
        return [item for item in self.items.values() if item.parent == folder_id and self.is_live(item)]

    def top(self, name: str) -> str:
        """Return the id of the folder of this name in the root; empty when there is none."""
        found = [item.file_id for item in self.live() if item.name == name and item.parent not in self.items]
        return found[0] if found else ""
