"""The commands: the only place that prints and chooses exit codes (with its neighbours here)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from daemon import __version__
from daemon.cli.exits import BUG, OK, USAGE, guarded, settings_of, tell

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="PATH",
        help="The configuration file. Without it: $SDD_DICOM_CONFIG, ./config.toml, /etc/sdd-dicom/config.toml.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="As JSON, for scripts.")]
Unused = Annotated[Path | None, typer.Option("--config", hidden=True)]

app = typer.Typer(
    name="sdd-dicom",
    help="Watches a Google Drive folder for DICOM exams and delivers NIfTI volumes, complete and exactly once.",
    epilog="First steps: sdd-dicom demo. Then: edit config.toml, sdd-dicom check, sdd-dicom run.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
drive_app = typer.Typer(help="The embedded Drive: a directory that plays Google Drive.", no_args_is_help=True)
app.add_typer(drive_app, name="drive")


def main() -> None:
    """Run the program; the entry point `sdd-dicom`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without our characters is no reason to fail
    app()


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"sdd-dicom {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    del version


# ── the daemon ───────────────────────────────────────────────────────────────────────────────────────────────────


@app.command(epilog="Example: sdd-dicom run --once --config /etc/sdd-dicom/config.toml")
@guarded
def run(
    once: Annotated[
        bool,
        typer.Option(
            "--once", help="Work off everything there is, then end: 0 done, 3 something is held, 4 must wait."
        ),
    ] = False,
    config: Config = None,
) -> int:
    """Run the daemon until it is stopped."""
    from daemon.outside import log
    from daemon.service import memory

    memory.keep_few_arenas()
    settings = settings_of(config)
    progress = once and sys.stdout.isatty()
    log.configure(settings.logging, settings.logs_dir, console=not progress)
    if not once:
        from daemon.service.service import Service

        return Service(settings).run()
    from daemon.service.once import run_once

    if not progress:
        return run_once(settings)
    from rich.console import Console

    from daemon.cli.progress import OnceProgress, ending

    with OnceProgress(Console()) as shown:
        code = run_once(settings, on_progress=shown.show)
    for line in ending(settings, code):
        typer.echo(line)
    return code


@app.command(epilog="Example, on a machine without a browser: sdd-dicom login --no-browser --port 8765")
@guarded
def login(
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address; open nothing.")] = False,
    port: Annotated[
        int,
        typer.Option(
            "--port", metavar="N", min=0, max=65535,
            help="Where the browser comes back to on this machine; 0: a free one. With a fixed one, use your own"
            " browser through: ssh -L N:127.0.0.1:N THIS-MACHINE",
        ),
    ] = 0,
    config: Config = None,
) -> int:  # fmt: skip
    """Log in to Google once, in a browser, and keep the token."""
    settings = settings_of(config)
    if settings.drive.backend == "local":
        tell('drive.backend is "local": a directory plays Drive, and no login is needed.')
        tell('  → To use Google Drive, set backend = "google" under [drive], then: sdd-dicom login')
        return USAGE
    if settings.auth.kind == "service_account":
        tell('auth.kind is "service_account": its key file is the login.')
        tell("  → Prove it with: sdd-dicom check")
        return USAGE
    from daemon.outside.drive import auth

    token = auth.login(
        settings.client_file, settings.token_file, port=port, open_browser=not no_browser, say=typer.echo
    )
    typer.echo(f"The login is kept in {token}.")
    typer.echo(f"Next: sdd-dicom check --config {settings.path}")
    return OK


@app.command(
    epilog="Exit codes: 0 all is well, 77 credentials, 69 folders or Drive, 78 configuration, 1 this machine."
)
@guarded
def check(as_json: Json = False, config: Config = None) -> int:
    """Prove configuration, credentials, folders, converter, disk and clock; each problem with its remedy."""
    from daemon.cli import checks, machine, render

    settings = settings_of(config)
    findings = checks.findings(settings)
    code = machine.exit_code(findings)
    if as_json:
        _json(
            {
                "exit_code": code,
                "configuration": dict(settings.describe()),
                "findings": [finding.as_json() for finding in findings],
            }
        )
        return code
    console = _console()
    for name, value in settings.describe():
        console.print(f"{name:<28} {value}", markup=False, highlight=False)
    console.print()
    for finding in findings:
        for line in render.finding_lines(finding.as_json()):
            console.print(line)
    return code


# ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────────


@app.command(epilog="Example: watch -n 5 sdd-dicom status")
@guarded
def status(as_json: Json = False, config: Config = None) -> int:
    """Show what the daemon does, how much is left, how long it will take, and what needs a person."""
    from daemon.cli import answers, render

    answer = answers.status(settings_of(config))
    if as_json:
        _json(answer)
        return OK
    console = _console()
    for line in render.status(answer):
        console.print(line)
    return OK


@app.command("list", epilog="Example: sdd-dicom list --held --names")
@guarded
def list_(
    state: Annotated[
        str, typer.Option("--state", metavar="S", help="Only those in this state: SEEN, FILED, DELIVERED …")
    ] = "",
    held: Annotated[bool, typer.Option("--held", help="Only what is held for a person.")] = False,
    names: Annotated[
        bool, typer.Option("--names", help="With names, asked from Drive now: one request for each line.")
    ] = False,
    as_json: Json = False,
    config: Config = None,
) -> int:
    """List files and series: ids, states and Drive links; names only when asked for."""
    from daemon.cli import answers, render
    from daemon.service.control import views

    settings = settings_of(config)
    state = state.upper()
    if state and state not in views.STATES:
        tell(f"{state} is no state; known are {', '.join(views.STATES)}")
        return USAGE
    found = {
        kind: answers.rows(settings, kind, state=state, held=held, names=names)
        for kind in ("files", "series")
    }
    if as_json:
        _json({kind: list(rows) for kind, rows in found.items()})
        return OK
    console = _console()
    for kind, line_of in (("files", render.file_line), ("series", render.series_line)):
        console.print(f"{kind}:", style="bold")
        for row in found[kind]:
            console.print(line_of(row))
    return OK


@app.command(epilog="Example: sdd-dicom why DICOM/exam7/IM0001   (or an id, an address, a UID)")
@guarded
def why(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="A Drive id, a Drive address, a path on Drive, or a UID.")
    ],
    config: Config = None,
) -> int:
    """Tell the life of one file, series or folder: where it is, what happened, what it waits for."""
    from daemon.cli import answers, explain

    answer = answers.why(settings_of(config), target)
    for line in explain.sentences(answer):
        typer.echo(line)
    return OK


# ── steering ─────────────────────────────────────────────────────────────────────────────────────────────────────


@app.command(epilog="Example: sdd-dicom retry --reason TRUNCATED")
@guarded
def retry(
    targets: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TARGET]...", help="Files, series or folders, named as for why."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Everything that is held or waits.")] = False,
    reason: Annotated[
        str, typer.Option("--reason", metavar="R", help="Everything held with this code.")
    ] = "",
    config: Config = None,
) -> int:
    """Let what is held, or waits for a next try, be tried again now."""
    from daemon.cli import answers
    from daemon.cli.format import counted

    if bool(targets) + every + bool(reason) != 1:
        tell("Name what to try again: targets, or --all, or --reason R; one of the three.")
        tell("  → sdd-dicom list --held shows what is held; sdd-dicom retry --help explains")
        return USAGE
    code = answers.code_of(reason) if reason else ""
    done = answers.retry(settings_of(config), targets or [], every=every, reason=code)
    if done["files"] or done["series"]:
        files, series = counted(done["files"], "file"), counted(done["series"], "series", "series")
        typer.echo(f"Tried again{_later(done)}: {files}, {series}.")
    else:
        typer.echo("Nothing of that is held or waits.")
    return OK


