"""Judge: scores every window of an archive by a model, as a replay does, and keeps what it saw."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from detector.activity import Activity
from detector.match import Match
from detector.model.forest import threshold_for
from detector.model.live import Behaviour
from detector.model.store import Model
from detector.model.trees import Values, Vectors
from detector.score import BehaviourState, Window


class Judge:
    """One model at work on an archive; it learns on the way as it would in life, so it takes the model over."""

    def __init__(self, model: Model, alerts_a_day: float = 1.0) -> None:
        self.model = model
        self.threshold = threshold_for(alerts_a_day)
        self.known = frozenset(model.baselines.identities)
        """Identities that training knew."""
        self.scores: dict[tuple[float, str], float] = {}
        """By start and identity of each window."""
        self._vectors: list[Vectors] = []
        state = BehaviourState(model=model.label, baselines=model.baselines)
        self._behaviour = Behaviour(model.forest, state, self.threshold, live=False, observe=self._observe)

    @property
    def vectors(self) -> Vectors:
        """The features of each window, in the order of the scores."""
        return np.array(self._vectors).reshape(len(self._vectors), len(self.model.manifest.features))

    @property
    def values(self) -> Values:
        """The scores, in their order."""
        return np.fromiter(self.scores.values(), dtype=np.float64, count=len(self.scores))

    def add(self, activities: Sequence[Activity], matches: Sequence[Match], now: datetime | None) -> None:
        """Take activities and the rules that matched them, and close the windows that event time has left behind."""
        self._behaviour.update(activities, matches)
        if now is not None:
            self._behaviour.advance(now)

    def finish(self) -> None:
        """Close every window."""
        self._behaviour.finish()

    def _observe(self, window: Window, vector: Vectors, score: float) -> None:
        self.scores[window.start_seconds, window.name] = score
        self._vectors.append(vector)
