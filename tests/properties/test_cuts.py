"""Replay equals live: how the input is cut, and where a crash falls, changes no alert."""

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from detector.alert import Alert
from detector.sigma.cases import BASE_EVENT, merge
from detector.state import Snapshot, decode, encode
from tests.pipelines import STREAM, Kept, Memory, pipeline, replay
from tests.test_fold import START

_SECRET = {"resource": "secrets", "namespace": "shop", "name": "db", "apiVersion": "v1"}
_KINDS = (
    {"verb": "list", "objectRef": {**_SECRET, "namespace": "", "name": ""}, "requestURI": "/api/v1/secrets"},
    {"verb": "get", "objectRef": _SECRET},
    {
        "verb": "get",
        "stage": "ResponseStarted",
        "responseStatus": {"code": 101},
        "objectRef": {"resource": "pods", "subresource": "exec", "namespace": "shop", "name": "cart"},
        "requestURI": "/api/v1/namespaces/shop/pods/cart/exec"
        "?command=cat&command=/run/secrets/kubernetes.io/serviceaccount/token",
    },
    {"verb": "list", "objectRef": {"resource": "pods", "namespace": "shop"}},
    {"user": {"username": "system:anonymous", "groups": ["system:unauthenticated"]}, "verb": "create",
     "objectRef": {"resource": "pods", "namespace": "shop"}, "responseStatus": {"code": 201}},
)  # fmt: skip


@st.composite
def _records(draw: st.DrawFn) -> list[bytes]:
    """A few hours of requests in order of time, among them broken records and second deliveries."""
    records: list[bytes] = []
    minute = 0
    for number in range(draw(st.integers(1, 25))):
        minute += draw(st.integers(0, 40))
        time = (START + timedelta(minutes=minute, microseconds=number)).isoformat().replace("+00:00", "Z")
        times = {"requestReceivedTimestamp": time, "stageTimestamp": time, "auditID": f"{number}"}
        user = {"username": draw(st.sampled_from(["ana@example.test", "bob@example.test"]))}
        event = merge(BASE_EVENT, merge({"user": user}, {**times, **draw(st.sampled_from(_KINDS))}))
        records.append(json.dumps(event).encode())
        if draw(st.integers(0, 9)) == 0:
            records.append(draw(st.sampled_from([b"", b"{", b'{"a": 1}', records[-1]])))
    return records


def _cut(records: list[bytes], cuts: set[int]) -> list[list[bytes]]:
    edges = [0, *sorted(cut for cut in cuts if 0 < cut < len(records)), len(records)]
    return [records[start:end] for start, end in pairwise(edges)]


@given(records=_records(), cuts=st.sets(st.integers(1, 40)))
@settings(deadline=None, max_examples=150)
def test_any_cut_into_batches_gives_the_same_alerts(records: list[bytes], cuts: set[int]) -> None:
    """Every document is equal, and so are the dead letters."""
    whole, parts = replay([records]), replay(_cut(records, cuts))
    assert parts.documents() == whole.documents()
    assert parts.letters == whole.letters


class _Crash(Exception):
    """Stands for the end of the process."""


class _Steps:
    """Counts the steps that touch the outside world, and ends the process at one of them."""

    def __init__(self, left: int) -> None:
        self._left = left

    def take(self) -> None:
        """Go one step, or crash."""
        self._left -= 1
        if self._left < 0:
            raise _Crash


class _CrashingSink:
    """Crashes before or after it has stored, as a process can."""

    def __init__(self, sink: Kept, steps: _Steps) -> None:
        self._sink, self._steps = sink, steps

    def probe(self) -> None:
        """Do nothing."""

    def write(self, alerts: Sequence[Alert]) -> None:
        """Store, unless the process ends before."""
        self._steps.take()
        self._sink.write(alerts)
        self._steps.take()

    def close(self) -> None:
        """Do nothing."""


@given(records=_records(), cuts=st.sets(st.integers(1, 40)), crashes=st.lists(st.integers(0, 40), max_size=6))
@settings(deadline=None, max_examples=150)
def test_a_crash_between_any_two_steps_loses_no_alert_and_counts_nothing_twice(
    records: list[bytes], cuts: set[int], crashes: list[int]
) -> None:
    """The next process goes on from the saved state, and storage ends up with the documents of an undisturbed run."""
    batches = _cut(records, cuts)
    sink = Kept()
    saved = [encode(Snapshot())]
    for steps in map(_Steps, [*crashes, 10**9]):
        snapshot = decode(saved[-1])
        line = pipeline(Memory(batches, start=snapshot.positions.get(STREAM, 0)), sink, snapshot)
        line.sink = _CrashingSink(sink, steps)
        line.checkpoint_seconds = line.refresh_seconds = 0

        def save(now: Snapshot, steps: _Steps = steps) -> None:
            steps.take()
            saved.append(encode(now))
            steps.take()

        line.save = save
        with suppress(_Crash):
            line.run()
            line.finish()
    assert sink.documents() == replay([records]).documents()


@given(records=_records())
@settings(deadline=None, max_examples=50)
def test_a_snapshot_reads_back_equal(records: list[bytes]) -> None:
    """What a restart finds is what was saved."""
    line = pipeline(Memory([records]), Kept())
    line.run()
    assert decode(encode(line.snapshot)) == line.snapshot
