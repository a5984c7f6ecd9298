"""The health of a stream is judged alike however it is cut, and over restarts."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from detector.state import Snapshot, decode, encode
from tests.health.streams import BINDING, POD, START, line_at, stamp
from tests.pipelines import STREAM, Kept, Memory, pipeline
from tests.properties.test_cuts import _cut

_TRUNCATED = {"annotations": {"audit.k8s.io/truncated": "true"}}
_PATCH = {"verb": "patch", "objectRef": BINDING}
_IDS = ("11111111-2222-4333-8444-555555555555", "chosen")


@st.composite
def _stream(draw: st.DrawFn) -> list[bytes]:
    """A steady stream with pauses, wrong clocks, truncation, lost answers and chosen auditIDs in it."""
    records = [line_at(minute) for minute in range(0, 90, 3)]
    minute = 90.0
    for number in range(draw(st.integers(5, 40))):
        minute += draw(st.sampled_from([0.01, 0.01, 0.01, 1, 4, 15, 70]))
        differences: dict[str, Any] = draw(
            st.sampled_from(
                [
                    {},
                    {"stageTimestamp": stamp(minute + 600)},
                    {"requestReceivedTimestamp": stamp(minute + 2)},
                    {**_TRUNCATED, "verb": "create", "objectRef": POD, "responseStatus": {"code": 201}},
                    {**_PATCH, "stage": "RequestReceived"},
                    {**_PATCH, "auditID": draw(st.sampled_from(_IDS))},
                ]
            )
        )
        records.append(line_at(minute, number, **differences))
        if "stage" in differences and draw(st.booleans()):
            records.append(line_at(minute, number, **_PATCH, stageTimestamp=stamp(minute + 0.001)))
    return records


def _health(kept: Kept) -> dict[str, Any]:
    documents: dict[str, Any] = kept.documents()
    return {id_: each for id_, each in documents.items() if each["detector"]["kind"] == "health"}


def _run(batches: Sequence[Sequence[bytes]]) -> Kept:
    kept = Kept()
    line = pipeline(Memory(batches), kept)
    line.run()
    line.finish()
    return kept


@given(records=_stream(), cuts=st.sets(st.integers(1, 80)))
@settings(deadline=None, max_examples=150)
def test_any_cut_into_batches_finds_the_same(records: list[bytes], cuts: set[int]) -> None:
    """Every document is equal."""
    assert _health(_run(_cut(records, cuts))) == _health(_run([records]))


class _Crash(Exception):
    """Stands for the end of the process."""


@given(records=_stream(), cuts=st.sets(st.integers(1, 80)), crash=st.integers(1, 8))
@settings(deadline=None, max_examples=100)
def test_a_restart_goes_on_from_what_was_saved(records: list[bytes], cuts: set[int], crash: int) -> None:
    """What the checks remember is part of the snapshot, so nothing is found twice or not at all."""
    batches = _cut(records, cuts)
    kept = Kept()
    saved = [encode(Snapshot())]
    for saves in (crash, 10**9):
        snapshot = decode(saved[-1])
        line = pipeline(Memory(batches, start=snapshot.positions.get(STREAM, 0)), kept, snapshot)
        line.checkpoint_seconds = 0
        left = iter(range(saves))

        def save(now: Snapshot, left: Any = left) -> None:
            if next(left, None) is None:
                raise _Crash
            saved.append(encode(now))

        line.save = save
        with suppress(_Crash):
            line.run()
            line.finish()
    assert _health(kept) == _health(_run([records]))


def test_such_streams_hold_findings() -> None:
    """Else the properties above would say nothing; nobody is accountable for what is the stream's own."""
    records = [line_at(minute) for minute in (*range(120), *range(200, 220))]
    documents = list(_health(_run([records])).values())
    assert [document["user"]["name"] for document in documents] == ["(audit stream)"]
    (document,) = documents
    assert document["event"]["severity"] == 47
    assert document["rule"]["ruleset"] == "health"
    assert document["detector"]["identity"]["kind"] == "control_plane"
    assert document["threat"]["technique"]["id"] == ["T1685.002"]
    assert document["message"].startswith(f"no audit event came from {STREAM} for 81 minutes since {START:%Y-%m-%d}")
