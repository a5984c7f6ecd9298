"""Rule file: YAML of rules or exceptions to documents, with bounds, and with the line on which each key stands first.

A pack of hundreds of files is read at every start, and its YAML costs most of that. So each file is parsed once: what
the parser meets is checked and built in the same pass.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

_FILE_BYTES_MAX: Final = 256 * 1024
_NODES_MAX: Final = 10_000
_DEPTH_MAX: Final = 64
_TEXT: Final = "tag:yaml.org,2002:str"
_WORDS_KEPT: Final = 10_000  # the words of a pack, `get` or `allow`, come again and again


class YamlError(Exception):
    """What is wrong with a file, and on which line."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Lines:
    """Where each key of a YAML document stands first."""

    first: int
    of_key: dict[str, int] = field(default_factory=dict)

    def find(self, key: str) -> int:
        """The line of a key, of a field with any modifiers, or of the document's start if it has no such key."""
        matching = (line for name, line in self.of_key.items() if key in (name, name.partition("|")[0]))
        return next(matching, self.first)


class _Loader(yaml.CSafeLoader):
    """YAML in which a time is a text, as it is in an event."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


# Two thirds of a file are its cases, at its end: below `tests:` in `detector:` every line is indented deeper than that.
_CASES: Final = re.compile(rb"^detector:\n(?:(?:  .*)?\n)*?  tests:(\n(?:(?:   .*|  - .*|)\n)+)\Z", re.MULTILINE)


def documents(content: bytes, *, cases: bool = True) -> Iterator[tuple[dict[str, Any], Lines]]:
    """Parse YAML with bounds: no aliases (they make bombs), no tags, no duplicate keys, no deep nesting.

    Args:
        content: a file's bytes.
        cases: False to pass over `detector.tests` unread, where a file ends with it; what reads otherwise without its
            cases (a text in quotes may go on over lines of any look) is read with them.

    Raises:
        YamlError: at the first fault; nothing of the file is to be used then.
    """
    found = None if cases else _CASES.search(content)
    if found:
        try:
            yield from list(_documents(content[: found.start(1)] + b" []\n"))
        except YamlError:
            yield from _documents(content)
    else:
        yield from _documents(content)


def entries(content: bytes) -> Iterator[tuple[dict[str, Any], Lines]]:
    """Parse a file that holds one list of mappings, within the same bounds; each entry has lines of its own.

    Raises:
        YamlError: at the first fault; nothing of the file is to be used then.
    """
    yield from _told(_Builder(content).entries())


def read(path: Path) -> bytes:
    """Read a file that is no larger than what people write; raises YamlError."""
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise YamlError(1, f"cannot be read: {error.strerror}") from error
    if len(content) > _FILE_BYTES_MAX:
        raise YamlError(1, f"more than {_FILE_BYTES_MAX:,} bytes")
    return content


_Parts: TypeAlias = Iterator[tuple[dict[str, Any], Lines]]


def _documents(content: bytes) -> _Parts:
    yield from _told(_Builder(content).documents())


def _told(parts: _Parts) -> _Parts:
    """The parts of a file; what the parser finds wrong is told with its line."""
    try:
        yield from parts
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or type(error).__name__
        raise YamlError(mark.line + 1 if mark else 1, f"not valid YAML: {reason}") from error


class _Builder:
    """Builds documents from the parser's events, one by one: a file of brackets is refused before it costs time."""

    def __init__(self, content: bytes) -> None:
        # What `yaml.parse` does too, with a generator and two calls more for each event.
        self._next_event: Callable[[], Any] = _Loader(content).get_event
        self._nodes = 0
        self._depth = 0
        self._of_key: dict[str, int] = {}

    def documents(self) -> _Parts:
        """Each document, which must be a mapping."""
        for _ in self._starts():
            yield self._part(self._next(), "a rule is a YAML mapping")

    def entries(self) -> _Parts:
        """Each entry of the only document, which must be a list of mappings."""
        for number, _ in enumerate(self._starts()):
            root = self._next()
            if number or type(root) is not yaml.SequenceStartEvent:
                raise YamlError(_line(root), "must be one YAML list: each entry begins with `- `")
            while type(event := self._next()) is not yaml.SequenceEndEvent:
                yield self._part(event, "an entry is a YAML mapping")

    def _starts(self) -> Iterator[yaml.Event]:
        """The beginning of each document."""
        while (event := self._next_event()) is not None:
            if isinstance(event, yaml.DocumentStartEvent):
                yield event

    def _part(self, first: Any, otherwise: str) -> tuple[dict[str, Any], Lines]:
        self._of_key = {}
        built = self._value(first)
        if not isinstance(built, dict):
            raise YamlError(_line(first), otherwise)
        return built, Lines(_line(first), self._of_key)

    def _next(self) -> Any:
        """The event after the last one, if it may stand in a file."""
        event = self._next_event()
        kind = type(event)
        if kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            return event
        self._nodes += 1
        if self._nodes > _NODES_MAX:
            raise YamlError(_line(event), f"larger than {_NODES_MAX:,} nodes")
        if kind is yaml.AliasEvent:
            raise YamlError(_line(event), "YAML aliases are not allowed")
        if event.tag:
            raise YamlError(_line(event), "YAML tags are not allowed")
        return event

    def _value(self, event: Any) -> Any:
        kind = type(event)
        if kind is yaml.ScalarEvent:
            return _plain(event) if event.implicit[0] else event.value
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise YamlError(_line(event), f"deeper than {_DEPTH_MAX} levels")
        built = self._mapping() if kind is yaml.MappingStartEvent else self._sequence()
        self._depth -= 1
        return built

    def _sequence(self) -> list[Any]:
        values: list[Any] = []
        while type(event := self._next()) is not yaml.SequenceEndEvent:
            values.append(self._value(event))
        return values

    def _mapping(self) -> dict[str, Any]:
        """Build a mapping; refuse keys that are no text or stand twice."""
        values: dict[str, Any] = {}
        while type(event := self._next()) is not yaml.MappingEndEvent:
            if type(event) is not yaml.ScalarEvent or (event.implicit[0] and _tag(event.value) != _TEXT):
                name = repr(event.value) if type(event) is yaml.ScalarEvent else "of several parts"
                raise YamlError(_line(event), f"the key {name} is not text; put it in quotes")
            name = event.value
            if name in values:
                raise YamlError(_line(event), f"the key {name!r} stands here twice")
            self._of_key.setdefault(name, _line(event))
            values[name] = self._value(self._next())
        return values


_loader: Final = yaml.SafeLoader("")
_loader.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


@lru_cache(maxsize=_WORDS_KEPT)
def _tag(text: str) -> str:
    """What a text without quotes is: `true` a boolean, `5` a number."""
    tag: str = _loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    return tag


def _plain(event: Any) -> Any:
    tag = _tag(event.value)
    return (
        event.value if tag == _TEXT else _loader.construct_object(yaml.ScalarNode(tag, event.value, event.start_mark))
    )


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1
