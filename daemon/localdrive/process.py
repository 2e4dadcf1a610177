"""Starts and stops the embedded Drive as a process of its own. Imports nothing of the server."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any


class DriveDidNotStart(Exception):
    """The server ended, or was not ready in time."""


def running_server(directory: Path) -> tuple[int, str] | None:
    """Return (process id, endpoint) of the server that has this directory; None if there is none.

    A server may outlive its parent; the next process uses or ends it.
    """
    hidden = directory / ".sdd-drive"
    try:
        with (hidden / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        try:
            known = json.loads((hidden / "server.json").read_bytes())
        except (OSError, ValueError):
            return None  # it is starting or ending
        return int(known["pid"]), str(known["endpoint"])
    return None


class DriveProcess:
    """One server process over one directory; also a context manager.

    Args:
        directory: what is served.
        port: 0 for a free one.
        index: the SQLite file; None for the hidden folder inside the directory.
        token: the only bearer token accepted; None makes a random one, "" accepts any.
        admin: serve `/_admin/…`.
        durable: survive the loss of power, not only of the process.
        settings: values of `daemon.localdrive.settings.Settings`.
        die_with_parent: end when this process ends, however it ends (kill -9 included). False: keep running.
        log_path: where its standard error goes; None: nowhere.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        index: Path | None = None,
        token: str | None = None,
        admin: bool = False,
        durable: bool = True,
        settings: dict[str, Any] | None = None,
        die_with_parent: bool = True,
        log_path: Path | None = None,
    ) -> None:
        self.directory = directory
        self.port = port
        self.index = index
        self.token = secrets.token_urlsafe(32) if token is None else token
        self.admin = admin
        self.durable = durable
        self.settings = settings or {}
        self.die_with_parent = die_with_parent
        self.log_path = log_path
        self.endpoint = ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The server's process id; 0 if it is not running."""
        return self._process.pid if self._process is not None and self._process.poll() is None else 0

    def start(self, timeout_s: float = 20.0) -> str:
        """Start it and return the endpoint (``http://127.0.0.1:PORT``) once it answers.

        Raises:
            DriveDidNotStart: it ended, or was not ready in time; nothing is left running.
        """
        command = [sys.executable, "-m", "daemon.localdrive", str(self.directory), "--port", str(self.port)]
        command += ["--index", str(self.index)] if self.index is not None else []
        command += ["--admin"] * self.admin + ["--fast"] * (not self.durable)
        command += ["--watch-stdin"] * self.die_with_parent
        command += ["--settings", json.dumps(self.settings)]
        environment = {**os.environ, "SDD_DRIVE_TOKEN": self.token}
        # The package need not be installed: it is found beside this file.
        package_root = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [package_root, os.environ.get("PYTHONPATH", "")])
        )
        log = self.log_path.open("ab") if self.log_path is not None else None
        try:
            # The pipe ties the child to its parent: the end of the parent, whatever the cause, closes it.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if self.die_with_parent else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log if log is not None else subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        finally:
            if log is not None:
                log.close()
        line = self._first_line(time.monotonic() + timeout_s)
        try:
            self.endpoint = json.loads(line)["endpoint"]
        except (ValueError, KeyError):
            code = self._process.poll()
            self.kill()
            why = "is the directory served already, or the port taken?" if code == 69 else f"exit {code}"
            raise DriveDidNotStart(f"the embedded Drive for {self.directory} did not start: {why}") from None
        self.port = int(self.endpoint.rsplit(":", 1)[1])
        return self.endpoint

    def _first_line(self, deadline: float) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        handle = self._process.stdout.fileno()
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
            piece = os.read(handle, 4096) if ready else b""
            if not piece:
                break
            line += piece
        if not line.endswith(b"\n"):
            self._process.poll()
        return line

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop it in order; kill it if it does not end in time."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._reap()

    def kill(self) -> None:
        """Kill it at once (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def restart(self) -> str:
        """Start it again on the same port, with the same token."""
        self.stop()
        return self.start()

    def _reap(self) -> None:
        assert self._process is not None
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process = None

    def __enter__(self) -> DriveProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
