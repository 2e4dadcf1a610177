"""The configured folders, found on Drive: source, output, and where staging lies. Decided at start, by id."""

from __future__ import annotations

from loguru import logger

from daemon.outside.cache import Cache
from daemon.outside.clock import Clock
from daemon.outside.drive.client import Drive
from daemon.outside.ledger import Ledger
from daemon.rules.codes import Code
from daemon.rules.config import FolderRef, Settings
from daemon.rules.errors import NotThere, Refused, Scope, Transient
from daemon.rules.model import File
from daemon.steps.tree import Places, cached_folder

_DEPTH_AT_MOST = 100  # Drive allows no deeper folders
_MADE = "output-made"
_MADE_TTL_S = 86_400.0
"""Searches lag by minutes; by then every one shows the folder."""
_CLOSED = frozenset({Code.NO_PERMISSION, Code.FORBIDDEN, Code.TOO_DEEP})
"""Codes of folders that Drive does not let us use: a person must act, as with those that we find wrong ourselves."""


class Unusable(Refused):
    """A configured folder cannot be used: at start the program ends with 69."""

    def __init__(self, code: Code, what: str, remedy: str | None = None) -> None:
        super().__init__(code, what, remedy=remedy, scope=Scope.SERVICE)


def resolve(drive: Drive, ledger: Ledger, cache: Cache, settings: Settings, clock: Clock) -> Places:
    """Find the folders; make the output folder when it is missing.

    A path that was resolved before is taken from the ledger by id: searches lag, and people rename folders.

    Raises:
        Unusable: `SOURCE_MISSING`, `OUTPUT_INSIDE_SOURCE`, `OUTPUT_NOT_WRITABLE` …, with a remedy.
        Transient: `CHANGED_MEANWHILE`: look again.
    """
    try:
        return _resolve(drive, ledger, cache, settings, clock)
    except NotThere as exc:
        # A folder that was found a moment ago: the next look finds it, or says what is missing.
        raise Transient(Code.CHANGED_MEANWHILE, "a folder on the way to source or output is gone") from exc
    except Refused as exc:
        if exc.code not in _CLOSED:
            raise
        raise Unusable(exc.code, exc.what, exc.remedy) from exc


def _resolve(drive: Drive, ledger: Ledger, cache: Cache, settings: Settings, clock: Clock) -> Places:
    source = find_source(drive, ledger, settings)
    # Where a search was late, the first listing of the source shows nothing, and Drive is asked for the folder itself.
    cache.remember_folder(cached_folder(source))
    output, is_new = known(drive, ledger, "output", settings.drive.output), False
    if output is None:
        output, is_new = _find_output(drive, ledger, cache, settings.drive.output, clock)
    check_output(drive, source, output)
    staging_parent_id = ledger.meta(f"staging_parent:{output.file_id}") or _staging_parent(drive, output)
    with ledger.write():
        _remember(ledger, "source", settings.drive.source, source)
        _remember(ledger, "output", settings.drive.output, output)
        ledger.set_meta(f"staging_parent:{output.file_id}", staging_parent_id)
    return Places(source.file_id, output.file_id, staging_parent_id, output_is_new=is_new)


def find_source(drive: Drive, ledger: Ledger | None, settings: Settings) -> File:
    """Return the source folder.

    Raises:
        Unusable: `SOURCE_MISSING`, `SOURCE_AMBIGUOUS`, `NOT_A_FOLDER`.
    """
    reference = settings.drive.source
    before = known(drive, ledger, "source", reference) if ledger is not None else None
    if before is not None:
        return before
    found = find_folder(drive, reference, "source")
    if found is None:
        raise Unusable(Code.SOURCE_MISSING, "the source folder does not exist, or this account cannot see it")
    return found


def find_folder(drive: Drive, reference: FolderRef, key: str) -> File | None:
    """Return the folder that a configuration value names, None when there is none.

    Raises:
        Unusable: several folders bear the name, or it is no folder.
    """
    if reference.kind == "id":
        try:
            return _folder(drive.get(reference.value), key)
        except NotThere:
            return None
    found, missing = _walk(drive, reference, key)
    if missing:
        return None
    return found if found is not None else drive.get(drive.root_id())


def _walk(drive: Drive, reference: FolderRef, key: str) -> tuple[File | None, list[str]]:
    """Return the last folder on the way that is there (None: the root), and the names that are missing after it."""
    names = [name for name in reference.value.split("/") if name]
    found: File | None = None
    for depth, name in enumerate(names):
        here = drive.root_id() if found is None else found.file_id
        candidates = drive.find_child(here, name)
        if not candidates and depth == 0:
            candidates = drive.find_shared(name)
        if len(candidates) > 1:
            raise Unusable(
                Code.SOURCE_AMBIGUOUS if key == "source" else Code.OUTPUT_AMBIGUOUS,
                f"{len(candidates)} folders match drive.{key}: {', '.join(c.file_id for c in candidates)}",
                f'Name one by its id: drive.{key} = "id:…"',
            )
        if not candidates:
            return found, names[depth:]
        found = candidates[0]
    return found, []


