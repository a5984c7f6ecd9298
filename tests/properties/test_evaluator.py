"""The compiled rule, the index before it and what is left of a specialised rule, against a reading plainly right."""

from collections import Counter
from unittest.mock import patch

from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.activity import Activity
from detector.sigma.compile import Node
from detector.sigma.engine import Engine
from detector.sigma.fields import resolve
from tests.properties import reference
from tests.properties.strategies import INDEXED, events, families, rule_sets, rules
from tests.sigma.build import Document, Event, activity, compile_rules

_KNOWABLE = [*(name for name in INDEXED if not name.startswith("impersonatedUser.")), "userAgent"]

_batches = st.lists(events, min_size=1, max_size=4)


@settings(max_examples=400, deadline=None)
@given(rules(), _batches)
def test_a_compiled_rule_agrees_with_a_slow_reading_of_it(rule: Document, batch: list[Event]) -> None:
    """Whatever the rule and the event, both say the same: True, False or undecided."""
    (compiled,) = compile_rules(rule)
    for each in batch:
        expected = reference.evaluate(rule, each)
        note(f"verdict {expected}")
        assert compiled.node.evaluate(activity(each)) is expected


def test_every_verdict_is_common_among_the_drawn_rules() -> None:
    """An agreement on rules that never match would prove nothing."""
    verdicts: Counter[bool | None] = Counter()

    @settings(max_examples=300, deadline=None, database=None, derandomize=True)
    @given(rules(), _batches)
    def count(rule: Document, batch: list[Event]) -> None:
        verdicts.update(reference.evaluate(rule, each) for each in batch)

    count()
    shares = {verdict: number / verdicts.total() for verdict, number in verdicts.items()}
    assert shares[True] > 0.2
    assert shares[False] > 0.2
    assert shares[None] > 0.01


@settings(max_examples=400, deadline=None)
@given(
    documents=rule_sets(max_size=4),
    batch=families(),
    order=st.lists(st.integers(0, 5), min_size=1, max_size=12),
    keys_kept=st.sampled_from([1, 2, 3, 50_000]),
)
def test_the_index_finds_exactly_the_rules_that_match(
    documents: list[Document], batch: list[Event], order: list[int], keys_kept: int
) -> None:
    """For events in any order and more than once, whatever the index remembers or has forgotten of earlier ones."""
    compiled = compile_rules(*documents)
    activities = [activity(batch[number % len(batch)]) for number in order]
    expected = [
        (rule.metadata.id, each, verdict is None)
        for each in activities
        for rule in compiled
        if (verdict := rule.node.evaluate(each)) is not False
    ]
    with patch("detector.sigma.engine._KEYS_KEPT", keys_kept):
        matches = Engine(compiled).match(activities)
    assert [(match.rule.id, match.activity, match.degraded) for match in matches] == expected


@settings(max_examples=300, deadline=None)
@given(rules(), events, st.lists(st.sets(st.sampled_from(_KNOWABLE)), min_size=1, max_size=3))
def test_specialising_changes_no_verdict(rule: Document, on: Event, steps: list[set[str]]) -> None:
    """What is left of a rule, once some fields of an event are known, says of that event what the whole rule says."""
    (compiled,) = compile_rules(rule)
    acted = activity(on)
    left: Node | bool = compiled.node
    for names in steps:
        if not isinstance(left, bool):
            left = left.specialise(_known(names, acted))
    assert (left if isinstance(left, bool) else left.evaluate(acted)) is compiled.node.evaluate(acted)


def _known(names: set[str], acted: Activity) -> dict[str, tuple[object, ...]]:
    known = {name: field.read(acted) for name in names if (field := resolve(name)) is not None}
    if acted.event.impersonated_user is None:
        known["impersonatedUser"] = ()
    return known
