"""What to do for a delivery, decided apart from doing it: rows in, actions out; no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from daemon.outside.ledger import ResultRow
from daemon.outside.volumes.manifest import NAME as MANIFEST
from daemon.rules import markers
from daemon.rules.codes import AbandonReason
from daemon.rules.model import File


@dataclass(frozen=True, slots=True)
class Upload:
    """Make a result in staging and read it back."""

    result: ResultRow


@dataclass(frozen=True, slots=True)
class MoveIn:
    """Bring a result from staging into the visible delivery."""

    result: ResultRow


@dataclass(frozen=True, slots=True)
class Update:
    """Give a result of the visible delivery its new content, under its own id."""

    result: ResultRow


@dataclass(frozen=True, slots=True)
class Trash:
    """Take a result that no longer exists out of the delivery."""

    name: str = field(repr=False)
    file_id: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Stop counting a name as part of the delivery; what lies on Drive is not touched."""

    name: str = field(repr=False)
    file_id: str


Action = Upload | MoveIn | Update | Trash | Forget


@dataclass(frozen=True, slots=True)
class Plan:
    """How a visible delivery becomes the next revision.

    Args:
        actions: in the order in which they are to be taken. The manifest changes after every other result, so
            that until then the folder does not match it; only then results that no longer exist go.
        edited: ids of results whose content a person changed.
        gone: ids of results of the revision that a person trashed, deleted or moved out.
        right: names of results that lie in their place already, with the right content.
    """

    actions: tuple[Action, ...] = ()
    edited: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    right: tuple[str, ...] = ()


def plan_delivery(
    *,
    results: Sequence[ResultRow],
    current: Mapping[str, str],
    seen: Mapping[str, File | None],
    known_contents: Mapping[str, frozenset[str]],
    folder_id: str,
) -> Plan:
    """Return how the delivery in `folder_id` becomes `results`.

    Args:
        results: what the revision consists of, manifest included, each with its id.
        current: name → file id of the results that the delivery consists of now.
        seen: file id → what Drive says of each of these; None for a definite 404.
        known_contents: file id → md5 of every content that we ever gave it.
    """
    targets = {result.name: result for result in results}
    edited: list[str] = []
    gone: list[str] = []
    right: list[str] = []
    updates: list[Update] = []
    removals: list[Trash | Forget] = []
    for name, file_id in sorted(current.items()):
        file, target = seen[file_id], targets.get(name)
        is_there = file is not None and not file.trashed and folder_id in file.parents
        if target is not None and (file is None or not is_there):
            gone.append(file_id)
        elif file is None or not is_there:
            # We trashed it before a crash, or a person did what we were about to do.
            removals.append(Forget(name, file_id))
        elif target is not None:
            if file.md5_checksum == target.md5_checksum:
                right.append(name)
                continue
            if file.md5_checksum not in known_contents[file_id]:
                edited.append(file_id)
            updates.append(Update(target))
        elif file.md5_checksum in known_contents[file_id]:
            removals.append(Trash(name, file_id))
        else:
            edited.append(file_id)
            removals.append(Forget(name, file_id))
    new = [result for result in results if current.get(result.name) != result.file_id]
    uploads = [Upload(result) for result in new if not result.verified]
    changes: list[MoveIn | Update] = [*map(MoveIn, new), *updates]
    changes.sort(key=lambda action: action.result.name == MANIFEST)
    return Plan((*uploads, *changes, *removals), tuple(edited), tuple(gone), tuple(right))


def fault_of(file: File, result: ResultRow, *, series_tag: str, folder_id: str) -> AbandonReason | None:
    """Return why what was read back is not the result in its place; None when it is.

    Args:
        series_tag: the series' marker.
        folder_id: where it must lie; empty: anywhere.
    """
    if file.trashed:
        return AbandonReason.TRASHED
    if folder_id and folder_id not in file.parents:
        return AbandonReason.ELSEWHERE
    if (file.md5_checksum, file.size_bytes) != (result.md5_checksum, result.size_bytes):
        return AbandonReason.OTHER_CONTENT
    if (
        not markers.belongs(file.properties, series_tag)
        or file.properties.get(markers.SHA256) != result.sha256
    ):
        return AbandonReason.OTHER_MARKER
    return None


def mirrored_folder(
    instances: Mapping[str, int], chains: Mapping[str, Sequence[str]], *, source_id: str
) -> str:
    """Return the source folder that the delivery mirrors.

    The deepest folder common to all inputs; if that is the source itself, the folder with the most instances,
    of several the one with the smallest id. Inputs that lie in the source no longer do not count.

    Args:
        instances: folder id → how many instances lie directly in it.
        chains: folder id → the folder and its ancestors, the source last; empty when it is not in the source.
    """
    paths = {folder_id: chains[folder_id][::-1] for folder_id in instances if chains[folder_id]}
    if not paths:
        return source_id
    common = source_id
    for level in zip(*paths.values(), strict=False):
        if len(set(level)) > 1:
            break
        common = level[0]
    if common != source_id:
        return common
    return min(paths, key=lambda folder_id: (-instances[folder_id], folder_id))


def mirrored(chain: Sequence[str]) -> tuple[str, ...]:
    """Return the source folders to mirror, outermost first; the source itself is the output folder."""
    return tuple(chain[-2::-1]) if len(chain) > 1 else ()
