"""A delivery's world: an embedded Drive, a ledger with converted revisions, a spool."""

from __future__ import annotations

import hashlib
import itertools
import json
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from daemon.localdrive.process import DriveProcess
from daemon.outside.cache import Cache
from daemon.outside.clock import Clock
from daemon.outside.drive.auth import LocalToken
from daemon.outside.drive.client import Drive
from daemon.outside.drive.pacer import Pacer
from daemon.outside.drive.sender import Sender
from daemon.outside.drive.transport import build_transport
from daemon.outside.drive.wire import Answer, Request
from daemon.outside.ledger import Ledger, Place, RevisionRow
from daemon.outside.spool import Spool
from daemon.rules import markers
from daemon.rules.backoff import Backoff
from daemon.rules.breakers import Breakers
from daemon.rules.model import File, Instance
from daemon.rules.outcomes import Converted, Delivered, Filed, MadeResult, Reserved, RevisionOutcome
from daemon.steps.context import Context
from daemon.steps.deliver.deliver import deliver
from daemon.steps.deliver.reserve import reserve
from daemon.steps.presence import PresenceCache
from daemon.steps.tree import Places, Tree
from tests.support.crash import Crash

NAME = "3_AXIAL_1f2e3d4c"
NOW = 1_795_000_000.0
FACTS: Mapping[str, Any] = {
    "verdict": {"usable": "yes", "codes": [], "sentences": []},
    "volumes": [{"name": f"{NAME}.nii.gz", "role": "primary", "sidecar": f"{NAME}.json", "shape": [2, 2, 2]}],
    "warnings": [],
    "tools": {"sdd-dicom": "0", "arguments": ["-g", "i"]},
}
FIRST = {f"{NAME}.nii.gz": b"volume one", f"{NAME}.json": b"{}", "preview.jpg": b"picture one"}


class Wire:
    """A sender around each exchange: counts, and dies at the n-th, before or after its effect."""

    def __init__(self) -> None:
        self._sender: Sender | None = None
        self.before: Callable[[Request], object] = lambda _: None
        """Called before each exchange: what people do in that very moment."""
        self.kinds: list[str] = []
        self.die_at = 0
        self.die_on = ""
        self.after_effect = False

    def around(self, sender: Sender) -> Sender:
        """Return this, as a layer around a sender."""
        self._sender = sender
        return self

    def send(self, request: Request) -> Answer:
        assert self._sender is not None
        self.kinds.append(request.kind)
        dies = len(self.kinds) == self.die_at or request.kind == self.die_on
        if dies and not self.after_effect:
            raise Crash
        self.before(request)
        answer = self._sender.send(request)
        if dies:
            raise Crash
        return answer

    def reset(self, die_at: int = 0, *, after_effect: bool = False, die_on: str = "") -> None:
        self.kinds.clear()
        self.die_at, self.die_on, self.after_effect = die_at, die_on, after_effect


