"""What went wrong becomes a short message with its remedy, and an exit code (DESIGN.md, section 8)."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

import typer
from loguru import logger

from daemon.outside import log
from daemon.rules.codes import Exit
from daemon.rules.config import ConfigError, Settings, load
from daemon.rules.config.settings import Logging
from daemon.rules.errors import Trouble

P = ParamSpec("P")

OK, BUG, USAGE, HELD, WAITING = Exit.OK, Exit.BUG, Exit.USAGE, Exit.HELD, Exit.WAITING
UNAVAILABLE, TRY_AGAIN, NOT_ALLOWED = Exit.UNAVAILABLE, Exit.TRY_AGAIN, Exit.NOT_ALLOWED
BAD_CONFIGURATION, INTERRUPTED = Exit.BAD_CONFIGURATION, Exit.INTERRUPTED
_QUIET = Logging(level="WARNING")
_ERROR = "<3>"
"""Source: sd-daemon(3)."""
_logs: list[Path] = []
"""Where the service's log is, once the configuration is read."""


def guarded(command: Callable[P, int]) -> Callable[P, None]:
    """Turn a command that returns its exit code, or raises, into one that ends the program with it."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        raise typer.Exit(_outcome(command, *args, **kwargs))

    return run


def _outcome(command: Callable[P, int], *args: P.args, **kwargs: P.kwargs) -> int:
    # Until a command says more: loguru's own handler would print the values of variables.
    log.configure(_QUIET, None)
    try:
        return command(*args, **kwargs)
    except ConfigError as exc:
        print_error("The configuration cannot be used:")
        for problem in exc.problems:
            print_error(f"  {problem}")
        return BAD_CONFIGURATION
    except Trouble as exc:
        return report(exc)
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        discard_output()
        return OK
    except Exception as exc:  # noqa: BLE001 - the last place that can say anything
        return _other(exc)
    finally:
        log.shut_down()


def _other(exc: Exception) -> int:
    from daemon.service.process import Stop

    if isinstance(exc, Stop):
        report(exc.trouble)
        return exc.exit_code
    logger.opt(exception=exc).critical("BUG: the program ends")
    print_error(f"This is a bug in sdd-dicom ({type(exc).__name__}): please report the traceback.")
    if _logs:
        print_error(f"  → The service writes its log to {_logs[-1] / log.FILE_NAME}")
    return BUG


def report(trouble: Trouble) -> int:
    """Print what is wrong and what to do about it; return the exit code."""
    from daemon.service.process import exit_code_of

    print_error(f"{trouble.code}: {trouble.what}")
    if trouble.remedy:
        print_error(f"  → {trouble.remedy}")
    return exit_code_of(trouble)


def discard_output() -> None:
    """The reader of our output has gone (`| head`): Python must not complain about that at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def print_error(text: str) -> None:
    """Write to stderr; in the journal with the priority of an error, so that `journalctl -p err` shows it."""
    prefix = _ERROR if log.stderr_is_journal() else ""
    typer.echo(prefix + text, err=True)


def settings_of(config: Path | None) -> Settings:
    """Read the configuration. Raises ConfigError."""
    settings = load(config, os.environ)
    _logs[:] = [settings.logs_dir]
    return settings
