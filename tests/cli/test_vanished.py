"""Files that left the source together wait for a person. Until then every command counts them as present."""

from __future__ import annotations

import re
import shutil

from daemon.cli.phantom import Phantom, write_series
from tests.cli.conftest import House

EXAM = Phantom(slices=30, rows=16, columns=16)


def test_status_list_and_why_agree_on_a_mass_deletion(house: House) -> None:
    """One said that 30 instances are present, one that there are none, and one that there are no files at all."""
    write_series(house.source / "exam", EXAM)
    assert house.do("run", "--once").code == 0
    before = house.do("list", "--json").json["series"][0]["instances"]
    shutil.rmtree(house.source / "exam")
    house.do("run", "--once")

    files = house.do("status", "--json").json["files"]
    listed = house.do("list", "--json").json
    why = house.do("why", EXAM.series_uid).out

    assert {row["held_code"] for row in listed["files"]} == {"MASS_VANISHED"}
    assert (before, listed["series"][0]["instances"]) == (30, 30)
    assert (files["total"], files["read"], files["held"]) == (30, 30, 30)
    assert re.search(r"\b30 instances in the source", why), why


def test_a_mass_deletion_that_a_person_accepted_is_gone_everywhere(house: House) -> None:
    write_series(house.source / "exam", EXAM)
    assert house.do("run", "--once").code == 0
    shutil.rmtree(house.source / "exam")
    house.do("run", "--once")
    assert house.do("retry", "--reason", "MASS_VANISHED").code == 0

    files = house.do("status", "--json").json["files"]

    assert (files["total"], files["held"]) == (0, 0)
    assert house.do("list", "--json").json["series"][0]["instances"] == 0
