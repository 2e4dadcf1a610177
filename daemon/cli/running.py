"""The commands run, login and check."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from daemon.cli.exits import OK, USAGE, guarded, print_error, settings_of
from daemon.cli.options import Config, Json, console, print_json


@guarded
def run(
    once: Annotated[
        bool,
        typer.Option("--once", help="Process everything that is in the source folder now, then exit."),
    ] = False,
    config: Config = None,
) -> int:
    """Run the service until it is stopped (Ctrl+C or systemctl stop)."""
    from daemon.outside import log
    from daemon.service import memory

    memory.keep_few_arenas()
    settings = settings_of(config)
    progress = once and sys.stdout.isatty()
    log.configure(settings.logging, settings.logs_dir, console=not progress)
    if not once:
        from daemon.service.service import Service

        return Service(settings).run()
    from daemon.service.once import run_once

    if not progress:
        return run_once(settings)
    from rich.console import Console

    from daemon.cli.progress import OnceProgress, ending

    with OnceProgress(Console()) as shown:
        code = run_once(settings, on_progress=shown.show)
    for line in ending(settings, code):
        typer.echo(line)
    return code


@guarded
def login(
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address; do not open a browser.")] = False,
    port: Annotated[
        int,
        typer.Option(
            "--port", metavar="N", min=0, max=65535,
            help="Port on this machine that the browser returns to; 0: any free port. With a fixed port you can use the"
            " browser of your own computer through: ssh -L N:127.0.0.1:N THIS-MACHINE",
        ),
    ] = 0,
    config: Config = None,
) -> int:  # fmt: skip
    """Log in to Google once, in a browser, and save the token."""
    settings = settings_of(config)
    if settings.drive.backend == "local":
        print_error(
            'drive.backend is "local": a local directory is used instead of Google Drive. No login is needed.'
        )
        print_error(
            '  → To use Google Drive, set backend = "google" under [drive], then run: sdd-dicom login'
        )
        return USAGE
    if settings.auth.kind == "service_account":
        print_error('auth.kind is "service_account": the key file is used, and no login is needed.')
        print_error("  → Check it with: sdd-dicom check")
        return USAGE
    from daemon.outside.drive import auth

    token = auth.login(
        settings.client_file, settings.token_file, port=port, open_browser=not no_browser, say=typer.echo
    )
    typer.echo(f"The login is saved in {token}.")
    typer.echo(f"Next: sdd-dicom check --config {settings.path}")
    return OK


@guarded
def check(as_json: Json = False, config: Config = None) -> int:
    """Check configuration, credentials, folders, converter, disk and clock. Each problem comes with a remedy.

    It writes a file of one byte into the output folder and deletes it again.
    """
    from daemon.cli import checks, machine, render

    settings = settings_of(config)
    results = checks.results(settings)
    code = machine.exit_code(results)
    if as_json:
        print_json(
            {
                "exit_code": code,
                "configuration": dict(settings.describe()),
                "findings": [asdict(result) for result in results],
            }
        )
        return code
    out = console()
    for name, value in settings.describe():
        out.print(f"{name:<28} {value}", markup=False, highlight=False)
    out.print()
    for result in results:
        for line in render.check_lines(result):
            out.print(line)
    return code
