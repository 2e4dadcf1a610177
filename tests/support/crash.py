"""The death of a process, played inside the test's own."""

from __future__ import annotations


class Crash(BaseException):
    """The process dies here. No code of the program catches it."""
