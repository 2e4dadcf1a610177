"""`python -m daemon.localdrive DIRECTORY`: serves it, prints one JSON line when ready."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from daemon.localdrive.server.server import AlreadyServed, Options, serve
from daemon.localdrive.settings import Settings


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m daemon.localdrive", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--index", type=Path, default=None, help="SQLite file; default: inside DIRECTORY")
    parser.add_argument(
        "--token-file", type=Path, default=None, help="the only bearer token; or $SDD_DRIVE_TOKEN"
    )
    parser.add_argument("--admin", action="store_true", help="serve /_admin/ and keep a history of effects")
    parser.add_argument("--fast", action="store_true", help="survive a kill, but not the loss of power")
    parser.add_argument("--watch-stdin", action="store_true", help="end when standard input closes")
    parser.add_argument(
        "--settings", default="{}", help="JSON with values of daemon.localdrive.settings.Settings"
    )
    return parser.parse_args()


def main() -> int:
    arguments = _arguments()
    token = os.environ.pop("SDD_DRIVE_TOKEN", "")
    if arguments.token_file is not None:
        token = arguments.token_file.read_text().strip()
    settings = Settings(auth="token" if token else "off")
    try:
        settings.change(json.loads(arguments.settings))
    except ValueError as exc:
        print(f"--settings: {exc}", file=sys.stderr)  # noqa: T201
        return 2
    options = Options(
        directory=arguments.directory,
        port=arguments.port,
        index=arguments.index,
        token=token,
        admin=arguments.admin,
        durable=not arguments.fast,
        watch_stdin=arguments.watch_stdin,
        settings=settings,
    )
    try:
        serve(options, lambda endpoint: print(json.dumps({"endpoint": endpoint}), flush=True))  # noqa: T201
    except (AlreadyServed, OSError) as exc:
        print(f"embedded Drive: {exc}", file=sys.stderr)  # noqa: T201
        return 69
    return 0


if __name__ == "__main__":
    sys.exit(main())
