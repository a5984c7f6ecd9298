"""Which events count: those that tell of an answer, within the span asked for."""

from datetime import UTC, datetime

import pytest

from detector.normalise import normalise
from tests.events import audit_event

NINE = datetime(2026, 11, 23, 9, tzinfo=UTC)
TEN = datetime(2026, 11, 23, 10, tzinfo=UTC)


@pytest.mark.parametrize("stage", ["ResponseStarted", "ResponseComplete", "Panic", "", "Later"])
def test_every_stage_that_can_tell_an_answer_stays(stage: str) -> None:
    """A refused login has ResponseStarted only, and an event of an unknown stage may be an attack too."""
    kept = audit_event(stage=stage)
    assert normalise([kept]) == [kept]


def test_a_request_that_has_only_come_in_is_left_out() -> None:
    """It would count twice, and knows neither its answer nor the impersonated user."""
    assert normalise([audit_event(stage="RequestReceived"), audit_event()]) == [audit_event()]


@pytest.mark.parametrize(
    ("time", "kept"),
    [
        ("2026-11-23T08:59:59.999999Z", False),
        ("2026-11-23T09:00:00Z", True),
        ("2026-11-23T10:59:59+01:00", True),
        ("2026-11-23T10:00:00Z", False),
        ("no time", True),
    ],
)
def test_a_span_holds_its_beginning_and_not_its_end(time: str, *, kept: bool) -> None:
    """An event without a time is in any span: it is not to be lost by a filter."""
    timed = audit_event(stageTimestamp=time, requestReceivedTimestamp=time)
    assert bool(normalise([timed], since=NINE, until=TEN)) is kept


def test_a_span_may_be_open_at_either_end() -> None:
    """As with `--since` or `--until` alone."""
    early = audit_event(stageTimestamp="2026-11-23T08:00:00Z")
    late = audit_event(stageTimestamp="2026-11-23T11:00:00Z")
    assert normalise([early, late], since=NINE) == [late]
    assert normalise([early, late], until=NINE) == [early]
    assert normalise([early, late]) == [early, late]
