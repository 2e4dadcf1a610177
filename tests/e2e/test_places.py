"""Where the folders lie, and who asks: shared drives, "Shared with me", service accounts, folders that people move."""

from __future__ import annotations

import json
import shutil
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from daemon.cli.phantom import Phantom, write_series
from daemon.outside.drive.auth import login
from daemon.rules import breakers
from daemon.rules.backoff import Backoff
from daemon.rules.errors import Scope
from daemon.service import process
from tests.support.exams import QUIET, delivered, drive_service, exam, folder_id, late_slice
from tests.support.world import RunningDaemon, World

SMALL: dict[str, Any] = {"slices": 3, "rows": 32, "columns": 32}
ROBOT = "robot@project.iam.gserviceaccount.com"


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[World]:
    """A world whose daemon is configured by the test."""
    with World(tmp_path) as world:
        yield world


def configure(world: World, **values: Any) -> None:
    world.configure({key.replace("__", "."): value for key, value in values.items()})


def inputs(world: World) -> list[int]:
    return sorted(len(manifest["inputs"]) for manifest in world.deliveries().values())


# ── where ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_source_and_output_on_a_shared_drive(alone: World) -> None:
    """Its own feed, its own listings; staging lies on it too, for no folder moves there from My Drive."""
    drive_id, root = alone.drive.create_shared_drive("Radiology")
    alone.source, alone.output = root / "DICOM", root / "NIfTI"
    write_series(alone.source / "exam", Phantom(seed=1, **SMALL), leave_out=(2,))
    configure(alone, drive__shared_drive_id=drive_id)
    alone.drive.scan()
    source_id, output_id = folder_id(alone, "DICOM", drive_id=drive_id), ""
    assert source_id
    service = drive_service(alone).files()
    made = service.create(
        body={"name": "NIfTI", "mimeType": "application/vnd.google-apps.folder", "parents": [drive_id]},
        supportsAllDrives=True,
    ).execute()
    output_id = made["id"]
    configure(alone, drive__source=f"id:{source_id}", drive__output=f"id:{output_id}")

    assert alone.run_once() == 0
    assert inputs(alone) == [2]
    late_slice(alone, "exam", 2, seed=1, slices=3)
    assert alone.run_once() == 0

    assert inputs(alone) == [3]
    assert (root / ".sdd-dicom").is_dir()
    assert not (alone.root / ".sdd-dicom").exists()
    changes = [entry for entry in alone.drive.every_request() if entry["path"].endswith("/changes")]
    assert changes
    assert all(f"driveId={drive_id}" in entry["query"] for entry in changes)


def test_a_source_in_shared_with_me(alone: World) -> None:
    """A folder of somebody else has no parent that we can see; it is found by its name all the same."""
    theirs = alone.root / "Theirs"
    alone.source = theirs
    write_series(theirs / "exam", Phantom(seed=2, **SMALL))
    alone.drive.scan()
    alone.drive.share(folder_id(alone, "Theirs"), role="reader")
    configure(alone, drive__source="Theirs")

    assert alone.run_once() == 0

    assert inputs(alone) == [3]


def test_an_output_in_shared_with_me_holds_its_own_staging(alone: World) -> None:
    """Its parent is out of our sight: staging cannot lie beside it, and lies in it."""
    output = alone.root / "Results"
    output.mkdir()
    alone.output = output
    write_series(alone.source / "exam", Phantom(seed=3, **SMALL))
    alone.drive.scan()
    alone.drive.share(folder_id(alone, "Results"), role="writer")
    configure(alone, drive__output="Results")

    assert alone.run_once() == 0

    assert inputs(alone) == [3]
    assert (output / ".sdd-dicom").is_dir()
    assert list((output / ".sdd-dicom").iterdir()) == []


@pytest.mark.parametrize("case", ["renamed", "moved"])
def test_an_output_folder_that_people_move_is_followed(
    world: World, running: RunningDaemon, case: str
) -> None:
    """It is known by its id: what comes later lies where the folder lies now."""
    exam(world, "first", seed=4, leave_out=(2,))
    delivered(world, running, {4: (1, 3)})
    target = world.root / ("Volumes" if case == "renamed" else "Archive/NIfTI")
    target.parent.mkdir(exist_ok=True)
    world.output.rename(target)
    old, world.output = world.output, target

    late_slice(world, "first", 2, seed=4)
    exam(world, "second", seed=5)

    delivered(world, running, {4: (2, 4), 5: (1, 4)})
    assert not old.exists()


