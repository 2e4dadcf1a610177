"""The unit file, unchanged, under a real systemd: what the program promises there holds, and the fence lets the work through."""

from __future__ import annotations

import fcntl
import hashlib
import json
import stat
from pathlib import Path

import nibabel
import numpy

from daemon.cli.phantom import Phantom, write_series
from tests.support.world import World
from tests.systemd.machine import Machine
from tests.systemd.service import ACCOUNT, UNIT, Service, by_the_notes


def exam(world: World, name: str, seed: int = 1) -> None:
    """Let people drop an exam of one series, all of it at once: a slice that comes late would make a revision."""
    write_series(world.home / "aside", Phantom(seed=seed))
    (world.home / "aside").rename(world.source / name)


def test_it_comes_up_and_goes_in_order(service: Service) -> None:
    machine = service.machine
    by_the_notes(machine, "-u sdd-dicom sdd-dicom check")
    by_the_notes(machine, "systemctl enable --now sdd-dicom")

    # A service of this type becomes active by READY=1 and by nothing else, and the command returns no sooner.
    assert service.is_(
        Type="notify", ActiveState="active", SubState="running", Result="success", NRestarts="0"
    )
    assert machine.run("systemctl", "is-enabled", UNIT).stdout == "enabled\n"
    uid = machine.path(f"/proc/{service.main_pid()}").stat().st_uid
    assert str(uid) == machine.run("id", "-u", ACCOUNT).stdout.strip()
    service.until(lambda: "files to read" in service.show("StatusText")["StatusText"])

    service.stop()
    assert service.is_(ActiveState="inactive", Result="success", ExecMainStatus="0", NRestarts="0")
    assert service.said("Stopping")
    assert not machine.path("/run/sdd-dicom").exists()


def test_an_exam_is_delivered_through_the_fence(service: Service, world: World) -> None:
    """Converter, limits of its memory, picture, checksums, ledger: all of it works with what the unit leaves."""
    service.start()
    exam(world, "exam")
    service.until(lambda: service.delivered(1))

    [(folder, manifest)] = world.deliveries().items()
    names = {path.name for path in folder.iterdir()}
    assert names == {"manifest.json", *(result["name"] for result in manifest["results"])}
    assert "preview.jpg" in names
    for result in manifest["results"]:
        assert hashlib.sha256((folder / result["name"]).read_bytes()).hexdigest() == result["sha256"]
    volume = nibabel.load(folder / manifest["volumes"][0]["name"])
    assert volume.shape == (64, 64, 12)
    assert numpy.ptp(numpy.asarray(volume.dataobj)) > 1000
    assert manifest["verdict"]["usable"] == "yes"
    status = dict(
        line.split(":", 1)
        for line in service.machine.path(f"/proc/{service.main_pid()}/status").read_text().splitlines()
    )
    assert {key: status[key].strip() for key in ("NoNewPrivs", "Seccomp", "CapBnd", "CapEff")} == {
        "NoNewPrivs": "1",
        "Seccomp": "2",
        "CapBnd": "0" * 16,
        "CapEff": "0" * 16,
    }


def test_its_lines_stand_in_the_journal_with_their_priority_and_in_its_log(
    service: Service, world: World
) -> None:
    service.start()
    service.until(lambda: service.said("Watching"))
    world.drive.fault(action="status", status=403, reason="accessNotConfigured", times=-1)
    service.until(lambda: service.journal(priority=3))

    own = [line for line in service.journal() if line["_PID"] == str(service.main_pid())]
    assert {line["SYSLOG_IDENTIFIER"] for line in own} == {"sdd-dicom"}
    [error] = service.journal(priority=3)
    assert error["MESSAGE"].startswith("Service suspended")
    assert error["MESSAGE"] in by_the_notes(service.machine, "journalctl -u sdd-dicom -p warning")
    assert {line["PRIORITY"] for line in own if "Watching" in line["MESSAGE"]} == {"6"}
    assert ("ERROR", error["MESSAGE"]) in {(line["level"], line["event"]) for line in service.log()}
    assert mode(service.machine, "/var/log/sdd-dicom") == 0o750
    assert mode(service.machine, "/var/lib/sdd-dicom") == 0o700


