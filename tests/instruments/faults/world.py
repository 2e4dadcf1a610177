"""A world in hasty time: its Drive and its daemons are forked, they may be killed, and people use it meanwhile."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import http.client
import json
import os
import select
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

from googleapiclient.discovery_cache import get_static_doc
from googleapiclient.http import build_http
from loguru import logger

from daemon.localdrive.store.drive import Drive as ServedDrive
from daemon.localdrive.store.items import Blob
from daemon.outside import log
from daemon.outside.drive import requests
from daemon.rules.config import load
from daemon.service.once import run_once
from daemon.service.process import Stop
from tests.instruments.crash.checker import Item, Tree
from tests.instruments.crash.points import Points
from tests.instruments.crash.processes import ChildFailed, Ended, ForkedDrive, fork
from tests.instruments.faults import power as loss
from tests.instruments.faults.haste import FACTOR, Haste
from tests.support.world import BASE_CONFIG, World

PEOPLE = "quotaUser=people"
"""Marks, in the Drive's record of requests, what people do there."""
AT_MOST_S = 300
"""How long a daemon may run, in the machine's seconds; a busy machine takes many times as long as an idle one."""
SETTLED_S = 300.0
PEOPLE_TRIES = 50
PEOPLE_WAIT_AT_MOST_S = 30.0
_FAULTS = (OSError, ValueError, http.client.HTTPException)
"""People meet the same faults; they try again."""
FAULT_CONFIG: Mapping[str, Any] = {
    **BASE_CONFIG,
    "work.transfer_workers": 1,
    "work.convert_workers": 1,
    # The converter runs in the machine's time, its limit in the world's.
    "work.convert_timeout_s": 3600,
}
Action = Callable[["FaultWorld"], None]
Change = Callable[[Path], None]


