"""What commands share: options and output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="PATH",
        help="The configuration file. Without it: $SDD_DICOM_CONFIG, ./config.toml, /etc/sdd-dicom/config.toml.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Names = Annotated[
    bool,
    typer.Option(
        "--names",
        help="Also print names (local Drive: paths). Each name costs one request to Drive.",
    ),
]
Unused = Annotated[Path | None, typer.Option("--config", hidden=True)]


# ── printing ─────────────────────────────────────────────────────────────────────────────────────────────────────


def print_json(answer: Any) -> None:
    """Print an answer for scripts."""
    typer.echo(json.dumps(answer, ensure_ascii=False, indent=1, default=str))


def console() -> Any:
    """Return a console that never wraps or cuts a line, so that an id stays in one piece."""
    from daemon.cli.render import Lines

    return Lines(soft_wrap=True, highlight=False)
