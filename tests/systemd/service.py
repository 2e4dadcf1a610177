"""The installed service as an administrator handles it: systemctl, journalctl, and the files of INSTALL.md."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from typing import Any

from tests.support.world import World
from tests.systemd.machine import ROOT, Machine

UNIT = "sdd-dicom"
ACCOUNT = "sdd-dicom"
CONFIG = "/etc/sdd-dicom/config.toml"
WITHIN_S = 60.0
"""Generous: the machine may be busy with other tests."""


def by_the_notes(machine: Machine, beginning: str) -> str:
    """Run the one command of INSTALL.md that begins so, as root or as the service's account; return what it printed."""
    notes = (ROOT / "systemd" / "INSTALL.md").read_text()
    # The first of its kind: the part on upgrades repeats some.
    commands = (line.removeprefix("sudo ").split(" #")[0] for line in notes.splitlines())
    command = next(command for command in commands if command.startswith(beginning))
    as_account = f"-u {ACCOUNT} "
    user = ACCOUNT if command.startswith(as_account) else ""
    return machine.run(
        "sh", "-c", command.removeprefix(as_account), user=user, at="/opt/sdd-dicom/project"
    ).stdout


class Service:
    """One life of the service, from an empty state directory.

    Args:
        world: the Drive.
    """

    def __init__(self, machine: Machine, world: World) -> None:
        self.machine = machine
        self.world = world
        self._since = ""

    # ── what an administrator prepares ───────────────────────────────────────────────────────────────────────

    def set_up(self) -> None:
        """Edit the configuration, and put a token where `login` puts it."""
        self.configure()
        by_the_notes(self.machine, "install -d -m 0700 -o sdd-dicom -g sdd-dicom /var/lib/sdd-dicom")
        by_the_notes(self.machine, "install -d -m 0750 -o sdd-dicom -g sdd-dicom /var/log/sdd-dicom")
        self.give_token((self.world.home / "token.json").read_text())
        cursor = self.machine.run("journalctl", "-n", "0", "--show-cursor").stdout
        self._since = cursor.split("cursor: ")[1].strip()

    def configure(self, **changes: Any) -> None:
        """Write the configuration: the one that is shipped, with a test's addresses and patience."""
        text = (ROOT / "config.toml").read_text()
        values = {
            "backend": "google",
            "api_endpoint": self.world.drive.endpoint,
            "quiet_s": 1.0,
            "poll_interval_s": 0.3,
            "disk_reserve_gb": 0,
            "spool_max_gb": 0.1,
            **changes,
        }
        for key, value in values.items():
            text, found = re.subn(rf"(?m)^{key} = .*$", f"{key} = {json.dumps(value)}", text)
            assert found == 1, key
        self.machine.path(CONFIG).write_text(text)

    def give_token(self, text: str) -> None:
        """Write the token as the notes say: owned by the account, mode 0600."""
        self.machine.run(
            "sh",
            "-c",
            'umask 077; printf %s "$1" > token.json',
            "-",
            text,
            user=ACCOUNT,
            at="/var/lib/sdd-dicom",
        )

    def drop_in(self, **settings: str) -> None:
        """Change settings of the unit's [Service] part, as `systemctl edit` does."""
        place = self.machine.path(f"/etc/systemd/system/{UNIT}.service.d")
        place.mkdir(exist_ok=True)
        lines = [f"{key}={value}" for key, value in settings.items()]
        (place / "test.conf").write_text("\n".join(["[Service]", *lines, ""]))
        self.machine.run("systemctl", "daemon-reload")

    def clear_away(self) -> None:
        """Stop it, and take away what it and the test left."""
        self.machine.run("systemctl", "stop", UNIT, check=False)
        self.machine.run("systemctl", "reset-failed", UNIT, check=False)
        for place in (f"/etc/systemd/system/{UNIT}.service.d", "/var/lib/sdd-dicom", "/var/log/sdd-dicom"):
            shutil.rmtree(self.machine.path(place), ignore_errors=True)
        for name in ("google-client.json", "service-account.json"):
            self.machine.path(f"/etc/sdd-dicom/{name}").unlink(missing_ok=True)
        self.machine.run("systemctl", "daemon-reload")

    # ── systemctl ────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        self.machine.run("systemctl", "start", UNIT)

    def stop(self) -> None:
        self.machine.run("systemctl", "stop", UNIT)

    def kill(self, signal: str) -> None:
        """Send the daemon itself a signal (``KILL``)."""
        self.machine.run("kill", f"-{signal}", str(self.main_pid()))

    def show(self, *names: str) -> dict[str, str]:
        """Return these properties of the unit."""
        printed = self.machine.run("systemctl", "show", UNIT, "--property", ",".join(names)).stdout
        return dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)

    def is_(self, **wanted: str) -> bool:
        """Return whether these properties have these values now."""
        return self.show(*wanted) == wanted

    def main_pid(self) -> int:
        """The daemon's process id in its machine; 0: there is none."""
        return int(self.show("MainPID")["MainPID"])

    def until(self, true: Callable[[], object]) -> None:
        """Wait until `true()`; fail with the journal when it does not come."""
        end = time.monotonic() + WITHIN_S
        while not true():
            if time.monotonic() > end:
                said = [f"<{line['PRIORITY']}> {line['MESSAGE']}" for line in self.journal()]
                raise AssertionError("\n".join(["what the test waits for did not happen", *said[-40:]]))
            # Asking starts processes, which the service could use better.
            time.sleep(0.15)

    # ── what came out ────────────────────────────────────────────────────────────────────────────────────────

    def journal(self, priority: int | None = None) -> list[dict[str, Any]]:
        """Return the unit's entries since `set_up`, systemd's own about it included; only those of a priority."""
        # Not --unit: with --after-cursor it leaves the first match out.
        printed = self.machine.run("journalctl", "--output=json", f"--after-cursor={self._since}").stdout
        entries: list[dict[str, Any]] = [json.loads(line) for line in printed.splitlines()]
        return [
            entry
            for entry in entries
            if f"{UNIT}.service" in (entry.get("_SYSTEMD_UNIT"), entry.get("UNIT"))
            and priority in (None, int(entry["PRIORITY"]))
        ]

    def said(self, words: str) -> bool:
        """Return whether a line of the journal about the unit has these words."""
        return any(words in entry["MESSAGE"] for entry in self.journal())

    def log(self) -> list[dict[str, Any]]:
        """Return the lines of sdd-dicom.jsonl."""
        path = self.machine.path("/var/log/sdd-dicom/sdd-dicom.jsonl")
        return [json.loads(line) for line in path.read_text().splitlines()]

    def delivered(self, count: int) -> bool:
        """Return whether so many deliveries lie in the output folder."""
        return len(self.world.deliveries()) == count