def mode(machine: Machine, path: str) -> int:
    return stat.S_IMODE(machine.path(path).stat().st_mode)


def test_members_of_its_group_may_ask_it_and_read_its_log_and_others_may_not(service: Service) -> None:
    machine = service.machine
    for name in ("alice", "bob"):
        machine.run("useradd", name, check=False)
    by_the_notes(machine, "usermod -aG sdd-dicom alice")
    service.start()
    service.until(lambda: machine.path("/run/sdd-dicom/control.sock").exists())

    assert (
        machine.run("stat", "-c", "%U %G %a", "/run/sdd-dicom/control.sock").stdout
        == f"{ACCOUNT} {ACCOUNT} 660\n"
    )
    for user in (ACCOUNT, "alice"):
        answer = json.loads(machine.run("sdd-dicom", "status", "--json", user=user).stdout)
        assert answer["running"] is True
    assert machine.run("sdd-dicom", "status", user="bob", check=False).returncode == 77
    log = "/var/log/sdd-dicom/sdd-dicom.jsonl"
    assert "Watching" in machine.run("cat", log, user="alice").stdout
    for user, place in (("bob", log), ("alice", "/var/lib/sdd-dicom/token.json")):
        assert machine.run("cat", place, user=user, check=False).returncode != 0


def test_a_killed_daemon_is_restarted_and_delivers_once(service: Service, world: World) -> None:
    """The kill comes while a result is on its way up."""
    service.drop_in(RestartSec="200ms")
    service.start()
    world.drive.fault(action="stall", kind="upload", stall_s=600.0, times=1)
    exam(world, "exam")
    service.until(lambda: any(fault["met"] for fault in world.drive.faults()))

    service.kill("KILL")
    service.until(lambda: service.is_(ActiveState="active", NRestarts="1"))
    service.until(lambda: service.delivered(1))
    exam(world, "another", seed=2)
    service.until(lambda: service.delivered(2))

    made = [path for path in outside_the_source(world) if path.is_file()]
    assert sorted(made) == sorted(
        folder / name
        for folder, manifest in world.deliveries().items()
        for name in ("manifest.json", *(result["name"] for result in manifest["results"]))
    )
    assert {manifest["revision"] for manifest in world.deliveries().values()} == {1}
    assert service.is_(ActiveState="active", NRestarts="1")


def outside_the_source(world: World) -> list[Path]:
    """Return everything that lies in the Drive beside what people dropped."""
    found = []
    for top in world.root.iterdir():
        if top != world.source and top.name != ".sdd-drive":
            found += top.rglob("*")
    return found


def test_a_daemon_that_hangs_is_ended_by_the_watchdog_and_restarted(service: Service) -> None:
    service.drop_in(RestartSec="200ms", WatchdogSec="3s")
    service.start()
    service.until(lambda: service.said("Watching"))
    hanging = service.main_pid()

    service.kill("STOP")
    service.until(lambda: service.said("Watchdog timeout"))
    service.until(lambda: service.main_pid() not in (0, hanging) and service.is_(ActiveState="active"))


def test_the_watchdog_is_content_while_there_is_no_network(service: Service, world: World) -> None:
    """Whether a start waits or hangs, systemd can tell by the beats alone."""
    service.drop_in(WatchdogSec="6s")
    world.drive.stop()
    service.start()
    service.until(lambda: since_the_start_s(service) > 1.0)

    assert service.is_(ActiveState="active", NRestarts="0")
    assert not service.said("Watching")


