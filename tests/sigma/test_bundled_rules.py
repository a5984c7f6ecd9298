"""The bundled rules: against their own cases, against the peers' test events, and against names made to fool them."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from uuid import RFC_4122, UUID

import pytest
import yaml

from detector.activity import Activity
from detector.address import Locator
from detector.attack import TACTICS, TECHNIQUES
from detector.errors import DecodeError
from detector.event import from_mapping
from detector.fold import Folder
from detector.identity import from_event
from detector.sigma.cases import BASE_EVENT, differences_of, evaluate, merge, run_cases
from detector.sigma.engine import Engine
from detector.sigma.load import BUNDLED, CompiledRule, load
from detector.sigma.sections import Case

PEERS = Path(__file__).parents[1] / "data" / "peers"
README = (BUNDLED / "README.md").read_text()
PREFIX = "kubernetes_audit_"
NAMES = sorted(path.stem.removeprefix(PREFIX) for path in BUNDLED.glob("*.yml"))

ORDINARY_NAME = "ana@example.test"
HOSTILE_NAMES = (
    "kubernetes-attacker@evil.example",
    "system:serviceaccount:kube-system:x@evil",
    "system:serviceaccount:kube-system:",
    "system:serviceaccount:kube-system",
    "system:serviceaccount:KUBE-SYSTEM:x",
    "system:serviceaccount:kube-system:a:b",
    "system:serviceaccount:kube-system:a\n",
    "SYSTEM:NODE:ip-10-0-1-20",
    "system:node:",
    "\uff53ystem:apiserver",
)


class Row(NamedTuple):
    """What a peer expects of one event, see the README beside the data."""

    file: str
    line: int
    id: str
    should_fire: bool
    note: str


class Deviation(NamedTuple):
    """A row on which we do not agree."""

    fires: bool
    reason: str


@cache
def rule_of(name: str) -> CompiledRule:
    """The one rule of a bundled file."""
    (rule,) = load(BUNDLED / f"{PREFIX}{name}.yml")
    return rule


def documents_of(name: str) -> list[dict[str, Any]]:
    """The documents of a bundled file: the rule, and the base rules of a correlation."""
    return list(yaml.safe_load_all((BUNDLED / f"{PREFIX}{name}.yml").read_text()))


def detections_of(name: str) -> list[dict[str, Any]]:
    """Every section `detection` of a bundled file, as it is written."""
    return [document["detection"] for document in documents_of(name) if "detection" in document]


def detection_of(name: str) -> dict[str, Any]:
    """The section `detection` of a file that has one."""
    (detection,) = detections_of(name)
    return detection


def rows_of(heading: str) -> Iterator[list[str]]:
    """The cells of each row of the first table below a heading of the rules' README."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    for line in lines[1:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


@cache
def peer_events(file: str) -> list[dict[str, Any]]:
    """The events of one file of the peers' data."""
    return [json.loads(line) for line in (PEERS / file).read_text().splitlines()]


PEER_ROWS = [Row(**json.loads(line)) for line in (PEERS / "labels.jsonl").read_text().splitlines()]
COUNTED = {"denied-burst-ip", "secret-burst"}
"""Ideas whose rows are single events of a rule that counts: they say nothing about one event, see the data's README."""
DECLINED = {"bad-ip"}
"""Ideas that no rule covers, with the reason in the README's table."""
SINGLE_ROWS = [row for row in PEER_ROWS if row.id not in COUNTED]
DEVIATIONS = {
    (file, int(line), idea): Deviation(verdict == "fires", reason)
    for file, line, idea, verdict, reason in rows_of("Where we judge otherwise")
}


def activity_of(document: Mapping[str, Any]) -> Activity:
    """An event as rules see it; one that is too partial to be an audit event is completed from the base event."""
    try:
        event = from_mapping(document)
    except DecodeError:
        event = from_mapping(merge(BASE_EVENT, document))
    return Activity(event, from_event(event), Locator(()).locate(event.source_ips))