class FaultWorld(World):
    """A world whose processes are forked from this one and live in hasty time.

    Args:
        home: an empty directory; gets ``drive/``, ``state/``, ``logs/``, ``contents/`` (every content that ever was on
            the Drive, named by its md5), ``daemon.log`` (what the daemons print).
        seed: of the fault script.
        config: overrides of config.toml: ``{"work.spool_max_gb": 0.001}``.
        drive: settings of the embedded Drive.
        in_drive: called in the Drive's process before it serves.
    """

    def __init__(
        self,
        home: Path,
        seed: int,
        *,
        config: Mapping[str, Any] | None = None,
        drive: Mapping[str, Any] | None = None,
        in_drive: Callable[[], None] | None = None,
        factor: float = FACTOR,
    ) -> None:
        self.seed, self._in_drive = seed, in_drive
        self.state = home / "state"
        self.contents = home / "contents"
        self.contents.mkdir()
        self.haste = Haste(factor)
        self._auth = (drive or {}).get("auth", "token")
        self._forked = ForkedDrive(
            home / "drive", home / "drive.log", first=self._live_in_drive, **(drive or {})
        )
        super().__init__(home, {**FAULT_CONFIG, **(config or {})}, drive=self._forked)
        self.kills = 0
        self.runs: list[Ended] = []

    # ── start and end

    def start(self) -> Self:
        _start(self._forked)
        self.login()
        self.scan()
        # What lies there at first has been there for a while: every listing shows it.
        self.later(SETTLED_S)
        return self

    def login(self) -> None:
        """Log in (again): write the token file, as `sdd-dicom login` does."""
        super().login()
        if self._auth != "oauth":
            return
        info = json.loads((self.home / "token.json").read_text())
        info |= {"token_uri": f"{self.drive.endpoint}/token", **self._grant()}
        (self.home / "token.json").write_text(json.dumps(info))

    def _grant(self) -> dict[str, str]:
        """Return fresh tokens from the embedded Drive's own consent page."""
        here = "http://127.0.0.1:1/"
        asked = {
            "response_type": "code",
            "client_id": "client",
            "redirect_uri": here,
            "scope": "https://www.googleapis.com/auth/drive",
            "access_type": "offline",
            "approve": "1",
        }
        form = {"grant_type": "authorization_code", "client_id": "client", "redirect_uri": here}
        for _ in range(PEOPLE_TRIES):
            try:
                form["code"] = self._code(asked)
                with _no_redirects.open(
                    f"{self.drive.endpoint}/token", urlencode(form).encode(), timeout=10
                ) as answer:
                    tokens = json.loads(answer.read())
                return {"token": tokens["access_token"], "refresh_token": tokens["refresh_token"]}
            except _FAULTS:
                time.sleep(0.01)
        raise AssertionError("people could not log in")

    def _code(self, asked: Mapping[str, str]) -> str:
        """Return what the consent page redirects with."""
        try:
            _no_redirects.open(f"{self.drive.endpoint}/o/oauth2/v2/auth?{urlencode(asked)}", timeout=10)
        except urllib.error.HTTPError as exc:
            return parse_qs(urlsplit(exc.headers["Location"] or "").query).get("code", [""])[0]
        return ""

    def close(self) -> None:
        self.drive.kill()
        self.haste.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def later(self, seconds: float) -> None:
        """So much time passes while nobody works."""
        self.haste.move_on(seconds)

    # ── the daemon

    def run(
        self,
        kill_at: str = "",
        *,
        change: Change | None = None,
        meanwhile: Mapping[str, Action] | None = None,
        entry: Callable[[], int] | None = None,
        power: bool = False,
    ) -> Ended:
        """Work off everything there is, like ``sdd-dicom run --once``, in a process of its own; wait for its end.

        Args:
            kill_at: the point at which it kills itself.
            change: called in its process before it starts, with the state directory.
            meanwhile: point → what happens there; the thread that came to it waits until it has happened.
            entry: what runs instead of `run --once`; returns the exit code.
            power: the kill is a loss of power.
        """
        self.configure()
        asks, answers = os.pipe(), os.pipe()
        journal = self.home / "points.json"
        journal.unlink(missing_ok=True)
        before = self.home / "power" / str(len(self.runs))
        if power:
            self._remember(before)

        def pause(name: str) -> None:
            os.write(asks[1], f"{name}\n".encode())
            os.read(answers[0], 1)

        def work() -> int:
            self.haste.hasten()
            points = Points(kill_at, tuple(meanwhile or ()), pause)
            settings = load(self.home / "config.toml", {})
            log.configure(settings.logging, settings.logs_dir, under_systemd=False)
            if power:
                # First: what puts points around fsync must lie around this.
                loss.record(self.state, before / "journal")
            if change is not None:
                change(self.state)
            points.install()
            try:
                return entry() if entry is not None else run_once(settings)
            except Stop as exc:
                logger.error("Ended at start: {}", exc.trouble.code)
                return exc.exit_code
            finally:
                journal.write_text(json.dumps(points.passed))

        pid = fork(work, self.home / "daemon.log", AT_MOST_S)
        status = self._accompany(pid, asks, answers, meanwhile or {})
        passed = json.loads(journal.read_text()) if journal.exists() else []
        ended = Ended(os.waitstatus_to_exitcode(status), passed)
        if ended.killed:
            self.kills += 1
            if power:
                loss.lose(self.state, before / "state", before / "journal", self.seed * 100 + self.kills)
        self.runs.append(ended)
        return ended

    def _remember(self, before: Path) -> None:
        """Keep what the disk holds for certain before a run in which the power may go."""
        before.mkdir(parents=True)
        if self.state.exists():
            leave_out = shutil.ignore_patterns("*.sock")
            shutil.copytree(self.state, before / "state", symlinks=True, ignore=leave_out)

    def _accompany(
        self, pid: int, asks: tuple[int, int], answers: tuple[int, int], meanwhile: Mapping[str, Action]
    ) -> int:
        """Do what the child asks for until it ends; return its status."""
        handle = os.pidfd_open(pid)
        os.close(asks[1])
        os.close(answers[0])
        try:
            while True:
                # Not the end of the pipe: a Drive that was started meanwhile has it, too.
                ready, _, _ = select.select([asks[0], handle], [], [])
                if asks[0] in ready and (names := os.read(asks[0], 4096).decode().split()):
                    for name in names:
                        meanwhile[name](self)
                        with contextlib.suppress(BrokenPipeError):  # another thread came to a deadly point
                            os.write(answers[1], b".")
                elif handle in ready:
                    return os.waitpid(pid, 0)[1]
        finally:
            for descriptor in (handle, asks[0], answers[1]):
                os.close(descriptor)

    @property
    def log(self) -> str:
        """What the daemons printed."""
        path = self.home / "daemon.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def note_met(self) -> None:
        """A fault that is none of the script's has happened; may be called in a child."""
        note_met(self.state)

    # ── the Drive

    def _live_in_drive(self) -> None:
        """In the Drive's process: the world's time, and a copy of every content that comes."""
        self.haste.hasten()
        if self._in_drive is not None:
            self._in_drive()
        contents, record = self.contents, ServedDrive.record
        create, update = ServedDrive.create, ServedDrive.update

        def keep(path: Path, md5_checksum: str) -> None:
            target = contents / md5_checksum
            if not target.exists():
                shutil.copyfile(path, target)

        def keeping_record(self: Any, op: str, item: Any, before: Any, **more: Any) -> None:
            if more.get("source") == "disk" and item.md5 and not item.trashed:
                keep(self.tree.path(item), item.md5)
            record(self, op, item, before, **more)

        def keeping(do: Callable[..., Any]) -> Callable[..., Any]:
            def kept(*args: Any, **named: Any) -> Any:
                for value in (*args, *named.values()):
                    if isinstance(value, Blob):
                        keep(Path(value.path), value.md5)
                return do(*args, **named)

            return kept

        ServedDrive.record = keeping_record  # type: ignore[method-assign, assignment]
        ServedDrive.create = keeping(create)  # type: ignore[method-assign]
        ServedDrive.update = keeping(update)  # type: ignore[method-assign]

    def scan(self) -> None:
        """Drive notices what people did in the directory."""
        self.drive.scan()

    def script(self, *faults: dict[str, Any]) -> None:
        """Put these faults in force instead of the others."""
        self.drive.script(*faults, seed=self.seed)

    def tree(self) -> Tree:
        """Return what is on the Drive now."""
        tree = Tree()
        for effect in self.drive.history():
            tree.apply(effect)
        return tree

    def item(self, path: str) -> Item:
        """Return the item of this path below the root (``DICOM/Exam A/IM0001.dcm``), trashed or not."""
        tree = self.tree()
        found = [item for item in tree.items.values() if tree.path(item) == path]
        if not found:
            raise KeyError(path)
        return max(found, key=lambda item: not item.trashed)

    def requests(self) -> list[dict[str, Any]]:
        """Return every request that the Drive ever had, those of people left out."""
        return [entry for entry in self.drive.every_request() if PEOPLE not in entry["query"]]

    # ── people, by their browser

    def patch(self, file_id: str, body: Mapping[str, Any], query: str = "") -> None:
        """Change an item as its owner does in the browser: `{"trashed": True}`, `{"name": …}`."""
        url = f"{self.drive.endpoint}/drive/v3/files/{file_id}?supportsAllDrives=true&{PEOPLE}&{query}"
        for tried in range(PEOPLE_TRIES):
            token = self._grant()["token"] if self._auth == "oauth" else self.drive.token
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            request = urllib.request.Request(
                url, data=json.dumps(body).encode(), method="PATCH", headers=headers
            )
            try:
                with _no_redirects.open(request, timeout=2) as answer:
                    if "id" in json.loads(answer.read()):
                        return
            except _FAULTS:
                pass
            # A refused request costs, too: who hammers at a quota stays in its debt for good.
            self.haste.sleep(min(0.3 * 2**tried, PEOPLE_WAIT_AT_MOST_S))
        raise AssertionError(f"people could not change {file_id}")

    def trash(self, path: str) -> str:
        """Put an item into the trash; return its id."""
        file_id = self.item(path).file_id
        self.patch(file_id, {"trashed": True})
        return file_id

    def restore(self, file_id: str) -> None:
        self.patch(file_id, {"trashed": False})


