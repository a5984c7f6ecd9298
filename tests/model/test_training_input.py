"""Bad input to training is refused with numbers, or left out and told."""

from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from detector.errors import ModelError
from detector.features import Feature
from detector.features import load as load_features
from detector.model import train
from detector.model.curation import Curation, Withheld
from tests.model import town
from tests.model.test_model import intrusion

USUAL = town.ordered(town.usual())


def test_events_given_twice_teach_once() -> None:
    """Two files that overlap, read side by side, give the same model as one."""
    training = town.learn(event for event in USUAL for _ in range(2))
    forest, state = training.finish()
    once, known = town.trained()
    assert training.curation.left_out == {"given twice": len(USUAL)}
    assert training.requests == len(USUAL)
    assert forest.calibration.raw.tolist() == once.calibration.raw.tolist()
    assert state.baselines == town.state(known).baselines


def test_both_stages_of_a_request_are_no_repetition() -> None:
    """An exec session is logged as it starts and as it ends."""
    started = town.activity(town.request(town.START, "ana@example.test", stage="ResponseStarted"))
    completed = town.activity(town.request(town.START, "ana@example.test"))
    curation = Curation()
    assert curation.keep([started, completed, completed]) == [started, completed]


def test_repetitions_are_found_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read long ago is forgotten."""
    monkeypatch.setattr("detector.model.curation._REMEMBERED", 3)
    one, *others = (town.activity(event) for event in USUAL[:4])
    assert len(Curation().keep([one, *others[:2], one])) == 3
    assert len(Curation().keep([one, *others, one])) == 5


def test_withheld_requests_leave_no_habit() -> None:
    """An intrusion within the training, labelled, is no habit of the developer's."""
    attack = intrusion(town.START + timedelta(days=2))
    withheld = Withheld({event["auditID"]: "labelled as an attack" for event in attack})
    training = town.learn(town.ordered(iter([*USUAL, *attack])), curation=Curation(withheld))
    _, state = training.finish()
    places = state.baselines.identities["dev-0@corp.example"].tokens["place"]
    assert training.about["left_out"] == {"labelled as an attack": len(attack)}
    assert not [place for place in places if place.startswith("secrets")]


def test_events_without_a_time_are_left_out() -> None:
    """They would open a window in 1970 and begin the training there."""
    undated = town.request(town.START, "ana@example.test")
    del undated["stageTimestamp"], undated["requestReceivedTimestamp"]
    training = town.learn([undated, *USUAL])
    training.finish()
    assert training.curation.left_out == {"without a time": 1}
    assert training.span[0] == town.START


def test_events_out_of_order_are_refused_with_their_number() -> None:
    """A log read backwards teaches nothing but its last hours."""
    training = town.learn(reversed(USUAL))
    with pytest.raises(ModelError, match=r"[\d,]+ of [\d,]+ requests came after their hour was over.*sort each"):
        training.finish()


def test_one_identity_is_refused() -> None:
    """It has no peers and no cluster to be measured against."""
    training = town.learn(event for event in USUAL if event["user"]["username"].endswith("pay:api"))
    with pytest.raises(ModelError, match=r"windows after the first day, 1 identities"):
        training.finish()


def test_days_without_an_event_do_not_count() -> None:
    """A threshold means alerts a day of logs, not a day of the calendar."""
    away = [event for event in USUAL if not "2026-10-07" <= event["stageTimestamp"][:10] < "2026-10-08"]
    training, whole = town.learn(away), town.learn(USUAL)
    assert training.silent == ((date(2026, 10, 7), date(2026, 10, 7)),)
    assert training.days == pytest.approx(whole.days - 1.0)


def test_a_constant_feature_is_named() -> None:
    """Nobody in the town ever uses another client."""
    training = town.learn(USUAL)
    training.finish()
    pairs = zip(load_features(), training.histograms, strict=True)
    constant = {feature.name for feature, histogram in pairs if histogram.constant}
    assert "client_new" in constant
    assert "requests" not in constant


@pytest.mark.parametrize(
    ("value", "told"), [(float("nan"), "broken in "), (1.0, "windows are alike")], ids=["no number", "constant"]
)
def test_features_that_tell_nothing_are_refused(monkeypatch: pytest.MonkeyPatch, value: float, told: str) -> None:
    """With the name of the feature, or the number of windows."""

    def broken(*_: Any) -> float:
        return value

    feature = Feature("broken", "", "none", -np.inf, np.inf, "Nothing.", "nothing", broken)
    monkeypatch.setattr(train, "load", lambda: (feature,))
    with pytest.raises(ModelError, match=told):
        town.learn(USUAL).finish()
