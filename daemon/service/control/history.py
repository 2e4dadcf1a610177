"""The life of one file, series or folder, as `why` tells it. Reads only; ids and codes, never names."""

from __future__ import annotations

from dataclasses import asdict

from daemon.outside.ledger import FileRow, Ledger, RevisionRow, subject
from daemon.rules.lifecycle import SeriesState
from daemon.rules.readiness import Now, Rules, readiness
from daemon.service.control.targets import Target
from daemon.service.control.views import Answer, file_link, folder_link, rows_of
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
    return [
        found[0]
        for found in ledger.database.rows(
            "SELECT DISTINCT series_id FROM instance WHERE file_id = ? AND head_revision_id = ? ORDER BY 1",
            row.key,
        )
    ]


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
    if row.state not in ("SEEN", "FETCHED"):
        return 0
    return int(
        ledger.database.value(
            "SELECT count(*) FROM file a JOIN file b ON b.file_id = ? AND b.current = 1 WHERE a.current = 1"
            " AND a.state IN ('SEEN', 'FETCHED') AND a.whereabouts = 'PRESENT' AND a.held_code = ''"
            " AND (a.exam_rank, a.folder_rank, a.rank) < (b.exam_rank, b.folder_rank, b.rank)",
            (row.file_id,),
        )
    )


def _held(row: FileRow | RevisionRow) -> Answer | None:
    if not row.held_code:
        return None
    return {"code": row.held_code, "remedy": row.held_remedy, "since_epoch_s": row.held_since_epoch_s}


def life(ledger: Ledger, of: str) -> list[Answer]:
    """Return what happened to a file (its id) or a series (`subject`), the last `LIFE_SHOWN` lines in order."""
    rows = ledger.database.rows(
        "SELECT at_epoch_s, n, event, detail FROM life WHERE subject = ? ORDER BY rowid DESC LIMIT ?",
        (of, LIFE_SHOWN),
    )
    return [
        {"at_epoch_s": row[0], "revision": row[1], "event": row[2], "detail": row[3]}
        for row in reversed(rows)
    ]


def series_life(ledger: Ledger, series_id: int, rules: Rules, now: Now) -> Answer:
    """Return where a series stands, what it waits for, and what was delivered of it."""
    series = ledger.series.get(series_id)
    newest = ledger.revisions.newest(series_id)
    delivered = ledger.revisions.get(series_id, series.delivered_n) if series.delivered_n else None
    facts = ledger.series.facts_of(series_id)
    return {
        "series_instance_uid": series.series_instance_uid,
        "study_instance_uid": series.study_instance_uid,
        "instances": facts["instances"],
        "present": facts["present"],
        "state": newest.state if newest is not None else None,
        "revision": newest.n if newest is not None else 0,
        "reason": newest.reason if newest is not None else "",
        "tries": newest.tries if newest is not None else 0,
        "held": _held(newest) if newest is not None and newest.state is not SeriesState.SUPERSEDED else None,
        "waits_until_epoch_s": newest.not_before_epoch_s
        if newest is not None and newest.not_before_epoch_s > now.epoch_s
        else None,
        "readiness": _readiness(ledger, newest, rules, now),
        "wanted": series.wanted,
        "revisions": [_revision(ledger, row) for row in ledger.revisions.all(series_id)],
        "delivery": None if delivered is None else _delivery(ledger, series.delivery_folder_id, delivered),
        "life": life(ledger, subject(series_id)),
    }


def _revision(ledger: Ledger, row: RevisionRow) -> Answer:
    counts = ledger.database.rows(
        "SELECT dropped, count(*) FROM revision_input WHERE series_id = ? AND n = ? GROUP BY dropped", row.key
    )
    return {
        "revision": row.n,
        "state": row.state,
        "reason": row.reason,
        "deliberate": row.deliberate,
        "made_at": row.made_at,
        "inputs": sum(count for _, count in counts),
        "dropped": {reason: count for reason, count in counts if reason},
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
    where = "f.current = 1 AND (f.parent_id = ? OR f.exam_folder_id = ?)"
    both = (folder_id, folder_id)
    states = ledger.database.rows(
        "SELECT CASE WHEN f.held_code != '' THEN 'held ' || f.held_code WHEN f.whereabouts != 'PRESENT'"
        " THEN f.whereabouts WHEN f.state = 'IGNORED' THEN 'IGNORED ' || f.reason ELSE f.state END, count(*)"
        f" FROM file f WHERE {where} GROUP BY 1 ORDER BY 1",
        both,
    )
    found = [
        row[0]
        for row in ledger.database.rows(
            f"SELECT DISTINCT i.series_id FROM file f JOIN instance i USING (file_id, head_revision_id) WHERE {where}",
            both,
        )
    ]
    shown = found[:SERIES_SHOWN]
    rows = ledger.database.rows(
        "SELECT s.series_instance_uid, r.n, r.state, r.held_code, s.delivered_n, s.delivery_folder_id FROM revision r"
        f" JOIN series s USING (series_id) WHERE r.series_id IN ({rows_of(shown)})"
        " AND r.n = (SELECT max(n) FROM revision WHERE series_id = r.series_id) ORDER BY r.series_id",
        shown,
    )
    return {
        "kind": "folder",
        "folder_id": folder_id,
        "link": folder_link(folder_id),
        "files": {row[0]: row[1] for row in states},
        "series": [
            {
                "series_instance_uid": row["series_instance_uid"],
                "revision": row["n"],
                "state": row["state"],
                "held_code": row["held_code"],
                "link": folder_link(row["delivery_folder_id"]) if row["delivered_n"] else "",
            }
            for row in rows
        ],
        "more": len(found) - len(shown),
    }


# ── what a gathering series waits for ────────────────────────────────────────────────────────────────────────────


def _readiness(ledger: Ledger, revision: RevisionRow | None, rules: Rules, now: Now) -> Answer | None:
    """Return settling's own answer for a revision that gathers; None for any other."""
    if revision is None or revision.state is not SeriesState.GATHERING:
        return None
    found = next_set(ledger, revision.series_id, is_rebuild=revision.deliberate)
    situation = situation_of(ledger, revision, found, rules, now, count_at_most=UNREAD_COUNTED)
    return asdict(readiness(situation, rules, now))
