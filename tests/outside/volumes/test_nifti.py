"""One run of the converter: what comes out, and every way in which it can go wrong."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from daemon.cli.phantom import Phantom, hounsfield, slice_of, write_series
from daemon.outside.dicom.header import read_instance
from daemon.outside.dicom.rewrite import as_part10
from daemon.outside.volumes import nifti
from daemon.outside.volumes.nifti import Conversion, Limits, convert
from daemon.rules import geometry
from daemon.rules.errors import Refused, Transient
from daemon.rules.model import Instance
from daemon.rules.series import renumbering

GENEROUS = Limits(timeout_s=60, memory_bytes=8 << 30, output_bytes=1 << 30)
SMALL = Phantom(slices=8, rows=32, columns=32)


def links(paths: list[Path]) -> list[tuple[str, Path]]:
    return [(path.stem, path) for path in paths]


def converted(paths: list[Path], tmp_path: Path, prefix: str = "3_A_1f2e3d4c") -> Conversion:
    return convert(
        links(paths), prefix, tmp_path / "work", GENEROUS, instances=[read_instance(path) for path in paths]
    )


def refusal(paths: list[Path], tmp_path: Path, limits: Limits = GENEROUS, **known: list[Instance]) -> Refused:
    with pytest.raises(Refused) as caught:
        convert(links(paths), "p", tmp_path / "work", limits, **known)
    assert caught.value.remedy
    assert str(tmp_path) not in str(caught.value)
    return caught.value


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    return write_series(tmp_path / "dicom", SMALL)


@pytest.fixture
def double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Put a program of ours in the converter's place; it sees the same arguments and the same fence."""

    def put(body: str) -> None:
        path = tmp_path / "double"
        path.write_text(
            f"#!{sys.executable} -IS\nimport os, sys, time\nout = sys.argv[-2]\n" + textwrap.dedent(body)
        )
        path.chmod(0o755)
        monkeypatch.setattr(nifti.dcm2niix, "bin", str(path))

    return put


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned-with-rescale", "signed"])
def test_the_voxels_are_the_hounsfield_units_of_the_images(signed: bool, tmp_path: Path) -> None:
    phantom = Phantom(slices=8, rows=32, columns=32, signed=signed)
    made = converted(write_series(tmp_path / "dicom", phantom), tmp_path)
    image = nibabel.load(tmp_path / "work" / "out" / made.volumes[0].name)
    voxels = np.asarray(image.dataobj)

    for number in range(1, 9):
        expected = np.clip(np.rint(hounsfield(phantom, number)), -1024, 3071)
        assert np.array_equal(voxels[:, ::-1, number - 1].T, expected)
    assert np.allclose(np.abs(np.diag(image.affine)), [5.5, 5.5, 5.0, 1])


def test_results_bear_our_prefix_and_the_converters_suffix(tmp_path: Path) -> None:
    """dcm2niix shortens a double underscore; the delivery's name must not depend on that."""
    made = converted(write_series(tmp_path / "d", SMALL, leave_out={4}), tmp_path, prefix="3_A__B_1f2e3d4c")

    assert [volume.name for volume in made.volumes] == [
        "3_A__B_1f2e3d4c.nii.gz",
        "3_A__B_1f2e3d4c_Eq_1.nii.gz",
    ]
    assert made.volumes[0].sidecar == "3_A__B_1f2e3d4c.json"
    assert made.volumes[1].sidecar == ""
    assert {path.name for path in made.files} == {
        "3_A__B_1f2e3d4c.nii.gz", "3_A__B_1f2e3d4c_Eq_1.nii.gz", "3_A__B_1f2e3d4c.json",
    }  # fmt: skip


def test_a_gap_makes_the_resampled_volume_primary(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "d", SMALL, leave_out={4})
    made = converted(paths, tmp_path)
    judged = geometry.verdict([read_instance(path) for path in paths])
    judged = geometry.with_findings(judged, made.findings)

    assert (judged.usable, judged.codes) == ("with-care", ("GAP",))
    assert [v.role for v in nifti.assign_roles(made.volumes, judged)] == ["plain", "primary"]


