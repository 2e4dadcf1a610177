"""What may be said of texts and exceptions that others made: never a value, for any value may be a name; no I/O.

Our own texts are ids and counts by contract and pass. What comes from a library is reduced to its source, its type,
codes, and DICOM tags. Tokens and upload addresses are removed from everything, as a last resort.
"""

from __future__ import annotations

import errno
import logging
import re
from types import TracebackType

from daemon.rules.errors import Trouble

FRAMES = 40
"""Frames of a traceback that are kept; of a longer one the first ten and the last thirty."""
CHAIN = 10
"""Exceptions told of one chain of causes."""

_TAG = re.compile(r"\(\s?([0-9A-Fa-f]{4}),\s?([0-9A-Fa-f]{4})\s?\)")
_SECRETS = (
    (re.compile(r"(?i)((?:upload_id|session_crd)=)[^&\s\"'<>]+"), r"\1[removed]"),
    (re.compile(r"(?i)(authorization\W{1,4})(?:(?:bearer|basic)\s+)?[^\s\"',;}]+"), r"\1[removed]"),
    (re.compile(r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/=-]{8,}"), r"\1[removed]"),
    (
        re.compile(
            r"(?i)\b((?:access_|refresh_|id_)token|client_secret|private_key|assertion)(\W{1,5})[^\s\"',;&}]+"
        ),
        r"\1\2[removed]",
    ),
    (re.compile(r"\bya29\.[A-Za-z0-9._-]+|\b[14]//?0[A-Za-z0-9_-]{20,}"), "[removed]"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"), "[removed]"),
    (
        re.compile(r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"),
        "[removed]",
    ),
)
# Their texts with arguments are literals in their source: the arguments are left out, the rest holds no value.
_LITERAL_TEXTS = frozenset(
    [
        "apscheduler",
        "asyncio",
        "concurrent",
        "google",
        "google_auth_httplib2",
        "googleapiclient",
        "httplib2",
        "oauthlib",
        "requests",
        "requests_oauthlib",
        "urllib3",
        "uvicorn",
    ]
)
_PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[-+ #0]*\d*(?:\.\d+)?[a-zA-Z]")


def scrub(text: str) -> str:
    """Return the text without tokens, keys and the ids of upload sessions, on one line."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def tags(text: str) -> str:
    """Return the DICOM tags a text mentions, ``(0010,0020)``, each once."""
    return " ".join(dict.fromkeys(f"({group},{element})".upper() for group, element in _TAG.findall(text)))


def foreign_text(record: logging.LogRecord) -> str:
    """Return what may be told of a library's message: where it comes from, its literal part if known, its tags."""
    template = str(record.msg)
    parts = [f"{record.name}:"]
    if record.args and record.name.split(".")[0] in _LITERAL_TEXTS:
        parts.append(_PLACEHOLDER.sub("…", template))
    else:
        parts.append("message withheld")
    parts.append(tags(_whole(record)))
    if record.exc_info and isinstance(record.exc_info[1], BaseException):
        parts.append(f"[{exception_text(record.exc_info[1])}]")
    parts.append(f"({record.module}.py:{record.lineno})")
    return " ".join(part for part in parts if part)


def _whole(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 — a library's arguments do not fit its template; only its tags are missed
        return ""


def warning_text(message: Warning | str, category: type[Warning], filename: str, line: int) -> str:
    """Return what may be told of a Python warning: its type, its tags, and the line that gave it."""
    parts = [f"{category.__name__}:", "message withheld", tags(str(message)), f"({_short(filename)}:{line})"]
    return " ".join(part for part in parts if part)


def exception_text(exc: BaseException) -> str:
    """Return the complete text of a `Trouble`; of any other exception its type and the codes it carries."""
    if isinstance(exc, Trouble):
        return f"{type(exc).__name__}: {scrub(str(exc))}"
    codes: list[str] = []
    if isinstance(exc, OSError) and exc.errno is not None:
        codes.append(errno.errorcode.get(exc.errno, str(exc.errno)))
    for name in ("status_code", "returncode"):
        code = getattr(exc, name, None)
        if isinstance(code, int):
            codes.append(str(code))
    sqlite_name = getattr(exc, "sqlite_errorname", None)
    if isinstance(sqlite_name, str) and re.fullmatch(r"SQLITE_[A-Z_]+", sqlite_name):
        codes.append(sqlite_name)
    codes += [tags(text) for text in exc.args if isinstance(text, str)]
    return " ".join([type(exc).__name__, *filter(None, codes)])


def traceback_text(exc: BaseException) -> str:
    """Return the frames (file, line, function) of an exception and of its causes, the first cause first."""
    blocks: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = exc
    while current is not None and id(current) not in seen and len(blocks) < CHAIN:
        seen.add(id(current))
        lines = [*_frames(current.__traceback__), exception_text(current)]
        if isinstance(current, BaseExceptionGroup):
            lines += [f"  holds {exception_text(inner)}" for inner in current.exceptions]
        blocks.append("\n".join(lines))
        hidden = current.__suppress_context__
        current = current.__cause__ or (None if hidden else current.__context__)
    return "\n".join(reversed(blocks))


def _frames(traceback: TracebackType | None) -> list[str]:
    lines: list[str] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        lines.append(f"  {_short(code.co_filename)}:{traceback.tb_lineno} in {code.co_name}")
        traceback = traceback.tb_next
    if len(lines) > FRAMES:
        lines[10 : len(lines) - 30] = [f"  … {len(lines) - FRAMES} frames …"]
    return lines


def _short(filename: str) -> str:
    """Return a source file's path from its package on: what lies above may be anybody's directory."""
    below = re.sub(r".*/(?:site-packages|dist-packages|python3[.\d]*)/", "", filename)
    if below != filename:
        return below
    return "/".join(filename.split("/")[-2:])
