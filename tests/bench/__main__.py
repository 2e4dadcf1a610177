"""`python -m tests.bench NAME`: run one benchmark, print each figure beside its bar, say with the exit code whether all are met."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench.figures import table, write_json

BENCHMARKS = {
    "quota": "share of Drive's true quota that is used, over the embedded Drive (about 13 minutes)",
    "simulate": "the same in virtual time, over many seeds (about a minute)",
}
"""Each is a module of this package with `add_arguments(parser)` and `run(arguments) -> list[Figure]`."""


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    modules = {}
    for name, about in BENCHMARKS.items():
        modules[name] = importlib.import_module(f"tests.bench.{name}")
        one = names.add_parser(name, help=about, description=modules[name].__doc__)
        one.add_argument("--json", type=Path, help="write the figures into this file as well")
        modules[name].add_arguments(one)
    arguments = parser.parse_args(argv)
    figures = modules[arguments.name].run(arguments)
    print(table(figures))
    if arguments.json is not None:
        write_json(arguments.json, arguments.name, figures)
    return 1 if any(figure.passes is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
