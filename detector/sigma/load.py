"""Load: rule files to compiled rules; everything wrong with any of them is told at once, with file and line."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any, Final, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from sigma.rule import SigmaRule
from sigma.rule.base import SigmaRuleBase

from detector.errors import RuleError, RuleProblem
from detector.match import MESSAGE_PLACEHOLDERS, Level, Rule
from detector.printable import printable
from detector.sigma.compile import Node, compile_condition
from detector.sigma.correlate import Correlation
from detector.sigma.fields import Field as EventField
from detector.sigma.first_seen import FirstSeen
from detector.sigma.link import Section, event_field, link, seconds_of
from detector.sigma.parse import UnsupportedError, parse, parse_correlation

BUNDLED: Final = Path(__file__).parent.parent / "rules"
_FILE_BYTES_MAX: Final = 256 * 1024
_NODES_MAX: Final = 10_000
_DEPTH_MAX: Final = 64
_SUFFIXES: Final = (".yml", ".yaml")


class Step(BaseModel):
    """One event of several: what differs, and when it comes."""

    model_config = ConfigDict(frozen=True, extra="allow")

    after: str | None = None
    """How long after the one before (`30s`); at the same time if left out."""
    repeat: int = Field(default=1, ge=1, le=1000)
    """How often it comes, `{n}` in any text counting from 1."""

    @property
    def seconds(self) -> int:
        """How long after the one before."""
        return 0 if self.after is None else seconds_of(self.after, "after")

    @model_validator(mode="after")
    def _comes_after_a_time_span(self) -> "Step":
        _ = self.seconds
        return self


class Case(BaseModel):
    """Events that a rule must or must not match; each states only what differs from a base event."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    match: bool | Literal["degraded"]
    event: dict[str, Any] = {}
    events: tuple[Step, ...] = ()
    """Several, in order, of a rule that remembers; each is laid over `event`."""

    @model_validator(mode="after")
    def _holds_an_event(self) -> "Case":
        if not self.model_fields_set & {"event", "events"}:
            raise ValueError("a case needs an event, or events")
        return self


class FirstSeenSection(BaseModel):
    """Matches only what the group was not seen with before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fields: tuple[str, ...] = Field(min_length=1)
    group_by: tuple[str, ...] = ()
    memory: str = "30d"
    warm_up: str = "3d"
    new_groups: bool = False
    """A group that is new itself counts too, once the rule itself has been at work for the warm-up."""


class DormantSection(BaseModel):
    """Matches only after the group was silent for so long."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    after: str
    group_by: tuple[str, ...] = ()


class Extension(BaseModel):
    """The section `detector:` of a rule file, which Sigma allows beside its own keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    covers: tuple[str, ...] = ()
    """Ids of the detection ideas in `sigma/ideas.yml` that the rule covers."""
    group_by: tuple[str, ...] = ()
    fold_seconds: int = Field(default=3600, ge=60, le=7 * 86_400)
    message: str = ""
    across_identities: bool = False
    """A rule that remembers looks at the requests of all identities together, not of each."""
    first_seen: FirstSeenSection | None = None
    dormant: DormantSection | None = None
    tests: tuple[Case, ...] = ()

    @model_validator(mode="after")
    def _remembers_one_thing(self) -> "Extension":
        if self.first_seen and self.dormant:
            raise ValueError("a rule is either first_seen or dormant")
        return self

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
    correlation: Correlation | None = None
    """What the requests that the rule fires on must add up to."""
    first_seen: FirstSeen | None = None
    """What must be new about them."""

    @property
    def remembers(self) -> bool:
        """Whether a request's verdict depends on those before it."""
        return self.correlation is not None or self.first_seen is not None


@dataclass(frozen=True, slots=True)
class Lines:
    """Where each key of a YAML document stands first."""

    first: int
    of_key: dict[str, int]

    def find(self, key: str) -> int:
        """The line of a key, of a field with any modifiers, or of the document's start if it has no such key."""
        matching = (line for name, line in self.of_key.items() if key in (name, name.partition("|")[0]))
        return next(matching, self.first)


class _Origin(NamedTuple):
    """Where a rule comes from."""

    path: Path
    version: str
    ruleset: str