def _folder(file: File, key: str) -> File:
    if not file.is_folder or file.trashed:
        raise Unusable(
            Code.NOT_A_FOLDER,
            f"drive.{key} names {file.file_id}, which is {'in the trash' if file.trashed else 'no folder'}",
            f"Correct drive.{key}, or restore the folder",
        )
    return file


def known(drive: Drive, ledger: Ledger, key: str, reference: FolderRef) -> File | None:
    """Return the folder that this very reference was resolved to before, unless it is gone since."""
    if ledger.meta(f"{key}_ref") != f"{reference.kind}:{reference.value}":
        return None
    try:
        file = drive.get(ledger.meta(f"{key}_id"))
    except NotThere:
        return None
    return None if file.trashed else file


def _remember(ledger: Ledger, key: str, reference: FolderRef, file: File) -> None:
    ledger.set_meta(f"{key}_ref", f"{reference.kind}:{reference.value}")
    ledger.set_meta(f"{key}_id", file.file_id)


def _find_output(
    drive: Drive, ledger: Ledger, cache: Cache, reference: FolderRef, clock: Clock
) -> tuple[File, bool]:
    """Return the output folder, and whether it is new: made for this start, and never used."""
    if reference.kind == "id":
        found = find_folder(drive, reference, "output")
        if found is None:
            raise Unusable(
                Code.OUTPUT_MISSING,
                f"the output folder {reference.value} does not exist, or this account cannot see it",
            )
        return found, False
    found, missing = _walk(drive, reference, "output")
    if not missing:
        return found or drive.get(drive.root_id()), False
    if (made := _made_lately(drive, cache, reference)) is not None:
        return made, False
    is_new = False
    for name in missing:
        # The first one is not there, as was seen just now, and the others can only lie in it.
        here = drive.root_id() if found is None else found.file_id
        found, is_new = _make(drive, ledger, here, name, clock)
    assert found is not None
    cache.put(_MADE, f"{drive.drive_id}:{reference.value}", found.file_id, _MADE_TTL_S)
    return found, is_new


def _made_lately(drive: Drive, cache: Cache, reference: FolderRef) -> File | None:
    """Return the output folder that was made before the ledger was lost, and that no search shows yet.

    Beside a second one everything would be delivered once more.
    """
    folder_id = cache.get(_MADE, f"{drive.drive_id}:{reference.value}")
    if not isinstance(folder_id, str):
        return None
    try:
        file = drive.get(folder_id)
    except NotThere:
        return None
    return file if file.is_folder and not file.trashed else None


def _make(drive: Drive, ledger: Ledger, parent_id: str, name: str, clock: Clock) -> tuple[File, bool]:
    """Make one folder of the output path under a reserved id: a repeated start finds it, not a second one.

    Returns:
        The folder, and whether it was not in use before; False where a late search had hidden one that was.
    """
    deliveries = ledger.deliveries
    if deliveries.pooled_ids(clock.now() - 86_400) == 0:
        deliveries.add_to_pool(drive.generate_ids(10), clock.now())
    folder = deliveries.made_item(parent_id, f"output:{name}")
    logger.info("Making a folder of the output path: {}", folder.item_id)
    try:
        made = drive.create_folder(file_id=folder.item_id, name=name, parent_id=parent_id, properties={})
    except Refused as exc:
        if exc.code == Code.ID_REFUSED:
            # It had grown too old: the next start takes another one, and would meet this one for ever.
            deliveries.forget_item(folder.item_id)
            raise Transient(exc.code, exc.what) from exc
        raise
    if made.trashed:
        # A person threw the earlier one away: the id is used up, the next call takes another.
        deliveries.forget_item(folder.item_id)
        return _make(drive, ledger, parent_id, name, clock)
    deliveries.mark_made(folder.item_id)
    return made, not folder.made


def check_output(drive: Drive, source: File, output: File) -> None:
    """Make sure that results cannot become input, and that they can be written.

    Raises:
        Unusable: `OUTPUT_INSIDE_SOURCE`, `OUTPUT_NOT_WRITABLE`.
    """
    here: File | None = output
    for _ in range(_DEPTH_AT_MOST):
        if here is None:
            break
        if here.file_id == source.file_id:
            raise Unusable(
                Code.OUTPUT_INSIDE_SOURCE,
                f"the output folder {output.file_id} lies in the source folder {source.file_id}",
            )
        here = _parent(drive, here)
    if not output.can_add_children:
        raise Unusable(
            Code.OUTPUT_NOT_WRITABLE, f"this account cannot write into the output folder {output.file_id}"
        )


def _parent(drive: Drive, file: File) -> File | None:
    if drive.root is not None and drive.root.file_id in file.parents:
        return drive.root
    try:
        return drive.get(file.parents[0]) if file.parents else None
    except NotThere:
        return None


def _staging_parent(drive: Drive, output: File) -> str:
    """Return where staging lies: beside the output folder on the same drive, or in it where that cannot be."""
    parent = _parent(drive, output)
    if parent is not None and parent.can_add_children and parent.drive_id == output.drive_id:
        return parent.file_id
    return output.file_id
