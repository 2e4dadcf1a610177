"""Random sources: what lies in the served directory at first, and what people do with it later, drawn from a seed."""

from __future__ import annotations

import functools
import io
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.instruments.faults.world import Action, FaultWorld
from tests.support.phantom import Phantom, slice_of

CATALOGUE: tuple[Phantom, ...] = tuple(
    Phantom(
        seed=100 + number,
        slices=slices,
        rows=16,
        columns=16,
        series_number=number + 1,
        series_description=text,
        signed=bool(number % 2),
    )
    for number, (slices, text) in enumerate(
        [
            (3, "HEADCT"),
            (4, "THORAX"),
            (2, "SCOUTVIEW"),
            (5, "ABDOMEN"),
            (3, "PELVISCT"),
            (1, "SINGLE"),
            (4, ""),
        ]
    )
)
"""Few, so that their bytes and what they hold are made once for all seeds."""
_EXAMS = ("Exam Alpha", "Exam Beta", "exam 'gamma'", "Übersee")


@functools.cache
def content(number: int, slice_number: int, other: bool = False) -> bytes:
    """Return the bytes of a slice of the catalogue; `other`: a second version of it, with other pixels."""
    dataset = slice_of(CATALOGUE[number], slice_number)
    if other:
        pixels = bytearray(dataset.PixelData)
        pixels[100:200] = bytes(100)
        dataset.PixelData = bytes(pixels)
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@dataclass(slots=True)
class Source:
    """What was drawn: files at first (path below the root → bytes), and the steps that people take one after another."""

    files: dict[str, bytes] = field(default_factory=dict)
    steps: list[tuple[str, Action]] = field(default_factory=list)

    def fill(self, root: Path) -> None:
        """Write the files."""
        for path, data in self.files.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)


