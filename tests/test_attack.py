"""The pinned names of ATT&CK."""

import re

from detector.attack import REVOKED, SPLIT_TACTICS, TACTICS, TECHNIQUES, VERSION
from detector.sigma.load import BUNDLED, load


def test_ids_have_the_form_of_attack() -> None:
    """A tactic's id begins with TA, a sub-technique's has three more digits."""
    assert VERSION.isdigit()
    assert all(re.fullmatch(r"TA\d{4}", tactic_id) for tactic_id, _ in TACTICS.values())
    assert all(re.fullmatch(r"T\d{4}(\.\d{3})?", technique_id) for technique_id in TECHNIQUES)


def test_each_tactic_has_an_id_and_a_name_of_its_own() -> None:
    """And its tag is its name, as Sigma spells it."""
    assert len(set(TACTICS.values())) == len(TACTICS)
    assert all(tag == name.lower().replace(" ", "-") for tag, (_, name) in TACTICS.items())


def test_the_bundled_rules_use_only_names_that_the_table_knows() -> None:
    """Else an alert would have a technique without its name."""
    rules = [rule.metadata for rule in load(BUNDLED)]
    assert {technique for rule in rules for technique in rule.techniques} <= set(TECHNIQUES)
    assert {tactic for rule in rules for tactic in rule.tactics} <= set(TACTICS)


def test_what_was_revoked_has_a_successor_that_is_known() -> None:
    """A hint that leads to another unknown id would be no hint; and nothing is both revoked and in use."""
    assert set(REVOKED.values()) <= set(TECHNIQUES)
    assert not set(REVOKED) & set(TECHNIQUES)
    assert {tactic for successors in SPLIT_TACTICS.values() for tactic in successors} <= set(TACTICS)
    assert not set(SPLIT_TACTICS) & set(TACTICS)