_port = 0
"""Of the last world: where it is the same, the client's resources are built once for all."""
_built: dict[str, Any] = {}
_build = requests.build_from_document


def _start(drive: ForkedDrive) -> None:
    """Start the Drive, at the same address as the last one where that is free, with the client built for it.

    A daemon's process is forked from here: building a resource costs more than half of its start.
    """
    global _port
    if not _built:
        # What is frozen is not looked at again, so that children go on sharing its pages with the parent.
        gc.collect()
        gc.freeze()
    drive.port = _port
    try:
        drive.start()
    except ChildFailed:
        drive.port = 0
        drive.start()
    _port = drive.port
    requests.build_from_document = _build_once
    document = json.loads(get_static_doc("drive", "v3"))
    _build_once(document | {"rootUrl": f"{drive.endpoint}/"}, http=build_http())


def _build_once(document: dict[str, Any], *, http: Any) -> Any:
    root = document["rootUrl"]
    if root not in _built:
        document.pop("mtlsRootUrl", None)
        _built.clear()
        _built[root] = _build(document, http=http)
    return _built[root]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


_no_redirects = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)


def note_met(state: Path) -> None:
    """A fault that is none of the script's has happened: told through a file, from whatever process."""
    with (state.parent / "met").open("a") as file:
        file.write("1\n")


def md5_of(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
