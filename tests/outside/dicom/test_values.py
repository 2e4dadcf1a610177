"""Values that are read without pydicom, for their plainness, are those that pydicom reads."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from daemon.outside.dicom import values

TEXTS = ["AE", "AS", "CS", "DA", "DT", "LO", "SH", "TM", "UI"]
NUMBERS = ["DS", "IS", "US", "SS", "UL", "SL", "FL", "FD"]
PATIENT_ID = 0x00100020

plain_text = st.text("0123456789.-+eE \\ABz^=~", max_size=20).map(str.encode)
values_of_elements = st.one_of(
    plain_text, st.tuples(plain_text, st.sampled_from([b"\0", b" ", b"\0\0", b"\x1b", b"\x0b"])).map(b"".join)
) | st.binary(max_size=16)


def said(raw: RawDataElement) -> tuple[object, ...]:
    """Return what a header says of an element, in every way in which it can be asked."""
    header = values.Header({raw.tag: raw})
    ways = (header.text, header.texts, header.uid, header.integer, header.number, header.numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(way(raw.tag) for way in ways)


@pytest.mark.parametrize("vr", TEXTS + NUMBERS)
@given(data=values_of_elements, little=st.booleans())
@example(data=b"1.5\\-2\\ 3e2 ", little=True)
@example(data=b"\x1b$BAB", little=True)
@example(data=b"1_0", little=True)
@example(data=b"\x00\x02", little=False)
def test_a_plain_value_is_what_pydicom_makes_of_it(vr: str, data: bytes, little: bool) -> None:
    raw = RawDataElement(Tag(PATIENT_ID), vr, len(data), data, 0, False, little)
    quick = said(raw)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(values, "_plain_values", lambda _: None)
        assert quick == said(raw)


def test_ordinary_elements_are_plain() -> None:
    """Otherwise the rest would say nothing."""
    for vr, data in {
        "DS": b"0.5\\0.5 ",
        "IS": b"12",
        "UI": b"1.2.3\0",
        "US": b"\0\2",
        "LO": b"AXIAL ",
    }.items():
        raw = RawDataElement(Tag(PATIENT_ID), vr, len(data), data, 0, False, True)
        assert values._plain_values(raw) is not None


def test_an_implicit_element_has_the_vr_of_the_dictionary() -> None:
    raw = RawDataElement(Tag(0x00280010), None, 2, b"\0\2", 0, True, True)

    assert values._plain_values(raw) == (512,)
