"""The audit policy, read as an API server reads it."""

from pathlib import Path

import pytest

from detector.audit_policy import Attributes, AuditLevel, Decision, Policy, load_policy
from detector.errors import ConfigError

HEAD = "apiVersion: audit.k8s.io/v1\nkind: Policy\n"


def policy(*rules: dict[str, object], **top: object) -> Policy:
    """A policy of some rules."""
    return Policy.model_validate({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": list(rules), **top})


def level(rule: dict[str, object], request: Attributes) -> AuditLevel:
    """What a policy of one Request rule logs of a request."""
    return policy({"level": "Request", **rule}).decide(request).level


SECRET = Attributes("get", "ana", api_group="", resource="secrets", name="db", namespace="shop")
SCALE = Attributes("patch", "ana", api_group="apps", resource="deployments", subresource="scale", namespace="shop")
VERSION = Attributes("get", "ana", path="/version/openapi")


def test_the_first_rule_that_matches_decides() -> None:
    """A later rule that would log more changes nothing."""
    chosen = policy({"level": "Metadata", "verbs": ["get"]}, {"level": "RequestResponse"})
    assert chosen.decide(SECRET).level is AuditLevel.METADATA
    assert chosen.decide(SCALE).level is AuditLevel.REQUEST_RESPONSE


def test_what_no_rule_matches_is_not_logged() -> None:
    """As the API server does, and unlike what its documentation makes one expect."""
    assert policy({"level": "Metadata", "verbs": ["watch"]}).decide(SECRET) == Decision(AuditLevel.NONE)


@pytest.mark.parametrize(
    ("rule", "request_", "matches"),
    [
        ({}, SECRET, True),
        ({}, VERSION, True),
        ({"users": ["ana"]}, SECRET, True),
        ({"users": ["Ana"]}, SECRET, False),
        ({"userGroups": ["system:masters", "system:authenticated"]}, SECRET, True),
        ({"userGroups": ["system:masters"]}, SECRET, False),
        ({"verbs": ["*"]}, SECRET, False),
        ({"namespaces": ["shop"]}, SECRET, True),
        ({"namespaces": [""]}, SECRET, False),
        ({"namespaces": [""]}, SECRET._replace(namespace=""), True),
        ({"namespaces": [""]}, VERSION, False),
        ({"resources": [{"group": ""}]}, SECRET, True),
        ({"resources": [{"group": "apps"}]}, SECRET, False),
        ({"resources": [{"group": "", "resources": ["secrets"], "resourceNames": ["db"]}]}, SECRET, True),
        ({"resources": [{"group": "", "resources": ["secrets"], "resourceNames": ["api"]}]}, SECRET, False),
        ({"resources": [{"group": "apps", "resources": ["deployments"]}]}, SCALE, False),
        ({"resources": [{"group": "apps", "resources": ["deployments/scale"]}]}, SCALE, True),
        ({"resources": [{"group": "apps", "resources": ["deployments/*"]}]}, SCALE, True),
        ({"resources": [{"group": "apps", "resources": ["*/scale"]}]}, SCALE, True),
        ({"resources": [{"group": "apps", "resources": ["*/status"]}]}, SCALE, False),
        ({"resources": [{"group": "apps", "resources": ["*"]}]}, SCALE, True),
        ({"resources": [{"group": "", "resources": ["secrets/*"]}]}, SECRET, True),
        ({"nonResourceURLs": ["/version*"]}, VERSION, True),
        ({"nonResourceURLs": ["/version"]}, VERSION, False),
        ({"nonResourceURLs": ["*"]}, VERSION, True),
        ({"nonResourceURLs": ["*"]}, SECRET, False),
    ],
)
def test_a_rule_matches_what_an_api_server_says_it_does(
    rule: dict[str, object], request_: Attributes, *, matches: bool
) -> None:
    """Users, groups, verbs, resources, names, namespaces and paths: source, pkg/audit/policy/checker.go."""
    assert level(rule, request_) is (AuditLevel.REQUEST if matches else AuditLevel.NONE)


def test_stages_are_left_out_for_the_policy_and_for_the_rule() -> None:
    """The two lists are joined, so a rule cannot bring a stage back."""
    chosen = policy({"level": "Metadata", "omitStages": ["Panic"]}, omitStages=["RequestReceived"])
    assert chosen.decide(SECRET).omitted_stages == {"RequestReceived", "Panic"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rules: [", "1: not valid YAML"),
        ("- level: None", "an audit policy is a YAML mapping"),
        ("kind: Policy\nrules: [{level: None}]", "apiVersion"),
        (f"{HEAD}rules: []", "rules"),
        (f"{HEAD}rules: [{{level: Everything}}]", "rules[0].level: must be one of None, Metadata"),
        (f"{HEAD}rules: [{{level: None, verb: [get]}}]", "rules[0].verb: no such field"),
        (f"{HEAD}rules: [{{level: None, omitStages: [Received]}}]", "rules[0].omitStages[0]"),
        (
            f"{HEAD}rules: [{{level: None, nonResourceURLs: [version]}}]",
            "rules[0].nonResourceURLs[0]: must begin with /",
        ),
        (f"{HEAD}rules: [{{level: None, nonResourceURLs: ['/a*b']}}]", "rules[0].nonResourceURLs[0]"),
        (f"{HEAD}rules: [{{level: None, nonResourceURLs: [/a], namespaces: [b]}}]", "rules[0]: a rule has either"),
        (f"{HEAD}rules: [{{level: None, resources: [{{resourceNames: [a]}}]}}]", "rules[0].resources[0]"),
    ],
)
def test_a_policy_that_no_api_server_takes_is_refused_with_the_place(tmp_path: Path, text: str, told: str) -> None:
    """The error names the file and where in it."""
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_policy(file)
    assert str(file) in str(caught.value)
    assert told in str(caught.value)


def test_every_fault_of_a_policy_is_told_at_once(tmp_path: Path) -> None:
    """One look, one repair."""
    file = tmp_path / "policy.yaml"
    file.write_text(f"{HEAD}rules: [{{level: A}}, {{level: B}}]")
    with pytest.raises(ConfigError) as caught:
        load_policy(file)
    assert len(str(caught.value).splitlines()) == 2


def test_a_policy_that_is_not_there_says_so(tmp_path: Path) -> None:
    """A wrong path is no stack trace."""
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_policy(tmp_path / "none.yaml")
