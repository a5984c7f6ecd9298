"""Documents: YAML files that people write, read within bounds and with the line of every key."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

_FILE_BYTES_MAX: Final = 256 * 1024
_NODES_MAX: Final = 10_000
_DEPTH_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Lines:
    """Where each key of a YAML document stands first."""

    first: int
    of_key: dict[str, int]

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


class DocumentError(Exception):
    """A file that cannot be used, and the line that tells why."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def read(path: Path) -> bytes:
    """Read a file, if it is no larger than what people write; raises DocumentError."""
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise DocumentError(1, f"cannot be read: {error.strerror}") from error
    if len(content) > _FILE_BYTES_MAX:
        raise DocumentError(1, f"more than {_FILE_BYTES_MAX:,} bytes")
    return content


def mappings(content: bytes) -> Iterator[tuple[dict[str, Any], Lines]]:
    """Every document of a file, each of which must be a mapping; raises DocumentError."""
    for node in _nodes(content):
        yield _mapping(node, "a rule")


def entries(content: bytes) -> Iterator[tuple[dict[str, Any], Lines]]:
    """Every entry of the one list that a file holds, each of which must be a mapping; raises DocumentError."""
    for number, node in enumerate(_nodes(content)):
        if number or not isinstance(node, yaml.SequenceNode):
            raise DocumentError(_line(node), "must be one YAML list: each entry begins with `- `")
        for entry in node.value:
            yield _mapping(entry, "an entry")


def _mapping(node: yaml.Node, what: str) -> tuple[dict[str, Any], Lines]:
    of_key: dict[str, int] = {}
    _check_keys(node, of_key)
    try:
        document = yaml.SafeLoader("").construct_document(node)
    except (yaml.YAMLError, ValueError) as error:
        raise _unreadable(error) from error
    if not isinstance(document, dict):
        raise DocumentError(_line(node), f"{what} is a YAML mapping")
    return document, Lines(_line(node), of_key)


def _nodes(content: bytes) -> Iterator[yaml.Node]:
    """Parse YAML with bounds: no aliases (they make bombs), no tags, no duplicate keys, no deep nesting."""
    try:
        _check_events(content)
        yield from filter(None, yaml.compose_all(content, Loader=_Loader))
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> DocumentError:
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or type(error).__name__
    return DocumentError(mark.line + 1 if mark else 1, f"not valid YAML: {reason}")


def _check_events(content: bytes) -> None:
    """Look at the parser's events one by one, so that a file of brackets is refused before it costs time."""
    depth = count = 0
    for event in yaml.parse(content, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        count += isinstance(event, yaml.NodeEvent)
        if count > _NODES_MAX or depth > _DEPTH_MAX:
            raise DocumentError(_line(event), f"larger than {_NODES_MAX:,} nodes or deeper than {_DEPTH_MAX} levels")
        if isinstance(event, yaml.AliasEvent):
            raise DocumentError(_line(event), "YAML aliases are not allowed")
        if getattr(event, "tag", None):
            raise DocumentError(_line(event), "YAML tags are not allowed")


def _line(part: yaml.Node | yaml.Event) -> int:
    return part.start_mark.line + 1 if part.start_mark else 1


def _check_keys(root: yaml.Node, of_key: dict[str, int]) -> None:
    """Refuse keys that are no text or stand twice, and note where each stands first."""
    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, _ in node.value:
                name = str(key.value)
                if key.tag != "tag:yaml.org,2002:str":
                    raise DocumentError(_line(key), f"the key {name!r} is not text; put it in quotes")
                if name in keys:
                    raise DocumentError(_line(key), f"the key {name!r} stands here twice")
                keys.add(name)
                of_key.setdefault(name, _line(key))
            stack += [value for _, value in reversed(node.value)]
        elif isinstance(node, yaml.SequenceNode):
            stack += reversed(node.value)
