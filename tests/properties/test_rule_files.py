"""A rule file may hold anything: it loads, or says where it is wrong."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from detector.errors import RuleError, RuleProblem
from detector.sigma.load import load
from tests.properties.strategies import rules
from tests.sigma.build import Document

_WORDS = ["", "a", "|", "verb|re", "verb|all", "(", "1 of", "not", "attack.t1", "2026-11-23", "%a%", "\x00", "{", "😀"]
_ANYTHING = st.recursive(
    st.sampled_from([None, True, 0, -1, 10**30, 1e300, *_WORDS]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_WORDS), inner, max_size=3),
    max_leaves=5,
)
_KEYS = ["id", "title", "level", "tags", "references", "related", "date", "status", "description", "fields", "author"]
_KEYS += ["logsource", "detector", "taxonomy", "correlation", "name", "license", "scope", "falsepositives", "modified"]
_OWN_KEYS = ["group_by", "fold_seconds", "message", "tests", "a"]


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict | list):
        for key, below in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _places(below, (*path, key))


@st.composite
def _spoilt(draw: st.DrawFn) -> Any:
    """A rule with a few of its parts replaced by something else."""
    rule: Any = draw(rules())
    rule["detector"] = draw(st.dictionaries(st.sampled_from(_OWN_KEYS), _ANYTHING, max_size=2))
    if draw(st.booleans()):
        rule[draw(st.sampled_from(_KEYS))] = draw(_ANYTHING)
    for _ in range(draw(st.integers(0, 2))):
        *above, last = draw(st.sampled_from([path for path in _places(rule) if path]))
        target = rule
        for step in above:
            target = target[step]
        target[last] = draw(_ANYTHING)
    return rule


def _problems(content: bytes) -> list[RuleProblem]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "rule.yml"
        path.write_bytes(content)
        try:
            assert load(path)
        except RuleError as error:
            return error.problems
        return []


def _check_places(content: bytes) -> None:
    last_line = content.count(b"\n") + 2  # the end of a file counts as a line of its own
    for problem in _problems(content):
        assert 0 < problem.line <= last_line
        assert problem.message.isprintable()


@settings(max_examples=500, deadline=None)
@given(_spoilt())
def test_a_spoilt_rule_is_loaded_or_refused_with_its_place(rule: Document) -> None:
    """No part of a rule can be of a kind that ends in a stack trace."""
    _check_places(json.dumps(rule, ensure_ascii=False, indent=1).encode())


@settings(max_examples=300, deadline=None)
@given(st.text("ab:-{}[],&*!|>'\"#%@`?\n\t 1~<=") | st.binary(max_size=60))
def test_any_text_is_loaded_or_refused_with_its_place(content: str | bytes) -> None:
    """Whatever YAML makes of a file, the answer is one line a problem."""
    _check_places(content if isinstance(content, bytes) else content.encode())
