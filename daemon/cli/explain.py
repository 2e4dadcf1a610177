"""The answer of `why` as plain sentences; no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from daemon.cli.format import counted, duration, size, when
from daemon.rules.readiness import Block, How
from daemon.rules.verdict_table import IGNORED

Row = Mapping[str, Any]

_WHEREABOUTS = {
    "TRASHED": "It lies in the trash now: it no longer counts as an input, and no delivery shrinks because of it.",
    "OUTSIDE": "It lies outside the source folder now: it no longer counts as an input, and no delivery shrinks.",
    "UNREADABLE": "Drive shows it, but this account may not read it any more.",
    "GONE": "Drive does not show it any more: deleted, or out of this account's sight.",
}
_IGNORED: Mapping[str, str] = {reason.value: text for reason, text in IGNORED.items()}
_SETTLED: dict[str, str] = {
    How.QUIET: "no new instance came for series.quiet_s, and everything in its exam folder was read",
    How.AT_ONCE: "everything in its exam folder was read; it did not wait for late instances (run --once, or series.quiet_s = 0)",
    How.REBUILD: "a person asked for a rebuild, so it did not wait for late instances",
    How.MAX_WAIT: "downloads ran for series.max_wait_s without a new instance of it; its exam folder was still busy",
    How.SPOOL_FULL: "the spool was full, and it had gone longest without a new instance",
}
_BLOCKED: dict[str, str] = {
    Block.REBUILD: "No series settles now: the ledger may be older than the output folder, which is read first.",
    Block.SUSPENDED: "No series settles now: the service is suspended (sdd-dicom status shows why).",
}


def sentences(answer: Row) -> Iterator[str]:
    """Yield the lines of the answer; an indented line belongs to the one before it."""
    kind = answer["kind"]
    if kind == "file":
        yield from _file(answer)
    elif kind == "series":
        for number, series in enumerate(answer["series"]):
            if number:
                yield ""
            yield from _series(series)
        if answer["more"]:
            yield f"… and {answer['more']} series more: name one of them."
    elif kind == "folder":
        yield from _folder(answer)
    else:
        yield from _stranger(answer)
    if not answer.get("running"):
        yield ""
        yield "The daemon does not run: this is what the ledger knew when it stopped."


# ── a file ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _file(answer: Row) -> Iterator[str]:
    yield f"File {answer['file_id']}, {size(answer['size_bytes'])}"
    yield f"  {answer['link']}"
    yield from _file_now(answer)
    yield from _life(answer["life"], _file_event)
    for series in answer["series"]:
        yield ""
        yield "It belongs to this series:"
        yield from _series(series)


def _file_now(answer: Row) -> Iterator[str]:
    if answer["whereabouts"] != "PRESENT":
        yield _WHEREABOUTS[answer["whereabouts"]]
    state, held = answer["state"], answer["held"]
    if held:
        yield from _held(held)
    elif answer["waits_until_epoch_s"]:
        yield f"It waits until {when(answer['waits_until_epoch_s'])} for its next try; {answer['tries']} have failed."
    elif state == "SEEN":
        yield f"It is seen and waits to be downloaded; {counted(answer['before_it'], 'file')} come before it."
    elif state == "IGNORED":
        yield f"It is ignored: {_IGNORED.get(answer['reason'], answer['reason'])}."
    elif state == "FILED":
        yield "It is read, and stands in its series."


def _file_event(event: str, detail: str) -> str:
    texts: dict[str, str] = {
        "Seen": "Drive showed it",
        "Fetched": "downloaded; size and md5 are Drive's",  # written by versions before this one
        "Filed": "downloaded (size and md5 are Drive's); its header was read, and it was filed under its series",
        "Ignored": f"ignored: {_IGNORED.get(detail, detail)}",
        "Vanished": f"left the source ({detail})",
    }
    return texts.get(event) or _common_event(event, detail)


def _common_event(event: str, detail: str) -> str:
    texts = {
        "Parked": f"a try failed ({detail}); it waits for the next one",
        "Held": f"held: {detail}",
        "Retried": "a person asked for another try",
    }
    return texts.get(event, f"{event} {detail}".strip())


# ── a series ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _series(series: Row) -> Iterator[str]:
    yield f"Series {series['series_instance_uid']}"
    yield f"  of study {series['study_instance_uid']}, {counted(series['present'], 'instance')} in the source"
    yield from _series_now(series)
    yield from _delivery(series)
    yield from _life(series["life"], _series_event)


def _series_now(series: Row) -> Iterator[str]:
    state, n, held = series["state"], series["revision"], series["held"]
    if series["wanted"]:
        yield "A person asked for a rebuild; it starts with the next round."
    if state is None and series["present"]:
        yield "It was read just now; its first revision begins with the next round."
    elif state is None:
        yield "Nothing of it is under way: none of its instances lies in the source."
    elif held:
        yield f"Its revision {n} is held."
        yield from _held(held)
    elif series["waits_until_epoch_s"]:
        yield (
            f"Its revision {n} waits until {when(series['waits_until_epoch_s'])} for its next try;"
            f" {series['tries']} have failed."
        )
    elif state == "GATHERING":
        yield from _gathering(series)
    elif state == "IGNORED":
        yield f"Its revision {n} is ignored: there is nothing to convert ({series['reason']})."
    else:
        yield {
            "SETTLED": f"Its revision {n} is complete and is converted next.",
            "CONVERTED": f"Its revision {n} is converted and is uploaded next.",
            "RESERVED": f"Its revision {n} is on its way up to Drive.",
            "DELIVERED": f"Its revision {n} is delivered.",
            "SUPERSEDED": f"Its revision {n} was closed; the next one starts when its files change.",
        }[state]


def _gathering(series: Row) -> Iterator[str]:
    """Yield settling's own answer: what is missing, and when the series settles without it."""
    ready = series["readiness"]
    yield f"Revision {series['revision']} collects instances (GATHERING)."
    if not ready["missing"]:
        yield "  Nothing is missing. It settles in the next round."
    elif ready["how"] == How.MAX_WAIT:
        yield "  It settles as it is in the next round: no new instance came for series.max_wait_s. Missing:"
    else:
        yield "  It does not settle yet:"
    for missing in ready["missing"]:
        yield f"  - {_missing(missing)}"
    if ready["missing"] and ready["closes_in_s"]:
        left = duration(ready["closes_in_s"])
        yield f"  It settles without that after {left} more of downloads in which no new instance of it comes (series.max_wait_s)."


