"""The answers of `status`, `list` and `check` as lines for people, readable without colours; no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from daemon.cli.exits import OK, nobody_listens
from daemon.cli.format import counted, duration, number, size, when

Row = Mapping[str, Any]
_LABEL = 9
_LEVELS = {
    "ok": ("ok", "green"),
    "note": ("--", ""),
    "warning": ("WARNING", "yellow"),
    "problem": ("PROBLEM", "bold red"),
}


class Lines(Console):
    """A console for which a reader that has gone is no failure."""

    def on_broken_pipe(self) -> None:
        nobody_listens()
        raise SystemExit(OK)


def status(answer: Row) -> Iterator[Text]:
    """Yield what the daemon does, what is left, and what needs a person."""
    yield _head(answer)
    files, series = answer["files"], answer["series"]
    parts = [f"{number(files['left'])} to read ({size(files['left_bytes'])})"]
    parts += [f"{number(files['parked'])} of them wait for a next try"] * bool(files["parked"])
    yield _line("files", f"{', '.join(parts)}; {number(files['read'])} read, {number(files['ignored'])} ignored,"
                         f" {number(files['held'])} held")  # fmt: skip
    yield _line(
        "series",
        f"{series['gathering']} gathering, {series['converting']} converting, {series['uploading']} uploading;"
        f" {number(series['deliveries'])} delivered, {number(series['ignored'])} ignored,"
        f" {number(series['held'])} held",
    )
    if answer["running"]:
        yield from _running(answer)
    yield from _crawl(answer["crawl"])
    if answer["rebuild"]:
        yield _line(
            "REBUILD",
            f"the ledger may be older than the output ({answer['rebuild']}): what lies there is looked at,"
            " for ten minutes or more, before anything is delivered",
            "bold yellow",
        )
    if answer["paused"]:
        yield _line("PAUSED", "by a person; sdd-dicom resume lets it go on", "bold yellow")
    for entry in answer["closed"]:
        probe = duration(entry["next_probe_s"])
        yield _line(
            "CLOSED",
            f"{entry['scope']} since {when(entry['since_epoch_s'])}: {entry['code']}, {entry['what']}",
            "bold red",
        )
        yield _line("", f"{entry['remedy'] or 'It goes on by itself'}; tried again in {probe}")
    yield from _held(answer["held"])


def _head(answer: Row) -> Text:
    if answer["running"]:
        text = f"runs since {duration(answer['uptime_s'])} (process {answer['pid']})"
    elif answer.get("starting"):
        text = "is starting, or waits for Drive: see its log (journalctl -u sdd-dicom)"
    else:
        text = "does not run; this is what the ledger knows. Start it: systemctl start sdd-dicom (or: sdd-dicom run)"
    return Text.assemble(("sdd-dicom", "bold"), f" {answer['version']} {text}")


def _running(answer: Row) -> Iterator[Text]:
    speed = answer["rates"]
    if not answer["files"]["left"]:
        text = "nothing to read"
    elif speed["files_per_s"]:
        text = f"{speed['files_per_s']:.1f} files/s, {size(speed['bytes_per_s'])}/s in the last {duration(speed['window_s'])}"
    else:
        text = (
            "too little was read in the last minutes to tell"
            if answer["files"]["left"]
            else "nothing to read"
        )
    yield _line("speed", text)
    left = answer["time_left_s"]
    yield _line(
        "ready",
        "unknown when"
        if left is None
        else "now: nothing is left"
        if left == 0
        else f"in about {duration(left)}",
    )
    drive, spool = answer["drive"], answer["spool"]
    feed = "not read yet" if answer["feed_age_s"] is None else f"read {duration(answer['feed_age_s'])} ago"
    requests = counted(sum(drive["requests"].values()), "request")
    yield _line("drive", f"feed {feed}; {number(drive['units_spent'])} units spent in {requests}")
    yield _line("quota", _pace(drive["pace"]))
    if (budget := drive["budget"])["units_limit"] or budget["bytes_limit"]:
        yield _line("today", _budget(budget))
    yield _line("spool", f"{size(spool['used_bytes'])} of {size(spool['max_bytes'])}")


def _pace(pace: Row) -> str:
    limit = pace["limit_units_per_minute"]
    known = "no limit met yet" if limit is None else f"limit found at {number(limit)}"
    text = f"{number(pace['units_per_minute'])} units a minute allowed, {known}"
    if pace["refused"]:
        text += f"; {number(pace['refused'])} of {counted(pace['sent'], 'request')} refused"
    if pace["writes_paused_s"] > pace["paused_s"]:
        return f"{text}; uploads wait {duration(pace['writes_paused_s'])}"
    return f"{text}; all wait {duration(pace['paused_s'])}" if pace["paused_s"] else text


def _budget(budget: Row) -> str:
    """Spent, what the day will come to, and its limit; then when downloads will stop."""
    parts = []
    for key, say in (("units", lambda units: f"{number(units)} units"), ("bytes", size)):
        spent = budget["size_bytes" if key == "bytes" else key]
        if limit := budget[f"{key}_limit"]:
            parts.append(f"{say(spent)}, by midnight UTC {say(budget[f'{key}_forecast'])} of {say(limit)}")
    if budget["ends_epoch_s"] is not None:
        parts.append(f"downloads will stop at {when(budget['ends_epoch_s'])}")
    return "; ".join(parts)


def _crawl(crawl: Row) -> Iterator[Text]:
    owed = crawl["listings_owed"]
    parts = [f"{counted(owed, 'folder')} still to list"] * bool(owed)
    parts += [f"{counted(crawl['questions_owed'], 'question')} to Drive open"] * bool(crawl["questions_owed"])
    if not parts and crawl["last_epoch_s"]:
        parts = [f"everything was listed; last true-up began {when(crawl['last_epoch_s'])}"]
    if parts:
        yield _line("crawl", ", ".join(parts))


def _held(held: Iterable[Row]) -> Iterator[Text]:
    for number_, entry in enumerate(held):
        if not number_:
            yield Text("held for a person:", "bold")
        what = " and ".join(
            filter(
                None,
                (counted(entry["files"], "file") if entry["files"] else "",
                 counted(entry["series"], "series", "series") if entry["series"] else ""),
            )
        )  # fmt: skip
        yield Text.assemble("  ", (entry["code"], "yellow"), f"  {what} since {when(entry['since_epoch_s'])}")
        if entry["remedy"]:
            others = " (others differ: sdd-dicom list --held)" if entry["remedies"] > 1 else ""
            yield Text(f"    {entry['remedy']}{others}")


def _line(label: str, text: str, style: str = "bold") -> Text:
    return Text.assemble((f"{label:<{_LABEL}}", style), text)


# ── list ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def file_line(row: Row) -> Text:
    """Return one line for a file: id, what it is, link, and its name where it was asked for."""
    state = row["state"]
    if row["whereabouts"] != "PRESENT":
        state += f" ({row['whereabouts'].lower()})"
    return _item(row["file_id"], state, row)


def series_line(row: Row) -> Text:
    """Return one line for a series, by its newest revision."""
    what = f"{row['state']} revision {row['revision']}, {counted(row['instances'], 'instance')}"
    return _item(row["series_instance_uid"], what, row)


def _item(name: str, what: str, row: Row) -> Text:
    text = Text.assemble(name, "  ")
    if row["held_code"]:
        text.append(f"HELD {row['held_code']}", "yellow")
        text.append(f" ({what})")
    else:
        text.append(what)
        if row["reason"] and row["state"] == "IGNORED":
            text.append(f" {row['reason']}")
    if row["link"]:
        text.append(f"  {row['link']}")
    if row.get("name"):
        # A name may hold anything, orders to the terminal included.
        text.append("  " + "".join(c if c.isprintable() else "?" for c in row["name"]))
    if row["held_code"] and row["remedy"]:
        text.append(f"\n    {row['remedy']}")
    return text


# ── check ────────────────────────────────────────────────────────────────────────────────────────────────────────


def finding_lines(finding: Row) -> Iterator[Text]:
    """Yield what was found, and its remedy."""
    word, style = _LEVELS[finding["level"]]
    yield Text.assemble((f"{word:<8}", style), f" {finding['name']:<12} {finding['what']}")
    if finding["remedy"]:
        yield Text(f"{'':<21} → {finding['remedy']}")
