"""Trees: a fitted isolation forest as plain arrays, which score a row in a third of a millisecond.

scikit-learn needs 8 ms for a single row, and over a second to be imported: whoever only scores needs neither.
"""

from dataclasses import dataclass, fields
from typing import IO, TYPE_CHECKING, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sklearn.ensemble import IsolationForest

Vectors: TypeAlias = NDArray[np.float64]
"""Shape (n_windows, n_features)."""
Values: TypeAlias = NDArray[np.float64]
"""Shape (n_windows,)."""

_EULER_GAMMA: Final = 0.5772156649015329


@dataclass(frozen=True, slots=True)
class Trees:
    """The nodes of all trees in one row; a leaf is its own child."""

    roots: NDArray[np.int64]
    """Shape (n_trees,)."""
    feature: NDArray[np.int64]
    """Shape (n_nodes,), and so are the others."""
    threshold: Values
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    length: Values
    """Of the path to a leaf, with what its samples would still need."""
    depth: NDArray[np.int64]
    """Of the deepest leaf; shape ()."""
    normaliser: Values
    """Path length of a window that is neither strange nor usual, over all trees; shape ()."""

    def scores(self, scaled: Vectors) -> Values:
        """Strangeness before calibration, equal to minus scikit-learn's `score_samples`; here the sign is turned."""
        scaled = scaled.astype(np.float32).astype(np.float64)  # trees compare single precision
        rows = np.arange(len(scaled))[:, None]
        node = np.broadcast_to(self.roots, (len(scaled), len(self.roots)))
        for _ in range(int(self.depth)):
            goes_left = scaled[rows, self.feature[node]] <= self.threshold[node]
            node = np.where(goes_left, self.left[node], self.right[node])
        return np.asarray(2.0 ** (-self.length[node].sum(axis=1) / self.normaliser))

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Every array by its name, to be stored."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}


def read_arrays(file: IO[bytes]) -> dict[str, NDArray[np.generic]]:
    """Read arrays that `numpy.savez` wrote; objects are refused, for they would be pickles."""
    with np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def from_estimator(fitted: "IsolationForest") -> Trees:
    """Lay out the trees of a fitted forest."""
    trees = [estimator.tree_ for estimator in fitted.estimators_]
    offsets = np.cumsum([0, *(tree.node_count for tree in trees[:-1])])
    feature = np.concatenate([tree.feature for tree in trees])
    leaf = feature < 0
    own = np.arange(len(leaf))
    left = np.concatenate([tree.children_left + offset for tree, offset in zip(trees, offsets, strict=True)])
    right = np.concatenate([tree.children_right + offset for tree, offset in zip(trees, offsets, strict=True)])
    depths = np.concatenate([_depths(tree.children_left, tree.children_right) for tree in trees])
    samples = np.concatenate([tree.n_node_samples for tree in trees])
    return Trees(
        roots=offsets,
        feature=np.where(leaf, 0, feature),
        threshold=np.concatenate([tree.threshold for tree in trees]),
        left=np.where(leaf, own, left),
        right=np.where(leaf, own, right),
        length=depths + average_path_length(samples),
        depth=np.asarray(depths.max()),
        normaliser=np.asarray(len(trees) * average_path_length(np.array([fitted.max_samples_]))[0]),
    )


def _depths(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Depth of each node; parents stand before their children."""
    depths = np.zeros(len(left), dtype=np.int64)
    for node in range(len(left)):
        if left[node] >= 0:
            depths[left[node]] = depths[right[node]] = depths[node] + 1
    return depths


def average_path_length(samples: NDArray[np.int64]) -> Values:
    """Average depth of an unsuccessful search in a binary tree of so many samples, c(n) of the paper."""
    many = np.maximum(samples, 3).astype(np.float64)
    length = 2.0 * (np.log(many - 1.0) + _EULER_GAMMA) - 2.0 * (many - 1.0) / many
    return np.asarray(np.where(samples <= 1, 0.0, np.where(samples == 2, 1.0, length)))
