"""The program and its commands. Only this package prints and chooses exit codes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from daemon import __version__
from daemon.cli import asking, running, steering, trying

app = typer.Typer(
    name="sdd-dicom",
    help="Watch a Google Drive folder for DICOM exams and deliver NIfTI volumes, complete and exactly once.",
    epilog="First steps: sdd-dicom demo. Then edit config.toml, and run: sdd-dicom check, sdd-dicom run.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
drive_app = typer.Typer(
    help="The embedded Drive: a local directory behind the API of Google Drive.", no_args_is_help=True
)

_ASK = "0 done, 2 wrong usage, 69 no service and no ledger, 75 try again, 77 not allowed, 78 the configuration is wrong"
_STEER = "0 done, 69 the service does not run, 75 try again, 77 not allowed, 78 the configuration is wrong"


def _epilog(example: str, exit_codes: str) -> str:
    """Return what stands below the help of a command."""
    return f"Example: {example}\n\nExit codes: {exit_codes}, 1 a bug."


_RUN = _epilog(
    "sdd-dicom run --once --config /etc/sdd-dicom/config.toml",
    "0 stopped as asked, or all done; 3 --once: something is held for a person; 4 --once: the remaining items must"
    " wait for more than a minute, or the run was stopped; at start: 69 a folder or Drive cannot be used, 75 another"
    " service runs, 77 credentials need a person, 78 the configuration or the state directory is wrong",
)
_LOGIN = _epilog(
    "sdd-dicom login --no-browser --port 8765   (on a machine without a browser)",
    "0 logged in, 2 no login is needed, 69 the port is in use, 77 login refused or timed out, 78 the configuration is wrong",
)
_CHECK = (
    "Example: sdd-dicom check --config /etc/sdd-dicom/config.toml\n\n"
    "Exit codes: 0 no problem; a problem of: 77 credentials, 69 folders or Drive, 78 the configuration, 1 this machine."
)
_SERVE = _epilog(
    "SDD_DRIVE_TOKEN=secret sdd-dicom drive serve ./drive --port 8900",
    "0 stopped, 2 the fault script is wrong, 69 the directory cannot be served, 75 another server serves it",
)

app.command(epilog=_RUN)(running.run)
app.command(epilog=_LOGIN)(running.login)
app.command(epilog=_CHECK)(running.check)
app.command(epilog=_epilog("watch -n 5 sdd-dicom status", _ASK))(asking.status)
app.command("list", epilog=_epilog("sdd-dicom list --held --names", _ASK))(asking.list_)
app.command(epilog=_epilog("sdd-dicom why DICOM/exam7/IM0001   (or an id, an address, a UID)", _ASK))(
    asking.why
)
app.command(epilog=_epilog("sdd-dicom retry --reason TRUNCATED", _ASK))(steering.retry)
app.command(epilog=_epilog("sdd-dicom pause", _STEER))(steering.pause)
app.command(epilog=_epilog("sdd-dicom resume", _STEER))(steering.resume)
app.command(epilog=_epilog("sdd-dicom crawl", _STEER))(steering.crawl)
app.command(epilog=_epilog("sdd-dicom process 1.2.840.113619.2.55.3.604688119.969.1", _ASK))(steering.process)
app.command(epilog=_epilog("sdd-dicom demo --keep ./demo", "0 done, 2 the directory cannot be used"))(
    trying.demo
)
drive_app.command(epilog=_SERVE)(trying.serve)
app.add_typer(drive_app, name="drive")


def main() -> None:
    """Run the program; the entry point `sdd-dicom`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character must not end the command
    app()


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"sdd-dicom {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version
