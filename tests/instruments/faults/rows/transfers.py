"""Rows 12 to 20: bytes that go up or come down while Drive, the line or people get in between."""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.instruments.faults.engine import Plan
from tests.instruments.faults.images import image_of, slices_of
from tests.instruments.faults.rows.parts import (
    CHUNK_BYTES,
    CHUNKS,
    HEAD,
    double_chunks,
    row,
    small,
    small_chunks,
    wide,
)
from tests.instruments.faults.world import Action, FaultWorld
from tests.support.phantom import slice_of

NOTHING: frozenset[str] = frozenset()
"""What may be held in the end, where all must come through."""
RESULTS = 4
"""Of `small`: a volume, its sidecar, the preview, the manifest."""
RESTS = 4
"""A run ends when the next try is more than a minute away: the last four of an item's eight tries need a run each."""
Rule = dict[str, Any]


def _small(*faults: Rule, **more: Any) -> Plan:
    return Plan(fill=small, faults=faults, **{"holds": NOTHING, **more})


def _wide(*faults: Rule, **more: Any) -> Plan:
    """Everything goes in chunks; without a preview the volume is all that is large."""
    usual = {"holds": NOTHING, "config": {"results.preview": False}, "always": small_chunks}
    return Plan(fill=wide, faults=faults, **{**usual, **more})


# ── 12 to 16: uploads ────────────────────────────────────────────────────────────────────────────────────────────


def _answer_lost(chance: random.Random, seed: int) -> Plan:
    """Drive makes a result or a folder, and the line breaks."""
    lost: Rule = {"action": "cut_after", "times": chance.randint(1, 2)}
    if seed % 3 == 0:
        return _small({**lost, "kind": "upload", "after": chance.randint(0, RESULTS - 1)})
    if seed % 3 == 1:
        return _small({**lost, "kind": "create", "after": chance.randint(0, 4)})
    # The start of the session, a chunk, the last chunk, which makes the file.
    start = {**lost, "kind": "upload", "path": "uploadType=resumable"}
    chunk = {**lost, "kind": "upload_chunk", "after": chance.choice([0, 2, CHUNKS - 1])}
    return _wide(chance.choice([start, chunk]))


def _busy(chance: random.Random, seed: int) -> Plan:
    """Drive has no time, or does it and says that it had none."""
    status = chance.choice([500, 502, 503, 429, 403])
    busy: Rule = {
        "action": "rate_limit" if status == 403 else "status",
        "times": chance.randint(1, 4),
        "retry_after": chance.choice(["", "", "2"]),
        "body": chance.choice(["json", "details", "empty"]) if status != 403 else "json",
    }
    if status != 403:
        busy["status"] = status
    if seed % 3 == 0:
        return _wide({**busy, "kind": "upload_chunk", "after": chance.randint(0, CHUNKS - 1)})
    if seed % 3 == 1:
        return _small({**busy, "kind": "upload", "after": chance.randint(0, RESULTS - 1)})
    done = {"action": "status_after", "status": 503, "times": chance.randint(1, 4), "kind": "upload_chunk"}
    return _wide({**done, "after": chance.randint(0, CHUNKS - 1)})


def _logged_out(chance: random.Random, seed: int) -> Plan:
    """All access tokens end in the middle; only a refresh helps."""
    out: Rule = {"action": "unauthorized", "times": chance.randint(1, 2)}
    kind = ("upload_chunk", "download")[seed % 2]

    def few_refreshes(world: FaultWorld) -> Sequence[str]:
        refreshed = sum(entry["path"] == "/token" for entry in world.drive.every_request())
        # One for each refused request, one for the login that the run began with.
        most = 1 + len(world.runs) + sum("fault" in entry for entry in world.requests())
        return () if refreshed <= most else (f"other: {refreshed} refreshes",)

    return _wide(
        {**out, "kind": kind, "after": chance.randint(1, CHUNKS - 1)},
        drive={"auth": "oauth"},
        judge=few_refreshes,
    )


