"""The commands that need no configuration: demo and drive serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daemon.cli.exits import BUG, USAGE, guarded, print_error
from daemon.cli.options import Unused, console


@guarded
def demo(
    keep: Annotated[
        Path | None,
        typer.Option(
            "--keep",
            metavar="DIR",
            help="Keep everything in this new directory; sdd-dicom run can continue there.",
        ),
    ] = None,
    config: Unused = None,
) -> int:
    """Show everything in about half a minute: an embedded Drive, sample exams and the real service. It needs no configuration."""
    del config
    from daemon.cli.demo import DemoFailed, Unusable, show

    try:
        return show(keep, console())
    except Unusable as exc:
        print_error(str(exc))
        return USAGE
    except DemoFailed as exc:
        print_error(f"The demo failed: {exc}")
        return BUG


@guarded
def serve(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="The directory to serve; it is created if missing.")],
    port: Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535, help="The port; 0: any free port.")] = 0,
    faults: Annotated[
        Path | None,
        typer.Option(
            "--faults", metavar="FILE",
            help="A fault script (TOML or JSON): which requests fail, and how. It is read again whenever it changes. It also"
            " turns on /_admin/, which lists all requests and what each changed.",
        ),
    ] = None,
    config: Unused = None,
) -> int:  # fmt: skip
    """Serve a directory through the Drive v3 REST API on 127.0.0.1, until interrupted.

    Example of a fault script in JSON, with a quota and one download in twenty that ends early:

        {"seed": 7, "settings": {"units_per_minute": 12000}, "faults": [{"action": "truncate",
        "kind": "download", "keep_bytes": 1000, "times": -1, "probability": 0.05}]}

    The same in TOML, and every key, action and setting: python -m daemon.localdrive.faults.script
    """
    del config
    from daemon.cli.serve import serve_until_interrupted

    return serve_until_interrupted(directory, port, faults)
