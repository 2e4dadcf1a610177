"""`python -m tests.instruments.faults.spoilt KIND DIRECTORY`: a world without faults, judged; then spoilt as the program must
never do it, and judged again. Prints both as JSON: that the judge bites."""

from __future__ import annotations

import json
import sqlite3
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.instruments.faults.judge import Judge
from tests.instruments.faults.outcome import Outcome
from tests.instruments.faults.sources import CATALOGUE
from tests.instruments.faults.world import FaultWorld
from tests.support.phantom import write_series


def _as_the_program(world: FaultWorld, method: str, path: str, body: dict[str, Any]) -> None:
    """Ask Drive without the mark that people's requests bear."""
    request = urllib.request.Request(
        f"{world.drive.endpoint}/drive/v3/files{path}",
        method=method,
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {world.drive.token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read()


def _delivery(world: FaultWorld) -> Any:
    return next(item for item in world.tree().live() if item.kind == "delivery")


def _result(world: FaultWorld, ending: str) -> Any:
    return next(item for item in world.tree().live() if item.kind == "result" and item.name.endswith(ending))


def _lost(world: FaultWorld) -> None:
    _as_the_program(world, "PATCH", f"/{_delivery(world).file_id}", {"trashed": True})


def _half(world: FaultWorld) -> None:
    _as_the_program(world, "PATCH", f"/{_result(world, 'manifest.json').file_id}", {"trashed": True})


def _other(world: FaultWorld) -> None:
    ledger = sqlite3.connect(world.state / "ledger.sqlite3")
    with ledger:
        ledger.execute("UPDATE result SET md5_checksum = 'other' WHERE name LIKE '%.nii.gz'")
    ledger.close()


def _twice(world: FaultWorld) -> None:
    first = _delivery(world)
    _as_the_program(
        world,
        "POST",
        "",
        {
            "name": first.name,
            "parents": [first.parent],
            "mimeType": first.mime_type,
            "properties": dict(first.properties),
        },
    )


SPOIL: dict[str, Callable[[FaultWorld], None]] = {
    "lost": _lost,
    "half": _half,
    "other": _other,
    "twice": _twice,
}


def _problems(world: FaultWorld) -> list[str]:
    judge = Judge(world)
    judge.look()
    return list(Outcome(0, **{kind: tuple(texts) for kind, texts in judge.found.items()}).problems)


def main(kind: str, home: Path) -> None:
    home.mkdir()
    world = FaultWorld(home, 0)
    write_series(world.source / "Exam", CATALOGUE[0])
    with world:
        world.run()
        well = _problems(world)
        SPOIL[kind](world)
        spoilt = _problems(world)
    print(json.dumps({"well": well, "spoilt": spoilt}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
