"""The reasons of an alert agree with SHAP's tree explainer, by an oracle of its own."""

from datetime import timedelta
from typing import Any, Final

import numpy as np
import pytest

from detector.features import load as load_features
from detector.model.compare import correlation, ranks
from detector.model.fit import estimator
from detector.model.forest import threshold_for
from detector.model.trees import Vectors, average_path_length
from detector.score import Score, Window
from tests.model import town
from tests.model.shapley import shapley
from tests.model.test_model import DAY, MALLORY, behaviour, intrusion, run

PLAYERS: Final = [feature.dimension or feature.name for feature in load_features()]
_POD: Final = {"resource": "pods", "namespace": "shop"}


def _strange() -> dict[str, list[dict[str, Any]]]:
    """Windows that are strange in one clear way each, and one that is in several."""
    return {
        "namespaces": _requests([{"objectRef": {**_POD, "namespace": f"team-{number}"}} for number in range(6)]),
        "resources": _requests([{"objectRef": {**_POD, "resource": kind}} for kind in ("secrets", "roles", "jobs")]),
        "verbs": _requests([{"verb": verb} for verb in ("get", "delete", "create", "patch", "update")]),
        "a lot": _requests([{} for _ in range(50)]),
        "theft": intrusion(),
    }


def _requests(differences: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Requests of a developer that differ from the usual ones."""
    usual: dict[str, Any] = {"verb": "list", "objectRef": _POD}
    return [
        town.request(DAY + timedelta(minutes=number), MALLORY, **{**usual, **difference})
        for number, difference in enumerate(differences)
    ]


def _judged(events: list[dict[str, Any]]) -> tuple[Score, Vectors]:
    """The complete score of a window, and its vector."""
    model, seen = behaviour(live=False, threshold=threshold_for(20.0)), list[Vectors]()

    def observe(window: Window, vector: Vectors, score: float) -> None:
        del score
        if window.name == MALLORY:
            seen.append(vector)

    model.observe = observe
    (score,) = run(model, events)
    return score, seen[0]


def test_the_oracle_shares_out_the_whole_difference() -> None:
    """Shapley values add up to what the vector's path differs from that of a vector of which nothing is known."""
    forest, _ = town.trained()
    fitted = estimator(forest.stored)
    vectors = forest.scaling.apply(np.vstack([forest.scaling.centre, forest.scaling.centre + 3 * forest.scaling.span]))
    values = [sum(shapley(fitted, vector, PLAYERS).values()) for vector in vectors]
    normaliser = float(average_path_length(np.array([fitted.max_samples_]))[0])
    lengths = -np.log2(-fitted.score_samples(vectors)) * normaliser
    assert values[1] - values[0] == pytest.approx(lengths[1] - lengths[0], rel=1e-6)


def test_reasons_agree_with_shap() -> None:
    """The strongest of either is mostly among the three strongest of the other, and the order of all is alike.

    They need not be the same one: what is new in a namespace is new in place, object and outcome as well.
    """
    forest, _ = town.trained()
    agreed: list[bool] = []
    for events in _strange().values():
        score, vector = _judged(events)
        lengthened = shapley(estimator(forest.stored), forest.scaling.apply(vector), PLAYERS)
        by_shap = {player: -value for player, value in lengthened.items()}
        by_ablation = dict.fromkeys(by_shap, 0.0) | {one.feature: one.contribution for one in score.verdict.reasons}
        firsts = [sorted(found, key=lambda player: -found[player])[:3] for found in (by_shap, by_ablation)]
        agreed.append(firsts[0][0] in firsts[1] and firsts[1][0] in firsts[0])
        order = [ranks(np.array([found[player] for player in sorted(by_shap)])) for found in (by_shap, by_ablation)]
        alike = correlation(*order)
        assert alike is not None
        assert alike > 0.5
    assert sum(agreed) >= 3
