"""The answer of `why` as plain sentences; no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from daemon.cli.format import counted, duration, printable, size, when
from daemon.rules import readiness
from daemon.rules.lifecycle import FileState, SeriesState
from daemon.rules.readiness import Block, How
from daemon.rules.verdict_table import IGNORED
from daemon.service.control.messages import (
    EventLine,
    Hold,
    SeriesDetail,
    WhyAnswer,
    WhyFile,
    WhyFolder,
    WhySeries,
    WhyUnknown,
)

_WHEREABOUTS = {
    "TRASHED": "It is in the trash. It no longer counts as an input; no delivery gets smaller because of that.",
    "OUTSIDE": "It is outside the source folder. It no longer counts as an input; no delivery gets smaller because of that.",
    "UNREADABLE": "Drive shows it, but this account may no longer read it.",
    "GONE": "Drive no longer shows it: it was deleted, or this account lost access to it.",
}
_IGNORED: Mapping[str, str] = {reason.value: text for reason, text in IGNORED.items()}
_SETTLED: dict[str, str] = {
    How.QUIET: "no new instance came for series.quiet_s, and everything in its exam folder was read",
    How.AT_ONCE: "everything in its exam folder was read; it did not wait for late instances (run --once, or"
    " series.quiet_s = 0)",
    How.REBUILD: "a person asked for a rebuild, so it did not wait for late instances",
    How.MAX_WAIT: "downloads ran for series.max_wait_s without a new instance of it",
    How.SPOOL_FULL: "the spool was full, and it had gone longest without a new instance",
}
_BLOCKED: dict[str, str] = {
    Block.REBUILD: "No series settles now: the ledger may be older than the output folder, which is read first.",
    Block.SUSPENDED: "No series settles now: the service is suspended (sdd-dicom status shows why).",
}


def sentences(answer: WhyAnswer) -> Iterator[str]:
    """Yield the lines of the answer; an indented line belongs to the one before it."""
    match answer.about:
        case WhyFile():
            yield from _file(answer.about)
        case WhySeries():
            yield from _all_series(answer.about)
        case WhyFolder():
            yield from _folder(answer.about)
        case WhyUnknown():
            yield from _unknown(answer.about)
    if not answer.running:
        yield ""
        yield "The service does not run. This is what the ledger knew when it stopped."


# ── a file ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _file(file: WhyFile) -> Iterator[str]:
    yield f"File {file.file_id}, {size(file.size_bytes)}"
    if file.link:
        yield f"  {printable(file.link)}"
    yield from _file_now(file)
    yield from _history(file.history, _file_event)
    for series in file.series:
        yield ""
        yield "It belongs to this series:"
        yield from _series(series)


def _file_now(file: WhyFile) -> Iterator[str]:
    if file.whereabouts != "PRESENT":
        yield _WHEREABOUTS.get(file.whereabouts, file.whereabouts)
    if file.held:
        yield from _held(file.held)
    elif file.waits_until_epoch_s:
        yield f"{_failed(file.tries)}. The next try is at {when(file.waits_until_epoch_s)}."
    elif file.state == FileState.IGNORED:
        yield f"It is ignored: {_IGNORED.get(file.reason, file.reason)}."
    elif file.state == FileState.FILED:
        yield "It was read and belongs to a series (FILED)."
    elif file.whereabouts == "PRESENT":
        before = f"{counted(file.before_it, 'file')} before it" if file.before_it else "it is next"
        yield f"It waits to be downloaded and read ({file.state}): {before}."


def _failed(tries: int) -> str:
    return f"{counted(tries, 'try', 'tries')} failed"


def _file_event(event: str, detail: str) -> str:
    texts: dict[str, str] = {
        "Seen": "Drive showed it",
        "Filed": "downloaded (size and md5 match Drive) and read; its instances were added to their series",
        "Ignored": f"ignored: {_IGNORED.get(detail, detail)}",
        "Reconsidered": "newer rules look at it again",
        # The next two stand only in ledgers that an older version began.
        "Fetched": "downloaded; size and md5 match Drive",
        "Lost": "its bytes were lost from the spool and must be downloaded again",
        "Vanished": f"it left the source folder ({detail})",
    }
    return texts.get(event) or _common_event(event, detail)


def _common_event(event: str, detail: str) -> str:
    texts = {
        "Parked": f"a try failed ({detail}); the next one comes later",
        "Held": f"held: {detail}",
        "Retried": "a person asked for another try",
    }
    return texts.get(event, f"{event} {detail}".strip())


# ── a series ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _all_series(answer: WhySeries) -> Iterator[str]:
    for number, series in enumerate(answer.series):
        if number:
            yield ""
        yield from _series(series)
    if answer.more:
        yield f"… and {answer.more} more series: name one of them."


def _series(series: SeriesDetail) -> Iterator[str]:
    yield f"Series {series.series_instance_uid}"
    yield f"  of study {series.study_instance_uid}, {counted(series.present, 'instance')} in the source folder"
    yield from _series_now(series)
    yield from _delivery(series)
    yield from _history(series.history, _series_event)


def _series_now(series: SeriesDetail) -> Iterator[str]:
    n = series.revision
    if series.rebuild_requested:
        yield "A person asked for a rebuild. It starts in the next round, or when the current revision ends."
    if series.state is None and series.present:
        yield "It was read a moment ago. Its first revision starts in the next round."
    elif series.state is None:
        yield "None of its instances is in the source folder, and no revision has started."
    elif series.held:
        yield f"Revision {n} is held."
        yield from _held(series.held)
    elif series.waits_until_epoch_s:
        yield f"Revision {n}: {_failed(series.tries)}. The next try is at {when(series.waits_until_epoch_s)}."
    elif series.readiness is not None:
        yield from _gathering(n, series.readiness)
    elif series.state == SeriesState.IGNORED:
        yield f"Revision {n} is ignored: it has nothing to convert ({series.reason})."
    else:
        yield {
            SeriesState.SETTLED.value: f"Revision {n} is complete and waits to be converted.",
            SeriesState.CONVERTED.value: f"Revision {n} is converted and waits to be uploaded.",
            SeriesState.RESERVED.value: f"Revision {n} is being uploaded.",
            SeriesState.DELIVERED.value: "Nothing is left to do: its newest revision is delivered.",
            SeriesState.SUPERSEDED.value: f"Revision {n} is closed. The next one starts when the set of instances changes.",
        }.get(series.state, f"Revision {n} is {series.state}.")


def _gathering(n: int, ready: readiness.Readiness) -> Iterator[str]:
    """Yield settling's own answer: what is missing, and when the series settles without it."""
    yield f"Revision {n} collects instances (GATHERING)."
    if not ready.missing:
        yield "  Nothing is missing. It settles in the next round."
    elif ready.how is How.MAX_WAIT:
        yield "  It settles as it is in the next round: no new instance came for series.max_wait_s. Missing:"
    else:
        yield "  It does not settle yet:"
    for missing in ready.missing:
        yield f"  - {_missing(missing)}"
    if ready.missing and ready.closes_in_s:
        left = duration(ready.closes_in_s)
        yield (
            f"  It settles without that after {left} more of downloads in which no new instance of it comes"
            " (series.max_wait_s)."
        )


