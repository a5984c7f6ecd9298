"""Docs: the page on every bundled rule, made from the rules; `python -m detector.sigma.docs > docs/rules.md`."""

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final

from detector.attack import TACTICS
from detector.sigma.card import VERDICTS, card, verbs_by_resource
from detector.sigma.load import BUNDLED, CompiledRule, load

_HEAD: Final = """\
# The rules

Made from the rule files by `make generate`; change those. How to write one stands in `detector/rules/README.md`.
A rule that needs more than audit level Metadata says so; where the body was not logged, its alert is low and unproven.
"""


def page(rules: Sequence[CompiledRule]) -> str:
    """The page in Markdown, the rules by the first tactic that each names."""
    by_tactic: defaultdict[str, list[CompiledRule]] = defaultdict(list)
    for rule in rules:
        by_tactic[next(iter(rule.metadata.tactics), "")].append(rule)
    parts = [_HEAD]
    for tactic, (tactic_id, name) in TACTICS.items():
        if tactic in by_tactic:
            parts.append(f"## {name} ({tactic_id})\n")
            parts += ["\n".join(_section(card(rule))) + "\n" for rule in by_tactic[tactic]]
    return "\n".join(parts)


def _section(known: dict[str, Any]) -> Iterator[str]:
    yield f"### {known['name']}\n"
    yield f"`{known['file']}` · {known['level']} · {', '.join(known['techniques'])}\n"
    yield f"{known['means']}\n"
    if known["misses"]:
        yield f"**Misses** {known['misses']}\n"
    yield f"**Triage** {known['triage']}\n"
    if known["remembers"]:
        yield f"**Remembers** An alert wants {known['remembers']}\n"
    yield "**Normal**\n"
    yield from (f"- {text}" for text in known["false_positives"])
    yield ""
    for level, requests in known["needs"].items():
        told = (f"`{resource}` ({', '.join(verbs)})" for resource, verbs in verbs_by_resource(requests).items())
        yield f"**Audit level {level}** for {', '.join(told)}\n"
    yield "**Cases**\n"
    yield from (f"- {VERDICTS[case['match']]}: {case['name']}" for case in known["cases"])


if __name__ == "__main__":
    sys.stdout.write(page(load(BUNDLED)))
