"""The model tells strange from usual, by the past only, and does not learn from what was strange."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import sklearn

from detector.errors import ModelError
from detector.features import load as load_features
from detector.model.fit import estimator
from detector.model.forest import Forest, threshold_for
from detector.model.live import Behaviour
from detector.model.store import load
from detector.model.train import Training
from detector.model.windows import LATENESS_SECONDS
from detector.score import WINDOW_SECONDS, BehaviourState, Score
from detector.score_alert import from_score
from tests.model import town

DAY = town.START + timedelta(days=town.DAYS, hours=10)
MALLORY = "dev-0@corp.example"


def behaviour(*, live: bool = True, threshold: float | None = None) -> Behaviour:
    """A model of the town, as after training."""
    forest, state = town.trained()
    limit = threshold_for(0.25) if threshold is None else threshold
    return Behaviour(forest, msgspec.msgpack.decode(state, type=BehaviourState), limit, live=live)


def intrusion(time: datetime = DAY) -> list[dict[str, Any]]:
    """A developer's credentials read the secrets of every namespace from outside, all allowed."""
    return [
        town.request(
            time + timedelta(minutes=4 * number),
            MALLORY,
            verb="list",
            objectRef={"resource": "secrets", "namespace": namespace},
            sourceIPs=["198.51.100.9"],
        )
        for number, namespace in enumerate(("pay", "web", "shop", "kube-system"))
    ]


def routine(time: datetime = DAY) -> list[dict[str, Any]]:
    """What the same developer does every day."""
    ref = {"resource": "pods", "namespace": "shop"}
    return [town.request(time + timedelta(minutes=minute), MALLORY, verb="list", objectRef=ref) for minute in (1, 5, 9)]


def run(model: Behaviour, events: list[dict[str, Any]], cut: int = 1) -> list[Score]:
    """Score events in batches of a size, then close all windows."""
    scores: list[Score] = []
    for start in range(0, len(events), cut):
        batch = [town.activity(event) for event in events[start : start + cut]]
        scores += model.update(batch) + model.advance(batch[-1].time)
    return scores + model.finish()


def told(scores: list[Score]) -> list[tuple[str, float, float, int]]:
    """What scores say."""
    return [(s.episode.name, s.episode.start_seconds, s.verdict.value, len(s.requests)) for s in scores]


def test_an_intrusion_of_allowed_requests_is_strange() -> None:
    """It is told at once, with the requests that were new, and once more when its window closes."""
    scores = run(behaviour(), intrusion())
    assert scores[0].episode.name == MALLORY
    assert not scores[0].complete
    assert scores[-1].complete
    document = from_score(scores[-1], "town").document
    assert document.detector.event_count == 4
    assert len(document.detector.audit_ids) == 4
    assert document.event.severity >= 47


def test_routine_is_not_strange() -> None:
    """No alert for what is done every day."""
    assert run(behaviour(), routine()) == []


def test_the_reasons_say_what_is_new_and_what_is_usual() -> None:
    """Strongest first; contributions are shares."""
    reasons = run(behaviour(), intrusion())[-1].verdict.reasons
    assert [reason.contribution for reason in reasons] == sorted((r.contribution for r in reasons), reverse=True)
    assert 0.0 < sum(reason.contribution for reason in reasons) <= 1.0 + 1e-6
    place = next(reason for reason in reasons if reason.feature == "place")
    assert "secrets@" in place.value
    assert "pods@shop" in place.usual


def test_what_was_strange_does_not_teach() -> None:
    """A second run of an intrusion, two days later, is as strange as the first."""
    model = behaviour(live=False)
    first = run(model, intrusion())
    second = run(model, intrusion(DAY + timedelta(days=2)))
    assert [score.verdict.value for score in second] == pytest.approx([s.verdict.value for s in first], abs=0.05)
    assert len(second) == len(first) == 1


def test_what_was_usual_teaches() -> None:
    """A window without an alert becomes a habit."""
    model = behaviour()
    before = model.state.baselines.identities[MALLORY].windows
    run(model, routine())
    assert model.state.baselines.identities[MALLORY].windows > before


def test_scores_come_from_the_past_only() -> None:
    """A window's score is the same whatever comes after it."""
    alone = run(behaviour(live=False), intrusion())
    followed = run(behaviour(live=False), intrusion() + routine(DAY + timedelta(hours=5)))
    assert told(followed) == told(alone)


@pytest.mark.parametrize("cut", [1, 2, 5, 100])
def test_any_cut_gives_the_same_scores(cut: int) -> None:
    """Batches are an accident of delivery."""
    events = town.ordered(iter([*intrusion(), *routine(), *intrusion(DAY + timedelta(hours=3))]))
    whole = run(behaviour(live=False), events, cut=1)
    assert told(run(behaviour(live=False), events, cut=cut)) == told(whole)


def test_a_restart_goes_on_as_if_nothing_had_been() -> None:
    """State read back from bytes gives the same scores."""
    events = intrusion()
    whole = run(behaviour(live=False), events)
    model = behaviour(live=False)
    model.update([town.activity(event) for event in events[:2]])
    forest, _ = town.trained()
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(model.state), type=BehaviourState)
    resumed = Behaviour(forest, state, threshold_for(0.25), live=False)
    scores = run(resumed, events[2:])
    assert told(scores) == told(whole)


