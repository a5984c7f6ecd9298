"""No alert that wakes somebody rests on what a client may choose alone."""

import pytest

from detector.match import SEVERITY
from detector.sigma.compile import And, Leaf, Node, Not, Or, Reference
from detector.sigma.fields import Field
from detector.sigma.load import BUNDLED, CompiledRule, load
from tests.sigma.build import compile_selection

FORGEABLE = {"auditID", "userAgent", "sourceIPs"}
"""Chosen by the client: the header `Audit-ID`, the header `User-Agent`, and all forwarded addresses but the last."""
SERIOUS = [rule for rule in load(BUNDLED) if SEVERITY[rule.metadata.level] >= 47]


def is_forgeable(field: Field) -> bool:
    """Whether a client chooses a field's value without changing what the request does."""
    return field.path in FORGEABLE or field.path.startswith("detector.client.")


def rests_on_forgeable(node: Node, *, negated: bool = False) -> bool:
    """Whether a condition can come true while everything it positively asks for is forgeable.

    What must not be there is no evidence, so a negated test counts as nothing that the alert rests on.
    """
    match node:
        case Leaf(field=field):
            return negated or is_forgeable(field)
        case Reference(field=field, other=other):
            return negated or (is_forgeable(field) and is_forgeable(other))
        case Not(node=inner):
            return rests_on_forgeable(inner, negated=not negated)
        case And(nodes=nodes) | Or(nodes=nodes):
            parts = [rests_on_forgeable(part, negated=negated) for part in nodes]
            return all(parts) if isinstance(node, And) is not negated else any(parts)


@pytest.mark.parametrize("rule", SERIOUS, ids=lambda rule: rule.path.stem)
def test_a_serious_rule_asks_for_more_than_a_client_may_choose(rule: CompiledRule) -> None:
    """In each way to fulfil its condition there is a fact that the API server itself states."""
    assert not rests_on_forgeable(rule.node)


@pytest.mark.parametrize(
    ("selections", "rests"),
    [
        ([{"userAgent|contains": "hydra"}], True),
        ([{"userAgent|contains": "hydra", "responseStatus.code": None}], True),
        ([{"userAgent|contains": "hydra", "verb": "list"}], False),
        ([{"verb": "list"}, {"sourceIPs": "192.0.2.1"}], True),
        ([{"detector.client.scope": "public"}], True),
        ([{"detector.source.scope": "public"}], False),
        ([{"auditID|exists": False}], True),
    ],
)
def test_the_check_knows_such_a_rule_when_it_sees_one(selections: list[dict[str, object]], rests: bool) -> None:
    """Of alternatives one is enough, of parts that must all be there each must be forgeable."""
    assert rests_on_forgeable(compile_selection(*selections).node) is rests
