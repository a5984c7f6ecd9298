"""Load: exception files to entries; everything wrong with any of them is told at once, with file and line."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import ValidationError

from detector.errors import RuleError, RuleProblem
from detector.exceptions.entry import Entry
from detector.match import SEVERITY, Level
from detector.printable import printable
from detector.score_alert import RULE_ID as BEHAVIOUR
from detector.sigma.load import CompiledRule
from detector.sigma.rule_file import Lines, YamlError, entries, read

SHIPPED: Final = Path(__file__).with_name("shipped.yml")
_NEAREST: Final = 3


class KnownRule(NamedTuple):
    """What an exception must know of a rule."""

    name: str
    level: Level


def known_rules(rules: Iterable[CompiledRule]) -> dict[str, KnownRule]:
    """All rules that an exception may name, by id; alerts on behaviour have one too."""
    known = {rule.metadata.id: KnownRule(rule.metadata.name, rule.metadata.level) for rule in rules}
    return known | {BEHAVIOUR: KnownRule("Unusual Behaviour of an Identity", Level.HIGH)}


def load(path: Path | None, known: Mapping[str, KnownRule] | None, *, shipped: bool = True) -> list[Entry]:
    """Load a file of exceptions, and after them those that are shipped, as far as their rules are loaded.

    Args:
        path: the file; none for the shipped ones alone.
        known: the loaded rules, by id; none for not looking whether a rule is there.
        shipped: whether to load those too.

    Raises:
        RuleError: with every problem; nothing is loaded then.
    """
    problems: list[RuleProblem] = []
    loaded: dict[str, Entry] = {}
    if path is not None:
        for entry, lines in _read(path, problems, shipped=False):
            if known is not None:
                problems += [RuleProblem(path, lines.find(key), text) for key, text in misfits(entry, known)]
            if entry.id in loaded:
                problems.append(RuleProblem(path, lines.find("id"), f"id {entry.id} is used already"))
            loaded[entry.id] = entry
    for entry, _ in _read(SHIPPED, problems, shipped=True) if shipped else ():
        if known is None or known.keys() >= {*entry.rule}:
            loaded.setdefault(entry.id, entry)
    if problems:
        raise RuleError(problems)
    return list(loaded.values())


def parse(content: bytes, path: Path, problems: list[RuleProblem], *, shipped: bool) -> list[tuple[Entry, Lines]]:
    """Read the entries of a file's content; what is wrong with it is added to the problems."""
    try:
        documents = list(entries(content))
    except YamlError as error:
        problems.append(RuleProblem(path, error.line, printable(str(error))))
        return []
    parsed: list[tuple[Entry, Lines]] = []
    for document, lines in documents:
        try:
            parsed.append((Entry.model_validate(document, context={"shipped": shipped}), lines))
        except ValidationError as error:
            problems += [RuleProblem(path, lines.find(key), text) for key, text in explain(error)]
    return parsed


def _read(path: Path, problems: list[RuleProblem], *, shipped: bool) -> list[tuple[Entry, Lines]]:
    try:
        return parse(read(path), path, problems, shipped=shipped)
    except YamlError as error:
        problems.append(RuleProblem(path, error.line, f"{error}; check --exceptions or exceptions.path"))
        return []


def explain(error: ValidationError) -> Iterator[tuple[str, str]]:
    """What is wrong with an entry: for each fault the key, and a text that begins with it."""
    for fault in error.errors(include_url=False):
        keys = [str(step) for step in fault["loc"]]
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            close = difflib.get_close_matches(keys[0], Entry.model_fields, n=1)
            message = f"no such key{f'; did you mean {close[0]}?' if close else ''}"
        elif fault["type"] == "missing":
            message = "must be set"
        key = keys[0] if keys else message.partition(":")[0]  # what concerns several keys begins with one of them
        yield key, printable(f"{key}: {message}" if keys else message)


def misfits(entry: Entry, known: Mapping[str, KnownRule]) -> Iterator[tuple[str, str]]:
    """What of an entry does not fit the loaded rules, as `explain` tells it."""
    starred = next((name for name in entry.identity if "*" in name), None)
    for rule_id in entry.rule:
        rule = known.get(rule_id)
        if rule is None:
            yield "rule", printable(f"rule: {rule_id} is no loaded rule{_nearest(rule_id, known)}")
        elif starred and SEVERITY[rule.level] >= SEVERITY[Level.HIGH]:
            yield "identity", f"identity: {starred} is too wide for {rule.name!r}, whose alerts are of high severity"


def _nearest(rule: str, known: Mapping[str, KnownRule]) -> str:
    """Rules that may have been meant, by id or by name."""
    by_text = {name.lower(): rule_id for rule_id, (name, _) in known.items()} | {rule_id: rule_id for rule_id in known}
    close = difflib.get_close_matches(rule.lower(), by_text, n=_NEAREST)
    found = dict.fromkeys(by_text[text] for text in close)
    if not found:
        return "; `detector rules list` shows their ids"
    return "; did you mean " + " or ".join(f"{rule_id} ({known[rule_id].name})" for rule_id in found) + "?"
