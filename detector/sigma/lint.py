"""Lint: what a rule that loads should still be better at.

What cannot work at all (an unknown field, an id used twice, an expression that RE2 cannot run) the loader refuses.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from detector.attack import REVOKED, SPLIT_TACTICS, TACTICS, TECHNIQUES, VERSION
from detector.audit_policy import AuditLevel, Policy
from detector.errors import RuleProblem
from detector.match import SEVERITY, Level
from detector.sigma.compile import fields_of
from detector.sigma.levels import lacking
from detector.sigma.load import CompiledRule

FORGEABLE: Final = frozenset({"auditID", "userAgent", "sourceIPs", "detector.client.scope"})
"""Fields that the client may choose freely."""


def lint(rules: Sequence[CompiledRule], policy: Policy | None = None) -> list[RuleProblem]:
    """Every problem of every rule, with file and line; with a policy also what it leaves the rules blind to."""
    problems: list[RuleProblem] = []
    for rule in rules:
        lacks = [
            *_cases(rule),
            *_texts(rule),
            *_tags(rule),
            *_evidence(rule),
            *(_levels(rule, policy) if policy else ()),
        ]
        problems += [RuleProblem(rule.path, rule.lines.find(key), message) for key, message in lacks]
    return problems


def _cases(rule: CompiledRule) -> Iterator[tuple[str, str]]:
    if not any(case.match is not False for case in rule.cases):
        yield "tests", "no case that must match, under detector.tests"
    if not any(case.match is False for case in rule.cases):
        yield "tests", "no case that must not match, under detector.tests"


def _texts(rule: CompiledRule) -> Iterator[tuple[str, str]]:
    if not rule.metadata.description:
        yield "title", "no description: what does it mean, and what does it miss?"


def _tags(rule: CompiledRule) -> Iterator[tuple[str, str]]:
    metadata = rule.metadata
    if not metadata.techniques:
        yield "tags", "no ATT&CK technique"
    for tactic in metadata.tactics:
        if tactic in SPLIT_TACTICS:
            now = " or ".join(f"attack.{name} ({TACTICS[name][0]})" for name in SPLIT_TACTICS[tactic])
            yield "tags", f"ATT&CK v{VERSION} has split attack.{tactic}: write {now}"
        elif tactic not in TACTICS:
            yield "tags", f"ATT&CK v{VERSION} has no tactic {tactic!r}; it has {', '.join(sorted(TACTICS))}"
    for technique in metadata.techniques:
        now = REVOKED.get(technique, "")
        if now:
            yield "tags", f"ATT&CK v{VERSION} has revoked {technique}: write attack.{now.lower()} ({TECHNIQUES[now]})"
        elif technique not in TECHNIQUES:
            yield "tags", f"{technique} is not among the techniques of attack.py (ATT&CK v{VERSION})"


def _evidence(rule: CompiledRule) -> Iterator[tuple[str, str]]:
    read = {field.path for field in fields_of(rule.node)}
    if SEVERITY[rule.metadata.level] >= SEVERITY[Level.MEDIUM] and read <= FORGEABLE:
        yield "level", f"level {rule.metadata.level} rests on what any client can choose: {', '.join(sorted(read))}"


def _levels(rule: CompiledRule, policy: Policy) -> Iterator[tuple[str, str]]:
    blind: defaultdict[AuditLevel, list[str]] = defaultdict(list)
    for need in lacking(rule, policy):
        blind[need.level].append(f"{need.verb} {need.target}")
    for level, requests in blind.items():
        yield "detection", f"needs level {level.label}, which the policy does not grant, of {', '.join(requests)}"
