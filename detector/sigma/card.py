"""Card: everything that there is to know of one rule, for people and for programs."""

from collections import defaultdict
from typing import Any, Final

from detector.attack import TACTICS, TECHNIQUES
from detector.match import SEVERITY
from detector.sigma.compile import fields_of
from detector.sigma.levels import needs
from detector.sigma.load import CompiledRule
from detector.sigma.notes import notes
from detector.sigma.recall import recall

VERDICTS: Final = {True: "match", False: "no match", "degraded": "degraded"}


def card(rule: CompiledRule) -> dict[str, Any]:
    """A rule as JSON values."""
    metadata, texts = rule.metadata, notes(rule)
    return {
        "id": metadata.id,
        "name": metadata.name,
        "file": rule.path.name,
        "level": metadata.level.value,
        "severity": SEVERITY[metadata.level],
        "kind": metadata.kind,
        "ruleset": metadata.ruleset,
        "version": metadata.version,
        "covers": list(rule.covers),
        "tactics": [" ".join(TACTICS.get(tactic, ("", tactic))).strip() for tactic in metadata.tactics],
        "techniques": [f"{technique} {TECHNIQUES.get(technique, '')}".strip() for technique in metadata.techniques],
        "means": texts.means,
        "misses": texts.misses,
        "triage": texts.triage,
        "false_positives": list(texts.false_positives),
        "references": list(texts.references),
        "fold_seconds": metadata.fold_seconds,
        "group_by": list(metadata.group_by),
        "remembers": recall(rule),
        "fields": sorted({field.path for field in fields_of(rule.node)}),
        "needs": levels(rule),
        "cases": [{"name": case.name, "match": case.match} for case in rule.cases],
    }


def levels(rule: CompiledRule) -> dict[str, list[str]]:
    """The audit levels above Metadata that a rule needs, each with the requests that must be logged so."""
    needed: defaultdict[str, list[str]] = defaultdict(list)
    for need in needs(rule):
        needed[need.level.label].append(f"{need.verb} {need.target}")
    return dict(needed)


def verbs_by_resource(requests: list[str]) -> dict[str, list[str]]:
    """`create pods`, `patch pods` to pods: create, patch."""
    grouped: defaultdict[str, list[str]] = defaultdict(list)
    for request in requests:
        verb, _, resource = request.partition(" ")
        grouped[resource].append(verb)
    return dict(grouped)


def as_text(known: dict[str, Any]) -> str:
    """A card for a terminal."""
    lines = [f"{known['name']} ({known['level']}, severity {known['severity']})", f"{known['id']}  {known['file']}", ""]
    for title, text in (("means", known["means"]), ("misses", known["misses"]), ("triage", known["triage"])):
        lines += [f"{title}:", f"  {text or '-'}"]
    listed = {
        "normal": known["false_positives"],
        "ATT&CK": [*known["tactics"], *known["techniques"]],
        "covers": known["covers"],
        "an alert wants": [known["remembers"]] if known["remembers"] else ["the request alone"],
        "one alert per": ["identity", *known["group_by"], f"{known['fold_seconds']:,} s"],
        "reads": known["fields"],
        "audit level": [
            f"{level}: {', '.join(verbs_by_resource(requests))}" for level, requests in known["needs"].items()
        ]
        or ["Metadata is enough"],
        "cases": [f"{VERDICTS[case['match']]}: {case['name']}" for case in known["cases"]],
        "read more": known["references"],
    }
    for title, entries in listed.items():
        lines += [f"{title}:", *(f"  {entry}" for entry in entries)]
    return "\n".join(lines)
