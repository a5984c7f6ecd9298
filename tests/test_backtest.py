"""Backtests: what rules would have raised, how rightly, and what a change of them changes."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree

import pytest

from detector.activity import Activity
from detector.backtest import Backtest, Outcome, differences, false_a_day, tally
from detector.errors import UsageError
from detector.evaluate import Label
from detector.junit import junit
from detector.sigma.load import CompiledRule
from tests.events import activity
from tests.sigma.build import compile_rules, document, rule_id

DAY = datetime(2026, 11, 2, tzinfo=UTC)


def rule(number: int, verb: str, level: str = "medium", **changes: Any) -> CompiledRule:
    """A rule on one verb."""
    detection = {"selection": {"verb": verb}, "condition": "selection"}
    (compiled,) = compile_rules(document(detection, id=rule_id(number), title=f"on {verb}", level=level, **changes))
    return compiled


def request(audit_id: str, hours: float, verb: str = "get", user: str = "ana", **changes: Any) -> Activity:
    """A request some hours after the beginning."""
    time = f"{DAY + timedelta(hours=hours):%Y-%m-%dT%H:%M:%S.%fZ}"
    times = {"requestReceivedTimestamp": time, "stageTimestamp": time}
    return activity(auditID=audit_id, verb=verb, user={"username": user, "groups": None}, **times, **changes)


def outcome(
    rules: list[CompiledRule], activities: list[Activity], campaigns: Mapping[str, str] | None = None
) -> Outcome:
    """The outcome of a backtest; campaigns by auditID."""
    labels = {audit_id: Label(campaign, "t") for audit_id, campaign in (campaigns or {}).items()}
    test = Backtest(rules, labels)
    for each in activities:
        test.add([each], each.time)
    return test.finish()


WEEK = [request("a", 0), request("b", 1, user="bob"), request("c", 25), request("d", 48, verb="list")]


def test_hits_are_counted_for_every_rule_also_for_one_that_is_silent() -> None:
    """A rule that never fires is worth knowing."""
    rows = tally(outcome([rule(1, "get"), rule(2, "list", "low"), rule(3, "watch")], WEEK), "rule")
    assert [(row["rule"], row["alerts"], row["severe"], row["requests"], row["identities"]) for row in rows] == [
        ("on get", 3, 3, 3, 2),
        ("on list", 1, 0, 1, 1),
        ("on watch", 0, 0, 0, 0),
    ]
    assert rows[0]["alerts_a_day"] == 1.5
    assert "precision" not in rows[0]


def test_hits_are_counted_by_day_and_by_identity() -> None:
    """Each with the rules that hit."""
    result = outcome([rule(1, "get"), rule(2, "list")], WEEK)
    by_day = [(row["day"], row["rule"], row["alerts"]) for row in tally(result, "day")]
    assert by_day == [("2026-11-02", "on get", 2), ("2026-11-03", "on get", 1), ("2026-11-04", "on list", 1)]
    by_identity = [(row["identity"], row["rule"], row["alerts"]) for row in tally(result, "identity")]
    assert by_identity == [("ana", "on get", 2), ("ana", "on list", 1), ("bob", "on get", 1)]


def test_labels_tell_right_from_wrong() -> None:
    """An alert that names a labelled request is true, any other false."""
    result = outcome([rule(1, "get"), rule(2, "list", "low")], WEEK, {"b": "theft", "d": "quiet"})
    first, second = tally(result, "rule")
    assert (first["true"], first["false"], first["precision"], first["campaigns"]) == (1, 2, 0.333, ["theft"])
    assert (second["true"], second["precision"], second["campaigns"]) == (1, 1.0, ["quiet"])
    assert result.campaigns == {"theft", "quiet"}
    assert result.found == {"theft"}
    assert false_a_day(result) == {rule_id(1): 1.0}


def test_what_a_controller_does_because_of_an_attack_is_neither_right_nor_wrong() -> None:
    """As in `model evaluate`."""
    attack = request("a", 0, verb="create", objectRef={"resource": "daemonsets", "name": "evil"})
    follows = request(
        "b",
        0.1,
        verb="create",
        user="system:serviceaccount:kube-system:daemon-set-controller",
        objectRef={"resource": "pods", "name": "evil-x7k2p"},
    )
    (row,) = tally(outcome([rule(1, "create")], [attack, follows], {"a": "evil"}), "rule")
    assert (row["true"], row["false"], row["aftermath"], row["precision"]) == (1, 0, 1, 1.0)


def test_nothing_to_test_is_an_error_not_a_clean_result() -> None:
    """An empty archive, and labels of another one."""
    with pytest.raises(UsageError, match="no audit event in these files"):
        outcome([rule(1, "get")], [])
    with pytest.raises(UsageError, match="none of the labelled requests"):
        outcome([rule(1, "get")], WEEK, {"z": "theft"})


def test_a_difference_lists_what_is_gone_new_and_changed() -> None:
    """By rule and identity; another version of the same rule is none."""
    old = outcome([rule(1, "get"), rule(2, "list")], WEEK, {"d": "theft"})
    new = outcome([rule(1, "get", "high", description="other"), rule(3, "watch")], [*WEEK, request("e", 50, "watch")])
    rows = differences(old, new)
    assert [(row["change"], row["rule"], row["identity"], row["alerts"], row["severity"]) for row in rows] == [
        ("changed", "on get", "ana", 2, "47 -> 73"),
        ("changed", "on get", "bob", 1, "47 -> 73"),
        ("gone", "on list", "ana", 1, "47"),
        ("new", "on watch", "ana", 1, "47"),
    ]
    assert rows[2]["campaigns"] == ["theft"]
    assert rows[0]["first"] == "2026-11-02 00:00"


def test_equal_rules_differ_in_nothing() -> None:
    """Whatever else their files say."""
    rules = [rule(1, "get"), rule(1, "get", references=["https://example.test"])]
    assert rules[0].metadata.version != rules[1].metadata.version
    assert differences(*(outcome([each], WEEK) for each in rules)) == []


def test_junit_fails_a_rule_that_is_wrong_too_often_and_skips_a_missed_campaign() -> None:
    """With the false alerts in the failure's text."""
    result = outcome([rule(1, "get"), rule(2, "list", "low")], WEEK, {"b": "theft", "d": "quiet"})
    suite = ElementTree.fromstring(junit(result, 0.5))  # noqa: S314 our own
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "1", "1")
    states = {case.get("name"): [child.tag for child in case] for case in suite}
    assert states == {"on get": ["failure"], "on list": [], "quiet": ["skipped"], "theft": []}
    (failure,) = suite.iter("failure")
    assert failure.get("message") == "1.00 false alerts a day of severity 47 or more; at most 0.5 are allowed"
    assert (failure.text or "").count("ana") == 2
    assert ElementTree.fromstring(junit(result, 1.0)).get("failures") == "0"  # noqa: S314 our own


def test_junit_is_xml_whatever_a_client_calls_itself() -> None:
    """Control characters cannot stand in XML at all."""
    result = outcome([rule(1, "get")], [request("a", 0, user="<x>\x00&\x1b"), request("b", 1)], {"b": "theft"})
    assert ElementTree.fromstring(junit(result, 0.0)).get("failures") == "1"  # noqa: S314 our own
