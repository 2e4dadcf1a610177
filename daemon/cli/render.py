"""The answers of `status`, `list` and `check` as lines for people, readable without colours; no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.text import Text

from daemon.cli.exits import OK, discard_output
from daemon.cli.format import counted, duration, number, printable, size, when
from daemon.service.control.messages import (
    BudgetState,
    CheckResult,
    CrawlState,
    FileItem,
    HeldCount,
    PaceState,
    SeriesItem,
    StatusAnswer,
    SuspensionState,
)

_LABEL = 11
_LEVELS = {
    "ok": ("ok", "green"),
    "note": ("--", ""),
    "warning": ("WARNING", "yellow"),
    "problem": ("PROBLEM", "bold red"),
}


class Lines(Console):
    """A console that ends quietly when the reader of its output has gone (`| head`)."""

    def on_broken_pipe(self) -> None:
        discard_output()
        raise SystemExit(OK)


def status(answer: StatusAnswer) -> Iterator[Text]:
    """Yield what the service does, what is left, and what needs a person."""
    yield _head(answer)
    files, series = answer.files, answer.series
    parts = [f"{number(files.left)} to read ({size(files.left_bytes)})"]
    parts += [f"{number(files.parked)} of them wait for their next try"] * bool(files.parked)
    parts += [f"{number(files.read)} read", f"{number(files.ignored)} ignored", f"{number(files.held)} held"]
    yield _line("files", ", ".join(parts))
    yield _line(
        "series",
        f"{number(series.gathering)} collecting instances, {number(series.converting)} to convert,"
        f" {number(series.uploading)} to upload, {number(series.deliveries)} delivered,"
        f" {number(series.ignored)} ignored, {number(series.held)} held",
    )
    if answer.running:
        yield from _running(answer)
    yield from _crawl(answer.crawl)
    if answer.rebuild:
        yield _line(
            "REBUILD",
            f"the ledger may be older than the output folder ({answer.rebuild}). The output folder is read first;"
            " this takes at least ten minutes, and nothing is delivered before",
            "bold yellow",
        )
    if answer.paused:
        yield _line("PAUSED", "by a person. Continue with: sdd-dicom resume", "bold yellow")
    for entry in answer.suspended:
        yield from _suspended(entry)
    yield from _held(answer.held)


def _suspended(entry: SuspensionState) -> Iterator[Text]:
    yield _line(
        "SUSPENDED",
        f"{entry.scope} since {when(entry.since_epoch_s)}: {entry.code}: {entry.what}",
        "bold red",
    )
    probe = f"tried again in {duration(entry.next_probe_s)}" if entry.next_probe_s else "tried again now"
    yield _line("", f"{entry.remedy}; {probe}" if entry.remedy else f"nothing to do; {probe}")


def _head(answer: StatusAnswer) -> Text:
    if answer.uptime_s is not None:
        text = f"up {duration(answer.uptime_s)} (process {answer.pid})"
    elif answer.starting:
        text = "is starting, or waits for Drive: see its log (journalctl -u sdd-dicom)"
    else:
        text = "does not run; this is what the ledger knows. Start it: systemctl start sdd-dicom (or: sdd-dicom run)"
    return Text.assemble(("sdd-dicom", "bold"), f" {answer.version} {text}")


def _running(answer: StatusAnswer) -> Iterator[Text]:
    speed = answer.rates
    if not answer.files.left:
        text = "nothing to read"
    elif speed.files_per_s and speed.bytes_per_s is not None:
        text = f"{speed.files_per_s:.1f} files/s, {size(speed.bytes_per_s)}/s in the last {duration(speed.window_s)}"
    else:
        text = "unknown: too few files were read in the last minutes"
    yield _line("speed", text)
    yield _line("ETA", _eta(answer.time_left_s))
    feed = "not read yet" if answer.feed_age_s is None else f"read {duration(answer.feed_age_s)} ago"
    if drive := answer.drive:
        requests = counted(sum(drive.requests.values()), "request")
        yield _line("drive", f"feed {feed}; {number(drive.units_spent)} quota units spent in {requests}")
        yield _line("quota", _pace(drive.pace))
        if drive.budget.units_limit or drive.budget.bytes_limit:
            yield _line("today", _budget(drive.budget))
    if spool := answer.spool:
        yield _line("spool", f"{size(spool.used_bytes)} of {size(spool.max_bytes)} used")


def _eta(left_s: float | None) -> str:
    if left_s is None:
        return "unknown"
    return f"about {duration(left_s)}" if left_s else "done: nothing is left"


def _pace(pace: PaceState) -> str:
    limit = pace.limit_units_per_minute
    known = "no limit met yet" if limit is None else f"limit found at {number(limit)}"
    text = f"{number(pace.units_per_minute)} units per minute allowed, {known}"
    if pace.refused:
        text += f"; {number(pace.refused)} of {counted(pace.sent, 'request')} refused"
    if pace.writes_paused_s > pace.paused_s:
        return f"{text}; uploads wait {duration(pace.writes_paused_s)}"
    return f"{text}; all requests wait {duration(pace.paused_s)}" if pace.paused_s else text


def _budget(budget: BudgetState) -> str:
    """Return what was spent, what the day will come to, its limit, and when downloads will stop."""
    parts = []
    if budget.units_limit:
        spent, forecast = number(budget.units), number(budget.units_forecast)
        limit = number(budget.units_limit)
        parts.append(f"{spent} units used, {forecast} expected by midnight UTC, limit {limit}")
    if budget.bytes_limit:
        spent, forecast = size(budget.size_bytes), size(budget.bytes_forecast)
        limit = size(budget.bytes_limit)
        parts.append(f"{spent} downloaded, {forecast} expected by midnight UTC, limit {limit}")
    if budget.ends_epoch_s is not None:
        parts.append(f"downloads will stop at {when(budget.ends_epoch_s)}")
    return "; ".join(parts)


def _crawl(crawl: CrawlState) -> Iterator[Text]:
    parts = []
    if crawl.listings_pending:
        parts.append(f"{counted(crawl.listings_pending, 'folder')} still to list")
    if crawl.questions_pending:
        parts.append(f"{counted(crawl.questions_pending, 'file')} to look up on Drive")
    if crawl.rechecks_pending:
        parts.append(f"{counted(crawl.rechecks_pending, 'folder')} to check again")
    if not parts and crawl.last_epoch_s:
        parts = [f"complete; the last one started at {when(crawl.last_epoch_s)}"]
    if parts:
        yield _line("crawl", ", ".join(parts))


def _held(held: Iterable[HeldCount]) -> Iterator[Text]:
    for number_, entry in enumerate(held):
        if not number_:
            yield Text("Held for a person:", "bold")
        what = " and ".join(
            filter(
                None,
                (counted(entry.files, "file") if entry.files else "",
                 counted(entry.series, "series", "series") if entry.series else ""),
            )
        )  # fmt: skip
        yield Text.assemble("  ", (entry.code, "yellow"), f"  {what} since {when(entry.since_epoch_s)}")
        if entry.remedy:
            others = " (other items: other remedies, see sdd-dicom list --held)" if entry.remedies > 1 else ""
            yield Text(f"    {entry.remedy}{others}")


def _line(label: str, text: str, style: str = "bold") -> Text:
    return Text.assemble((f"{label:<{_LABEL}}", style), text)


# ── list ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def file_line(row: FileItem) -> Text:
    """Return one line for a file: id, state, link, and its name where it was asked for."""
    state = row.state
    if row.whereabouts != "PRESENT":
        state += f" ({row.whereabouts.lower()})"
    return _item(row.file_id, state, row)


def series_line(row: SeriesItem) -> Text:
    """Return one line for a series, by its newest revision."""
    what = f"{row.state} revision {row.revision}, {counted(row.instances, 'instance')}"
    return _item(row.series_instance_uid, what, row)


def _item(name: str, what: str, row: FileItem | SeriesItem) -> Text:
    text = Text.assemble(name, "  ")
    if row.held_code:
        text.append(f"HELD {row.held_code}", "yellow")
        text.append(f" ({what})")
    else:
        text.append(what)
        if row.reason and row.state == "IGNORED":
            text.append(f" {row.reason}")
    if row.link:
        text.append(f"  {printable(row.link)}")
    if row.name:
        text.append(f"  {printable(row.name)}")
    if row.held_code and row.remedy:
        text.append(f"\n    {row.remedy}")
    return text


# ── check ────────────────────────────────────────────────────────────────────────────────────────────────────────


def check_lines(result: CheckResult) -> Iterator[Text]:
    """Yield what was found, and its remedy."""
    word, style = _LEVELS[result.level]
    yield Text.assemble((f"{word:<8}", style), f" {result.name:<12} {result.what}")
    if result.remedy:
        yield Text(f"{'':<21} → {result.remedy}")
