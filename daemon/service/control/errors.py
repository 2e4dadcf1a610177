"""What a request can be refused for, on both sides of the socket."""

from __future__ import annotations

from daemon.rules.codes import Code
from daemon.rules.errors import Refused


class UnknownTarget(Refused):
    """What the person named is known neither to the ledger nor to Drive."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(Code.UNKNOWN_TARGET, what, remedy=remedy)


class OtherVersion(Refused):
    """The daemon and the command are of versions that do not understand each other.

    Args:
        daemon, command: the two versions; empty: older than the first that tells.
    """

    def __init__(self, daemon: str, command: str) -> None:
        super().__init__(
            Code.OTHER_VERSION,
            f"the daemon is of {_version(daemon)} and this command of {_version(command)}",
        )


def _version(text: str) -> str:
    return f"version {text}" if text else "an older version"
