"""The search grammar of `files.list`: parses the text, and matches the parsed query against an item.

Source: Drive v3 "Search query terms and operators"; drive-api.md, 2.2 for what was seen live.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from daemon.localdrive.errors import ApiError, invalid
from daemon.localdrive.store.items import ME, Item, parse_time

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^'\\]|\\.)*')|(?P<op><=|>=|!=|=|<|>)|(?P<mark>[(){}])|(?P<word>[A-Za-z][A-Za-z0-9_.]*))",
    re.DOTALL,
)
_WORDS = re.compile(r"[^\W_]+", re.UNICODE)
_TEXT_TERMS = {"name", "mimeType", "shortcutDetails.targetId"}
_TIME_TERMS = {"modifiedTime", "createdTime", "viewedByMeTime", "sharedWithMeTime"}
_FLAG_TERMS = {"trashed", "starred"}
_LIST_TERMS = {"parents", "owners", "writers", "readers"}


@dataclass(frozen=True, slots=True)
class Term:
    """One comparison: `key operator value`; for `has`, the key and value of the property."""

    key: str
    op: str
    value: str
    second: str = ""
    epoch_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Not:
    inner: Node


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Node, ...]


Node = Term | Not | And | Or


@dataclass(frozen=True, slots=True)
class View:
    """What matching needs to know beyond the item itself."""

    trashed: Callable[[Item], bool]
    parents: Callable[[Item], list[str]]
    root_id: str


def parse(text: str) -> Node:
    """Return the tree of `text`.

    Raises:
        ApiError: 400 invalid at `q`.
    """
    parser = _Parser(text)
    node = parser.either()
    if parser.peek():
        raise _bad()
    return node


def _bad() -> ApiError:
    return invalid("q")


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        self._at = 0
        at = 0
        text = text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise _bad()
            self._tokens.append(match.group().strip())
            at = match.end()

    def peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.peek()
        if not token or (expected and token.lower() != expected):
            raise _bad()
        self._at += 1
        return token

    def either(self) -> Node:
        parts = [self.both()]
        while self.peek().lower() == "or":
            self.take()
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def both(self) -> Node:
        parts = [self.negated()]
        while self.peek().lower() == "and":
            self.take()
            parts.append(self.negated())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def negated(self) -> Node:
        if self.peek().lower() == "not":
            self.take()
            return Not(self.negated())
        if self.peek() == "(":
            self.take()
            node = self.either()
            self.take(")")
            return node
        return self.term()

    def term(self) -> Node:
        if self.peek().startswith("'"):
            value = self.text()
            self.take("in")
            key = self.take()
            if key not in _LIST_TERMS:
                raise _bad()
            return Term(key, "in", value)
        key = self.take()
        if key == "sharedWithMe":
            return self.shared_with_me()
        op = self.take().lower()
        if (key in _TEXT_TERMS and op in {"=", "!="}) or (key in {"name", "mimeType"} and op == "contains"):
            return Term(key, op, self.text())
        if key in _TIME_TERMS and op in {"=", "!=", "<", "<=", ">", ">="}:
            value = self.text()
            return Term(key, op, value, epoch_s=parse_time(value, "q"))
        if key in _FLAG_TERMS and op in {"=", "!="}:
            value = self.take().lower()
            if value not in {"true", "false"}:
                raise _bad()
            return Term(key, op, value)
        if key in {"properties", "appProperties"} and op == "has":
            return self.property_term(key)
        raise _bad()

    def shared_with_me(self) -> Node:
        if self.peek() in {"=", "!="}:
            op = self.take()
            value = self.take().lower()
            if value not in {"true", "false"}:
                raise _bad()
            return Term("sharedWithMe", op, value)
        return Term("sharedWithMe", "=", "true")

    def property_term(self, key: str) -> Term:
        # Key and value both: the guide's key-only form answers 400 on the real Drive.
        self.take("{")
        found: dict[str, str] = {}
        for number in range(2):
            if number:
                self.take("and")
            name = self.take().lower()
            if name not in {"key", "value"} or name in found:
                raise _bad()
            self.take("=")
            found[name] = self.text()
        self.take("}")
        return Term(key, "has", found["key"], found["value"])

    def text(self) -> str:
        token = self.take()
        if not token.startswith("'"):
            raise _bad()
        return re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.DOTALL)


def single_parent(node: Node) -> str:
    """Return the parent that every match must have; empty if the query names none or several."""
    if isinstance(node, Term) and node.key == "parents":
        return node.value
    if isinstance(node, And):
        for part in node.parts:
            if isinstance(part, Term) and part.key == "parents":
                return part.value
    return ""


def dropped_parent(node: Node) -> str:
    """Return the parent whose children the real Drive would leave out silently; empty if none.

    Several parents joined by `or` lose results, `incompleteSearch` false (drive-api.md, 2.2). Here the last
    one named always loses all of its children, so that a client that relies on `or` cannot pass a test by luck.
    """
    if isinstance(node, Or):
        parents = list(dict.fromkeys(_parents_in(node)))
        if len(parents) > 1:
            return parents[-1]
    if isinstance(node, And | Or):
        for part in node.parts:
            found = dropped_parent(part)
            if found:
                return found
    if isinstance(node, Not):
        return dropped_parent(node.inner)
    return ""


def named_parents(node: Node) -> list[str]:
    """Return every parent the query names, each once, in order."""
    return list(dict.fromkeys(_parents_in(node)))


def _parents_in(node: Node) -> list[str]:
    if isinstance(node, Term):
        return [node.value] if node.key == "parents" else []
    if isinstance(node, Not):
        return _parents_in(node.inner)
    return [parent for part in node.parts for parent in _parents_in(part)]


def matches(node: Node, item: Item, view: View) -> bool:
    """Whether `item` is found by `node`."""
    if isinstance(node, And):
        return all(matches(part, item, view) for part in node.parts)
    if isinstance(node, Or):
        return any(matches(part, item, view) for part in node.parts)
    if isinstance(node, Not):
        return not matches(node.inner, item, view)
    return _holds(node, item, view)


def _holds(term: Term, item: Item, view: View) -> bool:
    match term.key:
        case "parents":
            folder_id = view.root_id if term.value == "root" else term.value
            return folder_id in view.parents(item)
        case "owners" | "writers" | "readers":
            owner = item.owner or ME
            return not item.drive_id and owner == (ME if term.value == "me" else term.value)
        case "trashed":
            return (view.trashed(item) == (term.value == "true")) == (term.op == "=")
        case "starred":
            return (bool(item.starred) == (term.value == "true")) == (term.op == "=")
        case "sharedWithMe":
            return (bool(item.shared_role) == (term.value == "true")) == (term.op == "=")
        case "properties":
            return item.properties.get(term.value) == term.second
        case "appProperties":
            return item.app_properties.get(term.value) == term.second
        case "name":
            return _text(term, item.name)
        case "mimeType":
            return _text(term, item.mime)
        case "shortcutDetails.targetId":
            return (item.target_id == term.value) == (term.op == "=")
        case _:
            return _time(term, item)


def _text(term: Term, value: str) -> bool:
    if term.op == "contains":
        if term.key == "mimeType":
            return value.lower().startswith(term.value.lower())
        # Each word must begin some word of the name, any order, case ignored, never a middle part.
        have = [word.lower() for word in _WORDS.findall(value)]
        want = [word.lower() for word in _WORDS.findall(term.value)]
        return bool(want) and all(any(word.startswith(part) for word in have) for part in want)
    return (value.lower() == term.value.lower()) == (term.op == "=")


def _time(term: Term, item: Item) -> bool:
    text = {"modifiedTime": item.modified, "createdTime": item.created, "viewedByMeTime": item.viewed}.get(
        term.key, ""
    )
    if not text:
        return False
    have, want = parse_time(text, "q"), term.epoch_s
    return {
        "=": have == want,
        "!=": have != want,
        "<": have < want,
        "<=": have <= want,
        ">": have > want,
        ">=": have >= want,
    }[term.op]