def load(path: Path) -> list[CompiledRule]:
    """Load a rule file, or every rule file below a folder.

    Raises:
        RuleError: with every problem of every file; nothing is loaded then.
    """
    problems: list[RuleProblem] = []
    rules: list[CompiledRule] = []
    unlinked: list[_Unlinked] = []
    nodes: dict[str, Node] = {}
    if not path.exists():
        raise RuleError([RuleProblem(path, 1, "no such file or folder; check --rules or rules.path")])
    files = [path] if path.is_file() else sorted(_rule_files(path))
    if not files:
        raise RuleError([RuleProblem(path, 1, "no rule files (*.yml) below this folder")])
    for file in files:
        rules += _load_file(file, _ruleset(path), problems, unlinked, nodes)
    for correlation in unlinked:
        with _told(correlation.lines, correlation.path, problems):
            rules.append(correlation.link(nodes))
    rules.sort(key=lambda rule: (rule.path, rule.lines.first))
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


def _load_file(
    path: Path, ruleset: str, problems: list[RuleProblem], unlinked: "list[_Unlinked]", nodes: dict[str, Node]
) -> Iterator[CompiledRule]:
    """Compile a file's rules; its correlations wait until every rule that they may name is there."""
    try:
        content = path.read_bytes()
    except OSError as error:
        problems.append(RuleProblem(path, 1, f"cannot be read: {error.strerror}"))
        return
    if len(content) > _FILE_BYTES_MAX:
        problems.append(RuleProblem(path, 1, f"{len(content):,} bytes; a rule file may have {_FILE_BYTES_MAX:,}"))
        return
    origin = _Origin(path, hashlib.sha256(content).hexdigest()[:12], ruleset)
    try:
        documents = list(_documents(content))
    except _YamlError as error:
        problems.append(RuleProblem(path, error.line, printable(str(error))))
        return
    if not documents:
        problems.append(RuleProblem(path, 1, "holds no rule"))
    silent: set[str] = set()
    bases: dict[str, Node] = {}
    for document, lines in documents:
        if "correlation" in document:
            silent.update(_silent(document["correlation"]))
            with _told(lines, path, problems):
                unlinked.append(_unlinked(document, lines, origin, bases))
    for document, lines in documents:
        if "correlation" not in document:
            with _told(lines, path, problems):
                named = {key: str(document[key]) for key in ("id", "name") if key in document}
                if "name" in named and named["name"] in bases:
                    raise UnsupportedError(f"another rule of this file has the name {named['name']!r}", "name")
                if silent.isdisjoint(named.values()):
                    rule = _compile(document, lines, origin)
                    node = rule.node
                    yield rule
                else:
                    node = _compile_base(document)
                bases |= dict.fromkeys(named.values(), node)
    nodes.update(bases)


@contextmanager
def _told(lines: Lines, path: Path, problems: list[RuleProblem]) -> Iterator[None]:
    """Keep what is wrong with a document as problems."""
    try:
        yield
    except UnsupportedError as error:
        problems.append(RuleProblem(path, lines.find(error.key or "detection"), printable(str(error))))
    except ValidationError as error:
        section = "correlation" if error.title == Section.__name__ else "detector"
        for fault in error.errors():
            name = ".".join(map(str, (section, *fault["loc"])))
            problems.append(RuleProblem(path, lines.find(section), printable(f"{name}: {fault['msg']}")))


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


@dataclass(frozen=True, slots=True)
class _Unlinked:
    """A correlation whose base rules are still to be found."""

    section: Section
    extension: Extension
    metadata: Rule
    path: Path
    lines: Lines
    bases: Mapping[str, Node]
    """Rules of the same file: a name means the nearest rule that has it."""

    def link(self, nodes: Mapping[str, Node]) -> CompiledRule:
        """Make the rule out of it; what is named is looked for in its file, beside it and among the bundled rules."""
        extension = self.extension
        known = {**nodes, **self.bases}
        if not known.keys() >= set(self.section.references):
            known = {**_bundled_nodes(), **known}
        correlation, node = link(
            self.section,
            known,
            apart=self.metadata.group_by,
            across_identities=extension.across_identities,
        )
        return CompiledRule(
            metadata=self.metadata,
            node=node,
            group_fields=(),
            covers=extension.covers,
            cases=extension.tests,
            path=self.path,
            lines=self.lines,
            correlation=correlation,
        )


