"""loguru, set up once: lines for people or the journal on stderr, JSON lines in a file; ids only, never names.

Each line of `sdd-dicom.jsonl` is one flat object:

=============  ==================================================================================
time           UTC, ISO 8601, microseconds, ``Z``
level          TRACE, DEBUG, INFO, SUCCESS, WARNING, ERROR, CRITICAL
event          what happened, one sentence
module, line   where in the program (or the name of a library's logger)
thread         name of the thread
file_id        Drive id of the file it is about, where there is one (`about`)
series_id      the series it is about, where there is one
revision       its revision
exception      type and codes of an exception; a library's own text is withheld, it may quote a name
traceback      its frames and causes, one line each
=============  ==================================================================================

Further keys are counts, seconds and bytes that the caller bound (``logger.info("…", size_bytes=3)``).
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from loguru import logger

from daemon.outside.log.file import JsonLog
from daemon.outside.log.safe import exception_text, foreign_text, scrub, traceback_text, warning_text
from daemon.rules.config.settings import Logging
from daemon.rules.config.values import parse_duration_s, parse_rotation

if TYPE_CHECKING:
    from loguru import Message, Record

FILE_NAME = "sdd-dicom.jsonl"
PRIORITIES = {"TRACE": 7, "DEBUG": 7, "INFO": 6, "SUCCESS": 5, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}
"""Loguru's levels as the journal's, sd-daemon(3)."""
_IDS = ("file_id", "series_id", "revision")
_OWN_KEYS = frozenset({"time", "level", "event", "module", "line", "thread", "exception", "traceback"})


def configure(
    settings: Logging,
    logs_dir: Path | None,
    *,
    console: bool = True,
    under_systemd: bool | None = None,
) -> None:
    """Send every line of the process to its places, and take over what libraries and Python itself would print.

    May be called again; the last call holds. Nothing that is wrong with stderr, the disk or the directory ever
    raises here or at a later line.

    Args:
        logs_dir: where `sdd-dicom.jsonl` goes (`Settings.logs_dir`); None: no file.
        console: whether stderr gets the lines.
        under_systemd: whether stderr is the journal, and lines carry its priorities; None: find out.
    """
    logger.remove()
    logger.configure(patcher=_make_safe)
    # Not enqueue=True: a line must be on disk when the process is killed next, and a queue depends on a thread that may be stopped.
    if console:
        for_journal = stderr_is_journal() if under_systemd is None else under_systemd
        sink = _to_journal if for_journal else _to_terminal
        logger.add(sink, level=settings.level, format=_no_format, catch=True, backtrace=False, diagnose=False)
    if logs_dir is not None:
        file = JsonLog(
            logs_dir / FILE_NAME,
            parse_rotation(settings.rotation),
            parse_duration_s(settings.retention),
            on_trouble=_tell_of_file,
        )
        sink_to_file = _FileSink(file)
        logger.add(
            sink_to_file, level=settings.level, format=_no_format, catch=True, backtrace=False, diagnose=False
        )
    _take_over()


def shut_down() -> None:
    """Close the file. Later lines go nowhere."""
    logger.remove()


@contextmanager
def about(
    *, file_id: str | None = None, series_id: str | None = None, revision: int | None = None
) -> Iterator[None]:
    """Give every line inside, in this thread, the ids it is about; inner ones add to outer ones."""
    ids = {"file_id": file_id, "series_id": series_id, "revision": revision}
    with logger.contextualize(**{key: value for key, value in ids.items() if value is not None}):
        yield


def stderr_is_journal() -> bool:
    """Return whether systemd reads stderr.

    `$JOURNAL_STREAM` alone proves nothing: programs started from a terminal inherit it. So its device and inode
    are compared; where it is missing, a unit's `$INVOCATION_ID` counts unless stderr is a terminal.
    Source: systemd.exec(5), JOURNAL_STREAM.
    """
    try:
        found = os.fstat(2)
        stream = os.environ.get("JOURNAL_STREAM")
        if stream:
            return stream == f"{found.st_dev}:{found.st_ino}"
        return bool(os.environ.get("INVOCATION_ID")) and not os.isatty(2)
    except OSError:
        return False


def _make_safe(record: Record) -> None:
    """Clean a record before any sink sees it, so that not even loguru's own report of a broken sink tells a name."""
    try:
        record["message"] = scrub(record["message"])
        extra = record["extra"]
        for key, value in extra.items():
            extra[key] = (
                value if isinstance(value, bool | int | float) or value is None else scrub(str(value))
            )
        exception = record["exception"]
        if exception is not None:
            record["exception"] = None
            if isinstance(exception.value, BaseException):
                extra["exception"] = exception_text(exception.value)
                extra["traceback"] = traceback_text(exception.value)
    except Exception as exc:  # noqa: BLE001 — a value whose text cannot be made must not stop the work
        record["message"] = f"A log line could not be made ({type(exc).__name__})"
        record["exception"] = None
        record["extra"] = {}