def _missing(missing: Row) -> str:
    kind = missing["kind"]
    if kind == "blocked":
        return _BLOCKED[missing["by"]]
    if kind == "not_quiet":
        left = duration(missing["left_s"])
        return (
            f"Its newest instance came a short time ago. It must stay quiet for {left} more (series.quiet_s)."
        )
    if kind == "own_files_unread":
        return f"{counted(missing['files'], 'file')} of this series changed on Drive and must be read again."
    if kind == "folder_unread":
        return f"{counted(missing['files'], 'unread file')} in the same exam folder may belong to it."
    return {
        "held": f"It is held: {missing.get('code')}.",
        "no_instances": "None of its instances is in the source folder now.",
        "source_not_listed": "The listing of the source folder is not complete, so more instances may exist.",
        "feed_not_read": "The feed of changes has not been read since its newest instance became old enough.",
    }[kind]


def _delivery(series: Row) -> Iterator[str]:
    delivery = series["delivery"]
    if delivery is None:
        return
    yield f"Delivered is revision {delivery['revision']}, made {delivery['made_at']}, {delivery['results']} files:"
    yield f"  {delivery['link']}"
    for volume in delivery["volumes"]:
        shape = " × ".join(str(length) for length in volume["shape"])
        yield f"  a volume ({volume['role']}) of {shape}"
    codes = ", ".join(delivery["codes"])
    yield f"  usable: {delivery['usable']}" + (f" ({codes})" if codes else "")
    for sentence in delivery["sentences"]:
        yield f"  {sentence}"


def _series_event(event: str, detail: str) -> str:
    count, _, how = detail.partition(" ")
    texts = {
        "Gathering": "began to gather",
        "Settled": f"settled with {count} instances: {_SETTLED.get(how, how)}",
        "Converted": f"converted into {detail}",
        "Reserved": "every result and folder has its Drive id",
        "Delivered": "delivered: all results were read back from Drive",
        "Ignored": f"ignored: nothing to convert ({detail})",
        "Abandoned": f"its attempt was given up before it was published ({detail}); it is converted anew",
        "Superseded": "closed: a newer set takes its place, or it is what is delivered already",
        "RebuildRequested": "a person asked for a rebuild",
        "TakenOver": f"found on Drive, delivered from {detail} inputs: the ledger had been lost, or is older",
    }
    return texts.get(event) or _common_event(event, detail)


# ── the rest ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _held(held: Row) -> Iterator[str]:
    yield f"HELD since {when(held['since_epoch_s'])}: {held['code']}."
    if held["remedy"]:
        yield f"  What to do: {held['remedy']}"


def _life(life: list[Row], text_of: Callable[[str, str], str]) -> Iterator[str]:
    if life:
        yield "What happened:"
    for line in life:
        revision = f"revision {line['revision']}: " if line["revision"] else ""
        yield f"  {when(line['at_epoch_s'])}  {revision}{text_of(line['event'], line['detail'])}"


def _folder(answer: Row) -> Iterator[str]:
    yield f"Folder {answer['folder_id']} of the source"
    yield f"  {answer['link']}"
    total = sum(answer["files"].values())
    yield f"{counted(total, 'file')} in it" + (":" if total else ".")
    for state, count in answer["files"].items():
        yield f"  {count} {state}"
    if answer["series"]:
        yield "Series:"
    for row in answer["series"]:
        state = f"held {row['held_code']}" if row["held_code"] else row["state"]
        yield f"  {row['series_instance_uid']}  revision {row['revision']}  {state}  {row['link']}".rstrip()
    if answer["more"]:
        yield f"  … and {answer['more']} more"


def _stranger(answer: Row) -> Iterator[str]:
    yield f"Drive has this {answer['what']}: {answer['file_id']}"
    yield f"  {answer['link']}"
    if answer["trashed"]:
        yield "It lies in the trash, and was never taken for an input."
        return
    yield "The ledger does not know it: it does not lie under the source folder, or has not been seen yet."
    if answer["what"] == "folder":
        yield "A folder becomes known with the first file in it."
    if not answer["source_known"]:
        yield "The source is still being listed: ask again later."
    else:
        yield "If it lies in the source: new files are seen with the next poll; sdd-dicom crawl lists everything anew."
