"""What the benchmarks feed the program is what they say it is."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from pydicom import dcmread

from daemon.outside.dicom.header import read_instance
from tests.instruments.bench import memory, speed
from tests.instruments.bench.process import Program
from tests.support.world import World


def test_the_exams_are_series_of_their_own_with_the_same_pixels(tmp_path: Path) -> None:
    size_bytes = speed.write_exams(tmp_path, 3, 64)
    paths = sorted(tmp_path.rglob("*.dcm"))
    images = [dcmread(path) for path in paths]

    assert len(paths) == 3 * speed.SERIES
    assert size_bytes == sum(path.stat().st_size for path in paths)
    assert len({image.SeriesInstanceUID for image in images}) == speed.SERIES
    assert len({image.SOPInstanceUID for image in images}) == len(paths)
    assert {image.pixel_array.shape for image in images} == {(64, 64)}
    assert (images[0].pixel_array == images[3].pixel_array).all()


def test_small_slices_are_whole_and_each_is_another(tmp_path: Path) -> None:
    """One byte too many in a UID, and all of them would be damaged files."""
    memory.write_slices(tmp_path / "source", memory.IN_FOLDER + 2)
    paths = sorted((tmp_path / "source").rglob("IM*"))
    instances = [read_instance(path) for path in paths]

    assert len(instances) == memory.IN_FOLDER + 2
    assert len({instance.series_instance_uid for instance in instances}) == 2
    assert len({instance.sop_instance_uid for instance in instances}) == len(instances)
    assert [instance.instance_number for instance in instances[:3]] == [1, 2, 3]
    assert dcmread(paths[1]).pixel_array.shape == (16, 16)


def test_the_huge_file_is_a_whole_multi_frame_image(tmp_path: Path) -> None:
    path = tmp_path / "exam" / "huge"
    memory.write_huge(path, 0.02)
    instance, image = read_instance(path), dcmread(path)

    assert instance.number_of_frames == image.NumberOfFrames == 38
    assert path.stat().st_size > len(image.PixelData) == 38 * 512 * 512 * 2


def test_one_at_a_time_delivers_the_same(tmp_path: Path) -> None:
    """And never has two requests under way."""
    exams = tmp_path / "exams"
    speed.write_exams(exams, 3, 32)
    with World(tmp_path / "world", latency_s=0.002) as world:
        for exam in sorted(exams.iterdir())[:2]:
            world.drop(exam)
        world.drive.scan()
        before = len(world.drive.every_request())
        with Program(speed.sequential(world), tmp_path / "log") as program:
            took = program.wait(120)
        requests = world.drive.every_request()[before:]

        assert took.exit_code == 0
        assert len(world.deliveries()) == 2
        assert sum(request["kind"] == "download" for request in requests) == 6
        for one, following in pairwise(requests):
            assert one["ended_epoch_s"] <= following["epoch_s"] + 0.001
