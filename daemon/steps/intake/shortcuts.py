"""Shortcuts of the source: what they stand for counts as lying where they lie."""

from __future__ import annotations

from daemon.outside.drive.client import Drive
from daemon.outside.ledger import Ledger, Shortcut, Whereabouts
from daemon.rules.codes import IgnoreReason
from daemon.rules.errors import Refused, Scope
from daemon.rules.markers import is_made_by_service
from daemon.rules.model import File
from daemon.steps.intake.observations import Left, Observation, Present, ShortcutGone
from daemon.steps.tree import Tree


def target_of(drive: Drive, shortcut: Shortcut) -> File | None:
    """Return what a shortcut stands for; None where that is gone, trashed, or not visible to this account."""
    try:
        target = drive.get(shortcut.target_id)
    except Refused as exc:
        if exc.scope is not Scope.ITEM:
            raise
        return None
    return None if target.trashed else target


def observe_target(tree: Tree, shortcut: Shortcut, target: File) -> Present | None:
    """Return a target that is a file as lying in the source; None where it is no input."""
    climb = tree.locate(target)
    if climb.whereabouts is not Whereabouts.PRESENT:
        climb = tree.climb(shortcut.parent_id)
    if climb.whereabouts is not Whereabouts.PRESENT or target.is_shortcut or is_made_by_service(target):
        return None
    return Present(target, climb.place, "" if target.is_blob else IgnoreReason.GOOGLE_DOC)


def split_targets(ledger: Ledger, left: list[Left]) -> tuple[list[Observation], list[str]]:
    """Split files that left into those that surely did, and the ids of those that a shortcut may still hold."""
    ask = [observation.file_id for observation in left if ledger.crawls.shortcuts_to(observation.file_id)]
    return [observation for observation in left if observation.file_id not in ask], ask


def gone_shortcuts(ledger: Ledger, tree: Tree) -> list[Observation]:
    """Return the known shortcuts whose folder is not in the source any more."""
    return [
        ShortcutGone(shortcut_id)
        for parent_id in ledger.crawls.shortcut_parents()
        if tree.climb(parent_id).whereabouts is not Whereabouts.PRESENT
        for shortcut_id in ledger.crawls.shortcuts_in(parent_id)
    ]