def _missing(missing: readiness.Missing) -> str:
    match missing:
        case readiness.Blocked(by=by):
            return _BLOCKED[by]
        case readiness.Held(code=code):
            return f"It is held: {code}."
        case readiness.NoInstances():
            return "None of its instances is in the source folder now."
        case readiness.SourceNotListed():
            return "The listing of the source folder is not complete, so more instances may exist."
        case readiness.OwnFilesUnread(files=files):
            return f"{counted(files, 'file')} of this series changed on Drive and must be read again."
        case readiness.NotQuiet(left_s=left_s):
            return (
                "Its newest instance came a short time ago. It must stay quiet for"
                f" {duration(left_s)} more (series.quiet_s)."
            )
        case readiness.FeedNotRead():
            return "The feed of changes has not been read since its newest instance became old enough."
        case readiness.FolderUnread(files=files):
            return f"{counted(files, 'unread file')} in the same exam folder may belong to it."


def _delivery(series: SeriesDetail) -> Iterator[str]:
    delivery = series.delivery
    if delivery is None:
        return
    files = counted(delivery.results, "file")
    yield f"Revision {delivery.revision} was delivered: {files}, made at {delivery.made_at}."
    if delivery.link:
        yield f"  {printable(delivery.link)}"
    for volume in delivery.volumes:
        yield f"  volume ({volume.role}): {' × '.join(str(length) for length in volume.shape)}"
    codes = ", ".join(delivery.codes)
    yield f"  usable: {delivery.usable}" + (f" ({codes})" if codes else "")
    for sentence in delivery.sentences:
        yield f"  {sentence}"


