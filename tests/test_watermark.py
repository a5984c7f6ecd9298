"""Event time moves on at events, not at batches, and no single wrong clock moves it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from detector.event import AuditEvent
from detector.watermark import STEP_SECONDS, Watermark

START = datetime(2026, 11, 23, 9, tzinfo=UTC)


def event(minutes: float) -> AuditEvent:
    """An event so many minutes after the start."""
    time = START + timedelta(minutes=minutes)
    return AuditEvent(stage_timestamp=time.isoformat(timespec="microseconds").replace("+00:00", "Z"))


def moves(batches: Sequence[Sequence[AuditEvent]]) -> list[tuple[int, datetime | None]]:
    """After how many events time was what, wherever it changed."""
    watermark, count = Watermark(), 0
    found: list[tuple[int, datetime | None]] = []
    for batch in batches:
        for part, now in watermark.parts("log", batch, ()):
            count += len(part)
            if now is not None and (not found or found[-1][1] != now):
                found.append((count, now))
    return found


def test_time_moves_on_in_steps_once_most_events_are_ahead() -> None:
    """Five events of the next ten minutes, and not one, are enough."""
    watermark = Watermark()
    (_, before), (rest, after) = watermark.parts("log", [event(1), *(event(11) for _ in range(6))], ())
    assert before == START + timedelta(seconds=STEP_SECONDS)
    assert len(rest) == 1
    assert after == before


def test_one_wrong_clock_among_many_moves_nothing() -> None:
    """Events of tomorrow between those of today stay outnumbered."""
    events = [event(minute / 10) for minute in range(50)]
    mixed = [item for one in events for item in (one, event(1440))][:-1]
    assert [now for _, now in moves([mixed])] == [START]


def test_a_stream_that_is_behind_holds_time_back() -> None:
    """And as long as nothing is known of it, no time is known at all."""
    watermark = Watermark()
    ahead = [event(60)]
    assert [now for _, now in watermark.parts("fast", ahead, {"slow"})] == [None]
    list(watermark.parts("slow", [event(1)], {"slow"}))
    assert [now for _, now in watermark.parts("fast", ahead, {"slow"})] == [START]
    assert [now for _, now in watermark.parts("fast", ahead, ())] == [START + timedelta(hours=1)]


def test_no_event_and_no_time_say_nothing() -> None:
    """An empty batch is one part without a time."""
    assert list(Watermark().parts("log", [], ())) == [([], None)]
    assert [now for _, now in Watermark().parts("log", [AuditEvent()], ())] == [None]


@given(
    minutes=st.lists(st.floats(0, 300, allow_nan=False), max_size=80),
    cuts=st.lists(st.integers(0, 80), max_size=8),
)
def test_any_cut_moves_time_at_the_same_events(minutes: list[float], cuts: list[int]) -> None:
    """Where time changes, and to what, does not depend on the batches."""
    events = [event(minute) for minute in minutes]
    edges = [0, *sorted(cut for cut in cuts if cut < len(events)), len(events)]
    batches = [events[start:end] for start, end in pairwise(edges)]
    whole, cut = moves([[one] for one in events]), moves(batches)
    moved = len(cut) - 1  # the time that a stream begins with is told with the first part, however long that is
    assert cut[1:] == whole[len(whole) - moved :]
    assert [now for _, now in cut[-1:]] == [now for _, now in whole[-1:]]


@given(st.lists(st.floats(-1e5, 1e5, allow_nan=False), max_size=60))
def test_time_never_goes_back(minutes: list[float]) -> None:
    """However events are disordered."""
    times = [now for _, now in moves([[event(minute) for minute in minutes]]) if now is not None]
    assert times == sorted(times)