@cache
def _bundled_nodes() -> Mapping[str, Node]:
    return {rule.metadata.id: rule.node for rule in load(BUNDLED)}


def _unlinked(document: dict[str, Any], lines: Lines, origin: _Origin, bases: Mapping[str, Node]) -> _Unlinked:
    extension = Extension.model_validate(document.pop("detector", {}))
    section = Section.model_validate(document["correlation"])
    if extension.first_seen or extension.dormant:
        raise UnsupportedError("a correlation is neither first_seen nor dormant", "detector")
    if not set(extension.group_by) <= set(section.groups):
        raise UnsupportedError("alerts can be kept apart by what is in the correlation's group-by", "group_by")
    # Without its group nothing would keep apart what identities have in common.
    apart = extension.group_by or (tuple(section.groups) if extension.across_identities else ())
    metadata = _metadata(parse_correlation(document), extension, origin)
    metadata = metadata.model_copy(
        update={"kind": "chain", "group_by": apart, "across_identities": extension.across_identities}
    )
    return _Unlinked(section, extension, metadata, origin.path, lines, bases)


def _silent(section: Any) -> Iterator[str]:
    """The base rules that give no alerts of their own, whatever else is wrong with the correlation."""
    if isinstance(section, dict) and section.get("generate") is not True:
        rules = section.get("rules")
        yield from (rule for rule in (rules if isinstance(rules, list) else [rules]) if isinstance(rule, str))


def _compile_base(document: dict[str, Any]) -> Node:
    if "detector" in document:
        raise UnsupportedError("a base rule that gives no alerts of its own has no section detector", "detector")
    rule, condition = parse(document)
    _check_logsource(rule)
    return compile_condition(condition)


def _compile(document: dict[str, Any], lines: Lines, origin: _Origin) -> CompiledRule:
    extension = Extension.model_validate(document.pop("detector", {}))
    rule, condition = parse(document)
    _check_logsource(rule)
    return CompiledRule(
        metadata=_metadata(rule, extension, origin),
        node=compile_condition(condition),
        group_fields=tuple(event_field(name, "group_by") for name in extension.group_by),
        covers=extension.covers,
        cases=extension.tests,
        path=origin.path,
        lines=lines,
        first_seen=_first_seen(extension),
    )


def _check_logsource(rule: SigmaRule) -> None:
    if rule.logsource.product != "kubernetes" or rule.logsource.service != "audit":
        raise UnsupportedError("logsource must be product: kubernetes, service: audit", "logsource")


def _metadata(rule: SigmaRuleBase, extension: Extension, origin: _Origin) -> Rule:
    if rule.id is None or rule.level is None:
        raise UnsupportedError("a rule needs an id and a level: alerts are known by them", "title")
    tags = [tag.name for tag in rule.tags if tag.namespace == "attack"]
    return Rule(
        id=str(rule.id),
        name=rule.title,
        version=origin.version,
        ruleset=origin.ruleset,
        level=Level(rule.level.name.lower()),
        description=rule.description or "",
        reference=str(rule.references[0]) if rule.references else "",
        techniques=tuple(tag.upper() for tag in tags if tag[:1] == "t" and tag[1:2].isdigit()),
        tactics=tuple(tag for tag in tags if tag[:1] not in "tgs" or not tag[1:2].isdigit()),
        group_by=extension.group_by,
        fold_seconds=extension.fold_seconds,
        message=extension.message,
    )


def _first_seen(extension: Extension) -> FirstSeen | None:
    section = extension.first_seen or extension.dormant
    if section is None:
        if extension.across_identities:
            raise UnsupportedError("across_identities is for rules that remember", "across_identities")
        return None
    groups = tuple(event_field(name, "group_by") for name in section.group_by)
    if isinstance(section, DormantSection):
        fields: tuple[EventField, ...] = ()
        memory, warm_up, new_groups = section.after, 0, False
    else:
        fields = tuple(event_field(name, "fields") for name in section.fields)
        memory, warm_up, new_groups = section.memory, seconds_of(section.warm_up, "warm_up"), section.new_groups
    return FirstSeen(
        fields=fields,
        group_fields=groups,
        memory_micros=1_000_000 * seconds_of(memory, "memory"),
        warm_up_micros=1_000_000 * warm_up,
        across_identities=extension.across_identities,
        new_groups=new_groups,
    )
