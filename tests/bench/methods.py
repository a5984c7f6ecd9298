"""Why a forest: the same features and windows, judged by other methods. `python -m tests.bench.methods`.

All methods learn from the training days, and score the windows of the test days as the baselines stand then, so the
forest's guard (what alerted does not teach) serves them all.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from ipaddress import ip_network

import numpy as np
from sklearn.ensemble import IsolationForest

from detector.activity import Activity, activities
from detector.address import Locator
from detector.evaluate import read_labels
from detector.features import load as load_features
from detector.formats import Format
from detector.model.fit import fit
from detector.model.forest import threshold_for
from detector.model.live import Behaviour
from detector.model.separation import separation
from detector.model.train import Training
from detector.model.trees import Values, Vectors
from detector.normalise import normalise
from detector.score import WINDOW_SECONDS, Window
from detector.sources.file import FileSource
from detector.watermark import Watermark
from tests.bench.half_space_trees import HalfSpaceTrees
from tests.bench.measure import SAMPLE

_COUNTS = ("requests", "namespaces", "actions", "refused", "missing", "writes")


def main() -> None:
    """Print a line a method."""
    names = [feature.name for feature in load_features()]
    training = Training(seed=7)
    for acts, now in _read("train"):
        training.add(acts, (), now)
    forest, state = training.finish()
    learned: Vectors = np.array(training.vectors)
    windows, vectors, attacked = _score(Behaviour(forest, state, threshold_for(1.0)))
    counts = [names.index(name) for name in _COUNTS]
    news = [index for index, name in enumerate(names) if name.endswith("_new")]
    textbook = IsolationForest(n_estimators=300, random_state=7).fit(learned[:, counts])
    trees = HalfSpaceTrees(learned.min(axis=0), learned.max(axis=0), seed=7)
    trees.score(learned)
    methods: dict[str, Callable[[Vectors], Values]] = {
        "isolation forest over all features": forest.raw_scores,
        "the same without sensitive resources": _without(learned, names, "sensitive_"),
        "ECOD over all features": lambda rows: _ecod(learned, rows),
        "half-space trees over all features": trees.score,
        "first-seen counter: sum of what is new": lambda rows: rows[:, news].sum(axis=1),
        "textbook forest over counts": lambda rows: -textbook.score_samples(rows[:, counts]),
    }
    print("ROC-AUC and average precision over identity-windows, with 95 % bootstrap intervals:")
    for name, method in methods.items():
        scores = method(vectors)
        scored = [(start, who, float(score)) for (start, who), score in zip(windows, scores, strict=True)]
        figures = separation(scored, attacked)
        cells = ["{:.4f} ({:.4f} to {:.4f})".format(*value) for value in figures.values() if value]
        print(f"  {name:40} {'   '.join(cells)}")


def _read(name: str) -> Iterator[tuple[list[Activity], datetime | None]]:
    decode, locator, watermark = Format().decode, Locator([ip_network("127.0.0.1/32")]), Watermark()
    for batch in FileSource([str(SAMPLE.with_name(f"{name}.jsonl.zst"))]):
        events = normalise(decode(batch.values, batch.positions).events)
        for part, now in watermark.parts("", events, ()):
            yield activities(part, locator.locate), now


def _score(behaviour: Behaviour) -> tuple[list[tuple[float, str]], Vectors, set[tuple[float, str]]]:
    """The test days' windows with their vectors, and which of them hold an attack."""
    windows: list[tuple[float, str]] = []
    vectors: list[Vectors] = []
    attacked: set[tuple[float, str]] = set()
    labels = read_labels(SAMPLE.with_name("labels.jsonl"))

    def observe(window: Window, vector: Vectors, score: float) -> None:
        del score
        windows.append((window.start_seconds, window.name))
        vectors.append(vector)

    behaviour.observe = observe
    for acts, now in _read("test"):
        for one in acts:
            if one.event.audit_id in labels:
                attacked.add((one.time.timestamp() // WINDOW_SECONDS * WINDOW_SECONDS, one.identity.name))
        behaviour.update(acts)
        if now is not None:
            behaviour.advance(now)
    behaviour.finish()
    return windows, np.array(vectors), attacked


def _without(learned: Vectors, names: list[str], prefix: str) -> Callable[[Vectors], Values]:
    kept = [index for index, name in enumerate(names) if not name.startswith(prefix)]
    smaller = fit(learned[:, kept], range(len(learned)), days=9.0, seed=7, risk_column=0)
    return lambda rows: smaller.raw_scores(rows[:, kept])


def _ecod(learned: Vectors, rows: Vectors) -> Values:
    """Sum over features of minus the log of the tail probability, the greater of the left, right and skewed sums.

    Source: Li et al., "ECOD: Unsupervised Outlier Detection Using Empirical Cumulative Distribution Functions", 2022.
    """
    ordered = np.sort(learned, axis=0)
    count = len(ordered)
    columns = range(rows.shape[1])
    left = np.stack([np.searchsorted(ordered[:, c], rows[:, c], side="right") for c in columns], axis=1)
    right = count - np.stack([np.searchsorted(ordered[:, c], rows[:, c], side="left") for c in columns], axis=1)
    left_log, right_log = (-np.log(np.maximum(tail, 0.5) / count) for tail in (left, right))
    centred = learned - learned.mean(axis=0)
    skewed = np.where((centred**3).mean(axis=0) < 0, left_log, right_log)
    return np.asarray(np.max([left_log.sum(axis=1), right_log.sum(axis=1), skewed.sum(axis=1)], axis=0))


if __name__ == "__main__":
    main()