def test_a_tilted_gantry_makes_the_corrected_volume_primary(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "d", Phantom(slices=8, rows=32, columns=32, tilt_deg=10))
    made = converted(paths, tmp_path)
    judged = geometry.verdict([read_instance(path) for path in paths])

    assert judged.codes == ("TILT",)
    assert {v.name[12:]: v.role for v in nifti.assign_roles(made.volumes, judged)} == {
        ".nii.gz": "plain", "_Tilt_1.nii.gz": "primary",
    }  # fmt: skip


def test_the_same_images_give_the_same_voxels_and_sidecar(images: list[Path], tmp_path: Path) -> None:
    first = converted(images, tmp_path / "1")
    second = converted(images[::-1], tmp_path / "2")
    digests = [
        [hashlib.sha256(path.read_bytes()).hexdigest() for path in made.files] for made in (first, second)
    ]

    assert digests[0] == digests[1]


def test_a_second_attempt_starts_from_nothing(images: list[Path], tmp_path: Path) -> None:
    converted(images, tmp_path)
    (tmp_path / "work" / "out" / "left-over.nii.gz").write_bytes(b"half")

    assert len(converted(images, tmp_path).files) == 2


def test_files_without_preamble_convert_after_rewriting(tmp_path: Path) -> None:
    phantom = Phantom(slices=8, rows=32, columns=32, transfer_syntax_uid=str(DeflatedExplicitVRLittleEndian))
    paths = write_series(tmp_path / "deflated", phantom)
    for path in paths:
        as_part10(path, tmp_path / path.name)

    assert refusal(paths, tmp_path).code == "NO_VOLUME"
    assert converted([tmp_path / path.name for path in paths], tmp_path).volumes[0].shape == (32, 32, 8)


def test_the_raw_output_is_kept_for_the_administrator_alone(images: list[Path], tmp_path: Path) -> None:
    made = converted(images, tmp_path)

    assert b"Convert 8 DICOM" in made.log_path.read_bytes()
    assert stat.S_IMODE(made.log_path.stat().st_mode) == 0o600
    assert made.log_path not in made.files


def test_phrases_not_lines_are_reported(images: list[Path], tmp_path: Path) -> None:
    made = converted(images, tmp_path)

    assert made.warnings == ("the manufacturer is not given",)
    assert made.findings == ()
    assert made.version == "1.0.20260724"
    assert made.arguments[:2] == ("-g", "i")


def test_an_undecodable_syntax_is_refused_with_its_name_before_any_run(
    images: list[Path], tmp_path: Path
) -> None:
    known = [replace(read_instance(path), transfer_syntax_uid="1.2.840.10008.1.2.8.1") for path in images]
    error = refusal(images, tmp_path, instances=known)

    assert error.code == "UNSUPPORTED_SYNTAX"
    assert "1.2.840.10008.1.2.8.1" in error.what
    assert "uncompressed" in error.remedy
    assert not (tmp_path / "work").exists()


def test_twelve_bit_jpeg_extended_is_held_by_its_syntax(tmp_path: Path) -> None:
    path = Path(pydicom.__file__).parent / "data/test_files/JPGExtended.dcm"
    error = refusal([path], tmp_path, instances=[read_instance(path)])

    assert error.code == "UNSUPPORTED_SYNTAX"
    assert "1.2.840.10008.1.2.4.51" in error.what


def badly_anonymised(tmp_path: Path) -> list[Path]:
    """One SOPInstanceUID and one InstanceNumber for all slices; only the positions differ."""
    paths = []
    for number in range(1, 9):
        dataset = slice_of(SMALL, number)
        dataset.SOPInstanceUID, dataset.InstanceNumber = "1.2.3", 1
        paths.append(tmp_path / f"IM{number}")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def test_slices_that_did_not_come_out_are_found(tmp_path: Path) -> None:
    """dcm2niix takes such images for duplicates, keeps one, and exits 0."""
    made = converted(badly_anonymised(tmp_path), tmp_path)

    assert "SLICES_MISSING" in [code for code, _ in made.findings]


