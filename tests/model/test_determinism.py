"""The same input gives the same scores, whatever the process, its threads, and the cut of the input."""

import os
import subprocess
import sys
from datetime import timedelta
from itertools import pairwise
from typing import Any, Final

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.activity import activities
from detector.address import Locator
from detector.model.forest import threshold_for
from detector.model.live import Behaviour
from detector.score import BehaviourState, Score
from detector.score_alert import from_score
from detector.watermark import Watermark
from tests.model import town
from tests.model.test_model import DAY, MALLORY, behaviour

_KINDS: Final = ("pods", "deployments", "secrets")
_THRESHOLD: Final = threshold_for(2.0)
_SCRIPT: Final = """
import json, sys
from hashlib import sha256
from tests.model import town
from tests.model.test_model import behaviour, intrusion, run
forest, state = town.trained()
vectors = forest.scaling.centre + forest.scaling.span * [[n / 7 - 3 for n in range(len(forest.scaling.span))]]
values = [score.verdict.value for score in run(behaviour(live=False), intrusion())]
json.dump([forest.raw_scores(vectors).tolist(), values, forest.calibration.raw.tolist()], sys.stdout)
"""


def test_scores_are_the_same_in_any_process() -> None:
    """Trained and scored with other hashes of strings and another number of threads: equal to 1e-9."""
    found = [_scores(seed, threads) for seed, threads in (("1", "1"), ("2", "4"))]
    for one, other in zip(*found, strict=True):
        assert len(one) > 0
        assert np.abs(np.array(one) - np.array(other)).max() < 1e-9


def _scores(hash_seed: str, threads: str) -> list[list[float]]:
    environment = {
        **os.environ,
        "PYTHONHASHSEED": hash_seed,
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
    }
    done = subprocess.run([sys.executable, "-c", _SCRIPT], env=environment, capture_output=True, check=True)
    found: list[list[float]] = msgspec.json.decode(done.stdout)
    return found


@st.composite
def _hour(draw: st.DrawFn) -> list[dict[str, Any]]:
    """An hour of two developers, who now and then touch what they never touched."""
    events, minute = [], 0
    for _ in range(draw(st.integers(2, 12))):
        minute += draw(st.integers(1, 4))
        kind, namespace = draw(st.sampled_from(_KINDS)), draw(st.sampled_from(["shop", "pay", "kube-system"]))
        events.append(_request(minute, draw(st.sampled_from([MALLORY, "dev-1@corp.example"])), kind, namespace))
    return events


def _request(minute: int, user: str, kind: str = "pods", namespace: str = "shop") -> dict[str, Any]:
    ref = {"resource": kind, "namespace": namespace}
    return town.request(DAY + timedelta(minutes=minute), user, verb="list", objectRef=ref)


@settings(deadline=None, max_examples=40)
@given(_hour(), st.sets(st.integers(1, 11)), st.sets(st.integers(1, 11)))
def test_any_cut_and_any_restarts_give_the_same_alerts(
    events: list[dict[str, Any]], cuts: set[int], restarts: set[int]
) -> None:
    """Batches are an accident of delivery; the state is read back from bytes at each restart."""
    assert _alerts(events, cuts, restarts) == _alerts(events, set(range(len(events))), set())


def test_a_batch_over_the_end_of_an_hour_gives_the_same_alerts() -> None:
    """Found by the property above, over more than an hour."""
    events = [
        _request(1, "dev-1@corp.example", namespace="pay"),
        _request(20, "dev-1@corp.example", "deployments"),
        _request(45, MALLORY),
        _request(70, MALLORY),
        _request(71, "dev-1@corp.example", "deployments"),
        _request(72, MALLORY),
    ]
    assert _alerts(events, set(), set()) == _alerts(events, set(range(len(events))), set())


def _alerts(events: list[dict[str, Any]], cuts: set[int], restarts: set[int]) -> dict[str, Any]:
    """The complete alerts by id, of events given in batches that end at the cuts."""
    model, watermark, scores = behaviour(threshold=_THRESHOLD), Watermark(), list[Score]()
    forest, _ = town.trained()
    for start, end in pairwise(sorted({0, *(cut for cut in cuts if cut < len(events)), len(events)})):
        if start in restarts:
            state = msgspec.msgpack.decode(msgspec.msgpack.encode(model.state), type=BehaviourState)
            model = Behaviour(forest, state, _THRESHOLD)
        batch = [town.activity(event).event for event in events[start:end]]
        for part, now in watermark.parts("", batch, ()):
            scores += model.update(activities(part, Locator(()).locate))
            scores += model.advance(now) if now else []
    made = [from_score(score, "town", lambda: DAY) for score in scores + model.finish() if score.complete]
    return {alert.id: alert.document.to_json() for alert in made}