def _session_refused(chance: random.Random, seed: int) -> Plan:
    """404, 410 and every other 4xx: a new session for the same file."""
    at = {"kind": "upload_chunk", "after": chance.randint(1, CHUNKS - 1)}
    if seed % 3 == 0:
        return _wide({"action": "session_lost", "status": 404, **at})
    if seed % 3 == 1:
        return _wide({"action": "session_lost", "status": 410, **at})
    refused = {"action": "status", "status": chance.choice([400, 403, 412, 422]), "reason": "badRequest"}
    return _wide({**refused, **at})


def _session_goes_back(chance: random.Random, seed: int) -> Plan:
    """Less than was sent is kept; nothing is (no Range); half of what was confirmed is gone."""
    back: Rule = (
        {"action": "session_short", "keep_bytes": CHUNK_BYTES},
        {"action": "session_backwards", "keep_bytes": 0},
        {"action": "session_backwards", "keep_bytes": -1},
    )[seed % 3]
    # Three chunks of 512 KiB; the last one may be the one that is not kept.
    return _wide({**back, "after": chance.randint(0, 2), "times": chance.randint(1, 2)}, always=double_chunks)


# ── 17: an id that somebody else has ─────────────────────────────────────────────────────────────────────────────


def _id_taken(chance: random.Random, seed: int) -> Plan:
    """409, and what has the id differs, is in the trash, lies elsewhere, or is just what was to be made."""
    how = ("differs", "trashed", "moved", "same")[seed % 4]
    taken: Rule = {
        "action": "id_taken",
        "how": how,
        "kind": "upload",
        "after": chance.randint(0, RESULTS - 1),
    }

    def never_touched(world: FaultWorld) -> Sequence[str]:
        """What became somebody else's under our id is let be, but for its folder in staging, which is trashed."""
        theirs = {effect["file_id"] for effect in world.drive.history() if effect["source"] == "people"}
        return [
            f"other: {effect['op']} of {effect['file_id']}, which people had changed"
            for effect in world.drive.history()
            if effect["file_id"] in theirs and effect["source"] == "api" and effect["op"] not in ("create",)
        ]

    return _small(taken, judge=never_touched)


# ── 18 to 20: downloads ──────────────────────────────────────────────────────────────────────────────────────────


def _cut_short(chance: random.Random, seed: int) -> Plan:
    """(a) short with length, (b) short without, (c) a page of HTML, (d) the whole body for the second chunk."""
    at: Rule = {"kind": "download", "times": chance.randint(1, 3), "after": chance.randint(0, 3)}
    keep_bytes = chance.choice([0, 1, 500, 2000])
    cut: Rule = (
        chance.choice(
            [
                {"action": "short", "framing": "length", "keep_bytes": keep_bytes},
                {"action": "truncate", "keep_bytes": keep_bytes},
                {"action": "cut_body", "keep_bytes": keep_bytes},
            ]
        ),
        {"action": "short", "framing": chance.choice(["chunked", "close"]), "keep_bytes": keep_bytes},
        {"action": "html"},
        {"action": "ignore_range"},
    )[seed % 4]
    if seed % 4 == 3 or chance.random() < 0.3:
        return _wide({**cut, **at}, judge=_made_of_what_it_says)
    return _small({**cut, **at}, judge=_made_of_what_it_says)


def _flipped(chance: random.Random, seed: int) -> Plan:
    """One bit, on its way down or up: now and then, or each time, until somebody looks."""
    variant = seed % 4
    if variant in (0, 1):
        flip: Rule = {"action": ("flip_down", "flip_up")[variant], "times": chance.randint(1, 2)}
        if chance.random() < 0.5:
            return _wide({**flip, "after": chance.randint(0, CHUNKS - 1)})
        return _small({**flip, "after": chance.randint(0, RESULTS - 1)})
    action, code = (("flip_down", "MD5_MISMATCH"), ("flip_up", "FOREIGN_RESULT"))[variant - 2]
    return _small(
        {"action": action, "times": -1},
        holds=frozenset({code}),
        between=[_wait] * RESTS,
        judge=_is_held(code),
    )


def _wait(world: FaultWorld) -> None:
    """Longer than any item waits for its next try."""
    world.later(1000.0)