def test_slices_that_share_uid_and_number_come_out_whole_with_new_numbers(
    images: list[Path], tmp_path: Path
) -> None:
    paths = badly_anonymised(tmp_path)
    numbers = renumbering([read_instance(path) for path in paths])
    (tmp_path / "new").mkdir()
    for path, number in zip(paths, numbers, strict=True):
        as_part10(path, tmp_path / "new" / path.name, instance_number=number)
    made = converted([tmp_path / "new" / path.name for path in paths], tmp_path / "a", "p")
    plain = converted(images, tmp_path / "b", "p")
    voxels = [np.asarray(nibabel.load(one.files[1]).dataobj) for one in (made, plain)]

    assert made.findings == ()
    assert np.array_equal(*voxels)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param("os.kill(os.getpid(), 11)", "CONVERTER_CRASHED", id="segmentation-fault"),
        pytest.param("os.abort()", "CONVERTER_CRASHED", id="abort"),
        pytest.param("os.kill(os.getpid(), 9)", "CONVERTER_MEMORY", id="killed-by-the-kernel"),
        pytest.param(
            "print('Error: memory allocation failed'); sys.exit(1)", "CONVERTER_MEMORY", id="says-so"
        ),
        pytest.param("sys.exit(0)", "NO_VOLUME", id="nothing-and-exit-0"),
        pytest.param("sys.exit(2)", "NO_VOLUME", id="no-dicom"),
        pytest.param("sys.exit(1)", "CONVERTER_FAILED", id="truncated"),
        pytest.param("sys.exit(6)", "CONVERTER_FAILED", id="bad-output"),
        pytest.param("sys.exit(99)", "CONVERTER_FAILED", id="unknown-exit"),
        pytest.param(
            "open(out + '/volume.nii.gz', 'w').write('half')", "CONVERTER_FAILED", id="half-a-volume"
        ),
    ],
)
def test_how_a_run_ends_decides_the_reason(
    body: str, code: str, images: list[Path], tmp_path: Path, double
) -> None:  # type: ignore[no-untyped-def]
    double(body)

    assert refusal(images, tmp_path).code == code


def test_a_full_disk_passes_by_itself(images: list[Path], tmp_path: Path, double) -> None:  # type: ignore[no-untyped-def]
    double("print('Error: Unable to write BIDS sidecar x (disk full?)')")
    with pytest.raises(Transient, match="DISK_FULL"):
        convert(links(images), "p", tmp_path / "work", GENEROUS)


def test_a_run_that_does_not_end_is_killed_with_its_children(
    images: list[Path], tmp_path: Path, double
) -> None:  # type: ignore[no-untyped-def]
    double(
        f"""
        child = os.fork()
        open({str(tmp_path / "pid")!r} + ("c" if child == 0 else "p"), "w").write(str(os.getpid()))
        time.sleep(60)
        """
    )
    started = time.monotonic()
    error = refusal(images, tmp_path, Limits(1.0, 8 << 30, 1 << 30))

    assert error.code == "CONVERTER_TIMEOUT"
    assert time.monotonic() - started < 10
    assert not alive(int((tmp_path / "pidp").read_text()))
    # Killed with the group, but nobody here waits for it: its end may take a moment.
    wait_until(lambda: not alive(int((tmp_path / "pidc").read_text())))


@pytest.mark.parametrize("handling", ["SIG_DFL", "SIG_IGN"], ids=["dies-of-the-signal", "survives-it"])
def test_output_beyond_its_limit_ends_the_run(
    handling: str, images: list[Path], tmp_path: Path, double
) -> None:  # type: ignore[no-untyped-def]
    double(
        f"import signal; signal.signal(signal.SIGXFSZ, signal.{handling})\nf = open(out + '/volume.nii', 'wb')\nwhile True: f.write(bytes(1 << 16))"
    )

    assert refusal(images, tmp_path, Limits(30, 8 << 30, 1 << 20)).code == "CONVERTER_OUTPUT_TOO_LARGE"


