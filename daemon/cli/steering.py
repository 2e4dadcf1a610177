"""The commands that steer the service: retry, pause, resume, crawl and process."""

from __future__ import annotations

from typing import Annotated

import typer

from daemon.cli.exits import OK, USAGE, guarded, print_error, settings_of
from daemon.cli.options import Config


@guarded
def retry(
    targets: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TARGET]...", help="Files, series or folders: ids, addresses, paths or UIDs."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Everything that is held or waits for its next try.")] = False,
    reason: Annotated[str, typer.Option("--reason", metavar="R", help="Everything held with this code.")] = "",
    config: Config = None,
) -> int:  # fmt: skip
    """Retry held items now, and items that wait for their next try.

    While the service is stopped, they are retried when it starts.
    """
    from daemon.cli import answers
    from daemon.cli.format import counted

    if bool(targets) + every + bool(reason) != 1:
        print_error("Give one of these: targets, --all, or --reason R.")
        print_error("  → sdd-dicom list --held shows what is held")
        return USAGE
    code = answers.code_of(reason) if reason else ""
    done = answers.retry(settings_of(config), targets or [], every=every, reason=code)
    if done.files or done.series:
        when = "now" if done.running else "when the service starts"
        files, series = counted(done.files, "file"), counted(done.series, "series", "series")
        typer.echo(f"Retrying {when}: {files}, {series}.")
    else:
        typer.echo("Nothing to retry.")
    return OK


@guarded
def pause(config: Config = None) -> int:
    """Start no new step until resume. Running steps are finished. A restart of the service does not end the pause."""
    from daemon.service.control import calls
    from daemon.service.control.client import ControlClient

    done = ControlClient(settings_of(config)).ask(calls.PAUSE)
    typer.echo(
        "Paused: nothing new starts. Continue with: sdd-dicom resume" if done.changed else "Already paused."
    )
    return OK


@guarded
def resume(config: Config = None) -> int:
    """Continue after pause. Suspended work is tried again at once."""
    from daemon.service.control import calls
    from daemon.service.control.client import ControlClient

    done = ControlClient(settings_of(config)).ask(calls.RESUME)
    typer.echo("Resumed." if done.changed else "The service was not paused.")
    return OK


@guarded
def crawl(config: Config = None) -> int:
    """List the whole source folder again now. Drive's list of changes can miss a file; a listing does not."""
    from daemon.service.control import calls
    from daemon.service.control.client import ControlClient

    ControlClient(settings_of(config)).ask(calls.CRAWL)
    typer.echo("Listing the source folder again. Follow it with: sdd-dicom status")
    return OK


@guarded
def process(
    series: Annotated[
        str,
        typer.Argument(
            metavar="SERIES", help="A SeriesInstanceUID, or one of its files (id, address, path)."
        ),
    ],
    config: Config = None,
) -> int:
    """Rebuild a series from what is in the source folder now, even if a person edited or trashed its delivery."""
    from daemon.cli import answers

    done = answers.process(settings_of(config), series)
    when = "" if done.running else " It starts when the service starts."
    for uid in done.series_instance_uids:
        typer.echo(f"Rebuild requested: {uid}.{when} Follow it with: sdd-dicom why {uid}")
    return OK
