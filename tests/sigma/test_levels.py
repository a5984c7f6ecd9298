"""What rules need the audit policy to log, and what ours does."""

from pathlib import Path

import pytest

from detector.audit_policy import Attributes, AuditLevel, Policy, load_policy
from detector.sigma.levels import lacking, needs
from tests.pipelines import bundled_rules
from tests.sigma.build import compile_selection

POLICY = Path(__file__).parents[2] / "deploy" / "audit-policy.yaml"


@pytest.fixture(scope="module")
def policy() -> Policy:
    """The recommended policy."""
    return load_policy(POLICY)


def test_a_rule_needs_the_body_of_each_kind_of_write_that_it_looks_into() -> None:
    """Not of what its condition rules out before it comes to the body."""
    rule = compile_selection(
        {"verb": ["create", "patch"], "objectRef.resource": ["pods", "services"], "requestObject.spec.a": "b"}
    )
    assert {(need.resource, need.verb, need.level) for need in needs(rule) if not need.subresource} == {
        (resource, verb, AuditLevel.REQUEST) for resource in ("pods", "services") for verb in ("create", "patch")
    }


def test_a_rule_that_reads_no_body_needs_none() -> None:
    """Metadata is enough for it."""
    assert needs(compile_selection({"verb": "create", "objectRef.resource": "pods"})) == ()


def test_a_rule_that_reads_the_answer_needs_the_deepest_level() -> None:
    """Request does not hold it."""
    rule = compile_selection({"objectRef.resource": "roles", "responseObject.kind": "Role"})
    assert {need.level for need in needs(rule)} == {AuditLevel.REQUEST_RESPONSE}


def test_the_subject_of_a_certificate_request_is_part_of_a_body() -> None:
    """It is derived from one."""
    rule = compile_selection({"objectRef.resource": "certificatesigningrequests", "detector.csr.common_name": "admin"})
    assert {need.level for need in needs(rule)} == {AuditLevel.REQUEST}


def test_no_bundled_rule_asks_for_more_than_the_policy_grants(policy: Policy) -> None:
    """So with this policy no rule is blind, but one that would read the data of Secrets."""
    assert sum(len(needs(rule)) for rule in bundled_rules()) > 100
    assert [(rule.path.name, lacking(rule, policy)) for rule in bundled_rules() if lacking(rule, policy)] == []


def test_a_policy_of_metadata_alone_lacks_all_that_a_rule_needs() -> None:
    """So the test above can fail."""
    shallow = Policy.model_validate(
        {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}
    )
    rule = next(rule for rule in bundled_rules() if rule.path.stem == "kubernetes_audit_pod_privileged")
    assert lacking(rule, shallow) == needs(rule)
    assert {"pods", "daemonsets.apps", "pods/ephemeralcontainers"} <= {need.target for need in needs(rule)}


@pytest.mark.parametrize(
    ("api_group", "resource"),
    [
        ("rbac.authorization.k8s.io", "clusterrolebindings"),
        ("rbac.authorization.k8s.io", "roles"),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
        ("", "pods"),
        ("apps", "daemonsets"),
    ],
)
def test_a_patch_of_what_matters_is_logged_when_it_comes(policy: Policy, api_group: str, resource: str) -> None:
    """Its end may be lost, see health/unanswered.py."""
    patch = Attributes("patch", "ana", api_group=api_group, resource=resource, name="a", namespace="shop")
    assert "RequestReceived" not in policy.decide(patch).omitted_stages
    assert "RequestReceived" in policy.decide(patch._replace(verb="get")).omitted_stages


@pytest.mark.parametrize(
    "request_",
    [
        Attributes("get", "", groups=("system:unauthenticated",), path="/version"),
        Attributes("get", "ana", path="/api"),
        Attributes("list", "system:serviceaccount:a:b", api_group="", resource="secrets"),
        Attributes("get", "ana", api_group="", resource="pods", subresource="exec", namespace="shop", name="cart"),
        Attributes("deletecollection", "ana", api_group="", resource="events", namespace="shop"),
        Attributes("get", "ana", api_group="", resource="nodes", subresource="proxy", name="n1"),
        Attributes("create", "ana", api_group="authorization.k8s.io", resource="selfsubjectrulesreviews"),
        Attributes("patch", "ana", api_group="example.test", resource="widgets", namespace="shop", name="w"),
    ],
)
def test_what_rules_and_model_need_is_logged_with_the_stage_that_tells(policy: Policy, request_: Attributes) -> None:
    """Reads, sessions, refusals and custom resources: at Metadata at least, and when they start."""
    decision = policy.decide(request_)
    assert decision.level >= AuditLevel.METADATA
    assert not decision.omitted_stages & {"ResponseStarted", "ResponseComplete", "Panic"}


@pytest.mark.parametrize("verb", ["get", "list", "watch", "create", "update", "patch"])
def test_no_secret_and_no_token_gets_into_the_log(policy: Policy, verb: str) -> None:
    """The data of Secrets is in their bodies, and a token in the answer to the request for it."""
    secret = Attributes(verb, "ana", api_group="", resource="secrets", name="db", namespace="shop")
    token = secret._replace(resource="serviceaccounts", subresource="token")
    assert policy.decide(secret).level is AuditLevel.METADATA
    assert policy.decide(token).level <= AuditLevel.REQUEST