class DeliveryWorld:
    """What the two steps of delivery need, and no daemon: a source, an output and one state directory.

    All of them share one embedded Drive.
    """

    ledger: Ledger
    cache: Cache
    context: Context

    def __init__(self, drive: Drive, wire: Wire, state: Path) -> None:
        self.drive, self.wire, self._state = drive, wire, state
        wire.reset()
        self.top_id = self.folder("top", drive.root_id())
        self.source_id = self.folder("DICOM", self.top_id)
        self.exam_id = self.folder("exam A", self.source_id)
        self.output_id = self.folder("NIfTI", self.top_id)
        self.places = Places(self.source_id, self.output_id, self.top_id)
        self._files = itertools.count(1)
        state.mkdir()
        self.spool = Spool(state / "spool", max_bytes=1 << 30, disk_reserve_bytes=0)
        self.restart()

    def restart(self) -> Context:
        """A new process over the same state."""
        if hasattr(self, "ledger"):
            self.ledger.close()
            self.cache.close()
        self.wire.reset()
        self.ledger = Ledger(self._state / "ledger.sqlite3")
        self.cache = Cache(self._state / "cache")
        self.context = Context(
            settings=cast(Any, None),
            clock=Clock(),
            ledger=self.ledger,
            drive=self.drive,
            spool=self.spool,
            places=self.places,
            tree=Tree(self.drive, self.cache, self.ledger.crawls, self.places),
            breakers=Breakers(),
            presence=PresenceCache(lambda: 0.0),  # one moment, however slow the machine is
        )
        return self.context

    # ── what people do ───────────────────────────────────────────────────────────────────────────────────────

    def folder(self, name: str, parent_id: str) -> str:
        (file_id,) = self.drive.generate_ids(1)
        return self.drive.create_folder(
            file_id=file_id, name=name, parent_id=parent_id, properties={}
        ).file_id

    def edit(self, file_id: str, data: bytes, tmp_path: Path) -> None:
        path = tmp_path / "edited"
        path.write_bytes(data)
        self.drive.update_content(
            file_id=file_id,
            path=path,
            mime_type="text/plain",
            properties={},
            size_bytes=len(data),
            md5_checksum=hashlib.md5(data).hexdigest(),
        )

    # ── what the steps before do ─────────────────────────────────────────────────────────────────────────────

    def file_instances(self, uid: str = "1", count: int = 2, folder_id: str = "") -> int:
        """List instances of a series in the ledger; return its id."""
        folder_id = folder_id or self.exam_id
        for _ in range(count):
            number = next(self._files)
            file_id = f"input-{number:04d}"
            md5 = hashlib.md5(file_id.encode()).hexdigest()
            file = File(file_id, size_bytes=1, md5_checksum=md5, head_revision_id="r1", version=1)
            self.ledger.files.observe(file, Place(folder_id, self.exam_id), NOW)
            row = self.ledger.files.get(file_id)
            assert row is not None
            instance = Instance(
                "1.2", f"1.2.{uid}", "1.2.840.10008.5.1.4.1.1.2", f"1.2.{uid}.{number}", "1.2"
            )
            self.ledger.files.apply(row, Filed((("", md5, instance),)), NOW, 0.0)
        (series,) = self.ledger.series.by_uid(f"1.2.{uid}")
        return series.series_id

    def convert(
        self, series_id: int, results: Mapping[str, bytes] = FIRST, *, is_rebuild: bool = False
    ) -> RevisionRow:
        """Begin the next revision, settle it, and put its results into the spool."""
        table = self.ledger.revisions
        n = table.begin(series_id, NOW, is_rebuild=is_rebuild)
        members = self.ledger.series.members(series_id)
        table.settle(self.revision(series_id, n), members, f"key-{n}", "quiet", NOW)
        return self.convert_again(series_id, n, results)

    def convert_again(self, series_id: int, n: int, results: Mapping[str, bytes] = FIRST) -> RevisionRow:
        """Make the results of a settled revision (also of one whose attempt was abandoned)."""
        revision = self.revision(series_id, n)
        folder = self.spool.working_dir(series_id, n, revision.attempt)
        made = []
        for name, data in results.items():
            (folder / name).write_bytes(data)
            made.append(
                MadeResult(
                    name,
                    "application/octet-stream",
                    len(data),
                    hashlib.sha256(data).hexdigest(),
                    hashlib.md5(data).hexdigest(),
                )
            )
        self.spool.keep_results(folder, series_id, n, revision.attempt)
        self.ledger.revisions.apply(
            revision, Converted("2026-11-22T10:00:00Z", NAME, tuple(made), (), FACTS), NOW
        )
        return self.revision(series_id, n)

    # ── the steps ────────────────────────────────────────────────────────────────────────────────────────────

    def revision(self, series_id: int, n: int) -> RevisionRow:
        found = self.ledger.revisions.get(series_id, n)
        assert found is not None
        return found

    def reserve(self, revision: RevisionRow) -> RevisionOutcome:
        return self.take(reserve, revision)

    def deliver(self, revision: RevisionRow) -> RevisionOutcome:
        return self.take(deliver, revision)

    def take(
        self, step: Callable[[Context, RevisionRow], RevisionOutcome], revision: RevisionRow
    ) -> RevisionOutcome:
        """Take a step and write its outcome, as the workers do."""
        row = self.revision(*revision.key)
        outcome = step(self.context, row)
        self.ledger.revisions.apply(row, outcome, NOW)
        return outcome

    def deliver_all(self, revision: RevisionRow) -> None:
        """Reserve and deliver."""
        assert isinstance(self.reserve(revision), Reserved)
        assert isinstance(self.deliver(revision), Delivered)

    # ── what is on Drive ─────────────────────────────────────────────────────────────────────────────────────

    def children(self, folder_id: str) -> list[File]:
        return list(self.drive.list_children(folder_id).files)

    def tree(self, folder_id: str = "") -> dict[str, str]:
        """Return path → md5 of everything under a folder (the output folder); a path that comes twice fails."""
        found: dict[str, str] = {}
        for file in self.children(folder_id or self.output_id):
            assert file.name not in found
            found[file.name] = file.md5_checksum
            if file.is_folder:
                for path, md5 in self.tree(file.file_id).items():
                    found[f"{file.name}/{path}"] = md5
        return found

    def staged(self) -> list[File]:
        """Return what lies in staging and is not in the trash."""
        return [
            file
            for root in self.children(self.top_id)
            if root.properties.get(markers.KIND) == markers.Kind.STAGING
            for file in self.children(root.file_id)
        ]

    def results(self, series_id: int) -> dict[str, File]:
        """Return name → file of what lies in the delivery folder; a name that comes twice fails."""
        files = self.children(self.ledger.series.get(series_id).delivery_folder_id)
        assert len({file.name for file in files}) == len(files)
        return {file.name: file for file in files}

    def manifest(self, series_id: int) -> dict[str, Any]:
        file = self.results(series_id)["manifest.json"]
        target = self._state / "manifest"
        self.drive.download(file, target)
        return cast(dict[str, Any], json.loads(target.read_bytes()))


