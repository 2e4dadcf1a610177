"""The share of Drive's true quota that the program uses while there is always something to fetch.

Eight threads download small files with the real client from the embedded Drive, a process of its own, whose quota
the client does not know: full, a third, full again. Of each step the last part counts, and only what was accepted.
The server's own record says what that was.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from loguru import logger

from daemon.outside.drive.auth import LocalToken
from daemon.outside.drive.client import Drive
from daemon.outside.drive.pacer import Pacer
from daemon.outside.drive.transport import build_transport
from daemon.rules.errors import Transient
from daemon.rules.model import File
from tests.instruments.bench import bars
from tests.instruments.bench.bars import Tail
from tests.instruments.bench.figures import Figure
from tests.support.drive import DriveServer

FILES, FILE_BYTES = 64, 4096


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. Times in seconds; `units_per_minute` is the full quota."""

    model: str
    step_s: float = bars.STEP_S
    tail_s: float = bars.TAIL_S
    units_per_minute: int = bars.FULL_UNITS_PER_MINUTE
    workers: int = bars.WORKERS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", choices=bars.MODELS, action="append", help="default: both, side by side")
    parser.add_argument("--step", type=float, default=bars.STEP_S, help="seconds of each of the three steps")
    parser.add_argument("--tail", type=float, default=None, help="the last seconds of a step, which count")
    parser.add_argument("--workers", type=int, default=bars.WORKERS)


def run(arguments: argparse.Namespace) -> list[Figure]:
    """Measure each model in a process of its own. A shorter run than the bars are made for shows no bars."""
    tail_s = arguments.step / 2 if arguments.tail is None else arguments.tail
    plan = Plan("", arguments.step, tail_s, workers=arguments.workers)
    models = arguments.model or list(bars.MODELS)
    with ProcessPoolExecutor(len(models), mp_context=multiprocessing.get_context("spawn")) as processes:
        runs = [processes.submit(measure, replace(plan, model=model)) for model in models]
        whole = plan.step_s >= bars.STEP_S and plan.tail_s >= bars.TAIL_S
        return [
            figure
            for model, one in zip(models, runs, strict=True)
            for figure in bars.figures(model, one.result(), bars=whole)
        ]


def measure(plan: Plan) -> list[Tail]:
    """Run one model from the first to the last step; return what the server says of each step's tail."""
    logger.remove()
    with tempfile.TemporaryDirectory(prefix="sdd-bench-") as directory:
        work, root = Path(directory), Path(directory) / "drive"
        root.mkdir()
        for number in range(FILES):
            (root / f"{number}.dcm").write_bytes(number.to_bytes(4, "big") * (FILE_BYTES // 4))
        with DriveServer(root) as server:
            files = _all_files(server)
            server.clear_requests()
            server.set(
                quota_model=plan.model,
                units_per_minute=plan.units_per_minute,
                latency_s=bars.LATENCY_S,
                latency_jitter_s=bars.JITTER_S,
                upload_bytes_per_s=bars.LINE_BYTES_PER_S,
                download_bytes_per_s=bars.LINE_BYTES_PER_S,
            )
            server.reset_quota()
            ends = _steps(plan, server, files, work)
            return _tails(plan, server.every_request(), ends)


def _all_files(server: DriveServer) -> list[File]:
    server.scan()
    transport = build_transport(LocalToken(server.token), pacer=Pacer(1e9))
    drive = Drive(transport, api_endpoint=server.endpoint)
    files = [file for file in drive.list_children(drive.root_id()).files if file.is_blob]
    assert len(files) == FILES
    return files


def _steps(plan: Plan, server: DriveServer, files: list[File], work: Path) -> list[float]:
    """Keep the workers busy through all steps; return each step's end, epoch seconds."""
    stop = threading.Event()
    transport = build_transport(LocalToken(server.token), pacer=Pacer(bars.BOUND_UNITS_PER_MINUTE), stop=stop)
    drive = Drive(transport, api_endpoint=server.endpoint)
    wrong: list[BaseException] = []

    def fetch(first: int) -> None:
        number = first
        while not stop.is_set():
            try:
                drive.download(files[number % FILES], work / f"worker-{first}")
            except Transient:
                pass  # Refused again and again: the file comes up again, as it would with the daemon.
            except BaseException as exc:
                wrong.append(exc)
                stop.set()
                raise
            number += plan.workers

    threads = [threading.Thread(target=fetch, args=(number,), daemon=True) for number in range(plan.workers)]
    ends: list[float] = []
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for number, part in enumerate(bars.STEPS, start=1):
        server.set(units_per_minute=round(plan.units_per_minute * part))
        if stop.wait(began + number * plan.step_s - time.monotonic()):
            break
        ends.append(time.time())
    stop.set()
    for thread in threads:
        thread.join(60)
    if wrong:
        raise wrong[0]
    return ends


def _tails(plan: Plan, requests: list[dict[str, object]], ends: list[float]) -> list[Tail]:
    downloads = [request for request in requests if request["kind"] == "download"]
    tails = []
    for part, end in zip(bars.STEPS, ends, strict=True):
        quota_units = round(plan.units_per_minute * part) / 60 * plan.tail_s
        # The quota is asked a latency after the request began; the same shift at both ends changes nothing.
        inside = [one for one in downloads if end - plan.tail_s <= float(str(one["epoch_s"])) < end]
        refused = [one for one in inside if one.get("refused")]
        accepted = [one for one in inside if not one.get("refused")]
        units = sum(int(str(one["units"])) for one in accepted)
        tails.append(Tail(quota_units, units, len(accepted), len(refused)))
    return tails
