"""Repeats become one alert, whatever the order in which they come."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from detector.activity import Activity
from detector.address import Locator
from detector.alert import AUDIT_IDS_KEPT, EVIDENCE_KEPT, Alert
from detector.event import from_mapping
from detector.fold import Folder
from detector.identity import from_event
from detector.match import LATENESS, Level, Match, Rule
from detector.sigma.cases import BASE_EVENT, merge
from tests.pipelines import NOON

RULE = Rule(id="r", name="Rule", version="v", ruleset="test", level=Level.HIGH, fold_seconds=3600)
START = datetime(2026, 11, 23, 9, tzinfo=UTC)


def match(
    minutes: float, *, rule: Rule = RULE, degraded: bool = False, group: tuple[str, ...] = (), **difference: Any
) -> Match:
    """A match of a request that came some minutes after nine."""
    time = (START + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")
    times = {"requestReceivedTimestamp": time, "stageTimestamp": time, "auditID": f"id-{minutes}"}
    event = from_mapping(merge(BASE_EVENT, {**times, **difference}))
    return Match(rule, Activity(event, from_event(event), Locator(()).locate(event.source_ips)), group, degraded)


def fold(*matches: Match) -> list[Alert]:
    """The complete alerts of some matches."""
    folder = Folder("test", clock=lambda: NOON)
    folder.add(matches)
    return folder.finish()


def test_repeats_within_a_window_are_one_alert_with_their_count() -> None:
    """The alert tells the number of requests and the ids of all."""
    (alert,) = fold(match(1), match(2), match(59))
    assert alert.document.detector.event_count == 3
    assert alert.document.detector.audit_ids == ("id-1", "id-2", "id-59")
    assert alert.document.detector.first_seen == START + timedelta(minutes=1)
    assert alert.document.timestamp == alert.document.detector.last_seen == START + timedelta(minutes=59)


def test_the_next_window_is_another_alert() -> None:
    """Windows lie on a fixed grid of event time."""
    assert len({alert.id for alert in fold(match(59), match(61))}) == 2


@pytest.mark.parametrize(
    "difference",
    [
        {"user": {"username": "bob@example.test"}},
        {"impersonatedUser": {"username": "root"}},
    ],
)
def test_another_identity_is_another_alert(difference: dict[str, Any]) -> None:
    """The accountable and the effective identity both count."""
    assert len(fold(match(1), match(2, **difference))) == 2


def test_another_group_value_is_another_alert() -> None:
    """A rule may keep apart what it names in `group_by`."""
    assert len(fold(match(1, group=("a",)), match(2, group=("b",)))) == 2


def test_failed_authentications_are_folded_by_the_trusted_address() -> None:
    """Nobody is accountable for them but whoever sits behind an address."""
    nobody: dict[str, Any] = {"user": {"username": None, "groups": None}, "responseStatus": {"code": 401}}
    addresses = ("203.0.113.1", "203.0.113.1", "203.0.113.2")
    alerts = fold(*(match(minute, sourceIPs=[address], **nobody) for minute, address in enumerate(addresses)))
    assert sorted(alert.document.detector.event_count for alert in alerts) == [1, 2]


def test_both_stages_of_a_long_request_count_once() -> None:
    """They share the time of receipt, so they fall into one window even hours later."""
    started = match(59, verb="get", stage="ResponseStarted")
    completed = match(59, verb="get", stage="ResponseComplete", stageTimestamp="2026-11-23T12:30:00Z")
    (alert,) = fold(started, completed)
    assert alert.document.detector.event_count == 1
    assert alert.document.timestamp == datetime(2026, 11, 23, 12, 30, tzinfo=UTC)


def test_two_requests_with_one_audit_id_count_twice() -> None:
    """The client chooses the auditID, so it cannot hide a request behind another."""
    (alert,) = fold(match(1, auditID="same"), match(2, auditID="same"))
    assert alert.document.detector.event_count == 2
    assert alert.document.detector.audit_ids == ("same",)


def test_the_order_of_arrival_changes_nothing() -> None:
    """Forwards and backwards give the same document."""
    matches = [match(minute, sourceIPs=[f"203.0.113.{minute}"]) for minute in range(30)]
    assert fold(*matches)[0].document == fold(*reversed(matches))[0].document


def test_an_alert_is_written_when_it_opens_and_when_it_is_complete() -> None:
    """Repeats in between are not written one by one."""
    folder = Folder("test", clock=lambda: NOON)
    (opened,) = folder.add([match(1)])
    assert not opened.complete
    assert folder.add([match(2)]) == []
    assert folder.advance(START + timedelta(minutes=60)) == []
    (complete,) = folder.advance(START + timedelta(minutes=60) + LATENESS)
    assert complete.complete
    assert (complete.id, complete.document.detector.event_count) == (opened.id, 2)
    assert complete.version > opened.version


def test_a_replay_is_given_complete_alerts_only() -> None:
    """Nobody waits for them, so nothing is written twice."""
    folder = Folder("test", live=False, clock=lambda: NOON)
    assert folder.add([match(1)]) == []
    assert [alert.complete for alert in folder.finish()] == [True]


def test_a_refresh_brings_the_counts_up_to_date_once() -> None:
    """What has not changed since it was written is not written again."""
    folder = Folder("test", clock=lambda: NOON)
    folder.add([match(1)])
    assert folder.refresh() == []
    folder.add([match(2)])
    (refreshed,) = folder.refresh()
    assert refreshed.document.detector.event_count == 2
    assert folder.refresh() == []


def test_a_proof_raises_the_severity_of_a_degraded_alert_at_once() -> None:
    """An alert that rests on hidden bodies is low until a request shows what it did."""
    folder = Folder("test", clock=lambda: NOON)
    (suspected,) = folder.add([match(1, degraded=True)])
    (proven,) = folder.add([match(2)])
    assert (suspected.document.event.severity, suspected.document.detector.degraded) == (21, True)
    assert (proven.document.event.severity, proven.document.detector.degraded) == (73, False)
    assert proven.id == suspected.id
    assert proven.version > suspected.version


def test_a_straggler_does_not_open_a_complete_alert_again() -> None:
    """It is counted as late: the alert itself was shown."""
    folder = Folder("test", clock=lambda: NOON)
    folder.add([match(1)])
    folder.advance(START + timedelta(hours=3))
    assert folder.add([match(2)]) == []
    assert folder.late == 1


def test_a_late_match_of_an_alert_that_never_was_opens_it() -> None:
    """Lateness never hides a detection."""
    folder = Folder("test", clock=lambda: NOON)
    folder.advance(START + timedelta(hours=3))
    assert len(folder.add([match(1)])) == 1


def test_what_an_alert_keeps_is_bounded_and_the_earliest() -> None:
    """The full number is told all the same."""
    (alert,) = fold(*(match(minute / 60) for minute in reversed(range(AUDIT_IDS_KEPT + 100))))
    detector = alert.document.detector
    assert detector.event_count == AUDIT_IDS_KEPT + 100
    assert len(detector.audit_ids) == AUDIT_IDS_KEPT
    assert len(detector.evidence) == EVIDENCE_KEPT
    assert detector.evidence[0].time == detector.first_seen == START


def test_the_id_depends_on_rule_identity_group_cluster_and_window_only() -> None:
    """Neither the auditID nor anything else of a request's content moves it."""
    one = fold(match(1))[0].id
    assert fold(match(2, auditID="x", userAgent="y", requestURI="/z"))[0].id == one
    assert fold(match(1, rule=RULE.model_copy(update={"id": "other"})))[0].id != one
    other_cluster = Folder("other", clock=lambda: NOON)
    assert other_cluster.add([match(1)])[0].id != one
    assert len(one) == 40


