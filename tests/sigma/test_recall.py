"""What a rule asks of the requests before: in words that say the same as its file."""

import pytest

from detector.sigma.load import BUNDLED, load
from detector.sigma.recall import recall, span

ASKED = {rule.path.stem.removeprefix("kubernetes_audit_"): recall(rule) for rule in load(BUNDLED) if rule.remembers}


@pytest.mark.parametrize(
    ("rule", "asked"),
    [
        (
            "denied_burst_ip",
            "at least 10 requests of refused_from_a_public_address within 30m, of whatever identities with the same "
            "detector.source.ip",
        ),
        (
            "mass_delete_count",
            "at least 30 different values of detector.path in requests of object_deleted within 5m, of one identity "
            "with the same user.username",
        ),
        (
            "chain_grant_first_use",
            "requests of admin_granted, then admin_used within 1h, of whatever identities with the same "
            "detector.binding.subjects of admin_granted as user.username of admin_used",
        ),
        (
            "chain_node_pod_exec",
            "requests of node_pod_made, then pod_entered within 1h, of one identity with the same objectRef.namespace "
            "and objectRef.name",
        ),
        (
            "secret_new_client",
            "a value of detector.client.program with detector.source.network that was not seen in 30d, of one "
            "identity; known for at least 3d",
        ),
        ("dormant_return", "a silence of 30d before it, of one identity"),
    ],
)
def test_each_way_to_remember_has_its_words(rule: str, asked: str) -> None:
    """How much, within what time, and what belongs together."""
    assert ASKED[rule] == asked


def test_every_rule_that_remembers_says_what_it_asks_and_no_other_does() -> None:
    """A verdict on one request would be taken for all of it."""
    assert len(ASKED) > 20
    assert all(ASKED.values())
    assert not any(recall(rule) for rule in load(BUNDLED) if not rule.remembers)


@pytest.mark.parametrize(("seconds", "text"), [(90, "90s"), (3600, "1h"), (86_400, "1d"), (30 * 86_400, "30d")])
def test_a_time_is_told_in_the_largest_unit_that_fits(seconds: int, text: str) -> None:
    """As somebody would write it in a rule."""
    assert span(1_000_000 * seconds) == text
