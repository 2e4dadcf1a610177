"""The embedded Drive alone, in the foreground: `drive serve`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import typer

from daemon.cli.exits import OK, TRY_AGAIN, UNAVAILABLE, USAGE, print_error
from daemon.localdrive.faults.script import BadScript
from daemon.localdrive.server.server import AlreadyServed, serve_directory


def serve_until_interrupted(directory: Path, port: int, faults: Path | None) -> int:
    """Serve `directory` on 127.0.0.1 until SIGTERM or SIGINT; return the exit code.

    Args:
        port: 0 for a free one.
        faults: a fault script, followed while it runs.
    """

    def ready(endpoint: str) -> None:
        typer.echo(f"The embedded Drive serves {directory} at {endpoint}")
        if os.environ.get("SDD_DRIVE_TOKEN"):
            typer.echo("Send this header with each request:  Authorization: Bearer $SDD_DRIVE_TOKEN")
        else:
            typer.echo("It accepts any bearer token. Set SDD_DRIVE_TOKEN to accept only that one.")
        typer.echo(f"Try: curl -H 'Authorization: Bearer x' '{endpoint}/drive/v3/files?pageSize=10'")
        if faults is not None:
            typer.echo(f"It fails as {faults} says. See what happened at: {endpoint}/_admin/faults,")
            typer.echo(f"{endpoint}/_admin/history and {endpoint}/_admin/history/requests")
        sys.stdout.flush()

    # The server ends in order first, and then hands the signal on to this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(OK))
    try:
        serve_directory(directory, port, ready, faults=faults)
    except BadScript as exc:
        for line in str(exc).splitlines():
            print_error(f"{faults}: {line}")
        return USAGE
    except AlreadyServed as exc:
        print_error(f"{exc}. Stop the other server first (a running service has its own)")
        return TRY_AGAIN
    except OSError as exc:
        print_error(f"The directory cannot be served: {exc.strerror}")
        return UNAVAILABLE
    return OK
