"""Checks the values of named fields that come from fault scripts and `/_admin/`. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any


def checked(
    values: Mapping[str, Any],
    defaults: Mapping[str, Any],
    choices: Mapping[str, Collection[str]],
    *,
    what: str = "key",
) -> dict[str, Any]:
    """Return the values in the types of their fields.

    Args:
        defaults: field → a value of its type. An integer is accepted for a float; otherwise the types must be equal.
        choices: field → the texts that it may hold.
        what: the word for a field in error messages.
    Raises:
        ValueError: an unknown field, a wrong type, or none of the choices.
    """
    found = {}
    for key, value in values.items():
        if key not in defaults:
            raise ValueError(f"unknown {what} {key}")
        expected = type(defaults[key])
        if expected is float and type(value) is int:
            value = float(value)
        if type(value) is not expected:
            raise ValueError(f"wrong type for {key}: {expected.__name__} is expected")
        if key in choices and value not in choices[key]:
            raise ValueError(f"{key} is one of {', '.join(filter(None, choices[key]))}")
        found[key] = value
    return found