def _series_event(event: str, detail: str) -> str:
    count, _, how = detail.partition(" ")
    texts = {
        "Gathering": "started to collect instances",
        "Settled": f"settled with {_instances(count)}: {_SETTLED.get(how, how)}",
        "Converted": f"converted: {detail}",
        "Reserved": "every result and folder has its Drive id",
        "Delivered": "delivered: all results were read back from Drive",
        "Ignored": f"ignored: nothing to convert ({detail})",
        "Abandoned": f"this attempt was given up before it was visible ({detail}); the series is converted again",
        "Superseded": "closed: a newer set of instances replaces it, or it equals what is delivered",
        "RebuildRequested": "a person asked for a rebuild",
        "TakenOver": f"found in the output folder, made from {detail} inputs: the ledger was lost or older",
    }
    return texts.get(event) or _common_event(event, detail)


def _instances(count: str) -> str:
    return counted(int(count), "instance") if count.isdigit() else f"{count} instances"


# ── the rest ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _held(held: Hold) -> Iterator[str]:
    yield f"HELD since {when(held.since_epoch_s)}: {held.code}."
    if held.remedy:
        yield f"  What to do: {held.remedy}"


def _history(history: Sequence[EventLine], text_of: Callable[[str, str], str]) -> Iterator[str]:
    if history:
        yield "History:"
    for line in history:
        revision = f"revision {line.revision}: " if line.revision else ""
        yield f"  {when(line.at_epoch_s)}  {revision}{text_of(line.event, line.detail)}"


def _folder(folder: WhyFolder) -> Iterator[str]:
    yield f"Folder {folder.folder_id} of the source"
    if folder.link:
        yield f"  {printable(folder.link)}"
    total = sum(folder.files.values())
    yield f"It holds {counted(total, 'file')}" + (":" if total else ".")
    for state, count in folder.files.items():
        yield f"  {count} {state}"
    if folder.series:
        yield "Series:"
    for row in folder.series:
        state = f"held {row.held_code}" if row.held_code else row.state
        yield f"  {row.series_instance_uid}  revision {row.revision}  {state}  {printable(row.link)}".rstrip()
    if folder.more:
        yield f"  … and {folder.more} more"


def _unknown(item: WhyUnknown) -> Iterator[str]:
    yield f"Drive has this {item.what}: {item.file_id}"
    if item.link:
        yield f"  {printable(item.link)}"
    if item.trashed:
        yield "It is in the trash, and the ledger does not know it: it was never an input."
        return
    yield "The ledger does not know it: it is not in the source folder, or was not seen yet."
    if item.what == "folder":
        yield "A folder becomes known with the first file in it."
    if not item.source_known:
        yield "The listing of the source folder is not complete: ask again later."
    else:
        yield "If it is in the source folder: new files are seen with the next poll. sdd-dicom crawl lists everything again."
