"""Notes: what a rule file tells people beyond what an alert carries; read only where a rule is shown."""

from dataclasses import dataclass
from typing import Any, Final

import yaml

from detector.attack import TACTICS
from detector.sigma.load import CompiledRule

_MISSES: Final = "Misses "
TRIAGE: Final = {
    "initial-access": "See from where the identity came before (`detector identity show`), whether its credential is "
    "known to have leaked, and what else came from that address in the same hour.",
    "execution": "Look at the pod (`kubectl get pod NAME -o yaml`) and at what its owner is; ask whoever acted, over "
    "another channel, whether it was them. Keep the pod's logs and image before you delete it.",
    "persistence": "Compare the object with its source (Git, Helm). If nobody planned it, delete it, and see what else "
    "the same identity wrote since it was last known good.",
    "privilege-escalation": "See who has the right now (`kubectl auth can-i --list --as NAME`) and what they did with "
    "it since. If nobody planned it, take the right away first and ask afterwards.",
    "stealth": "See what the same identity did in the hour before: hiding follows something worth hiding.",
    "defense-impairment": "Put the protection back, then look at what came through while it was off: everything "
    "written since, by anybody.",
    "credential-access": "See which secrets or tokens the evidence names and who else uses them. If the reader cannot "
    "say why, rotate them and search for their use from another address.",
    "discovery": "Compare with what the identity usually asks (`detector identity show`). A person with a new tool "
    "asks once; an intruder goes on to what the answers allowed.",
    "lateral-movement": "See where the credential was issued and from where it is used now; two networks at once are "
    "two hands.",
    "collection": "See how much left the API server (the alert's count) and whether a job of the identity needs it.",
    "command-and-control": "Look at the pod's connections and hold them by a NetworkPolicy before you look further.",
    "exfiltration": "See what the path or command in the evidence holds; treat it as read by others.",
    "impact": "See whether it goes on, and stop the identity (remove its binding) before you repair.",
    "reconnaissance": "See what the address asked next, and whether the API server must be reachable from there.",
    "resource-development": "See what was prepared, and by whom it is used.",
}
"""What to do first about a rule of each tactic that has no advice of its own."""


@dataclass(frozen=True, slots=True)
class Notes:
    """The texts of one rule."""

    means: str
    misses: str
    false_positives: tuple[str, ...]
    references: tuple[str, ...]
    triage: str


def notes(rule: CompiledRule) -> Notes:
    """Read a rule's texts from its file, which the loader has checked."""
    document = _document(rule)
    means, _, misses = rule.metadata.description.partition(_MISSES)
    own: str = document.get("detector", {}).get("triage", "")
    return Notes(
        means=means.strip(),
        misses=f"{misses[:1].upper()}{misses[1:]}".strip(),
        false_positives=tuple(map(str, document.get("falsepositives", ()))),
        references=tuple(map(str, document.get("references", ()))),
        triage=own.strip() or _by_tactic(rule),
    )


def _document(rule: CompiledRule) -> dict[str, Any]:
    for document in yaml.load_all(rule.path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader):
        if isinstance(document, dict) and document.get("title") == rule.metadata.name:
            return document
    return {}  # the file has changed since it was loaded


def _by_tactic(rule: CompiledRule) -> str:
    return next((TRIAGE[tactic] for tactic in rule.metadata.tactics if tactic in TACTICS), TRIAGE["initial-access"])
