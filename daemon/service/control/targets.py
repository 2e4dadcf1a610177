"""What a person named on the command line (id, address, path, UID), found in the ledger or on Drive. Reads only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

from daemon.outside.ledger import Ledger
from daemon.rules.errors import NotThere
from daemon.rules.model import File
from daemon.service.control.errors import UnknownTarget

_UID = re.compile(r"[0-2](\.\d+)+")
_ID = re.compile(r"[A-Za-z0-9_-]{10,}")
_HOW = "Give a Drive id, the address of a file or folder, a path on Drive, or a UID"


class Lookup(Protocol):
    """What of Drive is needed to follow a path."""

    def get(self, file_id: str) -> File: ...

    def root_id(self) -> str: ...

    def find_child(self, parent_id: str, name: str, folders_only: bool = True) -> tuple[File, ...]: ...

    def find_shared(self, name: str) -> tuple[File, ...]: ...


@dataclass(frozen=True, slots=True)
class Target:
    """What was meant: exactly one of a file (`file_id`), series (`series_ids`), a folder of the source (`folder_id`).

    `unknown` is what Drive shows of something that the ledger does not know.
    """

    file_id: str = ""
    series_ids: tuple[int, ...] = ()
    folder_id: str = ""
    unknown: File | None = None


def is_uid(text: str) -> bool:
    """Whether the text is a DICOM UID."""
    return _UID.fullmatch(text.strip()) is not None


def resolve(text: str, ledger: Ledger, drive: Lookup | None, source_id: str) -> Target:
    """Return what the text means.

    Args:
        drive: None: only what the ledger knows can be found, no path.
        source_id: paths are looked up from the root, then from this folder.
    Raises:
        UnknownTarget: nothing, or several things, bear this name; the text says which ids.
    """
    text = text.strip()
    if is_uid(text):
        return _by_uid(text, ledger)
    file_id = _id_of(text)
    if file_id:
        found = _by_id(file_id, ledger)
        if found is not None:
            return found
        if drive is not None:
            try:
                return _of(drive.get(file_id), ledger)
            except NotThere:
                pass
        if "/" in text or text.startswith("id:"):
            raise UnknownTarget(
                f"{file_id} is unknown to the ledger and to Drive",
                "Check the id, and that the account may see it",
            )
    if drive is None:
        raise UnknownTarget(
            "the ledger does not know this id or UID", f"{_HOW}. Paths can only be looked up on Drive"
        )
    return _of(_by_path(text, drive, source_id), ledger)


def _id_of(text: str) -> str:
    """Return the Drive id that the text is or holds; empty when it can only be a path."""
    if text.startswith("id:"):
        return text[3:].strip()
    if re.match(r"(https?://)?(drive|docs)\.google\.com/", text, re.IGNORECASE):
        url = urlsplit(text if "://" in text else f"https://{text}")
        steps = [step for step in url.path.split("/") if step]
        for marker in ("folders", "d"):
            if marker in steps[:-1]:
                return steps[steps.index(marker) + 1]
        ids = parse_qs(url.query).get("id")
        if ids:
            return ids[0]
        raise UnknownTarget("this Google Drive address contains no id of a file or folder", _HOW)
    return text if _ID.fullmatch(text) else ""


def _by_uid(uid: str, ledger: Ledger) -> Target:
    if series := ledger.series.by_uid(uid):
        return Target(series_ids=tuple(row.series_id for row in series))
    if of_study := ledger.history.series_of_study(uid):
        return Target(series_ids=tuple(of_study))
    found = ledger.history.with_sop_instance_uid(uid)
    if len({file_id for file_id, _ in found}) == 1:
        return Target(file_id=found[0][0])
    if found:
        return Target(series_ids=tuple(sorted({series_id for _, series_id in found})))
    raise UnknownTarget(
        f"no file with the UID {uid} has been read",
        "Its file may still wait to be read: sdd-dicom status shows how many do",
    )


def _by_id(file_id: str, ledger: Ledger) -> Target | None:
    if ledger.files.get(file_id) is not None:
        return Target(file_id=file_id)
    if found := ledger.history.series_with(file_id):
        return Target(series_ids=tuple(found))
    if ledger.crawls.listed_under(file_id):
        return Target(folder_id=file_id)
    return None


def _of(file: File, ledger: Ledger) -> Target:
    if file.is_shortcut and file.shortcut_target_id:
        return _by_id(file.shortcut_target_id, ledger) or Target(unknown=file)
    return _by_id(file.file_id, ledger) or Target(unknown=file)


def _by_path(text: str, drive: Lookup, source_id: str) -> File:
    names = [name for name in text.split("/") if name not in ("", ".")]
    if not names:
        raise UnknownTarget("the path is empty", _HOW)
    starts = [drive.root_id(), source_id] if source_id else [drive.root_id()]
    for start_id in dict.fromkeys(starts):
        if found := _walk(names, drive, start_id):
            return found
    if shared := [file for file in drive.find_shared(names[0]) if file.is_folder or len(names) == 1]:
        found = _one(shared) if len(names) == 1 else _walk(names[1:], drive, _one(shared).file_id)
        if found:
            return found
    raise UnknownTarget(
        "nothing on Drive has this path", f"{_HOW}. A path starts at the root or at the source folder"
    )


def _walk(names: list[str], drive: Lookup, start_id: str) -> File | None:
    here, found = start_id, None
    for depth, name in enumerate(names, start=1):
        children = drive.find_child(here, name, folders_only=depth < len(names))
        if not children:
            return None
        found = _one(list(children))
        here = found.file_id
    return found


def _one(files: list[File]) -> File:
    if len(files) > 1:
        ids = " ".join(sorted(file.file_id for file in files))
        raise UnknownTarget(f"{len(files)} items have this name: {ids}", "Give the id of one of them")
    return files[0]