def excluded_names(detection: Mapping[str, Any]) -> Iterator[str]:
    """The user names that a rule spells out."""
    for search in detection.values():
        for part in search if isinstance(search, list) else [search]:
            for key, value in part.items() if isinstance(part, dict) else ():
                if key.partition("|")[0] == "user.username":
                    yield from [value] if isinstance(value, str) else value


def test_the_bundled_rules_load_together() -> None:
    """No file is broken, no id is used twice, and there is one rule a file."""
    rules = load(BUNDLED)

    assert sorted(rule.path.stem.removeprefix(PREFIX) for rule in rules) == NAMES
    assert {rule.metadata.ruleset for rule in rules} == {"detector"}


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_keeps_what_its_cases_promise(name: str) -> None:
    """Each case comes out as it says."""
    assert [str(failure) for failure in run_cases([rule_of(name)])] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_has_cases_of_both_kinds(name: str) -> None:
    """At least two that must match and two that must not, each under a name of its own."""
    cases = rule_of(name).cases

    assert sum(case.match is True for case in cases) >= 2
    assert sum(case.match is False for case in cases) >= 2
    assert len({case.name for case in cases}) == len(cases)


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_says_all_that_an_analyst_needs(name: str) -> None:
    """Title, author, description and false positives are there; the id is random; ATT&CK is that of version 19."""
    document = documents_of(name)[0]
    rule = rule_of(name).metadata

    identifier = UUID(rule.id)
    assert (identifier.variant, identifier.version) == (RFC_4122, 4)
    assert len(rule.name) <= 100
    assert document["author"] == "detector"
    assert len(document["description"]) > 100
    assert document["references"]
    assert document["falsepositives"]
    assert rule.tactics
    assert set(rule.tactics) <= set(TACTICS)
    assert rule.techniques
    assert set(rule.techniques) <= set(TECHNIQUES)


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_puts_its_alert_into_one_sentence(name: str) -> None:
    """Each placeholder of the message is known, and what stands for it is readable."""
    rule = rule_of(name)
    case = next(case for case in rule.cases if case.match is True)
    matches = Engine([rule]).match([activity_of(merge(BASE_EVENT, event)) for event in differences_of(case)])

    alert = Folder("prod").add(matches)[0]

    assert rule.metadata.message
    assert not re.search(r"[{}\n]", alert.document.message)


@pytest.mark.parametrize("name", NAMES)
def test_nobody_slips_through_an_exception_by_the_choice_of_a_name(name: str) -> None:
    """What a rule says of an ordinary person it says of one who is named almost like the system."""
    rule = rule_of(name)
    real_names = {real for detection in detections_of(name) for real in excluded_names(detection)}
    almost = [f(real) for real in real_names for f in (str.upper, str.title, "{}@evil".format)]
    for case in rule.cases:
        ordinary = evaluate(rule, *named(case, ORDINARY_NAME))
        for hostile_name in (*HOSTILE_NAMES, *almost):
            hostile = evaluate(rule, *named(case, hostile_name))
            assert hostile == ordinary or ordinary is False, (case.name, hostile_name)


def named(case: Case, name: str) -> Iterator[dict[str, Any]]:
    """The events of a case, all by somebody of that name."""
    for difference in differences_of(case):
        yield merge(difference, {"user": {"username": name}})


def test_rules_that_speak_of_the_same_paths_list_the_same_paths() -> None:
    """Sigma knows no shared lists, so a path that is added to one of these rules would be forgotten in another."""
    direct = detection_of("pod_hostpath")["path"]["detector.pod.volumes.hostPath.path|re"]
    volume = detection_of("pod_hostpath_persistent_volume")

    assert detection_of("pod_hostpath_by_controller")["path"]["detector.pod.volumes.hostPath.path|re"] == direct
    assert volume["path_host"]["requestObject.spec.hostPath.path|re"] == direct
    assert volume["path_local"]["requestObject.spec.local.path|re"] == direct


