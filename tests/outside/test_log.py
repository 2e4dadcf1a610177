"""What reaches stderr, the journal and the JSON file, and above all what does not."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from loguru import logger
from pydicom.dataset import Dataset

from daemon.outside.log import setup as log
from daemon.outside.log.file import JsonLog
from daemon.outside.log.safe import FRAMES, scrub, traceback_text
from daemon.rules.codes import Code
from daemon.rules.config.settings import Logging
from daemon.rules.config.values import Rotation
from daemon.rules.errors import Refused, Transient

NAME = "DOE^JOHNNY"


@pytest.fixture(autouse=True)
def _python_as_it_was() -> Iterator[None]:
    """`configure` takes the whole process over; the tests of other modules shall not notice."""
    root = logging.getLogger()
    kept = (root.level, list(root.handlers), logging.raiseExceptions)
    hooks = (sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning)
    yield
    log.shut_down()
    logger.configure(patcher=lambda _: None)
    root.level, root.handlers[:], logging.raiseExceptions = kept
    sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = hooks


class Output:
    """Both places a line goes to."""

    def __init__(self, directory: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.file = directory / log.FILE_NAME
        self._capture = capture
        self._stderr = ""

    def stderr(self) -> str:
        self._stderr += self._capture.readouterr().err
        return self._stderr

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()]

    def everything(self) -> str:
        return self.stderr() + self.file.read_text()


Configure = Callable[..., Output]


@pytest.fixture
def configure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Configure:
    """Set logging up with a directory of this test."""

    def set_up(*, under_systemd: bool | None = False, console: bool = True, **keys: str) -> Output:
        log.configure(Logging(**keys), tmp_path / "logs", under_systemd=under_systemd, console=console)
        return Output(tmp_path / "logs", capsys)

    return set_up


# ── lines ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_line_in_the_file_is_one_flat_object_with_its_ids(configure: Configure):
    output = configure()

    with log.about(file_id="1abc"), log.about(series_id="s7", revision=2):
        logger.bind(size_bytes=17).info("Fetched")
    logger.info("Outside")

    inside, outside = output.lines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", inside["time"])
    del inside["time"], inside["line"]
    assert inside == {
        "level": "INFO",
        "event": "Fetched",
        "module": __name__,
        "thread": "MainThread",
        "file_id": "1abc",
        "series_id": "s7",
        "revision": 2,
        "size_bytes": 17,
    }
    assert "file_id" not in outside


def test_a_person_at_a_terminal_reads_time_level_event_and_ids(configure: Configure):
    output = configure()

    with log.about(file_id="1abc", revision=3):
        logger.warning("Truncated")

    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ WARNING  Truncated \[file_id=1abc revision=3\]\n", output.stderr()
    )


def test_the_journal_gets_a_priority_on_every_line_even_of_a_traceback(configure: Configure):
    output = configure(under_systemd=True, level="TRACE")

    logger.debug("d")
    logger.info("i")
    logger.warning("w")
    logger.critical("c")
    try:
        raise ValueError
    except ValueError:
        logger.exception("e")

    lines = output.stderr().splitlines()
    assert lines[:5] == ["<7>d", "<6>i", "<4>w", "<2>c", "<3>e"]
    assert len(lines) > 5
    assert all(line.startswith("<3>") for line in lines[5:])


def test_the_journal_is_known_by_its_device_and_inode(monkeypatch: pytest.MonkeyPatch):
    """Programs started from a desktop terminal inherit the variables of a unit."""
    found = os.fstat(2)
    monkeypatch.delenv("INVOCATION_ID", raising=False)

    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    assert log.stderr_is_journal()
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino + 1}")
    assert not log.stderr_is_journal()
    monkeypatch.delenv("JOURNAL_STREAM")
    assert not log.stderr_is_journal()


def test_lines_below_the_level_go_nowhere(configure: Configure):
    output = configure(level="WARNING")

    logger.info("quiet")
    logger.warning("loud")

    assert [line["event"] for line in output.lines()] == ["loud"]
    assert "quiet" not in output.stderr()


def test_without_a_console_only_the_file_gets_lines(configure: Configure):
    output = configure(console=False)

    logger.error("x")

    assert output.stderr() == ""
    assert len(output.lines()) == 1


def test_a_text_cannot_forge_a_second_line_or_move_the_cursor(configure: Configure):
    output = configure()

    logger.info("a\n<0>forged\x1b[2J\x85b \udce9")

    assert len(output.stderr().splitlines()) == 1
    assert "\x1b" not in output.everything()
    assert output.lines()[0]["event"] == "a\\n<0>forged\\x1b[2J\\x85b \\udce9"


def test_braces_in_ids_do_not_break_a_line(configure: Configure):
    output = configure()

    with log.about(file_id="{x}<red>"):
        logger.info("{y}")

    assert (output.lines()[0]["file_id"], output.lines()[0]["event"]) == ("{x}<red>", "{y}")


def test_the_file_is_not_readable_by_everyone(configure: Configure):
    output = configure()
    logger.info("x")

    assert output.file.stat().st_mode & 0o137 == 0
    assert output.file.parent.stat().st_mode & 0o027 == 0


def test_the_group_may_read_the_file_whatever_the_umask(configure: Configure):
    """The unit's umask is 0077: all else that the service makes is for itself alone."""
    before = os.umask(0o077)
    try:
        output = configure()
        logger.info("x")
    finally:
        os.umask(before)

    assert output.file.stat().st_mode & 0o777 == 0o640


