"""Exact Shapley values of the path length in an isolation forest, as SHAP's tree explainer defines them.

Written out here, for shap itself brings numba, llvmlite and pandas: 77 MB to install for one test. Source: Lundberg,
Erion, Lee, "Consistent Individualized Feature Attribution for Tree Ensembles", 2018, algorithm 1: a feature that is not
known is followed both ways, by the share of training samples that went either. The few players are groups of features,
so that every coalition can be tried.
"""

from collections.abc import Sequence
from math import factorial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from detector.model.trees import Values, average_path_length


def shapley(forest: IsolationForest, scaled: Values, players: Sequence[str]) -> dict[str, float]:
    """By how much each player (the name of each column's group) lengthens the mean path of a vector."""
    names = sorted(set(players))
    coalitions = np.arange(2 ** len(names))
    member = {name: (coalitions >> place) % 2 == 1 for place, name in enumerate(names)}
    columns = [member[name] for name in players]
    x = scaled.astype(np.float32)
    worth = np.mean([_worth(estimator.tree_, x, columns) for estimator in forest.estimators_], axis=0)
    sizes = np.sum(list(member.values()), axis=0)
    count = len(names)
    weights = np.array([factorial(size) * factorial(count - size - 1) / factorial(count) for size in range(count)])
    values = {}
    for place, name in enumerate(names):
        without = coalitions[~member[name]]
        gain = worth[without | (1 << place)] - worth[without]
        values[name] = float(weights[sizes[without]] @ gain)
    return values


def _worth(tree: Any, x: NDArray[np.float32], columns: Sequence[NDArray[np.bool_]]) -> Values:
    """Expected path length in one tree, by coalition of those whose features are known."""
    left, right, samples = tree.children_left, tree.children_right, tree.n_node_samples

    def expected(node: int, depth: int) -> Values:
        if left[node] < 0:
            return np.asarray(depth + average_path_length(samples[node : node + 1]))
        low, high = expected(left[node], depth + 1), expected(right[node], depth + 1)
        taken = low if x[tree.feature[node]] <= tree.threshold[node] else high
        blended = (samples[left[node]] * low + samples[right[node]] * high) / samples[node]
        return np.asarray(np.where(columns[tree.feature[node]], taken, blended))

    return expected(0, 0)