def test_the_message_names_who_did_what_and_shows_no_control_characters() -> None:
    """A name with terminal escapes and braces is shown, not obeyed."""
    rule = RULE.model_copy(update={"message": "{user} touched {name} in {namespace}"})
    ref = {"resource": "pods", "namespace": "shop", "name": "\x1b[31m{user.__class__}\u202e"}
    (alert,) = fold(match(1, rule=rule, objectRef=ref))
    assert alert.document.message == "ana@example.test touched  [31m{user.__class__} in shop"


def test_secrets_in_names_agents_and_commands_are_masked() -> None:
    """An alert shows of a request only what cannot be a credential."""
    token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl"
    rule = RULE.model_copy(update={"message": "{command}"})
    uri = f"/api/v1/namespaces/shop/pods/cart/exec?command=login&command=--token%3D{token}"
    ref = {"resource": "pods", "subresource": "exec", "name": token}
    (alert,) = fold(match(1, rule=rule, requestURI=uri, userAgent=f"x {token}", objectRef=ref))
    assert token not in alert.document.model_dump_json()
    assert alert.document.message.startswith("login --token=")


def test_a_request_without_any_time_still_gives_an_alert() -> None:
    """Some collectors drop the timestamps."""
    undated = match(1, requestReceivedTimestamp=None, stageTimestamp=None)
    assert len(fold(undated)) == 1
