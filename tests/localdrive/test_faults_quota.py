"""What is refused for its amount: units, writes a second, bytes a day, children of a folder; and the slow link."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.localdrive.server.link import Link
from daemon.localdrive.server.quota import Bucket, Meters
from daemon.localdrive.settings import Settings
from daemon.localdrive.store.store import Store
from daemon.localdrive.store.upload_day import UploadDay
from tests.localdrive.conftest import Bench, refused
from tests.localdrive.raw import Session, ask, download
from tests.support.drive import DriveServer

GET, LIST = 5, 100


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def meters(tmp_path: Path, clock: Clock) -> Callable[..., Meters]:
    def make(**values: object) -> Meters:
        settings = Settings()
        settings.change(values)
        store = Store(tmp_path / "index.sqlite", durable=False, history=False)
        return Meters(settings, UploadDay(store, settings), clock)

    return make


class TestUnits:
    def test_a_minute_slides(self, meters: Callable[..., Meters], clock: Clock) -> None:
        meter = meters(units_per_minute=200)
        answers = []
        for clock.now in (0.0, 30.0, 59.0, 60.0):
            answers.append(meter.refuses("list", LIST))

        assert answers == ["", "", "units", "units"]

    def test_refused_requests_cost_too(self, meters: Callable[..., Meters], clock: Clock) -> None:
        """Who asks again each second never gets in; who waits a minute does."""
        meter = meters(units_per_minute=100)
        answers = []
        for clock.now in (0.0, *range(1, 121), 180.0):
            answers.append(meter.refuses("list", LIST))

        assert answers == ["", *["units"] * 120, ""]

    def test_a_bucket_holds_five_seconds(self, meters: Callable[..., Meters], clock: Clock) -> None:
        meter = meters(units_per_minute=6000, quota_model="bucket")
        burst = [meter.refuses("list", LIST) for _ in range(6)]
        clock.now = 2.0
        later = [meter.refuses("list", LIST) for _ in range(2)]

        assert burst == ["", "", "", "", "", "units"]
        assert later == ["", "units"]

    def test_a_new_rate_does_not_fill_the_bucket(self) -> None:
        """Else a quota that falls would first give five seconds for nothing."""
        bucket = Bucket()
        for _ in range(5):
            assert bucket.take(100, 100, 0.0)

        assert not bucket.take(1, 300, 0.0)

    def test_the_time_before_a_new_rate_counts_by_the_lower_one(self) -> None:
        bucket = Bucket()
        for _ in range(5):
            bucket.take(100, 100, 0.0)

        assert [bucket.take(100, 300, 4.0) for _ in range(5)] == [True] * 4 + [False]

    def test_the_debt_of_a_bucket_is_bounded(self) -> None:
        bucket = Bucket()
        for _ in range(1000):
            bucket.take(100, 100, 0.0)

        assert not bucket.take(100, 100, 5.9)
        assert bucket.take(100, 100, 13.0)

    def test_the_server_refuses_and_tells_why_in_its_record(self, bench: Bench) -> None:
        bench.server.set(units_per_minute=GET + LIST)
        bench.server.reset_quota()
        answers = [ask(bench.server, "GET", "/drive/v3/files") for _ in range(2)]

        assert [answer.status for answer in answers] == [200, 403]
        assert answers[1].reason == "userRateLimitExceeded"
        assert bench.server.every_request()[-1]["refused"] == "units"

    def test_an_unknown_model_is_refused(self, bench: Bench) -> None:
        with pytest.raises(ValueError, match="quota_model is one of minute, bucket"):
            bench.server.set(quota_model="hour")


def test_writes_a_second_spare_reading(bench: Bench) -> None:
    """One a second sustained: five at once pass, the sixth does not."""
    bench.server.set(writes_per_second=1.0)
    for number in range(5):
        bench.folder(f"f{number}")
    with refused(403, "userRateLimitExceeded"):
        bench.folder("too much")

    assert len(bench.names()) == 5


class TestUploadDay:
    def test_after_the_limit_every_upload_is_refused_and_nothing_else(self, bench: Bench) -> None:
        bench.server.set(uploads_per_day_bytes=1000)
        made = bench.upload("first", b"x" * 1000)
        with refused(403, "userRateLimitExceeded"):
            bench.upload("second", b"x")

        assert bench.folder("folders pass")
        assert download(bench.server, made["id"]).status == 200

    def test_a_session_is_stopped_between_two_chunks(self, bench: Bench) -> None:
        bench.server.set(uploads_per_day_bytes=600 * 1024)
        session = Session(bench.server, {"name": "big", "parents": [bench.home]}, 600 * 1024)
        other = Session(bench.server, {"name": "other", "parents": [bench.home]}, 10)
        for number in range(2):
            assert session.put(bytes(256 * 1024), number * 256 * 1024).status == 308

        assert session.put(bytes(88 * 1024), 512 * 1024).status == 200
        assert other.put(bytes(10), 0).status == 403

    def test_a_file_larger_than_the_day_is_refused_at_once(self, bench: Bench) -> None:
        bench.server.set(uploads_per_day_bytes=1000)
        start = "/upload/drive/v3/files?uploadType=resumable"
        answer = ask(bench.server, "POST", start, {"name": "big"}, x_upload_content_length="1001")

        assert (answer.status, answer.reason) == (403, "userRateLimitExceeded")

    def test_a_reset_lets_uploads_pass(self, bench: Bench) -> None:
        bench.server.set(uploads_per_day_bytes=10)
        bench.upload("first", b"x" * 10)
        bench.server.reset_quota()

        assert bench.upload("second", b"x" * 10)

    def test_the_day_passes(self, bench: Bench) -> None:
        bench.server.set(uploads_per_day_bytes=10, upload_day_s=600.0)
        bench.upload("first", b"x" * 10)
        with refused(403, "userRateLimitExceeded"):
            bench.upload("too soon", b"x")
        bench.server.set(upload_day_s=0.001)

        assert bench.upload("second", b"x")

    def test_the_day_outlives_a_restart(self, make_server: Callable[..., DriveServer]) -> None:
        server = make_server(uploads_per_day_bytes=10)
        target = "/upload/drive/v3/files?uploadType=media"
        first = ask(server, "POST", target, b"x" * 10).status
        server.kill()
        server.start()

        assert (first, ask(server, "POST", target, b"x").status) == (200, 403)


class TestFolders:
    def test_a_full_folder_takes_nothing_more(self, bench: Bench) -> None:
        bench.server.set(folder_children_limit=2)
        full, other = bench.folder("full"), bench.folder("other")
        first = bench.upload("1", parent=full)
        bench.upload("2", parent=full)
        moved = bench.upload("3", parent=other)
        with refused(403, "numChildrenInNonRootLimitExceeded"):
            bench.upload("3", parent=full)
        with refused(403, "numChildrenInNonRootLimitExceeded"):
            bench.update(moved["id"], addParents=full, removeParents=other)
        bench.update(first["id"], {"trashed": True})
        with refused(403, "numChildrenInNonRootLimitExceeded"):
            bench.upload("3", parent=full)
        bench.files.delete(fileId=first["id"]).execute()

        assert bench.upload("3", parent=full)

    def test_the_root_has_no_such_limit(self, bench: Bench) -> None:
        bench.server.set(folder_children_limit=1)

        for _ in range(3):
            bench.files.delete(fileId=bench.folder("in the root", "root")).execute()

    def test_a_shared_drive_may_be_full(self, make_server: Callable[..., DriveServer]) -> None:
        server = make_server(shared_drive_items_limit=1)
        drive_id, _ = server.create_shared_drive()
        target = "/drive/v3/files?supportsAllDrives=true"
        answers = [ask(server, "POST", target, {"name": "x", "parents": [drive_id]}) for _ in range(2)]

        assert [answer.status for answer in answers] == [200, 403]
        assert answers[1].reason == "teamDriveFileLimitExceeded"


class TestLink:
    def took(self, bench: Bench, file_id: str) -> float:
        started = time.monotonic()
        assert download(bench.server, file_id).status == 200
        return time.monotonic() - started

    def test_every_answer_is_late_by_the_latency(self, bench: Bench) -> None:
        made = bench.upload(data=b"x")
        bench.server.set(latency_s=0.1)

        assert self.took(bench, made["id"]) >= 0.1

    def test_the_jitter_is_the_same_for_the_same_seed(self) -> None:
        rows: list[list[float]] = []
        for seed in (5, 5, 6):
            slept: list[float] = []

            async def sleep(seconds: float, slept: list[float] = slept) -> None:
                slept.append(seconds)

            settings = Settings(latency_s=0.1, latency_jitter_s=0.05, seed=seed)
            link = Link(settings, sleep)
            for _ in range(20):
                asyncio.run(link.wait_for_answer())
            rows.append(slept)

        assert rows[0] == rows[1] != rows[2]
        assert all(0.05 <= seconds <= 0.15 for row in rows for seconds in row)

    def test_downloads_have_a_bandwidth(self, bench: Bench) -> None:
        made = bench.upload(data=bytes(300_000))
        bench.server.set(download_bytes_per_s=1_000_000.0)

        assert self.took(bench, made["id"]) >= 0.29

    def test_uploads_have_a_bandwidth(self, bench: Bench) -> None:
        bench.server.set(upload_bytes_per_s=1_000_000.0)
        started = time.monotonic()
        bench.upload(data=bytes(300_000))

        assert time.monotonic() - started >= 0.29
