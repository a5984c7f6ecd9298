"""Load: rule files to compiled rules; everything wrong with any of them is told at once, with file and line."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from detector.errors import RuleError, RuleProblem
from detector.match import MESSAGE_PLACEHOLDERS, Level, Rule
from detector.printable import printable
from detector.sigma.compile import Node, compile_condition
from detector.sigma.fields import Field as EventField
from detector.sigma.fields import catalogue, resolve
from detector.sigma.parse import UnsupportedError, parse

BUNDLED: Final = Path(__file__).parent.parent / "rules"
_FILE_BYTES_MAX: Final = 256 * 1024
_NODES_MAX: Final = 10_000
_DEPTH_MAX: Final = 64
_SUFFIXES: Final = (".yml", ".yaml")


class Case(BaseModel):
    """An event that a rule must or must not match; it states only what differs from a base event."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    match: bool | Literal["degraded"]
    event: dict[str, Any]


class Extension(BaseModel):
    """The section `detector:` of a rule file, which Sigma allows beside its own keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    covers: tuple[str, ...] = ()
    """Ids of the detection ideas in `sigma/ideas.yml` that the rule covers."""
    group_by: tuple[str, ...] = ()
    fold_seconds: int = Field(default=3600, ge=60, le=7 * 86_400)
    message: str = ""
    triage: str = ""
    """What to do first, for people; without one the rule's tactic says it, see notes.py."""
    tests: tuple[Case, ...] = ()

    @field_validator("message")
    @classmethod
    def _names_known_placeholders(cls, message: str) -> str:
        for _, name, spec, conversion in Formatter().parse(message):
            if name is not None and (name not in MESSAGE_PLACEHOLDERS or spec or conversion):
                raise ValueError(f"{{{name}}} is no placeholder; known are {', '.join(sorted(MESSAGE_PLACEHOLDERS))}")
        return message


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule, ready to be matched."""

    metadata: Rule
    node: Node
    group_fields: tuple[EventField, ...]
    covers: tuple[str, ...]
    cases: tuple[Case, ...]
    path: Path
    lines: "Lines"


@dataclass(frozen=True, slots=True)
class Lines:
    """Where each key of a YAML document stands first."""

    first: int
    of_key: dict[str, int]

    def find(self, key: str) -> int:
        """The line of a key, of a field with any modifiers, or of the document's start if it has no such key."""
        matching = (line for name, line in self.of_key.items() if key in (name, name.partition("|")[0]))
        return next(matching, self.first)


def load(path: Path) -> list[CompiledRule]:
    """Load a rule file, or every rule file below a folder.

    Raises:
        RuleError: with every problem of every file; nothing is loaded then.
    """
    problems: list[RuleProblem] = []
    rules: list[CompiledRule] = []
    if not path.exists():
        raise RuleError([RuleProblem(path, 1, "no such file or folder; check --rules or rules.path")])
    files = [path] if path.is_file() else sorted(_rule_files(path))
    if not files:
        raise RuleError([RuleProblem(path, 1, "no rule files (*.yml) below this folder")])
    for file in files:
        rules += _load_file(file, ruleset=_ruleset(path), problems=problems)
    first: dict[str, CompiledRule] = {}
    for rule in rules:
        earlier = first.setdefault(rule.metadata.id, rule)
        if earlier is not rule:
            line = rule.lines.find("id")
            problems.append(RuleProblem(rule.path, line, f"id {rule.metadata.id} is already used by {earlier.path}"))
    if problems:
        raise RuleError(problems)
    return rules


def _rule_files(folder: Path) -> Iterator[Path]:
    """Every rule file below a folder but hidden ones: a mounted ConfigMap keeps each file a second time in one."""
    for file in folder.rglob("*"):
        if file.suffix in _SUFFIXES and not any(part.startswith(".") for part in file.relative_to(folder).parts):
            yield file


def _ruleset(path: Path) -> str:
    if path.resolve() == BUNDLED:
        return "detector"
    return path.resolve().name if path.is_dir() else path.resolve().parent.name