def since_the_start_s(service: Service) -> float:
    """Return how long after its start the service beat last."""
    shown = service.show("WatchdogTimestampMonotonic", "ActiveEnterTimestampMonotonic")
    return (int(shown["WatchdogTimestampMonotonic"]) - int(shown["ActiveEnterTimestampMonotonic"])) / 1e6


def test_what_only_a_person_can_mend_ends_the_start_for_good_and_says_why(service: Service) -> None:
    service.drop_in(RestartSec="100ms")

    service.configure(backend="gogle")
    assert service.machine.run("systemctl", "start", UNIT, check=False).returncode != 0
    assert service.is_(**failed(78))
    assert any("drive.backend" in line["MESSAGE"] for line in service.journal(priority=3))

    service.configure()
    service.machine.path("/var/lib/sdd-dicom/token.json").unlink()
    # Ready is said before Drive is asked, so the command itself succeeds.
    service.start()
    service.until(lambda: service.is_(**failed(77)))
    assert any("NO_TOKEN" in line["MESSAGE"] for line in service.journal(priority=3))


def test_it_is_tried_again_until_no_other_daemon_works_on_its_state(service: Service) -> None:
    service.drop_in(RestartSec="200ms")
    lock = "/var/lib/sdd-dicom/lock"
    service.machine.run("touch", lock, user=ACCOUNT)

    with service.machine.path(lock).open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        service.start()
        service.until(lambda: int(service.show("NRestarts")["NRestarts"]) >= 2)
    service.until(lambda: service.said("Watching"))
    assert any("LOCKED" in line["MESSAGE"] for line in service.journal(priority=3))
    assert service.said("status=75")


def failed(code: int) -> dict[str, str]:
    """Return what systemd says of a service that ended with this code and is not started again."""
    return {
        "ActiveState": "failed",
        "Result": "exit-code",
        "ExecMainCode": "1",
        "ExecMainStatus": str(code),
        "NRestarts": "0",
    }


def test_without_credentials_it_starts_and_those_that_are_there_are_handed_over(
    service: Service, world: World
) -> None:
    """The token holds no client here, so that without the handed-over one it could not be used."""
    client = {"installed": {"client_id": "client", "client_secret": "secret"}}
    service.machine.run(
        *("install", "-m", "0600", "-o", "root", "/dev/stdin", "/etc/sdd-dicom/google-client.json"),
        given=json.dumps(client),
    )
    token = json.loads((world.home / "token.json").read_text())
    del token["client_id"], token["client_secret"]
    service.give_token(json.dumps(token))
    service.start()
    service.until(lambda: service.said("Watching"))

    handed_over = service.machine.path("/run/credentials/sdd-dicom.service")
    assert json.loads((handed_over / "google-client").read_text()) == client
    assert (handed_over / "service-account").read_bytes() == b"\n"


def test_it_can_write_its_own_directories_only(service: Service) -> None:
    """Tried from inside its fence, where each of these may be written as far as the files' modes say."""
    machine = service.machine
    for place in ("/etc/open", "/opt/open", "/var/lib/open", "/var/cache/open"):
        machine.run("install", "-d", "-m", "0777", place)
        machine.run("touch", f"{place}/outside", user=ACCOUNT)
    service.start()
    inside = ("nsenter", "--target", str(service.main_pid()), "--mount", "--user", "--preserve-credentials")

    for place in ("/etc/open", "/opt/open", "/var/lib/open", "/var/cache/open"):
        refused = machine.run(*inside, "touch", f"{place}/inside", check=False)
        assert "Read-only file system" in refused.stderr, place
    for place in ("/var/lib/sdd-dicom", "/var/log/sdd-dicom", "/run/sdd-dicom", "/tmp"):
        machine.run(*inside, "touch", f"{place}/inside")
    for place in ("/root", "/home"):
        assert machine.run(*inside, "ls", "-A", place, check=False).stdout == "", place
    assert not machine.path("/tmp/inside").exists()
