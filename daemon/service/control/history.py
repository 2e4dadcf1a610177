"""The life of one file, series or folder, as `why` tells it. Reads only; ids and codes, never names."""

from __future__ import annotations

from dataclasses import asdict

from daemon.outside.ledger import FileRow, Ledger, RevisionRow, subject
from daemon.rules.lifecycle import FINAL, SeriesState
from daemon.rules.readiness import Now, Rules, readiness
from daemon.service.control.targets import Target
from daemon.service.control.views import Answer, file_link, folder_link
from daemon.steps.settle import next_set, situation_of

SERIES_SHOWN = 50
LIFE_SHOWN = 200
UNREAD_COUNTED = 100_000
"""Unread files that keep a series waiting are counted so far."""


def why(ledger: Ledger, target: Target, rules: Rules, now: Now) -> Answer:
    """Return what became of the target: ``kind`` says which of the other keys are there."""
    if target.file_id:
        return _file(ledger, target.file_id, rules, now)
    if target.series_ids:
        return {
            "kind": "series",
            "series": [
                series_life(ledger, series_id, rules, now) for series_id in target.series_ids[:SERIES_SHOWN]
            ],
            "more": max(0, len(target.series_ids) - SERIES_SHOWN),
        }
    if target.folder_id:
        return _folder(ledger, target.folder_id)
    assert target.stranger is not None
    stranger = target.stranger
    kind = "folder" if stranger.is_folder else "shortcut" if stranger.is_shortcut else "file"
    return {
        "kind": "stranger",
        "file_id": stranger.file_id,
        "link": folder_link(stranger.file_id) if stranger.is_folder else file_link(stranger.file_id),
        "what": kind,
        "trashed": stranger.trashed,
        "source_known": now.source_known,
        "feed_read_epoch_s": now.feed_read_epoch_s or None,
    }


def series_of_file(ledger: Ledger, row: FileRow) -> list[int]:
    """Return the series that the newest content of the file belongs to."""
    return ledger.history.series_of_file(row.key)


def _file(ledger: Ledger, file_id: str, rules: Rules, now: Now) -> Answer:
    row = ledger.files.get(file_id)
    assert row is not None  # targets.resolve found it
    return {
        "kind": "file",
        "file_id": file_id,
        "link": file_link(file_id),
        "folder_link": folder_link(row.parent_id),
        "head_revision_id": row.head_revision_id,
        "size_bytes": row.size_bytes,
        "state": row.state,
        "whereabouts": row.whereabouts,
        "reason": row.reason,
        "tries": row.tries,
        "waits_until_epoch_s": row.not_before_epoch_s if row.not_before_epoch_s > now.epoch_s else None,
        "held": _held(row),
        "before_it": _before_it(ledger, row),
        "life": life(ledger, file_id),
        "series": [series_life(ledger, series_id, rules, now) for series_id in series_of_file(ledger, row)],
    }


def _before_it(ledger: Ledger, row: FileRow) -> int:
    """Return how many files are read before this one."""
    return 0 if row.state in FINAL else ledger.history.unread_before(row.file_id)


def _held(row: FileRow | RevisionRow) -> Answer | None:
    if not row.held_code:
        return None
    return {"code": row.held_code, "remedy": row.held_remedy, "since_epoch_s": row.held_since_epoch_s}


def life(ledger: Ledger, of: str) -> list[Answer]:
    """Return what happened to a file (its id) or a series (`subject`), the last `LIFE_SHOWN` lines in order."""
    return [
        {"at_epoch_s": line.at_epoch_s, "revision": line.n, "event": line.event, "detail": line.detail}
        for line in ledger.history.events(of, LIFE_SHOWN)
    ]


def series_life(ledger: Ledger, series_id: int, rules: Rules, now: Now) -> Answer:
    """Return where a series stands, what it waits for, and what was delivered of it."""
    series = ledger.series.get(series_id)
    newest = ledger.revisions.newest(series_id)
    delivered = ledger.revisions.get(series_id, series.delivered_n) if series.delivered_n else None
    counts = ledger.history.instances(series_id)
    return {
        "series_instance_uid": series.series_instance_uid,
        "study_instance_uid": series.study_instance_uid,
        "instances": counts.instances,
        "present": counts.present,
        "state": newest.state if newest is not None else None,
        "revision": newest.n if newest is not None else 0,
        "reason": newest.reason if newest is not None else "",
        "tries": newest.tries if newest is not None else 0,
        "held": _held(newest) if newest is not None and newest.state is not SeriesState.SUPERSEDED else None,
        "waits_until_epoch_s": newest.not_before_epoch_s
        if newest is not None and newest.not_before_epoch_s > now.epoch_s
        else None,
        "readiness": _readiness(ledger, newest, rules, now),
        "wanted": series.rebuild_requested,
        "revisions": [_revision(ledger, row) for row in ledger.revisions.all(series_id)],
        "delivery": None if delivered is None else _delivery(ledger, series.delivery_folder_id, delivered),
        "life": life(ledger, subject(series_id)),
    }


def _revision(ledger: Ledger, row: RevisionRow) -> Answer:
    counts = ledger.history.inputs(row.key)
    return {
        "revision": row.n,
        "state": row.state,
        "reason": row.reason,
        "deliberate": row.is_rebuild,
        "made_at": row.made_at,
        "inputs": counts.inputs,
        "dropped": dict(counts.dropped),
    }


def _delivery(ledger: Ledger, folder_id: str, row: RevisionRow) -> Answer:
    verdict = row.facts.get("verdict", {})
    return {
        "folder_id": folder_id,
        "link": folder_link(folder_id),
        "revision": row.n,
        "made_at": row.made_at,
        "results": len(ledger.deliveries.results(*row.key)),
        "usable": verdict.get("usable", ""),
        "codes": list(verdict.get("codes", [])),
        "sentences": list(verdict.get("sentences", [])),
        "volumes": [
            {"role": volume.get("role", ""), "shape": list(volume.get("shape", []))}
            for volume in row.facts.get("volumes", [])
        ],
    }


def _folder(ledger: Ledger, folder_id: str) -> Answer:
    lines, more = ledger.history.series_of_folder(folder_id, SERIES_SHOWN)
    return {
        "kind": "folder",
        "folder_id": folder_id,
        "link": folder_link(folder_id),
        "files": ledger.history.files_of_folder(folder_id),
        "series": [
            {
                "series_instance_uid": line.series_instance_uid,
                "revision": line.n,
                "state": line.state,
                "held_code": line.held_code,
                "link": folder_link(line.delivery_folder_id) if line.delivered_n else "",
            }
            for line in lines
        ],
        "more": more,
    }


# ── what a gathering series waits for ────────────────────────────────────────────────────────────────────────────


def _readiness(ledger: Ledger, revision: RevisionRow | None, rules: Rules, now: Now) -> Answer | None:
    """Return settling's own answer for a revision that gathers; None for any other."""
    if revision is None or revision.state is not SeriesState.GATHERING:
        return None
    found = next_set(ledger, revision.series_id, is_rebuild=revision.is_rebuild)
    situation = situation_of(ledger, revision, found, rules, now, count_at_most=UNREAD_COUNTED)
    return asdict(readiness(situation, rules, now))