def expected(results: Mapping[str, bytes]) -> dict[str, str]:
    """Return name → md5."""
    return {name: hashlib.md5(data).hexdigest() for name, data in results.items()}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DriveProcess]:
    settings = {"listing_lag_s": 0, "feed_lag_s": 0, "revision_lag_s": 0, "scan_interval_s": 0}
    with DriveProcess(
        tmp_path_factory.mktemp("drive"), admin=True, durable=False, settings=settings, token=""
    ) as process:
        yield process


def make_drive(server: DriveProcess, **options: Any) -> Drive:
    parts = {"pacer": Pacer(1e9), "backoff": Backoff(0.001, 32.0), "tries": 3} | options
    transport = build_transport(LocalToken(server.token or "any"), **parts)
    return Drive(transport, api_endpoint=server.endpoint)


@pytest.fixture(scope="session")
def shared_drive(server: DriveProcess) -> tuple[Drive, Wire]:
    wire = Wire()
    return make_drive(server, wrap=wire.around), wire


@pytest.fixture
def new_world(shared_drive: tuple[Drive, Wire], tmp_path: Path) -> Callable[[], DeliveryWorld]:
    numbers = itertools.count()
    return lambda: DeliveryWorld(*shared_drive, tmp_path / f"state-{next(numbers)}")


@pytest.fixture
def world(new_world: Callable[[], DeliveryWorld]) -> DeliveryWorld:
    return new_world()


@pytest.fixture
def faults(server: DriveProcess) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Script misbehaviour of the Drive; forgotten after the test."""

    def call(method: str, body: dict[str, Any] | None = None) -> None:
        request = urllib.request.Request(
            f"{server.endpoint}/_admin/faults",
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"authorization": f"Bearer {server.token}", "content-type": "application/json"},
        )
        urllib.request.urlopen(request).read()

    yield lambda fault: call("POST", fault)
    call("DELETE")