# ── who ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def key_pair() -> tuple[str, str]:
    """Return a private and a public key, PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private.decode(), public.decode()


def write_key(world: World, private_key: str) -> None:
    info = {
        "type": "service_account",
        "client_email": ROBOT,
        "private_key_id": "1",
        "private_key": private_key,
        "token_uri": f"{world.drive.endpoint}/token",
    }
    (world.home / "robot.json").write_text(json.dumps(info))
    (world.home / "robot.json").chmod(0o600)
    configure(world, auth__kind="service_account", auth__service_account_file="robot.json")


def test_a_service_account_signs_with_its_key(alone: World) -> None:
    """It has no quota of its own, so that it works on a shared drive; another key than Drive knows is refused."""
    private, public = key_pair()
    drive_id, root = alone.drive.create_shared_drive("Radiology")
    alone.source, alone.output = root / "DICOM", root / "NIfTI"
    write_series(alone.source / "exam", Phantom(seed=6, **SMALL))
    (root / "NIfTI").mkdir()
    alone.drive.scan()
    configure(
        alone,
        drive__shared_drive_id=drive_id,
        drive__source=f"id:{folder_id(alone, 'DICOM', drive_id=drive_id)}",
        drive__output=f"id:{folder_id(alone, 'NIfTI', drive_id=drive_id)}",
    )
    alone.drive.register_service_account(ROBOT, public)
    alone.drive.set(auth="oauth")
    write_key(alone, private)

    assert alone.run_once() == 0

    assert inputs(alone) == [3]


def test_a_revoked_login_pauses_and_a_new_one_is_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody restarts or says anything: the token file is looked at again with the next probe."""
    monkeypatch.setattr(breakers, "PROBES", Backoff(0.2, 0.5))
    with World(tmp_path, QUIET) as world:
        world.drive.set(auth="oauth")
        write_login(world)
        with RunningDaemon(world) as running:
            exam(world, "first", seed=7)
            delivered(world, running, {7: (1, 4)})

            world.drive.revoke_tokens()
            running.until(
                lambda: (
                    [entry.code for entry in running.parts.context.breakers.suspensions()] == ["LOGIN_LOST"]
                )
            )
            exam(world, "second", seed=8)
            [closed] = running.parts.context.breakers.suspensions()
            assert closed.scope is Scope.SERVICE
            assert "sdd-dicom login" in closed.remedy
            write_login(world)

            delivered(world, running, {7: (1, 4), 8: (1, 4)})
            assert world.held() == []


def write_login(world: World) -> None:
    """Log in as `sdd-dicom login` does, with somebody who clicks on "Allow" at once."""
    world.drive.set(auto_consent=True)
    client = {
        "client_id": "client",
        "client_secret": "secret",
        "auth_uri": f"{world.drive.endpoint}/o/oauth2/auth",
        "token_uri": f"{world.drive.endpoint}/token",
    }
    (world.home / "client.json").write_text(json.dumps({"installed": client}))

    def browse(said: str) -> None:
        address = next(word for word in said.split() if word.startswith("http"))
        threading.Thread(target=urllib.request.urlopen, args=(address,), daemon=True).start()

    login(world.home / "client.json", world.home / "token.json", open_browser=False, say=browse)


# ── a start at a bad moment ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def impatient(alone: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world with one exam and no output folder yet, whose starts follow one another at once."""
    monkeypatch.setattr(process, "START_RETRY_S", 0.01)
    write_series(alone.source / "exam", Phantom(seed=1, **SMALL))
    configure(alone, drive__output="Results/NIfTI")
    alone.output = alone.root / "Results" / "NIfTI"
    return alone


@pytest.mark.parametrize("status", [400, 404, 410])
def test_a_start_survives_a_refused_page_token(impatient: World, status: int) -> None:
    """The search for the source had two pages, and Drive did not know the second."""
    impatient.drive.fault(action="empty_page", kind="list")
    impatient.drive.fault(action="refuse_token", kind="list", status=status)

    assert impatient.run_once() == 0
    assert inputs(impatient) == [3]
    assert [rule["met"] for rule in impatient.drive.faults()] == [1, 1]


@pytest.mark.parametrize("kind", ["list", "create"])
def test_a_start_looks_again_where_a_folder_on_the_way_is_gone(impatient: World, kind: str) -> None:
    impatient.drive.fault(kind=kind, status=404, reason="notFound")

    assert impatient.run_once() == 0
    assert inputs(impatient) == [3]


def test_a_start_takes_another_id_where_drive_refuses_one(impatient: World) -> None:
    """It stands in the ledger: every later start would meet it again."""
    message = "The provided file ID is not usable."
    impatient.drive.fault(kind="create", status=400, reason="invalid", message=message)

    assert impatient.run_once() == 0
    assert inputs(impatient) == [3]


@pytest.mark.parametrize("kind", ["list", "create"])
def test_folders_that_are_closed_to_us_end_the_start_with_69(impatient: World, kind: str) -> None:
    impatient.drive.fault(kind=kind, status=403, reason="insufficientFilePermissions", times=-1)

    with pytest.raises(process.Stop) as stopped:
        impatient.run_once()

    assert stopped.value.exit_code == 69
    assert stopped.value.trouble.remedy


# ── what ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_hundred_files_at_once(tmp_path: Path) -> None:
    """Eight series in one folder, slices mixed: each is one delivery, whole at once, and each file is read once."""
    with World(tmp_path, {"series.quiet_s": 2.0, "results.preview": False}) as world:
        aside = world.home / "aside"
        for seed in range(1, 9):
            phantom = Phantom(seed=seed, slices=25, rows=16, columns=16)
            for number, path in enumerate(write_series(aside / str(seed), phantom)):
                path.rename(aside / f"{number:02d}-{seed:02d}")
            (aside / str(seed)).rmdir()
        with RunningDaemon(world) as running:
            shutil.copytree(aside, world.source / "two hundred", copy_function=shutil.copyfile)
            delivered(world, running, dict.fromkeys(range(1, 9), (1, 25)))

        assert world.drive.requests()["by_kind"]["download"] == 200
        assert world.held() == []


def test_an_empty_file_is_ignored_with_a_reason(world: World, running: RunningDaemon) -> None:
    """Whatever it is called: it holds no bytes that a person could bring in order, and hinders nobody."""
    exam(world, "exam", seed=9)
    (world.source / "exam" / "empty").touch()
    (world.source / "exam" / "empty.dcm").touch()

    delivered(world, running, {9: (1, 4)})
    rows = running.parts.context.ledger.database.rows(
        "SELECT state, reason, held_code FROM file WHERE size_bytes = 0"
    )
    assert [tuple(row) for row in rows] == [("IGNORED", "EMPTY_FILE", "")] * 2
    assert world.held() == []
