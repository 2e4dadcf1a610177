"""`python -m tests.instruments.bench NAME`: run one benchmark, print each figure beside its bar, say with the exit code whether all are met.

`all` runs one after the other, all but the simulation: alone on a machine, for their figures are times and CPU as well.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from tests.instruments.bench.figures import Figure, table, write_json

BENCHMARKS = {
    "quota": "share of Drive's true quota that is used, over the embedded Drive (about 13 minutes)",
    "cpu": "CPU for each small file, against a bare loop over the same libraries (about 2 minutes)",
    "speed": "time of `run --once`, against the quota's ideal and against one at a time (about 4 minutes)",
    "memory": "peak memory: idle, over 100,000 files, and while a file of 2 GB passes (about 10 minutes)",
    "idle": "requests and CPU of the service while nothing happens (about 7 minutes)",
    "requests": "requests for each source file, for a first crawl, for each delivery (about 10 minutes)",
    "simulate": "the same in virtual time, over many seeds (about a minute)",
}
"""Each is a module of this package with `add_arguments(parser)` and `run(arguments) -> list[Figure]`."""


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.instruments.bench", description=__doc__)
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    parsers = {name: names.add_parser(name, help=about) for name, about in BENCHMARKS.items()}
    parsers["all"] = names.add_parser("all", help="one after the other (about 40 minutes)")
    for name, one in parsers.items():
        one.add_argument("--json", type=Path, help="write the figures into this file as well")
        if name != "all":
            one.description = _module(name).__doc__
            _module(name).add_arguments(one)
    arguments = parser.parse_args(argv)
    if arguments.name == "all":
        figures = [
            figure
            for name in BENCHMARKS
            if name != "simulate"
            for figure in _one(name, parser.parse_args([name]))
        ]
        print()
    else:
        figures = _module(arguments.name).run(arguments)
    print(table(figures))
    if arguments.json is not None:
        write_json(arguments.json, arguments.name, figures)
    return 1 if any(figure.passes is False for figure in figures) else 0


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"tests.instruments.bench.{name}")


def _one(name: str, arguments: argparse.Namespace) -> list[Figure]:
    """Run one of all, and show it at once: the others take long."""
    figures: list[Figure] = _module(name).run(arguments)
    print(f"\n{name}\n{table(figures)}", flush=True)
    return figures


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