def _load_file(path: Path, ruleset: str, problems: list[RuleProblem]) -> Iterator[CompiledRule]:
    try:
        content = path.read_bytes()
    except OSError as error:
        problems.append(RuleProblem(path, 1, f"cannot be read: {error.strerror}"))
        return
    if len(content) > _FILE_BYTES_MAX:
        problems.append(RuleProblem(path, 1, f"{len(content):,} bytes; a rule file may have {_FILE_BYTES_MAX:,}"))
        return
    version = hashlib.sha256(content).hexdigest()[:12]
    try:
        documents = list(_documents(content))
    except _YamlError as error:
        problems.append(RuleProblem(path, error.line, printable(str(error))))
        return
    if not documents:
        problems.append(RuleProblem(path, 1, "holds no rule"))
    for document, lines in documents:
        try:
            yield _compile(document, lines, path, version, ruleset)
        except UnsupportedError as error:
            problems.append(RuleProblem(path, lines.find(error.key or "detection"), printable(str(error))))
        except ValidationError as error:
            for fault in error.errors():
                name = ".".join(map(str, ("detector", *fault["loc"])))
                problems.append(RuleProblem(path, lines.find("detector"), printable(f"{name}: {fault['msg']}")))


class _Loader(yaml.CSafeLoader):
    """YAML in which a time is a text, as it is in an event."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


class _YamlError(Exception):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def _documents(content: bytes) -> Iterator[tuple[dict[str, Any], Lines]]:
    """Parse YAML with bounds: no aliases (they make bombs), no tags, no duplicate keys, no deep nesting."""
    try:
        _check_events(content)
        for node in yaml.compose_all(content, Loader=_Loader):
            if node is None:
                continue
            of_key: dict[str, int] = {}
            _check_keys(node, of_key)
            constructor = yaml.SafeLoader("")
            document = constructor.construct_document(node)
            if not isinstance(document, dict):
                raise _YamlError(_line(node), "a rule is a YAML mapping")
            yield document, Lines(_line(node), of_key)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or type(error).__name__
        raise _YamlError(mark.line + 1 if mark else 1, f"not valid YAML: {reason}") from error


def _check_events(content: bytes) -> None:
    """Look at the parser's events one by one, so that a file of brackets is refused before it costs time."""
    depth = count = 0
    for event in yaml.parse(content, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        count += isinstance(event, yaml.NodeEvent)
        if count > _NODES_MAX or depth > _DEPTH_MAX:
            raise _YamlError(_line(event), f"larger than {_NODES_MAX:,} nodes or deeper than {_DEPTH_MAX} levels")
        if isinstance(event, yaml.AliasEvent):
            raise _YamlError(_line(event), "YAML aliases are not allowed in rules")
        if getattr(event, "tag", None):
            raise _YamlError(_line(event), "YAML tags are not allowed in rules")


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
                    raise _YamlError(_line(key), f"the key {name!r} is not text; put it in quotes")
                if name in keys:
                    raise _YamlError(_line(key), f"the key {name!r} stands here twice")
                keys.add(name)
                of_key.setdefault(name, _line(key))
            stack += [value for _, value in reversed(node.value)]
        elif isinstance(node, yaml.SequenceNode):
            stack += reversed(node.value)


def _compile(document: dict[str, Any], lines: Lines, path: Path, version: str, ruleset: str) -> CompiledRule:
    extension = Extension.model_validate(document.pop("detector", {}))
    rule, condition = parse(document)
    if rule.logsource.product != "kubernetes" or rule.logsource.service != "audit":
        raise UnsupportedError("logsource must be product: kubernetes, service: audit", "logsource")
    if rule.id is None or rule.level is None:
        raise UnsupportedError("a rule needs an id and a level: alerts are known by them", "title")
    tags = [tag.name for tag in rule.tags if tag.namespace == "attack"]
    metadata = Rule(
        id=str(rule.id),
        name=rule.title,
        version=version,
        ruleset=ruleset,
        level=Level(rule.level.name.lower()),
        description=rule.description or "",
        reference=str(rule.references[0]) if rule.references else "",
        techniques=tuple(tag.upper() for tag in tags if tag[:1] == "t" and tag[1:2].isdigit()),
        tactics=tuple(tag for tag in tags if tag[:1] not in "tgs" or not tag[1:2].isdigit()),
        group_by=extension.group_by,
        fold_seconds=extension.fold_seconds,
        message=extension.message,
    )
    groups = tuple(_group_field(name) for name in extension.group_by)
    return CompiledRule(metadata, compile_condition(condition), groups, extension.covers, extension.tests, path, lines)


def _group_field(name: str) -> EventField:
    field = resolve(name)
    if field is None:
        raise UnsupportedError(f"no audit event has a field {name!r}; known are {', '.join(catalogue())}", "group_by")
    return field
