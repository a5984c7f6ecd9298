"""Writes of whose end the log tells nothing."""

from typing import Any

from detector.health.monitor import Checks
from tests.health.streams import BINDING, at, look, names, stamp, steady

APPLY = {
    "verb": "patch",
    "objectRef": BINDING,
    "requestURI": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/ops?fieldManager=curl",
    "user": {"username": "eve@example.test", "groups": ["system:authenticated"]},
}
_SENSITIVE = "Sensitive Write Without a Logged Answer"
_OTHER = "Write Without a Logged Answer"


def _received(minute: float, **differences: Any) -> Any:
    return at(
        minute, **{**APPLY, "stage": "RequestReceived", "responseStatus": None, "annotations": None, **differences}
    )


def _answered(received: float, minute: float, stage: str = "ResponseComplete", **differences: Any) -> Any:
    times = {"requestReceivedTimestamp": stamp(received), "stageTimestamp": stamp(minute)}
    return at(received, **{**APPLY, **times, "stage": stage, **differences})


def test_a_patch_of_a_binding_whose_end_never_comes_is_told_after_five_minutes() -> None:
    """The person is named, with address and object, though no event tells what was done."""
    assert look([_received(0.25)], steady(0, 6)) == []
    (match,) = look([_received(0.25)], steady(0, 20))
    assert match.rule.name == _SENSITIVE
    assert match.rule.level == "medium"
    assert match.activity.identity.name == "eve@example.test"
    assert match.activity.event.object_ref is not None
    assert match.activity.event.object_ref.name == "ops"


def test_any_later_stage_is_an_answer() -> None:
    """Also a panic, and the start of what runs long."""
    for stage in ("ResponseComplete", "ResponseStarted", "Panic"):
        assert look([_received(0.25), _answered(0.25, 1, stage)], steady(1, 20)) == []


def test_the_end_of_the_log_is_no_lost_answer() -> None:
    """It may stand in the next file."""
    assert look(steady(0, 60), [_received(60)]) == []


def test_another_request_under_the_same_audit_id_is_no_answer() -> None:
    """The client may choose it."""
    other = _answered(0.25, 1, requestReceivedTimestamp=stamp(0.5))
    assert names(look([_received(0.25), other], steady(1, 20))) == [_SENSITIVE]


def test_the_answer_to_an_impersonated_request_counts() -> None:
    """Only later stages know who is impersonated."""
    answer = _answered(0.25, 1, impersonatedUser={"username": "system:admin"})
    assert look([_received(0.25), answer], steady(1, 20)) == []


def test_a_write_of_something_else_is_low_and_a_read_is_nothing() -> None:
    """A ConfigMap gives no rights."""
    config_map = {"resource": "configmaps", "namespace": "shop", "name": "a"}
    assert names(look([_received(0.25, objectRef=config_map)], steady(0, 20))) == [_OTHER]
    assert look([_received(0.25, verb="get")], steady(0, 20)) == []


def test_an_event_from_the_future_ends_no_waiting() -> None:
    """The time of one stream is not moved by one wrong clock."""
    late = [_received(0.25), at(0.5), at(600), at(1), _answered(0.25, 2)]
    assert _SENSITIVE not in names(look(late, steady(3, 20)))


def test_what_waits_is_bounded() -> None:
    """The oldest are given up."""
    checks = Checks()
    look(
        [_received(0.25, number=n, auditID=f"{n:08x}-0000-4000-8000-000000000000") for n in range(10_100)],
        checks=checks,
    )
    assert len(checks.unanswered.waiting) == 10_000
