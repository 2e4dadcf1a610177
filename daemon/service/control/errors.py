"""What a request can be refused for, on both sides of the socket."""

from __future__ import annotations

from daemon.rules.codes import Code
from daemon.rules.errors import Refused


class UnknownTarget(Refused):
    """What the person named is known neither to the ledger nor to Drive."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(Code.UNKNOWN_TARGET, what, remedy=remedy)


class OtherVersion(Refused):
    """The service and the command have versions that do not understand each other.

    Args:
        service, command: the two versions; empty: a version that does not yet send its number.
    """

    def __init__(self, service: str, command: str) -> None:
        super().__init__(
            Code.OTHER_VERSION,
            f"the service is of {_version(service)} and this command of {_version(command)}",
        )


def _version(text: str) -> str:
    return f"version {text}" if text else "an older version"