def _made_of_what_it_says(world: FaultWorld) -> Sequence[str]:
    """Every volume that ever went up, not only the last one, holds the pixels of the inputs in its manifest."""
    contents = list(world.contents.iterdir())
    by_sha256 = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in contents}
    wrong = []
    for path in contents:
        data = path.read_bytes()
        if not data.startswith(b"{") or b'"inputs"' not in data:
            continue
        manifest = json.loads(data)
        given = [each["md5_checksum"] for each in manifest["inputs"]]
        images = [image_of(world.contents / md5_checksum, md5_checksum) for md5_checksum in given]
        volumes = [
            by_sha256.get(each["sha256"])
            for each in manifest["results"]
            # A second volume that dcm2niix makes of uneven slices is interpolated.
            if each["name"].endswith(".nii.gz") and "_Eq" not in each["name"]
        ]
        there = [pixels for volume in volumes if volume is not None for pixels in slices_of(volume)]
        if sorted(there) != sorted(image.pixels for image in images if image is not None):
            wrong.append(f"other: revision {manifest['revision']} was made of other bytes than its inputs")
    return wrong


def _is_held(code: str) -> Any:
    def held(world: FaultWorld) -> Sequence[str]:
        ledger = sqlite3.connect(f"file:{world.state / 'ledger.sqlite3'}?mode=ro", uri=True)
        try:
            found = ledger.execute(
                "SELECT held_code FROM file UNION SELECT held_code FROM revision"
            ).fetchall()
        finally:
            ledger.close()
        return () if (code,) in found else (f"other: nothing is held {code}",)

    return held


def _replaced(chance: random.Random, seed: int) -> Plan:
    """A person puts another content under the same file while it is read: between files, or between chunks."""
    side = chance.choice(("before", "after"))
    # The feed is late: what came down would be converted before it tells.
    drive: dict[str, Any] = {"feed_lag_s": 30.0}
    if seed % 3 == 0:
        meanwhile = _once(side, chance.randint(1, HEAD.slices), _replace_slice)
        return _small(meanwhile=meanwhile, drive=drive, judge=_made_of_what_it_says)
    if seed % 3 == 2:
        # Drive does not find a revision that is young: the file itself is read then.
        drive["revision_lag_s"] = 1e6
    meanwhile = _once(side, chance.randint(1, CHUNKS), _replace_wide)
    return _wide(meanwhile=meanwhile, drive=drive, judge=_made_of_what_it_says)


def _once(side: str, number: int, act: Action) -> list[dict[str, Action]]:
    """Return what happens at that download; if a kill comes before it, at the first one of the next run."""
    done: list[bool] = []

    def first_time(world: FaultWorld) -> None:
        if not done:
            done.append(True)
            act(world)
            world.scan()
            world.note_met()

    return [{f"transmit:download:{side}#{at}": first_time} for at in (number, 1)]


def _replace_slice(world: FaultWorld) -> None:
    """Other pixels under the same UIDs: even the size is the same."""
    other = replace(
        HEAD,
        seed=7,
        study_instance_uid=HEAD.study_uid,
        series_instance_uid=HEAD.series_uid,
        frame_of_reference_uid=str(slice_of(HEAD, 1).FrameOfReferenceUID),
    )
    path = sorted((world.source / "Exam A" / "CT").iterdir())[1]
    slice_of(other, 2).save_as(path, enforce_file_format=True)


def _replace_wide(world: FaultWorld) -> None:
    wide(world.root, seed=2)


ROWS = [
    row(12, "the answer to a create is lost", _answer_lost, controls=("no-id",)),
    row(13, "503, 429 and rate limits in the middle of an upload", _busy),
    row(14, "401 in the middle of an upload or a download", _logged_out),
    row(15, "an upload session is refused half-way: 404, 410, other 4xx", _session_refused),
    row(16, "308 with less than was sent, without a Range, or going back", _session_goes_back),
    row(17, "409, and what has the id differs, is trashed, is elsewhere, or is right", _id_taken),
    row(18, "a download is cut: four ways to look whole", _cut_short, controls=("no-checksum",)),
    row(19, "a bit is flipped on the way down or up", _flipped, controls=("no-checksum",)),
    row(20, "an input is replaced while it is downloaded", _replaced, controls=("no-checksum",)),
]