def test_a_second_configuration_replaces_the_first(configure: Configure):
    configure()
    output = configure()

    logger.info("once")
    logging.getLogger("googleapiclient").warning("%s", "x")

    assert len(output.lines()) == 2


# ── no names ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_name_in_a_warning_of_pydicom_is_withheld_and_its_tag_kept(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.WARN)
    output = configure()

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        dataset = Dataset()
        dataset.add_new(0x00080020, "DA", NAME)  # "Invalid value for VR DA: 'DOE^JOHNNY'"
        warnings.warn(f"(0010, 0020) holds {NAME}", UserWarning, stacklevel=1)

    assert NAME not in output.everything()
    events = [line["event"] for line in output.lines()]
    assert events[0].startswith("pydicom: message withheld (")
    assert events[1].startswith("UserWarning: message withheld (pydicom/")
    assert "(0010,0020)" in events[2]


@pytest.mark.parametrize(
    "name", ["pydicom", "pydicom.config", "py.warnings", "nibabel", "some.library", "root"]
)
def test_a_name_in_a_librarys_message_is_withheld(configure: Configure, name: str):
    output = configure()
    library = logging.getLogger(name)

    library.warning(f"Unknown value {NAME} for (0010,0010)")
    library.error("Bad %s", NAME)
    library.info("never below a warning: %s", NAME)
    try:
        raise ValueError(NAME)
    except ValueError:
        library.exception(f"failed for {NAME}")

    assert NAME not in output.everything()
    lines = output.lines()
    assert [(line["level"], line["module"]) for line in lines] == [
        ("WARNING", name),
        ("ERROR", name),
        ("ERROR", name),
    ]
    assert "(0010,0010)" in lines[0]["event"]
    assert lines[2]["exception"] == "ValueError"


@pytest.mark.parametrize(
    "name", ["googleapiclient.http", "google.auth.transport", "urllib3.pool", "apscheduler.x"]
)
def test_the_literal_part_of_a_known_librarys_message_is_kept(configure: Configure, name: str):
    output = configure()

    logging.getLogger(name).warning("Encountered %s after %d tries (%r)", NAME, 3, NAME)

    assert NAME not in output.everything()
    assert "Encountered … after … tries (…)" in output.lines()[0]["event"]


@pytest.mark.parametrize("name", ["googleapiclient.http", "urllib3.pool"])
def test_a_known_librarys_message_without_arguments_is_withheld_it_may_be_filled_in_already(
    configure: Configure, name: str
):
    output = configure()

    logging.getLogger(name).warning(f"name contains '{NAME}'")

    assert NAME not in output.everything()


def test_a_name_in_an_exception_is_withheld_its_type_and_frames_stay(configure: Configure):
    output = configure()
    patient = NAME  # A local variable: diagnose=True would print it.

    try:
        try:
            Path("/nonexistent", patient).read_bytes()
        except OSError as exc:
            raise KeyError(patient) from exc
    except KeyError:
        logger.exception("Bug")

    assert NAME not in output.everything()
    line = output.lines()[0]
    assert line["exception"] == "KeyError"
    assert "FileNotFoundError ENOENT" in line["traceback"]
    assert re.search(r"outside/test_log\.py:\d+ in test_a_name_in_an_exception", line["traceback"])
    assert "FileNotFoundError ENOENT" in output.stderr()


