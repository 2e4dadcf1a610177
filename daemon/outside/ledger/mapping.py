"""Rows of the database as values of the frozen row classes: a column bears the name of its field."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from enum import StrEnum
from typing import Any, TypeVar, get_origin, get_type_hints

T = TypeVar("T")
_Fields = tuple[tuple[str, Callable[[Any], Any] | None], ...]
_known: dict[type[Any], _Fields] = {}


def from_row(kind: type[T], row: sqlite3.Row) -> T:
    """Return the row as a `kind`, a dataclass. Columns without a field are left out.

    Integers become `bool` and texts become enums as the fields say; a field that is a `Mapping` or a `Sequence` holds JSON.

    Raises:
        IndexError: the row has no column for a field.
    """
    return kind(*(row[name] if to is None else to(row[name]) for name, to in _fields(kind)))


def to_row(value: Any) -> dict[str, Any]:
    """Return column → what is stored of a dataclass; mappings and sequences become JSON."""
    return {
        name: json.dumps(found, ensure_ascii=False) if to is json.loads else found
        for name, to in _fields(type(value))
        for found in [getattr(value, name)]
    }


def _fields(kind: type[Any]) -> _Fields:
    if kind not in _known:
        types = get_type_hints(kind)
        _known[kind] = tuple((field.name, _conversion(types[field.name])) for field in fields(kind))
    return _known[kind]


def _conversion(kind: Any) -> Callable[[Any], Any] | None:
    if kind is bool or (isinstance(kind, type) and issubclass(kind, StrEnum)):
        return kind
    return json.loads if get_origin(kind) in (Mapping, Sequence) else None
