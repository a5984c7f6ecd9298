"""Bodies that were too big for the log."""

from typing import Any

from detector.health.monitor import Checks
from tests.health.streams import BINDING, POD, at, look, names

TRUNCATED = {"audit.k8s.io/truncated": "true"}
_ONE = "Body of a Sensitive Write Truncated"
_MANY = "Many Sensitive Writes Truncated"
_SHARE = "Much of the Audit Stream Truncated"


def _write(minute: float, **differences: Any) -> Any:
    given = {"verb": "create", "objectRef": POD, "responseStatus": {"code": 201}, "annotations": TRUNCATED}
    return at(minute, **{**given, **differences})


def test_a_truncated_write_of_a_sensitive_kind_is_told() -> None:
    """Its body may hide anything, so who sent it is named."""
    (match,) = look([_write(0, user={"username": "eve@example.test"})])
    assert match.rule.name == _ONE
    assert match.activity.identity.name == "eve@example.test"
    assert names(look([_write(0, objectRef=BINDING, verb="patch")])) == [_ONE]


def test_what_gives_no_rights_may_be_big() -> None:
    """A ConfigMap, a status, a list, a refused write and a dull value of the annotation."""
    dull = [
        _write(0, objectRef={"resource": "configmaps", "namespace": "shop", "name": "big"}),
        _write(1, objectRef={**POD, "subresource": "status"}, verb="patch"),
        _write(2, verb="list"),
        _write(3, responseStatus={"code": 403}),
        _write(4, annotations={"audit.k8s.io/truncated": "false"}),
    ]
    assert look(dull) == []


def test_five_within_an_hour_by_one_identity_are_medium() -> None:
    """The fifth tells it; those of two identities do not add up."""
    ana = [_write(minute) for minute in range(5)]
    bob = [_write(10 + minute, user={"username": "bob"}) for minute in range(4)]
    assert names(look(ana + bob)).count(_MANY) == 1


def test_five_in_five_hours_are_five_single_ones() -> None:
    """Each hour counts anew."""
    assert names(look([_write(61 * number) for number in range(5)])) == [_ONE] * 5


def test_a_stream_that_loses_many_bodies_is_told_once_a_thousand_events() -> None:
    """Of any kind, with no identity accountable."""
    lists = [at(number / 100, number, verb="list", annotations=TRUNCATED) for number in range(50)]
    (match,) = look(lists, [at(1)])
    assert match.rule.name == _SHARE
    assert match.activity.identity.name == "(audit stream)"


def test_a_truncated_event_in_fifty_is_borne() -> None:
    """So many are usual where answers of lists are logged."""
    events = [at(n / 100, n, verb="list", annotations=TRUNCATED if n % 50 == 0 else None) for n in range(3_000)]
    assert look(events) == []


def test_the_identities_that_are_remembered_are_bounded() -> None:
    """Names are free to choose when impersonating."""
    checks = Checks()
    look([_write(0, number=n, user={"username": f"user-{n}"}) for n in range(1_100)], checks=checks)
    assert len(checks.truncation.by_identity) == 1_000