def test_names_in_a_group_of_exceptions_are_withheld(configure: Configure):
    output = configure()

    logger.opt(exception=ExceptionGroup(NAME, [ValueError(NAME), OSError(errno.ENOSPC, NAME)])).error("x")

    assert NAME not in output.everything()
    assert "holds OSError ENOSPC" in output.lines()[0]["traceback"]


def test_our_own_errors_are_told_in_full(configure: Configure):
    output = configure()

    logger.opt(exception=Refused("STORAGE_FULL", "Drive is full", remedy="Make room")).error("Held")

    assert output.lines()[0]["exception"] == "Refused: STORAGE_FULL: Drive is full — Make room"


def test_a_name_in_an_uncaught_exception_is_withheld_wherever_it_ends(configure: Configure):
    output = configure()

    class Broken:
        def __del__(self) -> None:
            raise ValueError(NAME)

    def fail() -> None:
        raise ValueError(NAME)

    # pytest catches these three itself: the hooks are those that `configure` has set.
    thread_hook, unraisable_hook = log._on_uncaught_in_thread, log._on_unraisable
    threading.excepthook, sys.unraisablehook = thread_hook, unraisable_hook
    thread = threading.Thread(target=fail, name="worker")
    thread.start()
    thread.join()
    Broken()
    try:
        fail()
    except ValueError as exc:
        sys.excepthook(ValueError, exc, exc.__traceback__)

    assert NAME not in output.everything()
    assert [(line["level"], line["exception"]) for line in output.lines()] == [
        ("CRITICAL", "ValueError"),
        ("ERROR", "ValueError"),
        ("CRITICAL", "ValueError"),
    ]


def test_a_broken_message_of_a_library_harms_nobody(configure: Configure):
    output = configure()

    class Unprintable:
        def __str__(self) -> str:
            raise ValueError(NAME)

    logging.getLogger("pydicom").warning("%d", NAME)
    logging.getLogger("pydicom").warning(Unprintable())
    logger.bind(x=Unprintable()).info("Bound")

    assert NAME not in output.everything()
    assert [line["event"].split(" ")[0] for line in output.lines()] == ["pydicom:", "A"]


def test_a_sink_that_breaks_tells_no_name_and_stops_nobody(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
):
    """loguru itself then prints the record: it must be clean before any sink sees it."""
    output = configure()

    def fail(_: object) -> bytes:
        raise RuntimeError("broken")

    monkeypatch.setattr(log, "json_line", fail)

    logger.opt(exception=ValueError(NAME)).error("Bug")

    assert "RuntimeError" in output.stderr()
    assert NAME not in output.stderr()


def test_a_handler_that_a_library_brings_along_is_taken_away(configure: Configure):
    library = logging.getLogger("pydicom.test")
    library.addHandler(logging.StreamHandler(sys.stderr))
    library.propagate = False
    output = configure()

    library.warning(f"{NAME}")

    assert NAME not in output.everything()
    assert len(output.lines()) == 1


