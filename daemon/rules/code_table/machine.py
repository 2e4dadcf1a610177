"""Codes of this machine, of the start and of the commands; no I/O."""

from __future__ import annotations

from collections.abc import Mapping

from daemon.rules.code_table.entry import Entry, either, hold, wait
from daemon.rules.codes import Code, Exit, Kind, Scope

_START = "Start it: systemctl start sdd-dicom (or: sdd-dicom run)"
_ROOM = "Make room on the disk of the state directory; the service then continues"

MACHINE: Mapping[Code, Entry] = {
    Code.BACKUP_FAILED: wait(
        "The daily copy of the ledger could not be written",
        "Make room on the disk of the state directory; the service tries again every hour",
    ),
    Code.BUG: Entry(
        Kind.BUG,
        "A step failed with an unexpected error: a fault of sdd-dicom",
        "Report the traceback in the log: this is a fault of sdd-dicom. Then: sdd-dicom retry",
    ),
    Code.DISK_FAILS: wait(
        "The state directory cannot be used: errors of the disk, mounted read-only, or wrong rights",
        "Check the disk of the state directory, that it is mounted writable, and who owns it",
        Scope.DISK,
    ),
    Code.DISK_FULL: wait("The disk of the state directory is full, down to the reserve", _ROOM, Scope.DISK),
    Code.DOWNLOADING: wait("Another step downloads the same file now"),
    Code.LEDGER_BUSY: wait("Another program uses the ledger", scope=Scope.SERVICE),
    Code.LEDGER_DAMAGED: hold(
        "The ledger is damaged; the service stops",
        "Restore the newest backup as docs/administrators.md says; do not delete the file",
        Scope.SERVICE,
        Exit.BAD_CONFIGURATION,
    ),
    Code.LEDGER_DISK: wait(
        "The ledger cannot be used: errors of the disk, mounted read-only, or wrong rights",
        "Check the disk of the state directory: room, errors, rights; the service then continues",
        Scope.SERVICE,
    ),
    Code.LEDGER_FAILED: wait(
        "The result of a step could not be written into the ledger", scope=Scope.SERVICE
    ),
    Code.LEDGER_FULL: wait("The ledger could not be written: the disk is full", _ROOM, Scope.SERVICE),
    Code.LEDGER_VERSION: hold(
        "A newer version of sdd-dicom wrote the ledger; or an older one did, and the service has not started since the upgrade",
        "Use the version of sdd-dicom that wrote it, or a newer one",
        Scope.SERVICE,
        Exit.BAD_CONFIGURATION,
    ),
    Code.LOCKED: hold(
        "Another process works on this state directory",
        "Stop it first (systemctl stop sdd-dicom), or use another state.dir",
        Scope.SERVICE,
        Exit.TRY_AGAIN,
    ),
    Code.SPOOL_ALTERED: either("Bytes in the spool were lost or changed; they are downloaded or made again"),
    Code.SPOOL_TOO_SMALL: hold(
        "The spool cannot hold all images of the series at once",
        "Raise work.spool_max_gb or lower work.disk_reserve_gb on a larger disk, then `sdd-dicom retry`",
    ),
    Code.STATE_UNUSABLE: hold(
        "The state directory cannot be used",
        exit_code=Exit.BAD_CONFIGURATION,
        what_to_do="Check who owns the state directory, or set state.dir",
    ),
    Code.STOPPING: wait("The service stops; the next start repeats the step"),
}
"""The disk, the ledger, the spool, and faults of the program itself."""

START_AND_COMMANDS: Mapping[Code, Entry] = {
    Code.CONTROL_DENIED: hold(
        "This account may not use the control socket",
        "Use sudo, or join the group of the socket (usermod -aG sdd-dicom YOU, then log in again)",
        Scope.SERVICE,
        Exit.NOT_ALLOWED,
    ),
    Code.LOCAL_DRIVE: hold(
        "The local directory that acts as Drive cannot be served",
        "Stop the other server of this directory (sdd-dicom drive serve), or let this account write there",
        Scope.SERVICE,
        Exit.UNAVAILABLE,
    ),
    Code.NO_ANSWER: wait(
        "The service did not answer the command", "Try again; its log says what it is doing"
    ),
    Code.NO_LEDGER: hold(
        "The service does not run, and there is no ledger to read", _START, Scope.SERVICE, Exit.UNAVAILABLE
    ),
    Code.NOT_A_FOLDER: hold(
        "The id in drive.source or drive.output is not a folder, or is in the trash",
        scope=Scope.SERVICE,
        exit_code=Exit.UNAVAILABLE,
        what_to_do="Correct drive.source or drive.output, or restore the folder",
    ),
    Code.NOT_ALLOWED: hold(
        "The service does not run, and this account may not read its ledger",
        "Use the account of the service (sudo -u sdd-dicom …), or start the service",
        Scope.SERVICE,
        Exit.NOT_ALLOWED,
    ),
    Code.NOT_RUNNING: hold("The service does not run", _START, Scope.SERVICE, Exit.UNAVAILABLE),
    Code.OTHER_VERSION: hold(
        "The command and the running service have versions that do not understand each other",
        "Restart the service after an upgrade (systemctl restart sdd-dicom), or use the version of sdd-dicom that the service runs",
        Scope.SERVICE,
        Exit.UNAVAILABLE,
    ),
    Code.OUTPUT_AMBIGUOUS: hold(
        "Several folders have the name in drive.output",
        scope=Scope.SERVICE,
        exit_code=Exit.UNAVAILABLE,
        what_to_do='Name one by its id: drive.output = "id:…"',
    ),
    Code.OUTPUT_INSIDE_SOURCE: hold(
        "The output folder lies in the source folder",
        "Choose a folder beside the source for drive.output",
        Scope.SERVICE,
        Exit.UNAVAILABLE,
    ),
    Code.OUTPUT_MISSING: hold(
        "The output folder does not exist, or this account cannot see it",
        "Share it with the account as Editor, or correct drive.output",
        Scope.SERVICE,
        Exit.UNAVAILABLE,
    ),
    Code.OUTPUT_NOT_WRITABLE: hold(
        "The account may not write into the output folder",
        "Share it with the account as Editor",
        Scope.SERVICE,
        Exit.UNAVAILABLE,
    ),
    Code.SOURCE_AMBIGUOUS: hold(
        "Several folders have the name in drive.source",
        scope=Scope.SERVICE,
        exit_code=Exit.UNAVAILABLE,
        what_to_do='Name one by its id: drive.source = "id:…"',
    ),
    Code.SOURCE_MISSING: hold(
        "The source folder does not exist, or this account cannot see it",
        "Create it, share it with the account, or correct drive.source",
        Scope.SERVICE,
        Exit.UNAVAILABLE,
    ),
    Code.UNKNOWN_CODE: hold(
        "`retry --reason` names a code that does not exist",
        exit_code=Exit.USAGE,
        what_to_do="Use a code of this page",
    ),
    Code.UNKNOWN_TARGET: hold(
        "The command names something that neither the ledger nor Drive knows",
        exit_code=Exit.USAGE,
        what_to_do="Name a Drive id, a path on Drive or a UID; sdd-dicom list shows them",
    ),
}
"""What ends a start or a command."""
