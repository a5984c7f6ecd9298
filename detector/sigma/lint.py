"""Lint: what a rule that loads should still be better at."""

from collections.abc import Iterator, Sequence

from detector.attack import TACTICS, TECHNIQUES, VERSION
from detector.errors import RuleProblem
from detector.sigma.load import CompiledRule


def lint(rules: Sequence[CompiledRule]) -> list[RuleProblem]:
    """Every problem of every rule, with file and line."""
    return [problem for rule in rules for problem in _problems(rule)]


def _problems(rule: CompiledRule) -> Iterator[RuleProblem]:
    def problem(key: str, message: str) -> RuleProblem:
        return RuleProblem(rule.path, rule.lines.find(key), message)

    metadata = rule.metadata
    if not any(case.match is not False for case in rule.cases):
        yield problem("tests", "no case that must match, under detector.tests")
    if not any(case.match is False for case in rule.cases):
        yield problem("tests", "no case that must not match, under detector.tests")
    if not metadata.description:
        yield problem("title", "no description: what does it mean, and what does it miss?")
    if not metadata.techniques:
        yield problem("tags", "no ATT&CK technique")
    for tactic in metadata.tactics:
        if tactic not in TACTICS:
            yield problem("tags", f"ATT&CK v{VERSION} has no tactic {tactic!r}; it has {', '.join(sorted(TACTICS))}")
    for technique in metadata.techniques:
        if technique not in TECHNIQUES:
            yield problem("tags", f"{technique} is not among the techniques of attack.py (ATT&CK v{VERSION})")