@pytest.mark.parametrize("idea", ["pod_privileged", "pod_hostpath"])
def test_rules_that_share_out_the_controllers_list_the_same_ones(idea: str) -> None:
    """Whom the one rule leaves out, the other must take, or the rule on system accounts that do what none does."""
    left_out = detection_of(idea)["filter_controller"]

    assert detection_of(f"{idea}_by_controller")["controller"] == left_out


def test_rules_on_workloads_leave_out_the_same_controllers() -> None:
    """Sigma knows no shared lists, so a controller that is added to one of these rules would be missing in another."""
    lists = {
        name: detection_of(name)["filter_controller"]["user.username|cased"]
        for name in NAMES
        if "template-risky" in rule_of(name).covers and "filter_controller" in detection_of(name)
    }

    assert len(lists) > 10
    assert {name for name, accounts in lists.items() if accounts != lists["pod_privileged"]} == set()


@pytest.mark.parametrize("name", ["cronjob-controller", "deployment-controller"])
def test_a_built_in_controller_that_makes_what_it_does_not_make_is_a_misuse(name: str) -> None:
    """Rules on workloads leave these accounts out whatever they write; they make no pods."""
    account = f"system:serviceaccount:kube-system:{name}"
    document = {"verb": "create", "objectRef": {"resource": "pods", "namespace": "shop", "name": "a"}}

    activity = activity_of(merge(BASE_EVENT, {**document, "user": {"username": account}}))

    assert account in detection_of("pod_privileged")["filter_controller"]["user.username|cased"]
    assert rule_of("system_account_misuse").node.evaluate(activity) is True


def test_the_readme_lists_every_rule() -> None:
    """Its table has each rule with its level and title, and no other."""
    rules = [rule_of(name).metadata for name in NAMES]

    listed = list(rows_of("The rules"))

    assert listed == [[name, rule.level.value, rule.name] for name, rule in zip(NAMES, rules, strict=True)]


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_covers_ideas_that_there_are(name: str) -> None:
    """Each at least one of the ideas in `detector/sigma/ideas.yml`."""
    ideas = {idea["id"] for idea in yaml.safe_load((BUNDLED.parent / "sigma" / "ideas.yml").read_text())}
    covered = rule_of(name).covers

    assert covered
    assert set(covered) <= ideas


@pytest.mark.parametrize("row", SINGLE_ROWS, ids=lambda row: f"{row.file}:{row.line}:{row.id}")
def test_a_peers_test_event_comes_out_as_labelled_or_as_we_say_why_not(row: Row) -> None:
    """Of the rules that cover an idea one fires if it should; the exceptions are those in the README.

    The peers label what a counting rule counts, so of a correlation its base rules are judged; that one event alone
    raises no alert is for its cases to show.
    """
    rules = [rule_of(name) for name in NAMES if row.id in rule_of(name).covers]
    activity = activity_of(peer_events(row.file)[row.line - 1])
    deviation = DEVIATIONS.get((row.file, row.line, row.id))

    fires = any(rule.node.evaluate(activity) is not False for rule in rules)

    assert bool(rules) is (row.id not in DECLINED)
    assert fires == (row.should_fire if deviation is None else deviation.fires), row.note


def test_every_deviation_from_the_peers_is_one() -> None:
    """The README's table names rows about one event only, contradicts their labels and gives a reason."""
    expected = {(row.file, row.line, row.id): row.should_fire for row in SINGLE_ROWS}

    assert DEVIATIONS
    assert set(DEVIATIONS) <= set(expected)
    assert [key for key, deviation in DEVIATIONS.items() if deviation.fires == expected[key]] == []
    assert all(deviation.reason for deviation in DEVIATIONS.values())


def test_we_agree_with_the_peers_on_97_of_100_rows() -> None:
    """Of the rows that speak about one event: 235 of 249."""
    assert len(PEER_ROWS) == 249
    assert len(SINGLE_ROWS) == 235
    assert 1 - len(DEVIATIONS) / len(SINGLE_ROWS) >= 0.97