@app.command()
@guarded
def pause(config: Config = None) -> int:
    """Start nothing new until resume; what runs is finished. A restart of the daemon does not end it."""
    from daemon.service.control.client import ControlClient

    done = ControlClient(settings_of(config)).post("/pause")
    typer.echo(
        "Paused: nothing new starts. Go on with: sdd-dicom resume"
        if done["changed"]
        else "It was paused already."
    )
    return OK


@app.command()
@guarded
def resume(config: Config = None) -> int:
    """Go on after pause; scopes that are closed are tried again at once."""
    from daemon.service.control.client import ControlClient

    done = ControlClient(settings_of(config)).post("/resume")
    typer.echo("It goes on." if done["changed"] else "It was not paused.")
    return OK


@app.command()
@guarded
def crawl(config: Config = None) -> int:
    """List the whole source folder anew, now: the feed of changes can miss something."""
    from daemon.service.control.client import ControlClient

    ControlClient(settings_of(config)).post("/crawl")
    typer.echo("The source folder is listed anew; sdd-dicom status shows how far it is.")
    return OK


@app.command(epilog="Example: sdd-dicom process 1.2.840.113619.2.55.3.604688119.969.1")
@guarded
def process(
    series: Annotated[
        str,
        typer.Argument(
            metavar="SERIES", help="Its SeriesInstanceUID, or one of its files (id, address, path)."
        ),
    ],
    config: Config = None,
) -> int:
    """Build a series anew from what lies in the source now, even where a person changed or trashed its delivery."""
    from daemon.cli import answers

    done = answers.process(settings_of(config), series)
    for uid in done["series_instance_uids"]:
        typer.echo(f"{uid} is built anew{_later(done)}. Follow it with: sdd-dicom why {uid}")
    return OK


def _later(done: dict[str, Any]) -> str:
    return "" if done.get("running", True) else " when the daemon starts"


# ── without a configuration ──────────────────────────────────────────────────────────────────────────────────────


@app.command(epilog="Example: sdd-dicom demo --keep ./demo")
@guarded
def demo(
    keep: Annotated[
        Path | None,
        typer.Option(
            "--keep", metavar="DIR", help="Keep everything in this new directory, ready for sdd-dicom run."
        ),
    ] = None,
    config: Unused = None,
) -> int:
    """Show it all in half a minute: an embedded Drive, sample exams, the real daemon. Needs no configuration."""
    del config
    from daemon.cli.demo import DemoFailed, Unusable, show

    try:
        return show(keep, _console())
    except Unusable as exc:
        tell(str(exc))
        return USAGE
    except DemoFailed as exc:
        tell(f"The demonstration failed: {exc}")
        return BUG


@drive_app.command(
    "serve", epilog="Example: SDD_DRIVE_TOKEN=secret sdd-dicom drive serve ./drive --port 8900"
)
@guarded
def serve(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="What is served; made if missing.")],
    port: Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535, help="0: a free one.")] = 0,
    faults: Annotated[
        Path | None,
        typer.Option(
            "--faults", metavar="FILE",
            help="Misbehave as this script says (TOML or JSON), read again whenever it changes; also serves /_admin/,"
            " with the history of requests and effects.",
        ),
    ] = None,
    config: Unused = None,
) -> int:  # fmt: skip
    """Serve a directory through the Drive v3 REST API on 127.0.0.1, until interrupted.

    A fault script, as an example: one download in twenty ends early, and there is a quota. In JSON:

        {"seed": 7, "settings": {"units_per_minute": 12000}, "faults": [{"action": "truncate",
        "kind": "download", "keep_bytes": 1000, "times": -1, "probability": 0.05}]}

    The same in TOML, every key, action and setting: python -m daemon.localdrive.faults.script
    """
    del config
    from daemon.cli.serve import serve_until_interrupted

    return serve_until_interrupted(directory, port, faults)


# ── printing ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _json(answer: Any) -> None:
    typer.echo(json.dumps(answer, ensure_ascii=False, indent=1, default=str))


def _console() -> Any:
    """Return a console that never breaks or cuts an id: lines are as long as they are."""
    from daemon.cli.render import Lines

    return Lines(soft_wrap=True, highlight=False)
