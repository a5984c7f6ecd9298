"""Coverage: which detection ideas rules, behaviour model and health checks cover, which are declined or open."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

from detector.attack import TECHNIQUES, VERSION
from detector.match import Rule
from detector.sigma.load import CompiledRule

IDEAS: Final = Path(__file__).parent / "ideas.yml"
_LAYER_VERSION: Final = "4.5"
_NAVIGATOR_VERSION: Final = "5.1.0"


class Status(StrEnum):
    """What becomes of an idea."""

    RULE = "rule"
    BEHAVIOUR = "behaviour"
    HEALTH = "health"
    DECLINED = "declined"
    OPEN = "open"


class Idea(BaseModel):
    """One way to find an intruder in audit events."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    techniques: tuple[str, ...]
    peers: tuple[str, ...]
    """Who has it; empty where nobody had it when the list was made."""
    fires_on: str
    behaviour: tuple[str, ...] = ()
    """Features of the behaviour model that measure it."""
    declined: str = ""
    """Why it is not done."""

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if self.declined and self.behaviour:
            raise ValueError("an idea is either declined or measured by behaviour")
        return self


class Covered(BaseModel):
    """An idea, and what covers it."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    idea: Idea
    rules: tuple[CompiledRule, ...]
    checks: tuple[str, ...] = ()
    """Health checks of the stream that cover it, by name."""

    @property
    def status(self) -> Status:
        """A rule counts first, for its alert names the request."""
        if self.rules:
            return Status.RULE
        if self.idea.behaviour:
            return Status.BEHAVIOUR
        if self.checks:
            return Status.HEALTH
        return Status.DECLINED if self.idea.declined else Status.OPEN

    def as_row(self) -> dict[str, Any]:
        """The idea as a row of a table."""
        cases = [case.match is not False for rule in self.rules for case in rule.cases]
        return {
            "idea": self.idea.id,
            "status": self.status.value,
            "by": [*(rule.metadata.name for rule in self.rules), *self.idea.behaviour, *self.checks],
            "cases": f"{cases.count(True)}+{cases.count(False)}" if self.rules else "",
            "why not": self.idea.declined if self.status is Status.DECLINED else "",
            "peers": list(self.idea.peers),
            "techniques": list(self.idea.techniques),
            "fires_on": self.idea.fires_on,
        }


def ideas() -> list[Idea]:
    """Every idea, in the order of the list."""
    return [Idea.model_validate(entry) for entry in yaml.safe_load(IDEAS.read_text(encoding="utf-8"))]


def coverage(rules: Sequence[CompiledRule], checks: Mapping[str, Sequence[str]] | None = None) -> list[Covered]:
    """Every idea with what covers it.

    Args:
        rules: the rules, each with the ideas that it covers.
        checks: the ideas that each health check covers, by its name.
    """
    by_idea: defaultdict[str, list[CompiledRule]] = defaultdict(list)
    for rule in rules:
        for idea_id in rule.covers:
            by_idea[idea_id].append(rule)
    by_checks: defaultdict[str, list[str]] = defaultdict(list)
    for name, covers in (checks or {}).items():
        for idea_id in covers:
            by_checks[idea_id].append(name)
    return [Covered(idea=idea, rules=tuple(by_idea[idea.id]), checks=tuple(by_checks[idea.id])) for idea in ideas()]


def summary(table: Sequence[Covered]) -> str:
    """How far it reaches, in two lines."""
    return "\n".join(
        f"{title}: {len(part)}; {_counts(part)}"
        for title, part in (
            ("ideas that peers have", [covered for covered in table if covered.idea.peers]),
            ("ideas that none of them has", [covered for covered in table if not covered.idea.peers]),
        )
    )


def _counts(table: Sequence[Covered]) -> str:
    counts = {status: sum(covered.status is status for covered in table) for status in Status}
    done = counts[Status.RULE] + counts[Status.BEHAVIOUR] + counts[Status.HEALTH]
    return (
        f"{done} covered ({counts[Status.RULE]} by rules, {counts[Status.BEHAVIOUR]} by behaviour, "
        f"{counts[Status.HEALTH]} by health checks), {counts[Status.DECLINED]} declined, {counts[Status.OPEN]} open"
    )


def navigator_layer(rules: Iterable[Rule]) -> str:
    """The techniques of the rules as a layer of the ATT&CK Navigator, scored by the number of rules."""
    by_technique: defaultdict[str, list[str]] = defaultdict(list)
    for rule in rules:
        for technique in rule.techniques:
            by_technique[technique].append(rule.name)
    techniques = [
        {
            "techniqueID": technique,
            "score": len(names),
            "comment": "\n".join(sorted(names)),
            "enabled": True,
            "showSubtechniques": "." in technique,
        }
        for technique, names in sorted(by_technique.items())
        if technique in TECHNIQUES
    ]
    layer = {
        "name": "detector: Kubernetes audit rules",
        "versions": {"attack": VERSION, "navigator": _NAVIGATOR_VERSION, "layer": _LAYER_VERSION},
        "domain": "enterprise-attack",
        "description": "Techniques that the rules name, scored by the number of rules.",
        "sorting": 3,
        "techniques": techniques,
        "gradient": {
            "colors": ["#e8f1fa", "#1f5f99"],
            "minValue": 0,
            "maxValue": max((len(names) for names in by_technique.values()), default=1),
        },
    }
    return json.dumps(layer, indent=2) + "\n"
