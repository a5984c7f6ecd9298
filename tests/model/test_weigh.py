"""Both halves together: what a rule saw is weighed by habits, and weak signals add up in a score."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from detector.alert import Alert
from detector.fold import Folder
from detector.match import SEVERITY, Level, Match, Rule
from detector.model.forest import threshold_for
from detector.model.live import Behaviour
from detector.model.train import Training
from detector.score import BehaviourState, Score
from tests.model import town

DAY = town.START + timedelta(days=town.DAYS, hours=10)
SRE, BUILDER = "sre@corp.example", "system:serviceaccount:ci:builder"
EXEC = {"resource": "pods", "subresource": "exec", "namespace": "shop", "name": "cart-1"}


def rule(name: str, level: Level = Level.MEDIUM) -> Rule:
    """A rule by a name."""
    return Rule(id=f"id-{name}", name=name, version="1", ruleset="test", level=level, fold_seconds=3600)


SHELL, LIST_SECRETS, REVIEW = rule("shell"), rule("list secrets", Level.LOW), rule("review", Level.LOW)


def exec_by(user: str, hours: float = 0) -> dict[str, Any]:
    """A shell that somebody opens."""
    return town.request(DAY + timedelta(hours=hours), user, verb="get", objectRef=EXEC)


def trained() -> Behaviour:
    """The town, where one engineer opens shells each day and a build account deploys each hour."""
    training = Training(7, rules=[one.name for one in (SHELL, LIST_SECRETS, REVIEW)])
    events = list(town.usual())
    for hour in range(town.DAYS * 24):
        time = town.START + timedelta(hours=hour, minutes=5)
        ref = {"resource": "deployments", "namespace": "shop", "name": "cart"}
        events.append(town.request(time, BUILDER, verb="patch", objectRef=ref))
        if 8 <= hour % 24 < 18:
            events.append(town.request(time, SRE, verb="get", objectRef=EXEC))
    for event in town.ordered(iter(events)):
        one = town.activity(event)
        is_shell = one.event.object_ref is not None and one.event.object_ref.subresource == "exec"
        training.add([one], [Match(SHELL, one, ())] if is_shell else [], one.time)
    forest, state = training.finish()
    copied = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=BehaviourState)
    return Behaviour(forest, copied, threshold_for(0.25), live=False)


@pytest.fixture(scope="module")
def model() -> bytes:
    """The town's state once for all tests; each decodes its own."""
    behaviour = trained()
    _FORESTS["town"] = behaviour
    return msgspec.msgpack.encode(behaviour.state)


_FORESTS: dict[str, Behaviour] = {}


def fresh(model: bytes) -> Behaviour:
    """The town as after training."""
    state = msgspec.msgpack.decode(model, type=BehaviourState)
    return Behaviour(_FORESTS["town"]._forest, state, threshold_for(0.25), live=False)


def decide(behaviour: Behaviour, events: list[tuple[dict[str, Any], list[Rule]]]) -> tuple[list[Alert], list[Score]]:
    """Run events, with the rules that match each, through model and folder as the pipeline does."""
    folder = Folder("town", live=False)
    for event, rules in events:
        one = town.activity(event)
        matches = [Match(each, one, ()) for each in rules]
        behaviour.update([one], matches)
        folder.add(matches, behaviour.weights())
    scores = behaviour.finish()
    folder.add((), behaviour.weights())
    return folder.finish(), scores


def severity(behaviour: Behaviour, event: dict[str, Any], level: Level = Level.MEDIUM) -> int:
    """How severe the alert of one shell is."""
    (alert,), _ = decide(behaviour, [(event, [SHELL.model_copy(update={"level": level})])])
    return alert.document.event.severity


def test_what_somebody_does_each_day_is_one_level_lower(model: bytes) -> None:
    """And the reason says how often."""
    (alert,), _ = decide(fresh(model), [(exec_by(SRE), [SHELL])])
    assert alert.document.event.severity == SEVERITY[Level.LOW]
    (reason,) = alert.document.detector.reasons or ()
    assert reason.value == "shell"
    assert reason.usual == "in 38 of 38 hours of work"


def test_what_neither_somebody_nor_the_peers_ever_did_is_one_level_higher(model: bytes) -> None:
    """The build account that never opened a shell."""
    assert severity(fresh(model), exec_by(BUILDER)) == SEVERITY[Level.HIGH]


def test_somebody_unknown_is_neither_excused_nor_accused(model: bytes) -> None:
    """The rule's own level stands."""
    assert severity(fresh(model), exec_by("new@corp.example")) == SEVERITY[Level.MEDIUM]


def test_a_habit_from_elsewhere_excuses_nothing(model: bytes) -> None:
    """A stolen credential does what its owner does, from another network."""
    event = {**exec_by(SRE), "sourceIPs": ["198.51.100.9"]}
    assert severity(fresh(model), event) == SEVERITY[Level.MEDIUM]


def test_what_is_critical_stays_critical(model: bytes) -> None:
    """No habit excuses it."""
    assert severity(fresh(model), exec_by(SRE), Level.CRITICAL) == SEVERITY[Level.CRITICAL]


def test_what_a_rule_objects_to_does_not_become_a_habit(model: bytes) -> None:
    """A build account that opens a shell each hour for two days is as unheard of at the end."""
    behaviour = fresh(model)
    for hour in range(48):
        decide(behaviour, [(exec_by(BUILDER, hour), [SHELL])])
    assert severity(behaviour, exec_by(BUILDER, 50)) == SEVERITY[Level.HIGH]


def test_weak_signals_of_one_identity_add_up(model: bytes) -> None:
    """Acts that are usual, but which rules that never saw this identity match, make its hour strange."""
    ref = {"resource": "deployments", "namespace": "shop", "name": "cart"}
    deploy = town.request(DAY, BUILDER, verb="patch", objectRef=ref)
    _, quiet = decide(fresh(model), [(deploy, [])])
    _, loud = decide(fresh(model), [(deploy, [SHELL, LIST_SECRETS, REVIEW])])
    assert quiet == []
    (score,) = loud
    assert score.verdict.reasons[0].feature == "signal"
    assert "review" in score.verdict.reasons[0].value


def test_rules_that_the_model_never_met_are_no_news(model: bytes) -> None:
    """A new release of the rules makes nobody strange."""
    ref = {"resource": "deployments", "namespace": "shop", "name": "cart"}
    deploy = town.request(DAY, BUILDER, verb="patch", objectRef=ref)
    _, scores = decide(fresh(model), [(deploy, [rule("new-1"), rule("new-2"), rule("new-3")])])
    assert scores == []


def test_an_intruder_who_takes_an_hour_for_each_step_is_strange_by_the_day(model: bytes) -> None:
    """One new place an hour: the day's news grows, and with it the score."""
    behaviour = fresh(model)
    for hour in range(8):
        ref = {"resource": "configmaps", "namespace": f"ns-{hour}"}
        one = town.activity(town.request(DAY + timedelta(hours=hour), BUILDER, verb="list", objectRef=ref))
        behaviour.update([one], [])
    (score,) = behaviour.finish()
    assert score.verdict.value > 0.9
    assert len(score.requests) >= 4