def _no_format(_: Record) -> str:
    """Return nothing: the sinks make their lines from the record."""
    return ""


def _to_terminal(message: Message) -> None:
    record = message.record
    time_utc = record["time"].astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    _print([f"{time_utc} {record['level'].name:<8} {_sentence(record)}", *_details(record)])


def _to_journal(message: Message) -> None:
    record = message.record
    # Without its own prefix a further line would get the journal's default priority and vanish from `-p err`.
    prefix = f"<{PRIORITIES.get(record['level'].name, 6)}>"
    _print([prefix + line for line in (_sentence(record), *_details(record))])


def _sentence(record: Record) -> str:
    extra = record["extra"]
    ids = " ".join(f"{key}={extra[key]}" for key in _IDS if key in extra)
    return f"{record['message']} [{ids}]" if ids else record["message"]


def _details(record: Record) -> list[str]:
    return str(record["extra"].get("traceback", "")).splitlines()


def _print(lines: list[str]) -> None:
    """Write to stderr; where nobody reads it any more, nothing is lost that the file does not have."""
    try:
        stream: TextIO | None = sys.stderr
        if stream is not None:
            text = "\n".join(lines) + "\n"
            stream.write(text.encode("utf-8", "backslashreplace").decode())
            stream.flush()
    except (OSError, ValueError):
        return


class _FileSink:
    """A sink as loguru wants it: `write`, and `stop` when it is removed."""

    def __init__(self, file: JsonLog) -> None:
        self._file = file

    def write(self, message: Message) -> None:
        self._file.write(json_line(message.record))

    def stop(self) -> None:
        self._file.close()


def json_line(record: Record) -> bytes:
    """Return the record as one line of JSON, newline included."""
    extra = record["extra"]
    time_utc = record["time"].astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    line: dict[str, Any] = {
        "time": time_utc,
        "level": record["level"].name,
        "event": record["message"],
        "module": record["name"],
        "line": record["line"],
        "thread": record["thread"].name,
    }
    line |= {key: extra[key] for key in ("exception", "traceback") if key in extra}
    line |= {key: value for key, value in extra.items() if key not in _OWN_KEYS}
    return json.dumps(line, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace") + b"\n"


def _tell_of_file(error: str) -> None:
    # Past loguru: its lock of the file's sink is held, and the file could not take the line anyway.
    prefix = "<4>" if stderr_is_journal() else ""
    _print(
        [
            f"{prefix}The log file cannot be written ({error}); lines are lost until it can be written again; the service continues"
        ]
    )


# ── what would be printed past us ─────────────────────────────────────────────────────────────────────────


class _FromLibraries(logging.Handler):
    """Takes what libraries log through the standard library, from WARNING on."""

    def emit(self, record: logging.LogRecord) -> None:
        def rename(line: Record) -> None:
            line["name"], line["line"] = record.name, record.lineno

        try:
            level = "ERROR" if record.levelno >= logging.ERROR else "WARNING"
            exc = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
            logger.patch(rename).opt(exception=exc).log(level, "{}", foreign_text(record))
        except Exception:  # noqa: BLE001 — a message whose text cannot be made must not stop the library
            self.handleError(record)


def _take_over() -> None:
    """Stand where Python and libraries would print to stderr: each of these ways quotes values."""
    root = logging.getLogger()
    for name in [None, *list(logging.root.manager.loggerDict)]:
        found = logging.getLogger(name)
        for handler in list(found.handlers):
            # A test runner's handlers only collect; those that write to a stream are replaced.
            if isinstance(handler, _FromLibraries) or type(handler) is logging.StreamHandler:
                found.removeHandler(handler)
        found.propagate = True
    root.addHandler(_FromLibraries(logging.WARNING))
    root.setLevel(logging.WARNING)
    logging.raiseExceptions = False
    warnings.showwarning = _on_warning
    sys.excepthook = _on_uncaught
    threading.excepthook = _on_uncaught_in_thread
    sys.unraisablehook = _on_unraisable


def _on_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    del file, line
    logger.warning("{}", warning_text(message, category, filename, lineno))


def _on_uncaught(kind: type[BaseException], exc: BaseException, _: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logger.opt(exception=exc).critical("An exception ended the program")


def _on_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None or issubclass(args.exc_type, SystemExit):
        return
    logger.opt(exception=args.exc_value).critical("An exception ended a thread")


def _on_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    logger.opt(exception=unraisable.exc_value or True).error("An exception came where nobody could catch it")
