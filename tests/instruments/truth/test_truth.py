"""A sample of the planted exams through the whole program, and of altered volumes; all of them: `python -m tests.instruments.truth`."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.instruments.truth.__main__ import CASES, main
from tests.instruments.truth.mutate import alter, subjects

SAMPLE = (
    *("siemens_mr_plain", "enh_random_order", "concatenation", "gap_mr", "tilt_positive", "pet_slopes_1e8"),
    *("cine_trigger", "j2k_sign_mismatch_13", "philips_phase_mag", "palette_stack", "mosaic_no_csa_single"),
)


def test_no_planted_exam_is_judged_wrongly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not CASES.is_dir():
        pytest.skip("the planted cases are absent (../shared/cases)")
    told = tmp_path / "told.json"

    assert main([*SAMPLE, "--json", str(told)]) == 0, capsys.readouterr().out
    usable = {each["case"]: each["usable"] for each in json.loads(told.read_text())}
    assert usable["siemens_mr_plain"] == usable["philips_phase_mag"] == ["yes"]
    assert (
        usable["enh_random_order"] == usable["concatenation"] == ["yes"]
    )  # built from the images themselves
    assert usable["tilt_positive"] == usable["palette_stack"] == ["no"]


def test_altered_volumes_are_found_out(data: Path, tmp_path: Path) -> None:
    folders = [data / "dcm_qa_nih/In/20180918Si/mr_0003", data / "dcm_qa_nih/In/20180918Si/mr_0004"]
    dice = random.Random(7)
    chosen = list(subjects(folders, 2, tmp_path))
    told = [alter(dice.choice(chosen), dice, tmp_path) for _ in range(80)]

    assert [change for change, what in told if what == "missed"] == []
    assert sum(what == "found" for _, what in told) > 50
