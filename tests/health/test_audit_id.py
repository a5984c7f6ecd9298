"""auditIDs that no API server makes."""

from typing import Any

from detector.health.monitor import RULES, Checks
from tests.health.streams import at, look, names

_REUSED = "One auditID for Two Requests"
_NO_UUID = "auditID That Is No UUID"
_ID = "11111111-2222-4333-8444-555555555555"


def test_two_requests_under_one_audit_id_are_told() -> None:
    """Whether verb, address or, of a write, user differ; the second is named."""
    first = at(0, auditID=_ID)
    differing: tuple[dict[str, Any], ...] = ({"verb": "delete"}, {"requestURI": "/api/v1/secrets"})
    for differences in differing:
        (match,) = look([first, at(1, auditID=_ID, user={"username": "eve"}, **differences)])
        assert match.rule.name == _REUSED
        assert match.activity.identity.name == "eve"
    writes = [at(n, auditID=_ID, verb="delete", user={"username": name}) for n, name in enumerate(("ana", "eve"))]
    assert names(look(writes)) == [_REUSED]


def test_what_is_delivered_twice_or_logged_by_two_api_servers_is_one_request() -> None:
    """Retries of a webhook, stages of a watch, and an aggregated API server."""
    watch = at(0, auditID=_ID, verb="watch", stage="ResponseStarted")
    again = at(1, auditID=_ID, verb="watch", sourceIPs=["10.0.0.7"], userAgent="Go-http-client/2.0")
    assert look([watch, again, again], [again]) == []


def test_a_pair_far_apart_is_found_in_any_batches() -> None:
    """The memory holds some thousands of requests, and no more."""
    checks = Checks()
    events = [at(0, auditID=_ID, verb="delete"), *(at(1, n + 1) for n in range(2_400))]
    look(events, checks=checks)
    assert names(look([at(2, auditID=_ID)], checks=checks)) == [_REUSED]
    look([at(3, n + 1) for n in range(9_000)], checks=checks)
    assert len(checks.audit_ids.recent) + len(checks.audit_ids.before) <= 5_000


def test_an_audit_id_that_is_no_uuid_is_told_where_uuids_are_the_norm() -> None:
    """A client has chosen it."""
    usual = [at(n / 10, n) for n in range(100)]
    for odd in ("x", "a" * 60_000, "11111111-2222-4333-8444-55555555555g", "111111111222243338444455555555555555"):
        assert names(look(usual, [at(20, auditID=odd)])) == [_NO_UUID]


def test_ids_that_a_collector_makes_are_usual() -> None:
    """Where none is a UUID, none is odd."""
    assert look([at(n / 10, n, auditID=f"insert-{n}") for n in range(500)]) == []


def test_nothing_of_medium_severity_rests_on_an_audit_id() -> None:
    """The client may choose it, and so could raise the alert for another."""
    assert {rule.metadata.level.value for rule in RULES if rule.metadata.name in (_REUSED, _NO_UUID)} == {"low"}
