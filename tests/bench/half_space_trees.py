"""Half-space trees, the streaming forest that River offers, to judge our own by.

Source: Tan, Ting, Liu, "Fast Anomaly Detection for Streaming Data", IJCAI 2011, with River's height of 8 and windows
of 250; written out here, for the paper's trees are short and River would be one more package to lock.
"""

from typing import Final

import numpy as np

from detector.model.trees import Values, Vectors

_TREES: Final = 25
_HEIGHT: Final = 8
_WINDOW: Final = 250
_SIZE_LIMIT: Final = 0.1 * _WINDOW  # a node with fewer samples is not looked into any further


class HalfSpaceTrees:
    """Trees that halve random features at random; what falls where few fell in the window before is strange.

    Args:
        low: value of each feature that counts as its least.
        high: value of each feature that counts as its greatest.
        seed: of the random numbers.
    """

    def __init__(self, low: Values, high: Values, seed: int) -> None:
        self._low, self._span = low, np.where(high > low, high - low, 1.0)
        random = np.random.default_rng(seed)
        nodes = 2 ** (_HEIGHT + 1)  # the children of node n are 2 n and 2 n + 1; the root is node 1
        self._feature = random.integers(0, len(low), (_TREES, nodes))
        self._split = np.zeros((_TREES, nodes))
        for tree in range(_TREES):
            centre = random.random(len(low))
            reach = 2 * np.maximum(centre, 1 - centre)
            self._halve(tree, 1, centre - reach, centre + reach)
        self._mass = np.zeros((_TREES, nodes))

    def score(self, vectors: Vectors) -> Values:
        """Strangeness of vectors in order of time, each window by the one before it; they are learned on the way."""
        scaled = np.clip((vectors - self._low) / self._span, 0.0, 1.0)
        pieces = [self._score_window(scaled[start : start + _WINDOW]) for start in range(0, len(scaled), _WINDOW)]
        return np.concatenate(pieces)

    def _halve(self, tree: int, node: int, low: Values, high: Values) -> None:
        if node >= self._split.shape[1]:
            return
        feature = self._feature[tree, node]
        middle = self._split[tree, node] = (low[feature] + high[feature]) / 2
        below, above = high.copy(), low.copy()
        below[feature] = above[feature] = middle
        self._halve(tree, 2 * node, low, below)
        self._halve(tree, 2 * node + 1, above, high)

    def _score_window(self, scaled: Vectors) -> Values:
        rows, trees = np.arange(len(scaled))[:, None], np.arange(_TREES)[None, :]
        node = np.ones((len(scaled), _TREES), dtype=np.int64)
        settled = np.zeros(node.shape, dtype=bool)
        mass, fallen = np.zeros(node.shape), np.zeros_like(self._mass)
        for depth in range(_HEIGHT + 1):
            here = self._mass[trees, node]
            mass = np.where(settled, mass, here * 2.0**depth)
            settled |= here <= _SIZE_LIMIT
            np.add.at(fallen, (np.broadcast_to(trees, node.shape), node), 1.0)
            if depth < _HEIGHT:
                goes_up = scaled[rows, self._feature[trees, node]] > self._split[trees, node]
                node = 2 * node + goes_up
        self._mass = fallen * (_WINDOW / len(scaled))  # the last window may be shorter
        return np.asarray(-mass.sum(axis=1))
