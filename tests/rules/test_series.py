"""Identity and content: what becomes part of a volume, and that only contents decide it."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.rules.model import InputRef, Instance
from daemon.rules.series import (
    Member,
    content_key,
    folder_name,
    image_key,
    non_image_label,
    renumbering,
    select,
    undecodable_syntax,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
SR = "1.2.840.10008.5.1.4.1.1.88.11"


def instance(number: int = 1, **changes: object) -> Instance:
    plain = Instance(
        study_instance_uid="1.2",
        series_instance_uid="1.2.3",
        sop_class_uid=CT,
        sop_instance_uid=f"1.2.3.{number}",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        modality="CT",
        patient_id="P1",
        instance_number=number,
        image_position=(0.0, 0.0, float(number)),
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def member(
    md5: str, header: Instance, *, file_id: str = "", time: str = "2026-01-01T00:00:00Z", present: bool = True
) -> Member:
    ref = InputRef(file_id or f"file-{md5}", "r1", "", md5, header.sop_instance_uid)
    return Member(ref, header, time, present)


def kept(members: list[Member]) -> list[str]:
    return [item.ref.md5_checksum for item in select(members).kept]


def reasons(members: list[Member]) -> list[tuple[str, str]]:
    return [(item.ref.file_id, item.reason) for item in select(members).dropped]


def test_the_content_key_ignores_order_and_repetition() -> None:
    assert content_key(["b", "a", "b"]) == content_key(["a", "b"])
    assert content_key(["a", "b"]) != content_key(["a"])
    assert len(content_key([])) == 64


def test_the_same_content_twice_is_a_repeat_and_the_smallest_id_stays() -> None:
    members = [member("m", instance(), file_id="z"), member("m", instance(), file_id="a")]

    assert [item.ref.file_id for item in select(members).kept] == ["a"]
    assert reasons(members) == [("z", "REPEAT")]


def test_a_present_copy_is_preferred_to_a_trashed_one() -> None:
    members = [member("m", instance(), file_id="a", present=False), member("m", instance(), file_id="z")]

    assert [item.ref.file_id for item in select(members).kept] == ["z"]


def test_of_two_contents_of_one_image_the_one_modified_last_wins() -> None:
    members = [
        member("old", instance(), time="2026-01-01T00:00:00Z"),
        member("new", instance(), time="2026-01-02T00:00:00Z"),
    ]
    selection = select(members)

    assert kept(members) == ["new"]
    assert reasons(members) == [("file-old", "CONFLICT")]
    assert selection.codes == ("CONFLICT",)
    assert len(selection.sentences) == 1


def test_a_conflict_between_contents_of_the_same_time_is_settled_by_md5() -> None:
    members = [member("b", instance()), member("a", instance())]

    assert kept(members) == kept(members[::-1]) == ["b"]


def test_a_later_copy_of_the_losing_content_changes_nothing() -> None:
    """Copies made by Drive bear new times; an exam copied to a second folder must not turn a conflict round."""
    members = [
        member("old", instance(), time="2026-01-01T00:00:00Z"),
        member("new", instance(), time="2026-01-02T00:00:00Z"),
    ]
    copy = member("old", instance(), file_id="copy", time="2026-03-01T00:00:00Z")

    assert kept([*members, copy]) == kept(members) == ["new"]


def test_one_uid_for_different_slices_is_recorded_and_all_are_kept() -> None:
    members = [member(str(n), instance(n, sop_instance_uid="1.2.3.9")) for n in (1, 2, 3)]

    assert kept(members) == ["1", "2", "3"]
    assert select(members).codes == ("UID_REUSED",)


def test_several_frames_of_reference_are_a_code_not_a_refusal() -> None:
    members = [member(str(n), instance(n, frame_of_reference_uid=f"1.9.{n}")) for n in (1, 2)]

    assert kept(members) == ["1", "2"]
    assert select(members).codes == ("SEVERAL_FRAMES_OF_REFERENCE",)


def test_a_report_among_images_is_left_out_with_its_kind() -> None:
    report = instance(5, sop_class_uid=SR, modality="SR", is_image=False)
    members = [member("m", instance()), member("sr", report)]

    assert kept(members) == ["m"]
    assert reasons(members) == [("file-sr", "NOT_IMAGE:SR")]
    assert select(members).ignored_reason == ""
    assert select(members).identity_conflict == ""


def test_a_series_without_images_is_ignored_by_its_kind() -> None:
    members = [member("sr", instance(sop_class_uid=SR, modality="SR", is_image=False))]

    assert select(members).kept == ()
    assert select(members).ignored_reason == "NOT_IMAGE:SR"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"patient_id": "P2"}, "2 different Patient IDs", id="patients"),
        pytest.param({"modality": "MR"}, "2 different modalities", id="modalities"),
        pytest.param({"patient_id": ""}, "", id="absent-patient-agrees"),
        pytest.param({"modality": ""}, "", id="absent-modality-agrees"),
        pytest.param({"patient_id": " P1 "}, "", id="padding-agrees"),
    ],
)
def test_instances_that_disagree_in_patient_or_modality_are_an_identity_conflict(
    changes: dict[str, str], words: str
) -> None:
    members = [member("a", instance(1)), member("b", instance(2, **changes))]
    told = select(members).identity_conflict

    assert words in told
    assert bool(told) == bool(words)
    assert "P2" not in told


def test_the_key_of_an_image_is_uid_number_and_position() -> None:
    assert image_key(instance(1)) != image_key(instance(1, instance_number=2))
    assert image_key(instance(1)) != image_key(instance(1, image_position=(0.0, 0.0, 9.0)))
    assert image_key(instance(1)) == image_key(instance(1, series_description="other"))


members_of_a_series = st.lists(
    st.builds(
        lambda md5, number, time, copy, there: member(
            f"{md5}-{number}", instance(number), file_id=f"f{copy}", time=f"2026-01-0{time}", present=there
        ),
        st.sampled_from("abc"),
        st.integers(1, 4),
        st.integers(1, 4),
        st.integers(0, 9),
        st.booleans(),
    ),
    max_size=14,
)


@given(members_of_a_series, st.randoms())
def test_the_choice_does_not_depend_on_order(members: list[Member], shuffled: random.Random) -> None:
    other = list(members)
    shuffled.shuffle(other)

    assert kept(other) == kept(members)
    assert select(other).codes == select(members).codes


@given(members_of_a_series)
def test_nothing_is_lost_each_instance_is_kept_or_dropped_once(members: list[Member]) -> None:
    selection = select(members)
    counted = [item.ref for item in selection.kept] + [item.ref for item in selection.dropped]

    assert sorted(map(repr, counted)) == sorted(repr(item.ref) for item in members)
    assert len({image_key(item.instance) for item in selection.kept}) == len(selection.kept)


@given(members_of_a_series, st.lists(st.integers(0, 13), max_size=6))
def test_more_copies_of_the_same_contents_give_the_same_result(
    members: list[Member], again: list[int]
) -> None:
    """The same set of md5s is the same content key, so it must be the same result."""
    copies = [
        dataclasses.replace(
            members[i],
            ref=dataclasses.replace(members[i].ref, file_id=f"copy{n}"),
            modified_time="2026-09-09",
        )
        for n, i in enumerate(again)
        if i < len(members)
    ]

    assert kept([*members, *copies]) == kept(members)


@pytest.mark.parametrize(
    ("number", "description", "start"),
    [
        pytest.param(3, "AXIAL", "3_AXIAL_", id="plain"),
        pytest.param(3, "", "3_series_", id="empty"),
        pytest.param(3, "   ", "3_series_", id="blank"),
        pytest.param(None, "AXIAL", "AXIAL_", id="no-number"),
        pytest.param(None, ".hidden", "_hidden_", id="never-starts-with-a-dot"),
        pytest.param(None, "..", "_._", id="never-the-parent-folder"),
        pytest.param(3, "Schädel/nativ", "3_Sch_del_nativ_", id="umlaut-and-slash"),
        pytest.param(3, "Scha\u0308del", "3_Sch_del_", id="decomposed-umlaut-is-one-character"),
        pytest.param(3, "x" * 80, "3_" + "x" * 60 + "_", id="cut-to-60"),
        pytest.param(3, "%p%n", "3__p_n_", id="no-format-of-the-converter"),
        pytest.param(3, "頭部", "3____", id="script-without-letters-of-ours"),
    ],
)
def test_folder_names(number: int | None, description: str, start: str) -> None:
    name = folder_name(number, description, "1.2", "1.2.3")

    assert name.startswith(start)
    assert len(name) == len(start) + 8


def test_the_folder_name_ends_with_the_hash_of_study_then_series_uid() -> None:
    assert folder_name(1, "A", "1.2", "3") == "1_A_5dcdf9da"  # printf 1.23 | sha256sum


@given(st.none() | st.integers(-5, 10**6), st.text(max_size=100))
def test_folder_names_are_safe_whatever_the_description(number: int | None, description: str) -> None:
    name = folder_name(number, description, "1.2", "1.2.3")

    assert name.isascii()
    assert not set(name) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
    assert name[0] not in ".-"


@pytest.mark.parametrize(
    ("sop_class", "label"),
    [
        pytest.param(CT, "", id="CT"),
        pytest.param("1.2.840.10008.5.1.4.1.1.128", "", id="PET"),
        pytest.param("1.2.840.10008.5.1.4.1.1.7", "", id="secondary-capture"),
        pytest.param("1.2.3.4.5", "", id="private"),
        pytest.param("1.2.840.10008.5.1.4.1.1.481.1", "", id="RT-image"),
        pytest.param(SR, "SR", id="SR"),
        pytest.param("1.2.840.10008.5.1.4.1.1.88.59", "KO", id="KO"),
        pytest.param("1.2.840.10008.5.1.4.1.1.11.1", "PR", id="PR"),
        pytest.param("1.2.840.10008.5.1.4.1.1.481.2", "RTDOSE", id="RTDOSE"),
        pytest.param("1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT", id="RTSTRUCT"),
        pytest.param("1.2.840.10008.5.1.4.1.1.481.5", "RTPLAN", id="RTPLAN"),
        pytest.param("1.2.840.10008.5.1.4.1.1.66.4", "SEG", id="SEG"),
        pytest.param("1.2.840.10008.5.1.4.1.1.66", "RAW", id="raw"),
        pytest.param("1.2.840.10008.5.1.4.1.1.66.1", "REG", id="registration"),
        pytest.param("1.2.840.10008.5.1.4.1.1.104.1", "DOC", id="PDF"),
        pytest.param("1.2.840.10008.5.1.4.1.1.9.1.1", "WAVEFORM", id="ECG"),
    ],
)
def test_which_storage_classes_hold_no_image(sop_class: str, label: str) -> None:
    assert non_image_label(sop_class) == label


@pytest.mark.parametrize(
    ("syntax", "bits", "refused"),
    [
        pytest.param("1.2.840.10008.1.2.8.1", 8, True, id="deflated-frame"),
        pytest.param("1.2.840.10008.1.2.4.51", 12, True, id="jpeg-extended-12-bit"),
        pytest.param("1.2.840.10008.1.2.4.51", 8, False, id="jpeg-extended-8-bit"),
        pytest.param("1.2.840.10008.1.2.4.70", 12, False, id="jpeg-lossless"),
        pytest.param("1.2.840.10008.1.2.1", 16, False, id="plain"),
    ],
)
def test_syntaxes_that_nothing_decodes(syntax: str, bits: int, refused: bool) -> None:
    found = undecodable_syntax(instance(transfer_syntax_uid=syntax, bits_stored=bits))

    assert found == (syntax if refused else "")


def test_images_that_share_uid_and_number_need_new_numbers() -> None:
    same = [instance(1, sop_instance_uid="1.2.3.9", image_position=(0.0, 0.0, z)) for z in (0.0, 5.0, 10.0)]

    assert renumbering(same) == (1, 2, 3)


def test_images_with_numbers_or_uids_of_their_own_keep_their_numbers() -> None:
    assert renumbering([instance(n, sop_instance_uid="1.2.3.9") for n in (1, 2)]) == ()
    assert renumbering([instance(n, instance_number=1) for n in (1, 2)]) == ()