def test_many_small_outputs_beyond_the_limit_end_the_run_too(
    images: list[Path], tmp_path: Path, double
) -> None:  # type: ignore[no-untyped-def]
    double(
        "for n in range(10 ** 6):\n    open(f'{out}/volume{n}', 'wb').write(bytes(1 << 18)); time.sleep(0.01)"
    )

    assert refusal(images, tmp_path, Limits(30, 8 << 30, 1 << 20)).code == "CONVERTER_OUTPUT_TOO_LARGE"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("open(f'{out}/{n}', 'wb').close()", id="empty-files"),
        pytest.param("os.makedirs(f'{out}/{n}/deeper')", id="directories"),
        pytest.param("open(f'../{n}', 'wb').write(bytes(4096))", id="beside-its-own"),
        pytest.param("open(f'{os.getcwd()}/{n}', 'wb').write(bytes(4096))", id="where-it-stands"),
        pytest.param(
            "os.makedirs(f'{out}/s', exist_ok=True); open(f'{out}/s/{n}', 'wb').write(bytes(4096))",
            id="below",
        ),
    ],
)
def test_whatever_is_written_counts_as_output(body: str, images: list[Path], tmp_path: Path, double) -> None:  # type: ignore[no-untyped-def]
    """However a converter fills the disk, and wherever below its directory."""
    double(f"os.chdir(out)\nfor n in range(2000):\n    {body}; time.sleep(0.002)")

    if "getcwd" in body:
        double(f"for n in range(2000):\n    {body}; time.sleep(0.002)")

    assert refusal(images, tmp_path, Limits(30, 8 << 30, 1 << 20)).code == "CONVERTER_OUTPUT_TOO_LARGE"


def test_a_talkative_converter_is_ended_too_and_its_log_is_cut(
    images: list[Path], tmp_path: Path, double
) -> None:  # type: ignore[no-untyped-def]
    double("while True: print('x' * 1000)")

    assert refusal(images, tmp_path, Limits(30, 8 << 30, 16 << 20)).code == "CONVERTER_OUTPUT_TOO_LARGE"
    assert (tmp_path / "work" / nifti.LOG_NAME).stat().st_size == 4 << 20


def test_of_a_failure_nothing_stays_but_the_log(images: list[Path], tmp_path: Path, double) -> None:  # type: ignore[no-untyped-def]
    """A held series may lie for weeks: what its converter wrote must not lie as long."""
    double("open(out + '/volume.nii', 'wb').write(bytes(1 << 20)); os.abort()")

    assert refusal(images, tmp_path).code == "CONVERTER_CRASHED"
    assert [path.name for path in (tmp_path / "work").iterdir()] == [nifti.LOG_NAME]
    assert all(path.exists() for path in images)


def test_memory_beyond_its_limit_is_refused_not_taken(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "d", Phantom(slices=24, rows=256, columns=256))
    error = refusal(paths, tmp_path, Limits(30, 8 << 20, 1 << 30))

    assert error.code == "CONVERTER_MEMORY"
    assert "convert_memory_gb" in error.remedy


def test_the_fence_stands_before_the_converter_starts(images: list[Path], tmp_path: Path, double) -> None:  # type: ignore[no-untyped-def]
    double(
        """
        import resource
        print(resource.getrlimit(resource.RLIMIT_AS), resource.getrlimit(resource.RLIMIT_FSIZE),
              resource.getrlimit(resource.RLIMIT_CORE), os.getpgrp() == os.getpid(), os.nice(0) >= 5,
              sorted(os.environ), os.environ["HOME"])
        """
    )
    refusal(images, tmp_path, Limits(30, 5 << 30, 3 << 20))
    said = (tmp_path / "work" / nifti.LOG_NAME).read_text()

    assert f"({5 << 30}, {5 << 30}) ({3 << 20}, {3 << 20}) (0, 0) True True" in said
    assert "GOOGLE" not in said
    assert "'LC_ALL'" in said
    assert said.strip().endswith(str(tmp_path / "work"))


def test_the_converter_dies_with_the_daemon(images: list[Path], tmp_path: Path, double) -> None:  # type: ignore[no-untyped-def]
    double(f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)")
    script = (
        "import sys; from pathlib import Path; from daemon.outside.volumes import nifti\n"
        f"nifti.dcm2niix.bin = {nifti.dcm2niix.bin!r}\n"
        f"nifti.convert([], 'p', Path({str(tmp_path / 'work')!r}), nifti.Limits(60, 8 << 30, 1 << 30))\n"
    )
    daemon = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[3])
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
    converter = int((tmp_path / "pid").read_text())
    assert alive(converter)
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait()

    wait_until(lambda: not alive(converter))


@pytest.mark.parametrize("name", ["../escape", "", ".hidden", "a/b", "x" * 300, "a b"])
def test_link_names_and_prefix_cannot_lead_out(name: str, images: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="letters"):
        convert([(name, images[0])], "p", tmp_path / "work", GENEROUS)
    with pytest.raises(ValueError, match="letters"):
        convert(links(images), name, tmp_path / "work", GENEROUS)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds: float = 15.0) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
