"""What a rule's file tells people, and the page that is made from all of them."""

from pathlib import Path

import pytest

from detector.attack import TACTICS
from detector.match import Level
from detector.sigma.card import card
from detector.sigma.docs import page
from detector.sigma.load import BUNDLED, CompiledRule, load
from detector.sigma.notes import TRIAGE, notes

KEPT = Path(__file__).parents[2] / "docs" / "rules.md"
RULES = load(BUNDLED)


def rule_of(name: str) -> CompiledRule:
    """A bundled rule."""
    return next(rule for rule in RULES if rule.path.stem.endswith(f"audit_{name}"))


def test_a_description_is_taken_apart_into_what_it_means_and_what_it_misses() -> None:
    """The sentence that begins with `Misses` is the second."""
    texts = notes(rule_of("pod_caps"))
    assert texts.means.startswith("Somebody wrote a pod")
    assert "Misses" not in texts.means
    assert texts.misses == "What a mutating webhook adds."


def test_every_severe_rule_says_what_to_do_first() -> None:
    """In its own words, with a command to type."""
    severe = [rule for rule in RULES if rule.metadata.level in (Level.HIGH, Level.CRITICAL)]
    advice = {notes(rule).triage for rule in severe}
    assert len(advice) == len(severe)
    assert not advice & set(TRIAGE.values())
    assert [rule.metadata.name for rule in severe if len(notes(rule).triage) < 150] == []


def test_a_rule_without_advice_has_that_of_its_tactic() -> None:
    """And there is some for every tactic."""
    assert set(TRIAGE) == set(TACTICS)
    assert notes(rule_of("self_review")).triage == TRIAGE["discovery"]


def test_a_card_tells_the_level_that_a_rule_needs_and_the_fields_that_it_reads() -> None:
    """From the compiled condition, not from what its author remembers."""
    known = card(rule_of("pod_privileged"))
    assert "create pods" in known["needs"]["Request"]
    assert "detector.containers.securityContext.privileged" in known["fields"]
    assert card(rule_of("exec_pod"))["needs"] == {}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.path.stem)
def test_the_page_has_all_of_every_rule(rule: CompiledRule) -> None:
    """Title, meaning, triage, what is normal and each case."""
    kept = KEPT.read_text(encoding="utf-8")
    texts = notes(rule)
    assert f"### {rule.metadata.name}\n" in kept
    for text in (texts.means, texts.triage, *texts.false_positives, *(case.name for case in rule.cases)):
        assert text in kept


def test_the_page_is_current() -> None:
    """What people read is what runs."""
    assert KEPT.read_text(encoding="utf-8") == page(RULES), f"{KEPT} is stale: run `make generate`"
