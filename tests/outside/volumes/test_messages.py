"""What the converter prints, reduced to phrases that quote nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.outside.volumes.messages import KNOWN, UNKNOWN, summarise


@pytest.mark.parametrize(
    ("line", "codes"),
    [
        pytest.param("Chris Rorden's dcm2niiX version v1.0.20260724  (64-bit Linux)", (), id="greeting"),
        pytest.param("Convert 4 DICOM as /home/smith/out/3_A (512x512x4x1)", (), id="progress"),
        pytest.param("Warning: Empty protocol name(s) (0018,1030)", (), id="harmless"),
        pytest.param("Warning: Instance Number (0020,0013) order is not spatial.", (), id="number-order"),
        pytest.param("Warning: Siemens XA exported as classic not enhanced DICOM (issue 236)", (), id="xa"),
        pytest.param("Warning: Slices stacked despite varying acquisition numbers (if this ...)", (), id="acquisitions"),
        pytest.param("Warning: Interslice distance varies in this volume (incompatible with NIfTI format).", ("UNEVEN_SPACING",), id="uneven"),
        pytest.param("Warning: Missing images? Expected 4 images, but instance number (0020,0013) ranges from 1 to 5", ("GAP",), id="missing"),
        pytest.param("Warning: Note these images have gantry tilt of 14 degrees (manufacturer ID = 1)", ("TILT",), id="tilt"),
        pytest.param("Warning: All images appear to be a single slice - please check", ("SINGLE_SLICE",), id="single"),
        pytest.param("Unable to determine slice thickness: please check voxel size", ("CONVERTER_WARNING",), id="without-prefix"),
        pytest.param("Warning: DUPLICATES REMOVED", ("CONVERTER_WARNING",), id="duplicates"),
        pytest.param("Warning: a message that nobody has seen, about SMITH^JOHN", ("CONVERTER_WARNING",), id="unknown"),
        pytest.param("Error: something new", ("CONVERTER_WARNING",), id="unknown-error"),
    ],
)  # fmt: skip
def test_which_messages_change_the_verdict(line: str, codes: tuple[str, ...]) -> None:
    assert tuple(code for code, _ in summarise([line]).findings) == codes


def test_the_same_message_counts_once() -> None:
    summary = summarise(["Warning: Empty protocol name(s)"] * 300)

    assert summary.phrases == ("the protocol name is empty",)


@given(
    st.lists(st.sampled_from(["Warning: ", "Error: ", ""]).flatmap(lambda p: st.text().map(lambda t: p + t)))
)
def test_no_line_is_ever_quoted(lines: list[str]) -> None:
    """Whatever the converter prints, only phrases of our own come out."""
    assert set(summarise(lines).phrases) <= {known.phrase for known in KNOWN} | {UNKNOWN}
