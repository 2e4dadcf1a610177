"""Bytes going out: ranges, revisions, refusals (drive-api.md, section 3)."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from googleapiclient.http import MediaIoBaseDownload, MediaIoBaseUpload

from tests.localdrive.conftest import Bench, refused


def ranged(request: Any, header: str) -> bytes:
    request.headers["Range"] = header
    return bytes(request.execute())


def test_the_official_client_downloads_in_chunks(bench: Bench) -> None:
    data = bytes(range(256)) * 1000
    target = BytesIO()
    loader = MediaIoBaseDownload(
        target, bench.files.get_media(fileId=bench.upload(data=data)["id"]), chunksize=100_000
    )
    done = False
    while not done:
        _, done = loader.next_chunk()

    assert target.getvalue() == data


@pytest.mark.parametrize(
    ("header", "expected"),
    [("bytes=2-4", b"234"), ("bytes=7-", b"789"), ("bytes=-3", b"789"), ("bytes=8-99", b"89")],
    ids=["middle", "open", "suffix", "beyond the end"],
)
def test_a_range_is_honoured(bench: Bench, header: str, expected: bytes) -> None:
    made = bench.upload(data=b"0123456789")

    assert ranged(bench.files.get_media(fileId=made["id"]), header) == expected
    revision = bench.service.revisions().get_media(fileId=made["id"], revisionId=made["headRevisionId"])
    assert ranged(revision, header) == expected


@pytest.mark.parametrize(
    ("data", "header"), [(b"12345", "bytes=5-"), (b"", "bytes=0-")], ids=["past the end", "empty"]
)
def test_a_range_outside_the_file_is_416(bench: Bench, data: bytes, header: str) -> None:
    with refused(416):
        ranged(bench.files.get_media(fileId=bench.upload(data=data)["id"]), header)


def test_the_client_accepts_an_empty_file(bench: Bench) -> None:
    target = BytesIO()
    loader = MediaIoBaseDownload(target, bench.files.get_media(fileId=bench.upload(data=b"")["id"]))
    _, done = loader.next_chunk()

    assert (done, target.getvalue()) == (True, b"")


def test_folders_and_documents_have_no_bytes(bench: Bench) -> None:
    with refused(403, "fileNotDownloadable"):
        bench.files.get_media(fileId=bench.home).execute()


@pytest.mark.parametrize(
    ("flag", "reason"), [("no_download", "cannotDownloadFile"), ("abusive", "cannotDownloadAbusiveFile")]
)
def test_flagged_files_are_refused(bench: Bench, flag: str, reason: str) -> None:
    made = bench.upload()
    bench.server.flag(made["id"], **{flag: True})
    with refused(403, reason):
        bench.files.get_media(fileId=made["id"]).execute()


def test_acknowledging_abuse_on_metadata_is_refused(bench: Bench) -> None:
    with refused(403, "invalidAbuseAcknowledgment"):
        bench.files.get(fileId=bench.home, acknowledgeAbuse=True).execute()


class TestRevisions:
    def change(self, bench: Bench, file_id: str, data: bytes) -> dict[str, Any]:
        return bench.update(file_id, media_body=MediaIoBaseUpload(BytesIO(data), "application/octet-stream"))

    def test_a_pinned_download_gives_the_old_bytes(self, bench: Bench) -> None:
        made = bench.upload(data=b"old")
        self.change(bench, made["id"], b"new")
        pinned = (
            bench.service.revisions()
            .get_media(fileId=made["id"], revisionId=made["headRevisionId"])
            .execute()
        )

        assert pinned == b"old"
        assert bench.files.get_media(fileId=made["id"]).execute() == b"new"

    def test_the_list_is_oldest_first_and_ends_with_the_head(self, bench: Bench) -> None:
        made = bench.upload(data=b"old")
        changed = self.change(bench, made["id"], b"new")
        listed = bench.service.revisions().list(fileId=made["id"], fields="*").execute()["revisions"]

        assert [r["id"] for r in listed] == [made["headRevisionId"], changed["headRevisionId"]]

    def test_a_revision_seconds_old_is_404_and_not_listed(self, bench: Bench) -> None:
        bench.server.set_lag(revision_s=60)
        made = bench.upload()
        with refused(404):
            bench.service.revisions().get_media(
                fileId=made["id"], revisionId=made["headRevisionId"]
            ).execute()

        assert bench.service.revisions().list(fileId=made["id"]).execute()["revisions"] == []
        assert bench.files.get_media(fileId=made["id"]).execute() == b"bytes"

    def test_readers_are_refused(self, bench: Bench) -> None:
        made = bench.upload()
        bench.server.share(bench.home, "reader")
        with refused(403, "insufficientFilePermissions"):
            bench.service.revisions().get(fileId=made["id"], revisionId=made["headRevisionId"]).execute()

        assert bench.get(made["id"])["capabilities"]["canReadRevisions"] is False
        assert bench.files.get_media(fileId=made["id"]).execute() == b"bytes"

    def test_the_alias_head_is_404(self, bench: Bench) -> None:
        with refused(404):
            bench.service.revisions().get(fileId=bench.upload()["id"], revisionId="head").execute()

    def test_a_revision_that_people_overwrote_on_disk_is_gone(self, bench: Bench) -> None:
        made = bench.upload("a", b"old")
        (bench.path / "a").write_bytes(b"newer")
        bench.server.scan()
        with refused(404):
            bench.service.revisions().get_media(
                fileId=made["id"], revisionId=made["headRevisionId"]
            ).execute()