class Drawing:
    """Draws a source and its later life.

    Args:
        chance: where everything comes from.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._source = Source()
        self._late: list[tuple[str, bytes]] = []
        self._slices: list[tuple[str, int, int]] = []
        self._cut: list[tuple[str, bytes]] = []

    def source(self) -> Source:
        """Return it: two to four series, files that are none, and three rounds of up to three steps."""
        chance = self._chance
        for number in chance.sample(range(len(CATALOGUE)), chance.randint(2, 4)):
            self._series(number)
        files = self._source.files
        if chance.random() < 0.5:
            files["DICOM/readme-first.txt"] = b"no image"
        if chance.random() < 0.4:
            path = f"DICOM/{chance.choice(_EXAMS)}/broken-off.dcm"
            whole = content(5, 1)
            files[path] = whole[: len(whole) // 2]
            self._cut.append((path, whole))
        if chance.random() < 0.3 and self._slices:
            path, number, slice_number = chance.choice(self._slices)
            files[f"DICOM/{chance.choice(_EXAMS)}/copied/again-{slice_number}.dcm"] = content(
                number, slice_number
            )
        if chance.random() < 0.2:
            files["DICOM/empty-file"] = b""
        return self._source

    def _series(self, number: int) -> None:
        chance, phantom = self._chance, CATALOGUE[number]
        inside = chance.random() < 0.85
        top = "DICOM" if inside else "Elsewhere"
        folder = f"{top}/{chance.choice(_EXAMS)}"
        if chance.random() < 0.5 or not inside:
            folder += f"/series-{number}"
        extension = chance.choice([".dcm", "", ".IMA"])
        for slice_number in range(1, phantom.slices + 1):
            path = f"{folder}/image-{number}-{slice_number:03}{extension}"
            if phantom.slices > 2 and chance.random() < 0.12:
                self._late.append((path, content(number, slice_number)))
                continue
            self._source.files[path] = content(number, slice_number)
            self._slices.append((path, number, slice_number))

    # ── later

    def steps(self, most: int) -> list[tuple[str, Action]]:
        """Return up to `most` things that people do at once, each with its name."""
        chance = self._chance
        kinds: list[Callable[[], tuple[str, Action]]] = [
            self._late_slices,
            self._late_slices,
            self._move,
            self._rename,
            self._rename_folder,
            self._trash,
            self._delete,
            self._replace,
            self._move_in,
            self._mend,
            self._copy,
            self._view,
            self._edit_text,
        ]
        return [chance.choice(kinds)() for _ in range(chance.randint(0, most))]

    def _any_slice(self) -> tuple[str, int, int]:
        return self._chance.choice(self._slices)

    def _late_slices(self) -> tuple[str, Action]:
        late, self._late = self._late, []

        def step(world: FaultWorld) -> None:
            for path, data in late:
                _write(world, path, data)

        return f"{len(late)} late slices", step

    def _move(self) -> tuple[str, Action]:
        path, to = self._any_slice()[0], f"DICOM/{self._chance.choice(_EXAMS)}/moved-here"
        return "move a file", lambda world: _rename(world, path, f"{to}/{Path(path).name}")

    def _rename(self) -> tuple[str, Action]:
        path = self._any_slice()[0]
        return "rename a file", lambda world: _rename(world, path, f"{path}-renamed")

    def _rename_folder(self) -> tuple[str, Action]:
        name = self._chance.choice(_EXAMS)
        return "rename an exam", lambda world: _rename(world, f"DICOM/{name}", f"DICOM/{name} (done)")

    def _trash(self) -> tuple[str, Action]:
        path, back = self._any_slice()[0], self._chance.random() < 0.5

        def step(world: FaultWorld) -> None:
            if (world.root / path).exists():
                world.scan()
                file_id = world.trash(path)
                if back:
                    world.restore(file_id)

        return "trash a file" + ", and restore it" * back, step

    def _delete(self) -> tuple[str, Action]:
        path = self._any_slice()[0]
        return "delete a file", lambda world: (world.root / path).unlink(missing_ok=True)

    def _replace(self) -> tuple[str, Action]:
        path, number, slice_number = self._any_slice()
        return "replace a slice", lambda world: _overwrite(world, path, content(number, slice_number, True))

    def _move_in(self) -> tuple[str, Action]:
        def step(world: FaultWorld) -> None:
            for path in sorted((world.root / "Elsewhere").glob("*")):
                _rename(world, f"Elsewhere/{path.name}", f"DICOM/came-{path.name}")

        return "move exams in", step

    def _mend(self) -> tuple[str, Action]:
        cut, self._cut = self._cut, []

        def step(world: FaultWorld) -> None:
            for path, data in cut:
                _overwrite(world, path, data)

        return f"mend {len(cut)} files", step

    def _copy(self) -> tuple[str, Action]:
        path, number, slice_number = self._any_slice()
        data = content(number, slice_number)
        to = f"DICOM/{self._chance.choice(_EXAMS)}/copy-of/{Path(path).name}"
        return "copy a slice", lambda world: _write(world, to, data)

    def _view(self) -> tuple[str, Action]:
        path = self._any_slice()[0]

        def step(world: FaultWorld) -> None:
            if (world.root / path).exists():
                world.scan()
                world.drive.view(world.item(path).file_id)

        return "look at a file", step

    def _edit_text(self) -> tuple[str, Action]:
        data = f"edited {self._chance.random()}".encode()
        return "edit a text", lambda world: _write(world, "DICOM/readme-first.txt", data)


def _write(world: FaultWorld, path: str, data: bytes) -> None:
    target = world.root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)


def _overwrite(world: FaultWorld, path: str, data: bytes) -> None:
    """Give a file other content, where it still is."""
    if (world.root / path).exists():
        _write(world, path, data)


def _rename(world: FaultWorld, path: str, to: str) -> None:
    if (world.root / path).exists() and not (world.root / to).exists():
        (world.root / to).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(world.root / path, world.root / to)
