"""Commands beside a daemon that runs as a process of its own."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

import jsonschema
import pydicom

from daemon.cli.phantom import write_series
from tests.cli.conftest import CT, NAMES, House

NUMBER: dict[str, Any] = {"type": "number", "minimum": 0}
COUNTS: dict[str, Any] = {"type": "object", "additionalProperties": NUMBER}
STATUS: dict[str, Any] = {
    "type": "object",
    "required": [
        "version", "running", "pid", "uptime_s", "paused", "suspended", "files", "series", "held", "crawl", "rates",
        "time_left_s", "running_steps", "drive", "feed_age_s", "spool",
    ],
    "properties": {
        "running": {"const": True},
        "uptime_s": NUMBER,
        "files": {**COUNTS, "required": ["left", "left_bytes", "parked", "read", "ignored", "held", "total"]},
        "series": {**COUNTS, "required": ["gathering", "converting", "uploading", "delivered", "held", "deliveries"]},
        "spool": {**COUNTS, "required": ["used_bytes", "max_bytes"]},
        "time_left_s": {"type": ["number", "null"]},
        "held": {
            "type": "array",
            "items": {"type": "object", "required": ["code", "files", "series", "since_epoch_s", "remedy"]},
        },
        "drive": {"type": "object", "required": ["units_spent", "requests", "pace", "budget"]},
    },
}  # fmt: skip


def test_status_says_all_that_is_promised(running: House) -> None:
    answer = running.do("status", "--json").json

    jsonschema.validate(answer, STATUS)
    assert answer["files"] | {"left_bytes": 0} == {
        "left": 0, "left_bytes": 0, "parked": 0, "read": 5, "ignored": 1, "held": 1, "total": 7,
    }  # fmt: skip
    assert [(entry["code"], entry["files"]) for entry in answer["held"]] == [("TRUNCATED", 1)]
    assert answer["drive"]["requests"]["download"] == 7


def test_status_reads_without_colours(running: House) -> None:
    out = running.do("status").out

    assert re.search(r"sdd-dicom \S+ up \d+ ", out)
    assert "1 delivered" in out
    assert "TRUNCATED  1 file since" in out
    assert "Upload this file again" in out
    assert "\x1b" not in out


def test_the_socket_is_for_the_owner_and_a_group(running: House) -> None:
    mode = (running.home / "state" / "control.sock").stat().st_mode

    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660


def test_names_appear_only_when_asked_for(running: House) -> None:
    """`list`, `status` and `why` tell ids; a name is asked from Drive with --names."""
    series = running.do("list", "--json").json["series"][0]["series_instance_uid"]
    said = [running.do(*words).out for words in (["list"], ["list", "--json"], ["status"], ["why", series])]
    named = running.do("list", "--names").out

    assert [name for text in said for name in NAMES if name in text] == []
    assert all(name in named for name in ("IM0001.dcm", "hidden-name.txt", "SOMEBODY"))


def test_no_name_reaches_the_logs(running: House) -> None:
    logs = (running.home / "logs" / "sdd-dicom.jsonl").read_text() + (running.home / "stderr.txt").read_text()

    assert [name for name in NAMES if name in logs] == []


def test_list_filters_by_state_and_hold(running: House) -> None:
    held = running.do("list", "--held", "--json").json
    delivered = running.do("list", "--state", "delivered", "--json").json

    assert [row["held_code"] for row in held["files"]] == ["TRUNCATED"]
    assert held["series"] == []
    assert delivered["files"] == []
    assert [row["series_instance_uid"] for row in delivered["series"]] == [CT.series_uid]
    assert delivered["series"][0]["delivery_folder_id"]


def test_a_local_drive_has_paths_and_no_addresses(running: House) -> None:
    """An address on drive.google.com leads nowhere. A path holds names, so it is printed where names are asked for."""
    dicom = str(running.source / "hidden-name-mixed" / "hidden-name.dcm")
    commands = (["list"], ["list", "--json"], ["why", CT.series_uid], ["why", dicom], ["why", "DICOM"])
    plain = [running.do(*words).out for words in commands]
    listed = running.do("list", "--names", "--json").json
    [delivery] = (row["link"] for row in listed["series"])

    assert [text for text in plain if "drive.google.com" in text or str(running.home / "drive") in text] == []
    assert dicom in {row["link"] for row in listed["files"]}
    assert Path(delivery, "manifest.json").is_file()
    assert f"  {dicom}\n" in running.do("why", dicom, "--names").out
    assert f"  {delivery}\n" in running.do("why", CT.series_uid, "--names").out


def test_why_tells_a_series_life_whatever_names_it(running: House) -> None:
    """UID, file id, address, path on Drive, path on disk, delivery folder: all lead to the same series."""
    file_id = running.files(state="FILED")[0]["file_id"]
    folder_id = running.do("list", "--json").json["series"][0]["delivery_folder_id"]
    instance_uid = str(pydicom.dcmread(running.source / "hidden-name-exam" / "IM0001.dcm").SOPInstanceUID)
    targets = [
        CT.series_uid,
        CT.study_uid,
        instance_uid,
        file_id,
        f"id:{file_id}",
        f"https://drive.google.com/file/d/{file_id}/view?usp=sharing",
        f"https://drive.google.com/drive/folders/{folder_id}",
        "DICOM/hidden-name-exam/IM0001.dcm",
        "hidden-name-exam/IM0001.dcm",
        str(running.source / "hidden-name-exam" / "IM0001.dcm"),
    ]
    said = {target: running.do("why", target) for target in targets}

    assert {target: done.code for target, done in said.items()} == dict.fromkeys(targets, 0)
    for done in said.values():
        assert f"Series {CT.series_uid}" in done.out
        assert "revision 1: settled with 5 instances" in done.out
        assert "volume (primary): 32 × 32 × 5" in done.out


def test_why_tells_of_holds_ignored_files_and_folders(running: House) -> None:
    held = running.do("why", "hidden-name-mixed/hidden-name.dcm").out
    ignored = running.do("why", "hidden-name-mixed/hidden-name.txt").out
    folder = running.do("why", "DICOM/hidden-name-mixed").out

    assert "TRUNCATED" in held
    assert "What to do:" in held
    assert "It is ignored: it is not a DICOM file." in ignored
    assert "It holds 2 files:" in folder
    assert "1 held TRUNCATED" in folder


def test_why_knows_what_lies_elsewhere(running: House) -> None:
    done = running.do("why", "NIfTI")

    assert done.code == 0
    assert "The ledger does not know it" in done.out


def test_an_unknown_target_is_wrong_usage(running: House) -> None:
    for target in (
        "no/such/path",
        "1.2.3.4",
        "https://drive.google.com/file/d/1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/view",
    ):
        done = running.do("why", target)

        assert done.code == 2, done
        assert "UNKNOWN_TARGET" in done.err


def test_retry_tries_what_is_held(running: House) -> None:
    """A truncated file stays truncated, but it was looked at again."""
    for words in (
        ["--all"],
        ["--reason", "truncated"],
        ["hidden-name-mixed/hidden-name.dcm"],
        ["hidden-name-mixed"],
    ):
        running.until(lambda: bool(running.files(held_code="TRUNCATED")))
        before = running.do("why", "hidden-name-mixed/hidden-name.dcm").out.count("another try")
        done = running.do("retry", *words)

        assert done.code == 0
        assert "1 file, 0 series" in done.out
        assert running.do("why", "hidden-name-mixed/hidden-name.dcm").out.count("another try") == before + 1
    assert "Nothing to retry." in running.do("retry", "--reason", "NO_UID").out


def test_pause_and_resume(running: House) -> None:
    """While paused nothing new is read; status says who did it, and makes no promise of time."""
    assert running.do("pause").code == 0
    (running.source / "hidden-name-late.txt").write_text("late")
    status = running.do("status", "--json").json

    assert status["paused"]
    assert status["time_left_s"] is None
    assert "PAUSED" in running.do("status").out

    assert running.stop() == 0
    running.start()
    assert running.do("status", "--json").json["paused"]  # a restart is nobody's wish to go on

    assert running.do("resume").out == "Resumed.\n"
    running.until(lambda: running.status()["files"]["ignored"] == 2)
    assert running.stop() == 0
    running.start()
    assert not running.do("status", "--json").json["paused"]


def test_crawl_lists_everything_anew(running: House) -> None:
    def listings() -> int:
        return int(running.status()["drive"]["requests"].get("list", 0))

    before = listings()
    assert running.do("crawl").code == 0

    running.until(lambda: listings() > before + 2)


def test_process_builds_a_series_anew(running: House) -> None:
    done = running.do("process", "hidden-name-exam/IM0001.dcm")
    running.until(lambda: running.do("list", "--json").json["series"][0]["delivered_revision"] == 2)

    assert done.code == 0
    assert "a person asked for a rebuild" in running.do("why", CT.series_uid).out


def test_process_wants_a_series(running: House) -> None:
    assert running.do("process", "hidden-name-mixed").code == 2


def test_check_works_beside_the_daemon(running: House) -> None:
    """The daemon has the only server of the directory: it makes the probe."""
    done = running.do("check", "--json")

    assert done.code == 0, done.out
    assert {f["name"]: f["level"] for f in done.json["findings"]} == {
        "state": "ok", "logs": "ok", "ledger": "ok", "disk": "ok", "dcm2niix": "ok", "service": "note",
        "credentials": "ok", "source": "ok", "output": "ok", "write": "ok", "clock": "ok",
    }  # fmt: skip
    assert not list((running.home / "drive" / "NIfTI").glob(".sdd*"))


def test_a_second_daemon_and_a_second_drive_end_with_75(running: House) -> None:
    second = running.do("run", "--once")
    drive = running.do("drive", "serve", str(running.home / "drive"))

    assert (second.code, drive.code) == (75, 75)
    assert "LOCKED" in second.err
    assert "is served already" in drive.err


def test_why_names_the_conditions_that_are_not_met(house: House) -> None:
    """A series that gathers waits for silence; a person who asks for it does not."""
    house.configure("[series]\nquiet_s = 600\n")
    write_series(house.source / "exam", CT)
    house.start()
    house.until(lambda: "collects instances" in house.do("why", CT.series_uid).out)
    out = house.do("why", CT.series_uid).out
    status = house.status()

    assert "more (series.quiet_s)" in out
    assert (status["series"]["gathering"], status["series"]["deliveries"]) == (1, 0)
    assert house.stop() == 0
