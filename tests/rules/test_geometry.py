"""The verdict from headers alone: what a researcher must know before using a volume."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.rules.geometry import verdict, with_findings
from daemon.rules.model import Instance, Verdict

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def image(number: int, along_mm: float, **changes: object) -> Instance:
    plain = Instance(
        study_instance_uid="1.2",
        series_instance_uid="1.2.3",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        sop_instance_uid=f"1.2.3.{number}",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        modality="CT",
        instance_number=number,
        rows=64,
        columns=64,
        image_position=(-100.0, -100.0, along_mm),
        image_orientation=AXIAL,
        slice_thickness=5.0,
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def stack(*along_mm: float, **changes: object) -> list[Instance]:
    return [image(n, along, **changes) for n, along in enumerate(along_mm, start=1)]


def tilted(degrees: float, count: int = 6) -> list[Instance]:
    """A gantry tilted about x while the table moves along z."""
    t = math.radians(degrees)
    return stack(*(5.0 * n for n in range(count)), image_orientation=(1, 0, 0, 0, math.cos(t), -math.sin(t)))


EVEN = [5.0 * n for n in range(10)]


def test_an_even_stack_is_usable() -> None:
    assert verdict(stack(*EVEN)) == Verdict("yes")


@pytest.mark.parametrize(
    ("images", "codes", "usable"),
    [
        pytest.param(stack(0, 5, 10, 20, 25), ("GAP", "UNEVEN_SPACING"), "with-care", id="jump-without-a-number-missing"),
        pytest.param([i for i in stack(*EVEN) if i.instance_number != 4], ("GAP",), "with-care", id="slice-missing"),
        pytest.param(
            [i for i in stack(*EVEN) if i.instance_number not in (4, 5, 8)], ("GAP",), "with-care", id="slices-missing"
        ),
        pytest.param(stack(0, 5, 10, 16.5, 21.5), ("UNEVEN_SPACING",), "with-care", id="uneven"),
        pytest.param(stack(0, 5, 10, 15, 22, 29), ("UNEVEN_SPACING",), "with-care", id="two-spacings"),
        pytest.param(stack(0, 1, 2.1, 3.3, 4.6, 6.0, 7.5), ("UNEVEN_SPACING",), "with-care", id="drifting-spacing"),
        pytest.param(
            stack(*(5 * n + 0.01 * n * n for n in range(40))), ("UNEVEN_SPACING",), "with-care", id="drifting-by-little"
        ),
        pytest.param(tilted(14), ("TILT",), "with-care", id="tilt"),
        pytest.param(stack(*EVEN, gantry_tilt_deg=12.0), ("TILT",), "with-care", id="tilt-in-the-header-only"),
        pytest.param(stack(3), ("SINGLE_SLICE",), "no", id="single"),
        pytest.param(stack(3, 3, 3, 3), ("SINGLE_SLICE",), "no", id="one-slice-over-time"),
        pytest.param(stack(0, 5), ("FEW_SLICES",), "with-care", id="two-slices"),
        pytest.param(
            stack(*EVEN[:4]) + stack(*EVEN[:4], image_orientation=SAGITTAL, image_position=(1, 2, 3)),
            ("MIXED_ORIENTATION",), "with-care", id="two-directions",
        ),
        pytest.param(stack(*EVEN[:4]) + stack(*EVEN[4:], rows=32), ("MIXED_SIZE",), "with-care", id="two-sizes"),
        pytest.param([*stack(*EVEN), image(11, 15.0)], ("DUPLICATE_POSITION",), "no", id="slice-twice"),
        pytest.param(
            [*stack(*EVEN, acquisition_number=1), image(11, 15.0, acquisition_number=2)],
            ("DUPLICATE_POSITION",), "no", id="slice-twice-under-another-acquisition",
        ),
        pytest.param(stack(*EVEN, image_position=None), ("NO_GEOMETRY",), "no", id="no-position"),
        pytest.param([image(1, 0, number_of_frames=30)], ("GEOMETRY_UNCHECKED",), "with-care", id="frames-without-places"),
        pytest.param([], ("NO_IMAGE",), "no", id="nothing"),
        pytest.param(
            [image(n, EVEN[(n - 1) % 10]) for n in range(1, 30)], ("INCOMPLETE_VOLUME",), "with-care", id="last-time-point-short"
        ),
        pytest.param(
            [image(n, EVEN[(n - 1) % 10]) for n in range(1, 61) if not 20 < n <= 30], ("GAP",), "with-care", id="time-point-lost"
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_gets_its_code(images: list[Instance], codes: tuple[str, ...], usable: str) -> None:
    judged = verdict(images)

    assert judged.codes == codes
    assert judged.usable == usable
    assert len(judged.sentences) == len(codes)


@pytest.mark.parametrize(
    "images",
    [
        pytest.param([image(n, EVEN[(n - 1) % 10]) for n in range(1, 31)], id="time-points-without-any-index"),
        pytest.param(stack(*EVEN, echo_number=1) + stack(*EVEN, echo_number=2), id="echoes"),
        pytest.param(stack(*EVEN, image_type=("M",)) + stack(*EVEN[:8], image_type=("P",)), id="phase-shorter-than-magnitude"),
        pytest.param(stack(*(i * 0.625 for i in range(8))), id="thin"),
        pytest.param(stack(*(round(i * 0.625, 1) for i in range(40))), id="positions-rounded-to-a-tenth"),
        pytest.param(stack(*(-5.0 * n for n in range(10))), id="descending"),
        pytest.param([image(2 * n, 5.0 * n) for n in range(1, 9)], id="every-second-number"),
        pytest.param([image(n + 100 * (n > 5), 5.0 * n) for n in range(1, 11)], id="numbers-start-anew-at-105"),
        pytest.param([image(n, 5.0 * k) for k, n in enumerate((1, 2, 4, 5, 7, 8, 10, 11))], id="irregular-numbers"),
        pytest.param([image(n + 10**9 * (n > 4), 5.0 * n) for n in range(1, 9)], id="absurd-numbers"),
        pytest.param(stack(0, 0, image_type=("ORIGINAL", "PRIMARY", "M", "MOSAIC")), id="mosaic"),
        pytest.param(stack(*EVEN, modality="MR", gantry_tilt_deg=None), id="mr"),
        pytest.param(
            [image(1, 0, number_of_frames=6, frame_positions=tuple((0.0, 0.0, 3.0 * n) for n in range(6)),
                   frame_orientations=(AXIAL,))], id="enhanced",
        ),
    ],
)  # fmt: skip
def test_what_is_right_is_not_accused(images: list[Instance]) -> None:
    assert verdict(images) == Verdict("yes")


def test_a_gap_says_between_which_images_it_lies() -> None:
    sentence = verdict([i for i in stack(*EVEN) if i.instance_number not in (4, 5)]).sentences[0]

    assert "2 slices are missing" in sentence
    assert "between images 3 and 6" in sentence


def test_a_gap_in_one_echo_is_found() -> None:
    images = stack(*EVEN, echo_number=1) + [i for i in stack(*EVEN, echo_number=2) if i.instance_number != 6]

    assert "GAP" in verdict(images).codes


def test_a_gap_among_the_frames_of_an_enhanced_object_is_found() -> None:
    places = tuple((0.0, 0.0, 3.0 * n) for n in range(8) if n != 3)
    enhanced = image(1, 0, number_of_frames=7, frame_positions=places, frame_orientations=(AXIAL,))

    assert verdict([enhanced]).codes == ("GAP",)


def test_what_is_known_already_stands_first() -> None:
    judged = verdict(stack(3), codes=("CONFLICT",), sentences=("One image was left out.",))

    assert judged.codes == ("CONFLICT", "SINGLE_SLICE")
    assert judged.usable == "no"


def test_a_finding_of_the_converter_does_not_repeat_a_gap_as_uneven_spacing() -> None:
    judged = with_findings(
        Verdict("with-care", ("GAP",), ("A slice is missing.",)), [("UNEVEN_SPACING", "It varies.")]
    )

    assert judged.codes == ("GAP",)


def test_slices_that_were_lost_make_a_delivery_unusable() -> None:
    assert with_findings(Verdict("yes"), [("SLICES_MISSING", "5 went in, 4 came out.")]).usable == "no"


@given(st.integers(4, 40), st.floats(0.3, 12), st.floats(-60, 60), st.floats(-60, 60), st.randoms())
def test_an_even_stack_is_usable_in_any_direction_and_order(
    count: int, spacing: float, about_x: float, about_z: float, shuffled: random.Random
) -> None:
    a, b = math.radians(about_x), math.radians(about_z)
    row = (math.cos(b), math.sin(b), 0.0)
    column = (-math.sin(b) * math.cos(a), math.cos(b) * math.cos(a), math.sin(a))
    normal = (math.sin(b) * math.sin(a), -math.cos(b) * math.sin(a), math.cos(a))
    images = [
        image(n + 1, 0, image_position=tuple(spacing * n * c for c in normal), image_orientation=row + column)
        for n in range(count)
    ]
    shuffled.shuffle(images)

    assert verdict(images) == Verdict("yes")


@given(st.integers(5, 40), st.floats(0.5, 10), st.data())
def test_a_missing_inner_slice_is_always_a_gap(count: int, spacing: float, data: st.DataObject) -> None:
    lost = data.draw(st.integers(1, count - 2))
    images = [image(n, spacing * n) for n in range(count) if n != lost]

    assert "GAP" in verdict(images).codes


coordinate = st.sampled_from([0.0, 1.0, 5.0, 10.0, 1e9, -3.7]) | st.floats(-1e12, 1e12)
anything = st.builds(
    image,
    st.integers(-5, 5) | st.integers(-(2**32), 2**32),
    st.just(0.0),
    image_position=st.none() | st.tuples(coordinate, coordinate, coordinate),
    image_orientation=st.none() | st.sampled_from([AXIAL, SAGITTAL, (1.0, 0, 0, 1.0, 0, 0)]),
    echo_number=st.none() | st.integers(1, 2),
    acquisition_number=st.none() | st.integers(1, 2),
    slice_thickness=st.none() | st.sampled_from([0.0, 1e-9, 5.0, 1e11]),
    gantry_tilt_deg=st.none() | st.floats(-90, 90),
    image_type=st.sampled_from([(), ("M",), ("MOSAIC",)]),
    rows=st.none() | st.sampled_from([1, 64]),
    number_of_frames=st.integers(1, 3),
    frame_positions=st.lists(st.tuples(coordinate, coordinate, coordinate), max_size=3).map(tuple),
    frame_orientations=st.lists(st.sampled_from([AXIAL, SAGITTAL]), max_size=3).map(tuple),
)


@given(st.lists(anything, max_size=12), st.randoms())
def test_no_headers_raise_and_order_does_not_matter(images: list[Instance], shuffled: random.Random) -> None:
    judged = verdict(images)
    other = list(images)
    shuffled.shuffle(other)

    assert judged.usable in ("yes", "with-care", "no")
    assert len(judged.codes) == len(judged.sentences) == len(set(judged.codes))
    assert verdict(other).usable == judged.usable


def test_a_second_echo_of_one_slice_only_is_not_a_crash() -> None:
    images = [image(1, 0, echo_number=1), image(2, 5, echo_number=1), image(3, 5, echo_number=2)]

    assert verdict(images).usable != "yes"