def test_reading_a_bad_file_with_pydicom_tells_no_name(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The real path: a value that does not fit makes pydicom quote it, as a warning and as an exception."""
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.WARN)
    output = configure()
    explicit_little = b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\x00"
    series_number = b"\x20\x00\x11\x00IS\x0a\x00" + NAME.encode()
    (tmp_path / "a.dcm").write_bytes(explicit_little + series_number)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        try:
            str(pydicom.dcmread(tmp_path / "a.dcm", force=True).SeriesNumber)
        except (ValueError, TypeError):
            logger.exception("Unreadable")

    assert output.lines()
    assert NAME not in output.everything()


# ── no secrets ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("PUT https://h/upload?uploadType=resumable&upload_id=AbC-123_x&z=1", "AbC-123_x"),
        ("Authorization: Bearer abcdefghijk", "abcdefghijk"),
        ("{'authorization': 'Bearer abcdefghijk'}", "abcdefghijk"),
        ("got ya29.a0Ab_c-d", "a0Ab_c-d"),
        ("refresh 1//0abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnopqrstuvwxyz"),
        ("code 4/0abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnopqrstuvwxyz"),
        ('{"refresh_token": "s3cret", "a": 1}', "s3cret"),
        ("client_secret=s3cret&x=1", "s3cret"),
        ("jwt eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhIn0.c2ln", "eyJpc3MiOiJhIn0"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----", "MIIE"),
    ],
)
def test_tokens_and_upload_sessions_are_removed_from_whatever_is_said(
    configure: Configure, text: str, secret: str
):
    output = configure()

    logger.info("Said: {}", text)
    logger.bind(where=text).info("Bound")
    logger.opt(exception=Transient(Code.TIMEOUT, text)).warning("Raised")

    assert secret not in output.everything()
    assert output.everything().count("[removed]") >= 5


def test_ids_and_counts_are_left_alone():
    text = "File 1AbC_d-2 (md5 9e107d9d372bb6826bd81d3542a419d6) took 3.5 s; token refreshed; 1/3"

    assert scrub(text) == text


def test_a_long_traceback_is_cut_in_the_middle():
    def dig(depth: int) -> None:
        if depth == 0:
            raise ValueError
        dig(depth - 1)

    with pytest.raises(ValueError) as caught:
        dig(200)

    assert len(traceback_text(caught.value).splitlines()) == FRAMES + 2


# ── the file heals ────────────────────────────────────────────────────────────────────────────────────────


class Trouble:
    """A disk that refuses, and what was told of it."""

    def __init__(self) -> None:
        self.told: list[str] = []


@pytest.fixture
def json_log(tmp_path: Path) -> Callable[..., JsonLog]:
    def make(rotation: Rotation | None = None, retention_s: float = 1e9, **options: Any) -> JsonLog:
        options.setdefault("on_trouble", lambda _: None)
        return JsonLog(
            tmp_path / "l" / "a.jsonl", rotation or Rotation(size_bytes=10**9), retention_s, **options
        )

    return make


def events(directory: Path) -> list[str]:
    """Every line of every file, oldest file first."""
    texts = [
        file.read_text()
        for file in sorted(directory.glob("a.*jsonl"), key=lambda f: (f.name == "a.jsonl", f.name))
    ]
    return [line for text in texts for line in text.splitlines()]


def test_a_full_disk_costs_lines_and_is_told_once_and_heals(
    json_log: Callable[..., JsonLog], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    told: list[str] = []
    file = json_log(on_trouble=told.append)
    file.write(b'{"n": 1}\n')
    write = os.write

    def half(fd: int, data: bytes) -> int:
        if len(data) > 4:
            return write(fd, data[:4])
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", half)
    file.write(b'{"n": 2}\n')
    file.write(b'{"n": 3}\n')
    while_full = events(tmp_path / "l")
    monkeypatch.setattr(os, "write", write)
    file.write(b'{"n": 4}\n')

    lines = [json.loads(line) for line in events(tmp_path / "l")]
    assert told == ["ENOSPC"]
    assert while_full == ['{"n": 1}']
    assert lines[0] == {"n": 1}
    assert lines[1]["lost"] == 2
    assert lines[2] == {"n": 4}


def test_a_real_full_disk_does_not_stop_the_daemon(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    output = configure()
    logger.info("before")
    opened = os.open
    monkeypatch.setattr(os, "open", lambda *_: opened("/dev/full", os.O_RDWR))
    output.file.rename(tmp_path / "aside")

    logger.info("lost")

    assert "cannot be written (ENOSPC)" in output.stderr()
    monkeypatch.setattr(os, "open", opened)
    logger.info("after")
    assert [line["event"] for line in output.lines()][-1] == "after"


@pytest.mark.parametrize("gone", ["file", "directory"])
def test_a_log_that_was_removed_or_moved_away_is_begun_anew(
    json_log: Callable[..., JsonLog], tmp_path: Path, gone: str
):
    file = json_log()
    file.write(b"1\n")
    (tmp_path / "l" / "a.jsonl").rename(tmp_path / "moved")
    if gone == "directory":
        (tmp_path / "l").rmdir()

    file.write(b"2\n")

    assert events(tmp_path / "l") == ["2"]


def test_a_directory_that_cannot_be_made_costs_only_the_file(configure: Configure, tmp_path: Path):
    (tmp_path / "logs").write_text("a file where the directory should be")
    output = configure()

    logger.info("work")
    logger.info("work")

    assert output.stderr().count("work") == 2
    assert output.stderr().count("cannot be written") == 1


def test_a_line_torn_by_a_kill_is_removed_at_the_next_start(json_log: Callable[..., JsonLog], tmp_path: Path):
    json_log().write(b"whole\n")
    with (tmp_path / "l" / "a.jsonl").open("a") as file:
        file.write('{"torn')

    json_log().write(b"next\n")

    assert events(tmp_path / "l") == ["whole", "next"]


def test_a_line_is_in_the_file_when_the_call_returns(json_log: Callable[..., JsonLog], tmp_path: Path):
    """kill -9 right after it loses nothing: there is no buffer and no queue."""
    json_log().write(b"x\n")

    assert events(tmp_path / "l") == ["x"]


def test_a_log_is_rotated_before_it_grows_beyond_its_size(json_log: Callable[..., JsonLog], tmp_path: Path):
    file = json_log(Rotation(size_bytes=10))
    for n in range(5):
        file.write(b"%05d\n" % n)

    assert len(list((tmp_path / "l").iterdir())) == 5
    assert all(file.stat().st_size <= 10 for file in (tmp_path / "l").iterdir())
    assert sorted(events(tmp_path / "l")) == ["00000", "00001", "00002", "00003", "00004"]


def test_a_log_is_rotated_when_its_day_ends_even_over_a_restart(
    json_log: Callable[..., JsonLog], tmp_path: Path
):
    def line(time: str) -> bytes:
        return b'{"time": "%s"}\n' % time.encode()

    noon_epoch_s = 1_795_348_800.0
    json_log(Rotation(period_s=86400), clock=lambda: noon_epoch_s).write(line("2026-11-22T12:00:00.000000Z"))
    json_log(Rotation(period_s=86400), clock=lambda: noon_epoch_s + 43000).write(
        line("2026-11-22T23:56:40.000000Z")
    )
    assert len(list((tmp_path / "l").iterdir())) == 1

    json_log(Rotation(period_s=86400), clock=lambda: noon_epoch_s + 43300).write(
        line("2026-11-23T00:01:40.000000Z")
    )

    assert (tmp_path / "l" / "a.jsonl").read_bytes() == line("2026-11-23T00:01:40.000000Z")
    assert len(list((tmp_path / "l").iterdir())) == 2


def test_closed_logs_are_deleted_after_their_retention_and_nothing_else_is(
    json_log: Callable[..., JsonLog], tmp_path: Path
):
    (tmp_path / "l").mkdir()
    old = tmp_path / "l" / "a.2026-01-01T00-00-00.000000Z.jsonl"
    young = tmp_path / "l" / "a.2026-01-02T00-00-00.000000Z.jsonl"
    foreign = tmp_path / "l" / "a.notes.jsonl"
    for file, mtime_s in ((old, 1000), (young, 9000), (foreign, 1000)):
        file.touch()
        os.utime(file, (mtime_s, mtime_s))

    json_log(retention_s=5000, clock=lambda: 10_000.0).write(b"x\n")

    assert {f.name for f in (tmp_path / "l").iterdir()} == {young.name, foreign.name, "a.jsonl"}


def test_a_log_that_cannot_be_put_aside_grows_on(
    json_log: Callable[..., JsonLog], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = json_log(Rotation(size_bytes=3))
    file.write(b"1\n")

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no")

    monkeypatch.setattr(Path, "rename", refuse)
    file.write(b"2\n")

    assert events(tmp_path / "l") == ["1", "2"]


def test_a_symbolic_link_in_place_of_the_log_is_not_followed(
    json_log: Callable[..., JsonLog], tmp_path: Path
):
    (tmp_path / "l").mkdir()
    (tmp_path / "l" / "a.jsonl").symlink_to(tmp_path / "victim")

    json_log().write(b"x\n")

    assert not (tmp_path / "victim").exists()


def test_threads_do_not_mix_their_lines_or_their_ids(configure: Configure):
    output = configure(console=False)

    def work(name: str) -> None:
        with log.about(file_id=name):
            for _ in range(100):
                logger.info(name * 50)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    lines = output.lines()
    assert len(lines) == 400
    assert all(line["event"] == line["file_id"] * 50 for line in lines)
