"""The bundled rules in the eyes of SigmaHQ: pySigma's own validators, and those of the repository of Sigma rules."""

from typing import Any, cast

import pytest
from sigma.collection import SigmaCollection
from sigma.plugins import InstalledSigmaPlugins
from sigma.validation import SigmaValidator

from detector.sigma.load import BUNDLED, load

VALIDATORS = InstalledSigmaPlugins.autodiscover().validators
NEED_THE_NETWORK = {
    "attacktag",  # detector/attack.py and `rules lint` check the tags against a pinned version
    "d3_fendtag",  # no rule has such a tag
    "sigmahq_fieldname_cast",
    "sigmahq_filename_prefix",
    "sigmahq_invalid_fieldname",  # the loader refuses a field that no audit event has
    "sigmahq_logsource_unknown",  # the loader refuses any but kubernetes, audit
    "sigmahq_redundant_field",
    "sigmahq_tags_techniques_without_tactics",
}
"""Validators that fetch lists from the internet; they have none on `kubernetes`, `audit` but the log source itself."""
EXCEPTIONS = {
    ("sigmahq_unknown_field", "detector"): "our own section: cases, message, folding and what ideas a rule covers",
    ("escaped_wildcard", r"\*"): "a role that allows everything holds the letter `*`; that is what the rule is about",
    ("escaped_wildcard", r"\*/\*"): "... and so is every subresource of everything",
    ("sigmahq_title_case", "cluster-admin"): "the name of a role, as Kubernetes spells it",
    ("sigmahq_title_case", "kube-system"): "the name of a namespace, as Kubernetes spells it",
}
"""What is found and stays, by validator and what it complains of, with the reason."""

OF_A_FILE = "sigmahq_correlation_filename_prefix"
"""Wants `correlation_` before the names of correlations; here a file is named by what it finds, however it does so, and
every one begins with `kubernetes_audit_`. So this one is held against the list of correlations, not against none."""

RULES = SigmaCollection.load_ruleset([BUNDLED])


def findings(name: str) -> set[str]:
    """What one validator complains of in any of the rules: its own words for it, or its whole text."""
    validator = SigmaValidator(cast("Any", {VALIDATORS[name]}))  # pySigma's types are stricter than its code
    issues = [issue for rule in RULES.rules for issue in validator.validate_rule(cast("Any", rule))]
    issues += validator.finalize()
    found: set[str] = set()
    for issue in issues:
        details = [value for key, value in vars(issue).items() if key not in ("rules", "severity", "description")]
        for detail in details or [str(issue)]:
            found.update(map(str, detail if isinstance(detail, list) else [detail]))
    return found


def test_sigmahqs_validators_are_there() -> None:
    """Both sets: a check that finds no validators would find no fault."""
    assert len(RULES.rules) > 100
    assert {"all_of_them_condition", "sigmahq_title_case"} <= set(VALIDATORS)
    assert set(VALIDATORS) >= NEED_THE_NETWORK


def test_the_names_of_correlations_differ_from_sigmahqs_as_is_meant() -> None:
    """Only theirs, and as the names of all other rules."""
    correlations = {rule.path.name for rule in load(BUNDLED) if rule.correlation}

    assert findings(OF_A_FILE) == correlations
    assert all(name.startswith("kubernetes_audit_") for name in correlations)


@pytest.mark.parametrize("name", sorted(set(VALIDATORS) - NEED_THE_NETWORK - {OF_A_FILE}))
def test_sigmahqs_validators_find_nothing_but_what_is_meant(name: str) -> None:
    """Every exception is one of the few that are listed with a reason."""
    allowed = {detail for validator, detail in EXCEPTIONS if validator == name}

    assert findings(name) == allowed
