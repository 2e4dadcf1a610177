"""The embedded Drive as a running server: builds the parts and serves them on 127.0.0.1."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import shutil
import socket
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from daemon.localdrive.api import distortions
from daemon.localdrive.api.app import Api, batch_route, make_app
from daemon.localdrive.api.oauth import OAuth
from daemon.localdrive.directory.scanner import Scanner
from daemon.localdrive.faults import script
from daemon.localdrive.faults.matching import Fault, Faults
from daemon.localdrive.server.admin import Admin, Steering
from daemon.localdrive.server.gate import Gate
from daemon.localdrive.server.link import Link
from daemon.localdrive.server.quota import Meters
from daemon.localdrive.server.record import RequestLog
from daemon.localdrive.settings import Settings
from daemon.localdrive.store.drive import Drive
from daemon.localdrive.store.store import Store
from daemon.localdrive.store.tree import HIDDEN, Tree

FIRST_SCAN_AT_MOST_S = 10.0


class _Nameless(logging.Handler):
    """Writes an error as its type and place in the code, because an exception's text may hold a file name."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage().partition("\n")[0]
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            frames = traceback.extract_tb(error.__traceback__)[-4:]
            places = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))
            text += f": {type(error).__name__} at {places}"
        _say(text)


def _say(text: str) -> None:
    with suppress(OSError):
        sys.stderr.write(f"embedded Drive: {text}\n")


class AlreadyServed(Exception):
    """Another server already serves this directory."""


@dataclass(slots=True)
class Options:
    """How to start.

    Args:
        directory: what is served; made if missing.
        port: 0 for a free one.
        index: the SQLite file; None for `DIRECTORY/.sdd-drive/index.sqlite`.
        token: the only bearer token accepted; empty with `settings.auth` "off".
        admin: serve `/_admin/…` and keep the history of requests and effects.
        durable: survive the loss of power, not only of the process.
        watch_stdin: end when standard input closes, that is, when the parent process ends.
    """

    directory: Path
    port: int = 0
    index: Path | None = None
    token: str = ""
    admin: bool = False
    durable: bool = True
    watch_stdin: bool = False
    settings: Settings = field(default_factory=Settings)
    faults: Path | None = None
    """A fault script (`script`), read at start and whenever it changes."""


def _lock(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + 2
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # A server that was just killed may still be running.
            if time.monotonic() > deadline:
                os.close(handle)
                raise AlreadyServed(f"{path.parent} is served already") from None
            time.sleep(0.02)
        else:
            return handle


def _clear_hidden(tree: Tree, store: Store) -> None:
    """Delete the incomplete files of a server that was killed. Call after the journal's renames, before serving."""
    for left in (tree.hidden / "tmp").iterdir():
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
    alive = set(store.sessions())
    for upload in (tree.hidden / "uploads").iterdir():
        if upload.name not in alive:
            upload.unlink(missing_ok=True)


def build(options: Options) -> tuple[ASGIApp, Store]:
    """Return the application and its index; the directory is locked until the process ends.

    Raises:
        AlreadyServed: another server has the directory.
        BadScript: the fault script is wrong.
    """
    directory = options.directory.resolve()
    hidden = directory / HIDDEN
    hidden.mkdir(parents=True, exist_ok=True, mode=0o700)
    _lock(hidden / "lock")
    store = Store(options.index or hidden / "index.sqlite", durable=options.durable, history=options.admin)
    settings = options.settings
    if options.admin and (saved := store.meta("settings")):
        settings.change(json.loads(saved))
    tree = Tree(store, directory)
    store.finish_renames()
    _clear_hidden(tree, store)
    drive = Drive(store, tree, settings, durable=options.durable)
    oauth = OAuth(store, settings, options.token)
    faults, link = Faults(), Link(settings)
    log = RequestLog(store.path.with_name("requests.sqlite") if options.admin else None)
    meters = Meters(settings, drive.day)
    drive.asked_lag_s = faults.longest_lag_s
    api = Api(drive, oauth)
    scanner = Scanner(drive)
    steering = Steering(settings, faults, meters, link)
    if options.faults is not None:
        steering.apply(script.read(options.faults))
    gate: list[ASGIApp] = []
    more = [batch_route(lambda: gate[0])]
    routes = [*more, *Admin(api, scanner, steering, log).routes()] if options.admin else list(more)

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        if settings.scan_interval_s > 0:
            # The first request already sees the files of the directory. A huge tree must not delay the start.
            with suppress(OSError, TimeoutError):
                await asyncio.wait_for(scanner.scan(), FIRST_SCAN_AT_MOST_S)
        tasks = [asyncio.create_task(scanner.run())]
        if options.faults is not None:
            tasks.append(asyncio.create_task(script.follow(options.faults, steering.apply, _say)))
        yield
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        log.close()

    app = make_app(api, list(routes), lifespan)

    async def take_over(fault: Fault, file_id: str) -> None:
        await distortions.take_over(drive, fault, file_id)

    gate.append(
        Gate(
            app, settings=settings, oauth=oauth, faults=faults, log=log, meters=meters, link=link,
            take_over=take_over, admin_token=bool(options.token),
        )
    )  # fmt: skip
    return gate[0], store


def serve(options: Options, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT (or the end of standard input).

    Args:
        on_ready: called with the endpoint once requests are answered.
    Raises:
        AlreadyServed: another server has the directory.
        OSError: the port is taken.
    """
    # With the protocol named, asyncio switches Nagle off; left out, every answer waits 40 ms for an ACK.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", options.port))
    sock.listen(512)
    logger = logging.getLogger("uvicorn.error")
    logger.handlers, logger.propagate = [_Nameless(logging.WARNING)], False
    endpoint = f"http://127.0.0.1:{sock.getsockname()[1]}"
    app, store = build(options)
    config = uvicorn.Config(
        app,
        http="httptools",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=240,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)

    async def main() -> None:
        running = asyncio.create_task(server.serve(sockets=[sock]))
        while not server.started and not running.done():
            await asyncio.sleep(0.005)
        if server.started:
            _announce(options.directory, endpoint)
            on_ready(endpoint)
        if options.watch_stdin:
            asyncio.get_running_loop().add_reader(0, _end_of_input, server)
        await running

    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
    finally:
        store.close()


def _announce(directory: Path, endpoint: str) -> None:
    """Write process id and endpoint for `process.running_server`. The token is not written."""
    path = directory / HIDDEN / "server.json"
    path.with_suffix(".new").write_text(json.dumps({"pid": os.getpid(), "endpoint": endpoint}))
    path.with_suffix(".new").replace(path)


def _end_of_input(server: uvicorn.Server) -> None:
    with suppress(OSError):
        if os.read(0, 4096):
            return
    asyncio.get_running_loop().remove_reader(0)
    server.should_exit = True
    server.force_exit = True


def serve_directory(
    directory: Path, port: int, on_ready: Callable[[str], None], *, faults: Path | None = None
) -> None:
    """`sdd-dicom drive serve DIRECTORY [--port N] [--faults FILE]`: in this process, until interrupted.

    `SDD_DRIVE_TOKEN` is honoured. With a fault script the history is kept and `/_admin/…` is served, too.

    Raises:
        BadScript: the fault script is wrong; nothing was served.
    """
    token = os.environ.get("SDD_DRIVE_TOKEN", "")
    settings = Settings(auth="token" if token else "off")
    options = Options(
        directory=directory,
        port=port,
        token=token,
        settings=settings,
        admin=faults is not None,
        faults=faults,
    )
    serve(options, on_ready)
