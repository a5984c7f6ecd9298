"""Load: rule files to compiled rules; everything wrong with any of them is told at once, with file and line."""

import gc
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError
from sigma.rule import SigmaRule
from sigma.rule.base import SigmaRuleBase

from detector.errors import RuleError, RuleProblem
from detector.match import Level, Rule
from detector.printable import printable
from detector.sigma.compile import Node, compile_condition
from detector.sigma.correlation import Correlation
from detector.sigma.fields import Field as EventField
from detector.sigma.first_seen import FirstSeen
from detector.sigma.link import Section, event_field, link, seconds_of
from detector.sigma.parse import UnsupportedError, parse, parse_condition, parse_correlation
from detector.sigma.rule_file import Lines, YamlError, documents, read
from detector.sigma.sections import Case, DormantSection, Extension

BUNDLED: Final = Path(__file__).parent.parent / "rules"
_SUFFIXES: Final = (".yml", ".yaml")


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
    correlation: Correlation | None = None
    """What the requests that the rule fires on must add up to."""
    first_seen: FirstSeen | None = None
    """What must be new about them."""

    @property
    def remembers(self) -> bool:
        """Whether a request's verdict depends on those before it."""
        return self.correlation is not None or self.first_seen is not None


class _Origin(NamedTuple):
    """Where a rule comes from."""

    path: Path
    version: str
    ruleset: str


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
    unlinked: list[_Unlinked] = []
    nodes: dict[str, Node] = {}
    with _uncollected():
        for file in files:
            rules += _load_file(_File(file, ruleset, cases), conditions, problems, unlinked, nodes)
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


@contextmanager
def _uncollected() -> Iterator[None]:
    """Put off the collection of garbage: nearly all that is made here stays, and looking at it costs a sixth of it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _rule_files(folder: Path) -> Iterator[Path]:
    """Every rule file below a folder but hidden ones: a mounted ConfigMap keeps each file a second time in one."""
    for file in folder.rglob("*"):
        if file.suffix in _SUFFIXES and not any(part.startswith(".") for part in file.relative_to(folder).parts):
            yield file


def _ruleset(path: Path) -> str:
    if path.resolve() == BUNDLED:
        return "detector"
    return path.resolve().name if path.is_dir() else path.resolve().parent.name


class _File(NamedTuple):
    """A file to load."""

    path: Path
    ruleset: str
    cases: bool


def _load_file(
    file: _File,
    conditions: "_Conditions",
    problems: list[RuleProblem],
    unlinked: "list[_Unlinked]",
    nodes: dict[str, Node],
) -> Iterator[CompiledRule]:
    """Compile a file's rules; its correlations wait until every rule that they may name is there."""
    path = file.path
    try:
        content = read(path)
        parsed = list(documents(content, cases=file.cases))
    except YamlError as error:
        problems.append(RuleProblem(path, error.line, printable(str(error))))
        return
    origin = _Origin(path, hashlib.sha256(content).hexdigest()[:12], file.ruleset)
    if not parsed:
        problems.append(RuleProblem(path, 1, "holds no rule"))
    silent: set[str] = set()
    bases: dict[str, Node] = {}
    for document, lines in parsed:
        if "correlation" in document:
            silent.update(_silent(document["correlation"]))
            with _told(lines, path, problems):
                unlinked.append(_unlinked(document, lines, origin, bases))
    for document, lines in parsed:
        if "correlation" not in document:
            with _told(lines, path, problems):
                named = {key: str(document[key]) for key in ("id", "name") if key in document}
                if "name" in named and named["name"] in bases:
                    raise UnsupportedError(f"another rule of this file has the name {named['name']!r}", "name")
                if silent.isdisjoint(named.values()):
                    rule = _compile(document, lines, origin, conditions)
                    node = rule.node
                    yield rule
                else:
                    node = _compile_base(document, conditions)
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


class _Conditions:
    """Compiles each detection once: rules that say the same of events share one tree, and the engine asks it once."""

    def __init__(self) -> None:
        self._known: dict[str, Node] = {}

    def parse(self, document: dict[str, Any]) -> tuple[SigmaRule, Node]:
        """Parse a rule and compile its condition, or take the one that an earlier rule with its detection has."""
        text = repr(document.get("detection"))  # tells 1, 1.0, true and "1" apart
        node = self._known.get(text)
        if node is not None:
            return parse({**document, "detection": _ANY_DETECTION}, checked=True), node
        rule = parse(document)
        node = self._known[text] = compile_condition(parse_condition(rule))
        return rule, node


_ANY_DETECTION: Final = {"selection": {"verb": "get"}, "condition": "selection"}
"""Stands for a detection that pySigma has parsed already, which is most of what a rule costs it."""


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
    return {rule.metadata.id: rule.node for rule in load(BUNDLED, cases=False)}


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


def _compile_base(document: dict[str, Any], conditions: _Conditions) -> Node:
    if "detector" in document:
        raise UnsupportedError("a base rule that gives no alerts of its own has no section detector", "detector")
    rule, node = conditions.parse(document)
    _check_logsource(rule)
    return node


def _compile(document: dict[str, Any], lines: Lines, origin: _Origin, conditions: _Conditions) -> CompiledRule:
    extension = Extension.model_validate(document.pop("detector", {}))
    rule, node = conditions.parse(document)
    _check_logsource(rule)
    return CompiledRule(
        metadata=_metadata(rule, extension, origin),
        node=node,
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