def test_both_stages_of_a_long_request_count_once() -> None:
    """An exec session gives two events."""
    ref = {"resource": "pods", "subresource": "exec", "namespace": "shop", "name": "cart"}
    started = town.request(DAY, MALLORY, verb="get", stage="ResponseStarted", objectRef=ref)
    completed = {**started, "stage": "ResponseComplete"}
    model = behaviour(threshold=2.0)
    model.update([town.activity(started), town.activity(completed)])
    (window,) = (window for windows in model.state.windows.values() for window in windows.values())
    assert window.requests == 1


def test_what_comes_after_its_window_was_closed_is_left_out() -> None:
    """A straggler neither opens a window again nor teaches."""
    model = behaviour()
    run(model, routine())
    model.advance(DAY + timedelta(seconds=2 * WINDOW_SECONDS + LATENESS_SECONDS))
    assert model.update([town.activity(event) for event in intrusion()]) == []
    assert not model.state.windows


def test_a_new_member_of_a_known_group_is_no_alarm() -> None:
    """A service account that does at home what all of them do is judged by its peers."""
    ref = {"resource": "secrets", "namespace": "web", "name": "db"}
    user = "system:serviceaccount:web:fresh"
    details: dict[str, Any] = {"verb": "get", "objectRef": ref, "sourceIPs": ["10.0.2.7"], "userAgent": "api/1.0"}
    assert run(behaviour(), [town.request(DAY + timedelta(minutes=m), user, **details) for m in range(5)]) == []


def test_every_feature_keeps_to_its_range() -> None:
    """Over the windows of an intrusion, of routine and of somebody unknown."""
    model = behaviour(threshold=2.0)
    events = [*intrusion(), *routine(), town.request(DAY, "nobody@corp.example", verb="delete")]
    model.update([town.activity(event) for event in events])
    for windows in model.state.windows.values():
        for window in windows.values():
            view = model.state.baselines.view(window.name, window.peer_group, window.start_seconds)
            for feature in load_features():
                value = feature.value(window, view)
                assert feature.low <= value <= feature.high, feature.name


def test_features_have_names_of_their_own_and_say_how_they_are_dodged() -> None:
    """Their order is that of the model's columns."""
    features = load_features()
    assert len({feature.name for feature in features}) == len(features)
    assert all(feature.unit and feature.about and feature.dodge for feature in features)


def _vectors(forest: Forest, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(3).normal(size=(count, len(forest.scaling.centre))) * 5


def test_scores_equal_those_of_scikit_learn() -> None:
    """To 1e-9, with the sign turned round."""
    forest, _ = town.trained()
    vectors = _vectors(forest, 500)
    expected = -estimator(forest.stored).score_samples(forest.scaling.apply(vectors))
    assert np.abs(forest.raw_scores(vectors) - expected).max() < 1e-9


def test_scores_do_not_depend_on_the_size_of_the_batch() -> None:
    """One by one or together."""
    forest, _ = town.trained()
    vectors = _vectors(forest, 50)
    one_by_one = [forest.scores(vector[None])[0] for vector in vectors]
    assert forest.scores(vectors).tolist() == one_by_one


def test_the_same_seed_gives_the_same_forest() -> None:
    """Training draws random numbers from its seed only."""
    (one, _), (other, _) = town.train(days=3), town.train(days=3)
    vectors = _vectors(one, 50)
    assert one.raw_scores(vectors).tolist() == other.raw_scores(vectors).tolist()


def test_a_score_means_a_number_of_alerts_a_day() -> None:
    """Of the training's identity-days as many are above a threshold as it promises, within a factor of two."""
    forest, _ = town.trained()
    raw, days = forest.calibration.raw, forest.calibration.days
    for alerts_a_day in (2.0, 8.0):
        above = (forest.calibration.alerts_a_day(raw) <= alerts_a_day).sum() / days
        assert alerts_a_day / 2 <= above <= alerts_a_day * 2


def _save(directory: Path) -> Path:
    town.save(directory)
    return directory


def test_a_stored_model_reads_back_equal(tmp_path: Path) -> None:
    """Scores to the last bit, baselines as they were."""
    model = load(_save(tmp_path / "town" / "1"))
    forest, state = town.trained()
    vectors = _vectors(forest, 50)
    assert model.forest.scores(vectors).tolist() == forest.scores(vectors).tolist()
    assert model.baselines == msgspec.msgpack.decode(state, type=BehaviourState).baselines
    assert model.label.startswith("town/1@")


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("scikit_learn", "0.1.0", f"trained with scikit-learn 0.1.0, this is {sklearn.__version__}"),
        ("features", ["age"], "trained with other features"),
        ("format", 99, "has format 99"),
        ("surprise", 1, "cannot be used"),
    ],
)
def test_a_model_for_another_version_is_refused(tmp_path: Path, key: str, value: object, told: str) -> None:
    """The line says what differs, and to train anew."""
    directory = _save(tmp_path / "model")
    manifest = directory / "features.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), key: value}))
    with pytest.raises(ModelError, match=told):
        load(directory)


def test_a_folder_without_a_model_says_how_to_make_one(tmp_path: Path) -> None:
    """The command stands in the message."""
    with pytest.raises(ModelError, match="detector model train"):
        load(tmp_path)


def test_too_little_to_learn_from_is_refused_with_numbers() -> None:
    """An hour of logs is no baseline."""
    training = Training(7)
    for event in routine():
        one = town.activity(event)
        training.add([one], [], one.time)
    with pytest.raises(ModelError, match="0 windows after the first day, 1 identities"):
        training.finish()
