"""The manifest: exactly the agreed keys, the same bytes for the same facts, and read back as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.outside.volumes.manifest import HistoryEntry, ManifestResult, NotAManifest, build, parse
from daemon.rules.model import Dropped, InputRef, Verdict, Volume

FACTS: dict[str, Any] = {
    "study_instance_uid": "1.2",
    "series_instance_uid": "1.2.3",
    "revision": 2,
    "made_at": "2026-11-22T10:00:00Z",
    "verdict": Verdict("with-care", ("GAP",), ("Slice 17 is missing.",)),
    "volumes": [Volume("3_A_1f2e3d4c.nii.gz", "primary", "3_A_1f2e3d4c.json", (512, 512, 60))],
    "results": [ManifestResult("b.json", "id2", 2, "ff"), ManifestResult("a.nii.gz", "id1", 1, "ee")],
    "inputs": [InputRef("f2", "r", "", "m2", "1.2.3.2"), InputRef("f1", "r", "", "m1", "1.2.3.1")],
    "dropped": [Dropped(InputRef("f3", "r", "", "m1", "1.2.3.1"), "REPEAT")],
    "tools": {"sdd-dicom": "0.1.0", "dcm2niix": "1.0.20260724", "arguments": ["-g", "i"]},
    "warnings": ["the protocol name is empty"],
    "history": [HistoryEntry(1, 59, "2026-11-21T10:00:00Z")],
}


def test_it_has_exactly_the_keys_that_readers_rely_on() -> None:
    document = json.loads(build(**FACTS))

    assert document == {
        "schema": 1,
        "study_instance_uid": "1.2",
        "series_instance_uid": "1.2.3",
        "revision": 2,
        "made_at": "2026-11-22T10:00:00Z",
        "verdict": {"usable": "with-care", "codes": ["GAP"], "sentences": ["Slice 17 is missing."]},
        "volumes": [
            {"name": "3_A_1f2e3d4c.nii.gz", "role": "primary", "sidecar": "3_A_1f2e3d4c.json", "shape": [512, 512, 60]}
        ],
        "results": [
            {"name": "a.nii.gz", "file_id": "id1", "size_bytes": 1, "sha256": "ee"},
            {"name": "b.json", "file_id": "id2", "size_bytes": 2, "sha256": "ff"},
        ],
        "inputs": [
            {"file_id": "f1", "head_revision_id": "r", "member": "", "md5_checksum": "m1", "sop_instance_uid": "1.2.3.1"},
            {"file_id": "f2", "head_revision_id": "r", "member": "", "md5_checksum": "m2", "sop_instance_uid": "1.2.3.2"},
        ],
        "dropped": [
            {"file_id": "f3", "head_revision_id": "r", "member": "", "md5_checksum": "m1", "reason": "REPEAT"}
        ],
        "tools": {"sdd-dicom": "0.1.0", "dcm2niix": "1.0.20260724", "arguments": ["-g", "i"]},
        "warnings": ["the protocol name is empty"],
        "history": [{"revision": 1, "inputs": 59, "made_at": "2026-11-21T10:00:00Z"}],
    }  # fmt: skip


def test_the_order_of_the_facts_does_not_change_the_bytes() -> None:
    turned = {key: value[::-1] if key in ("results", "inputs") else value for key, value in FACTS.items()}

    assert build(**turned) == build(**FACTS)


def test_what_is_built_is_read_back() -> None:
    found = parse(build(**FACTS))

    assert found.verdict == FACTS["verdict"]
    assert found.volumes == tuple(FACTS["volumes"])
    assert set(found.results) == set(FACTS["results"])
    assert set(found.inputs) == set(FACTS["inputs"])
    assert found.dropped[0].reason == "REPEAT"
    assert found.history == tuple(FACTS["history"])
    assert found.tools == FACTS["tools"]


def test_the_tables_of_a_diffusion_volume_are_kept() -> None:
    volume = Volume("a.nii.gz", "primary", "a.json", (2, 2, 2, 7), ("a.bval", "a.bvec"))

    assert parse(build(**{**FACTS, "volumes": [volume]})).volumes == (volume,)


def changed(**changes: object) -> bytes:
    document = json.loads(build(**FACTS)) | changes
    return json.dumps({key: value for key, value in document.items() if value is not None}).encode()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xfe", id="not-utf-8"),
        pytest.param(b"[]", id="no-object"),
        pytest.param(b"[" * 100_000, id="too-deep"),
        pytest.param(changed(schema=2), id="another-schema"),
        pytest.param(changed(schema=None), id="no-schema"),
        pytest.param(changed(schema=True), id="schema-true"),
        pytest.param(changed(inputs=None), id="no-inputs"),
        pytest.param(changed(inputs={}), id="inputs-no-list"),
        pytest.param(changed(inputs=[1]), id="inputs-no-objects"),
        pytest.param(changed(inputs=[{"file_id": "SMITH"}]), id="input-without-md5"),
        pytest.param(changed(revision="2"), id="revision-a-text"),
        pytest.param(changed(revision=True), id="revision-true"),
        pytest.param(changed(verdict={"usable": "yes"}), id="verdict-without-codes"),
    ],
)
def test_what_is_no_manifest_is_refused_without_quoting_it(data: bytes) -> None:
    with pytest.raises(NotAManifest) as caught:
        parse(data)

    assert "SMITH" not in str(caught.value)


def test_keys_of_a_later_version_are_ignored() -> None:
    assert parse(changed(quality={"snr": 3})).revision == 2


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_no_json_raises_anything_else(document: object) -> None:
    with pytest.raises(NotAManifest):
        parse(json.dumps(document).encode())
