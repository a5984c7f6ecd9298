"""Load: rule files to compiled rules; everything wrong with any of them is told at once, with file and line."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from sigma.rule import SigmaRule

from detector.errors import RuleError, RuleProblem
from detector.match import MESSAGE_PLACEHOLDERS, Level, Rule
from detector.printable import printable
from detector.sigma.compile import Node, compile_condition
from detector.sigma.fields import Field as EventField
from detector.sigma.fields import catalogue, resolve
from detector.sigma.parse import UnsupportedError, parse, parse_condition
from detector.sigma.rule_file import Lines, YamlError, documents, read

BUNDLED: Final = Path(__file__).parent.parent / "rules"
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
    lines: Lines


def load(path: Path, *, cases: bool = True) -> list[CompiledRule]:
    """Load a rule file, or every rule file below a folder; `cases=False` leaves out what only tests of rules need.

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
    ruleset, conditions = _ruleset(path), _Conditions()
    for file in files:
        rules += _load_file(file, ruleset, conditions, problems, cases=cases)
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
    path: Path, ruleset: str, conditions: "_Conditions", problems: list[RuleProblem], *, cases: bool
) -> Iterator[CompiledRule]:
    try:
        content = read(path)
        origin = _Origin(path, hashlib.sha256(content).hexdigest()[:12], ruleset)
        parsed = list(documents(content, cases=cases))
    except YamlError as error:
        problems.append(RuleProblem(path, error.line, printable(str(error))))
        return
    origin = _Origin(path, hashlib.sha256(content).hexdigest()[:12], ruleset)
    if not parsed:
        problems.append(RuleProblem(path, 1, "holds no rule"))
    for document, lines in parsed:
        try:
            yield _compile(document, lines, origin, conditions)
        except UnsupportedError as error:
            problems.append(RuleProblem(path, lines.find(error.key or "detection"), printable(str(error))))
        except ValidationError as error:
            for fault in error.errors():
                name = ".".join(map(str, ("detector", *fault["loc"])))
                problems.append(RuleProblem(path, lines.find("detector"), printable(f"{name}: {fault['msg']}")))


class _Conditions:
    """Compiles each detection once: rules that say the same of events share one tree, and the engine asks it once."""

    def __init__(self) -> None:
        self._known: dict[str, Node] = {}

    def parse(self, document: dict[str, Any]) -> tuple[SigmaRule, Node]:
        """Parse a rule and compile its condition, or take the one that an earlier rule with its detection has."""
        text = repr(document.get("detection"))  # tells 1, 1.0, true and "1" apart
        node = self._known.get(text)
        if node is not None:
            return parse({**document, "detection": _ANY_DETECTION}), node
        rule = parse(document)
        node = self._known[text] = compile_condition(parse_condition(rule))
        return rule, node


_ANY_DETECTION: Final = {"selection": {"verb": "get"}, "condition": "selection"}
"""Stands for a detection that pySigma has parsed already, which is most of what a rule costs it."""


class _Origin(NamedTuple):
    """Where a rule comes from."""

    path: Path
    version: str
    ruleset: str


def _compile(document: dict[str, Any], lines: Lines, origin: _Origin, conditions: _Conditions) -> CompiledRule:
    extension = Extension.model_validate(document.pop("detector", {}))
    rule, node = conditions.parse(document)
    if rule.logsource.product != "kubernetes" or rule.logsource.service != "audit":
        raise UnsupportedError("logsource must be product: kubernetes, service: audit", "logsource")
    if rule.id is None or rule.level is None:
        raise UnsupportedError("a rule needs an id and a level: alerts are known by them", "title")
    tags = [tag.name for tag in rule.tags if tag.namespace == "attack"]
    metadata = Rule(
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
    groups = tuple(_group_field(name) for name in extension.group_by)
    return CompiledRule(metadata, node, groups, extension.covers, extension.tests, origin.path, lines)


def _group_field(name: str) -> EventField:
    field = resolve(name)
    if field is None:
        raise UnsupportedError(f"no audit event has a field {name!r}; known are {', '.join(catalogue())}", "group_by")
    return field
