"""The commands that show the state: status, list and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from daemon.cli.exits import OK, USAGE, guarded, print_error, settings_of
from daemon.cli.options import Config, Json, Names, console, print_json

if TYPE_CHECKING:
    from daemon.service.control.messages import FileItem, SeriesItem


@guarded
def status(as_json: Json = False, config: Config = None) -> int:
    """Show what the service does, how much is left, how long it will take, and what needs a person.

    While the service is stopped, it shows what the ledger knows.
    """
    from daemon.cli import answers, render

    answer = answers.status(settings_of(config))
    if as_json:
        print_json(answer.model_dump(mode="json"))
        return OK
    out = console()
    for line in render.status(answer):
        out.print(line)
    return OK


@guarded
def list_(
    state: Annotated[
        str,
        typer.Option("--state", metavar="S", help="Only this state: SEEN, FILED or IGNORED (files), GATHERING, SETTLED,"
                     " CONVERTED, RESERVED, DELIVERED, IGNORED or SUPERSEDED (series)."),
    ] = "",
    held: Annotated[bool, typer.Option("--held", help="Only what is held for a person.")] = False,
    names: Names = False,
    as_json: Json = False,
    config: Config = None,
) -> int:  # fmt: skip
    """List files and series: ids, states and Drive links. Names only with --names.

    With a local Drive there are no links; --names prints paths instead.
    """
    from daemon.cli import answers, render
    from daemon.service.control import views

    settings = settings_of(config)
    state = state.upper()
    if state and state not in views.STATES:
        print_error(f"{state} is not a state. The states are {', '.join(views.STATES)}")
        return USAGE
    files = answers.files(settings, state=state, held=held, names=names)
    series = answers.series(settings, state=state, held=held, names=names)
    if as_json:
        print_json({"files": [_row(row) for row in files], "series": [_row(row) for row in series]})
        return OK
    out = console()
    out.print("Files:", style="bold")
    for file in files:
        out.print(render.file_line(file))
    out.print("Series:", style="bold")
    for one in series:
        out.print(render.series_line(one))
    return OK


def _row(row: FileItem | SeriesItem) -> dict[str, object]:
    return row.model_dump(mode="json", exclude={"rank"}, exclude_unset=True)


@guarded
def why(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="A Drive id, a Drive address, a path on Drive, or a UID.")
    ],
    names: Annotated[
        bool, typer.Option("--names", help="Also print paths, which hold names (local Drive only).")
    ] = False,
    config: Config = None,
) -> int:
    """Explain one file, series or folder: where it is, what happened to it, and what it waits for."""
    from daemon.cli import answers, explain

    for line in explain.sentences(answers.why(settings_of(config), target, names=names)):
        typer.echo(line)
    return OK
