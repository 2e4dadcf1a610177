"""Values that people give to named fields, in scripts and over `/_admin/`: do they fit? No I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any


def checked(
    values: Mapping[str, Any],
    usual: Mapping[str, Any],
    choices: Mapping[str, Collection[str]],
    *,
    what: str = "key",
) -> dict[str, Any]:
    """Return the values in the types of their fields.

    Args:
        usual: field → a value of its type; a whole number will do for a fraction, nothing else for anything else.
        choices: field → the texts that it may hold.
        what: what a field is called in a complaint.
    Raises:
        ValueError: an unknown field, a wrong type, or none of the choices.
    """
    found = {}
    for key, value in values.items():
        if key not in usual:
            raise ValueError(f"unknown {what} {key}")
        wanted = type(usual[key])
        if wanted is float and type(value) is int:
            value = float(value)
        if type(value) is not wanted:
            raise ValueError(f"wrong type for {key}: {wanted.__name__} is wanted")
        if key in choices and value not in choices[key]:
            raise ValueError(f"{key} is one of {', '.join(filter(None, choices[key]))}")
        found[key] = value
    return found
