"""Streams that fall silent, and clocks that disagree."""

import pytest

from detector.health import Arrival
from detector.health.monitor import Checks
from detector.health.silence import APART_IN_TIME, SILENT, SILENT_LONG
from tests.health.streams import START, at, look, names, steady

_SILENT, _SILENT_LONG, _APART = (rule.metadata.name for rule in (SILENT, SILENT_LONG, APART_IN_TIME))


@pytest.mark.parametrize(("minutes", "told"), [(9, []), (12, [_SILENT]), (58, [_SILENT]), (59, [_SILENT_LONG])])
def test_a_silence_is_told_by_its_length_when_events_come_again(minutes: float, told: list[str]) -> None:
    """Ten minutes are borne, an hour is medium."""
    back = 120 + minutes
    assert names(look(steady(0, 120), steady(back, back + 20))) == told


def test_a_silence_says_where_how_long_and_since_when() -> None:
    """Nobody is accountable for it but the stream."""
    (match,) = look(steady(0, 120), steady(150, 170))
    assert match.activity.identity.name == "(audit stream)"
    ref = match.activity.event.object_ref
    assert ref is not None
    assert ref.name == "a for 31 minutes since 2026-11-23 01:59 UTC"
    assert (match.activity.time - START).total_seconds() == 150 * 60


def test_the_end_of_an_archive_is_no_silence() -> None:
    """Nothing comes after it."""
    assert look(steady(0, 120)) == []


def test_a_stream_that_is_hardly_known_may_be_silent() -> None:
    """Half an hour says nothing of its habits."""
    assert look(steady(0, 30), steady(90, 120)) == []


def test_a_stream_that_often_pauses_may_pause() -> None:
    """Four times its usual pause is borne."""
    assert look(steady(0, 360, every=20), steady(420, 480)) == []


def test_a_pause_that_comes_every_night_is_known_after_the_second() -> None:
    """One outage makes no habit, two of two days do."""
    day = 24 * 60
    nights = [steady(day * number, day * number + 900, every=5) for number in range(5)]
    assert names(look(*nights)) == [_SILENT_LONG, _SILENT_LONG]


def test_one_event_from_the_future_is_no_silence() -> None:
    """A wrong clock is told as what it is."""
    assert names(look([*steady(0, 120), at(300), *steady(120, 180)])) == [_APART]


def test_a_few_late_events_are_neither() -> None:
    """Shippers deliver in pieces."""
    assert look([*steady(0, 120), at(95), at(96), *steady(120, 180)]) == []


def test_a_stream_that_goes_back_for_good_is_told() -> None:
    """A clock was set, or an hour of events came late."""
    assert names(look(steady(0, 120), steady(60, 119))) == [_APART]


def _two(checks: Checks, *, until: float, arrival: Arrival | None = None) -> list[str]:
    """Two streams go on for two hours, then only the second until some minute."""
    found = []
    for hour in range(2):
        for name in ("a", "b"):
            found += look(steady(60 * hour, 60 * hour + 60), checks=checks, arrival=Arrival(name))
    for start in range(120, int(until), 5):
        found += look(steady(start, start + 5), checks=checks, arrival=arrival or Arrival("b"))
    return names(found)


def test_a_stream_that_falls_silent_while_another_goes_on_is_told_at_once_and_after_an_hour() -> None:
    """It need not come back for that."""
    assert _two(Checks(), until=125) == []
    assert _two(Checks(), until=140) == [_SILENT]
    assert _two(Checks(), until=240) == [_SILENT, _SILENT_LONG]


def test_a_silence_that_was_told_is_not_told_again_when_the_stream_comes_back() -> None:
    """One outage is one alert a level."""
    checks = Checks()
    assert _two(checks, until=140) == [_SILENT]
    assert look(steady(140, 160), checks=checks, arrival=Arrival("b")) == []
    assert look(steady(160, 180), checks=checks, arrival=Arrival("a")) == []


def test_a_stream_with_more_to_read_is_not_silent() -> None:
    """It only lags behind."""
    assert _two(Checks(), until=240, arrival=Arrival("b", behind={"a"})) == []


def test_a_stream_that_another_process_reads_now_is_not_silent() -> None:
    """Kafka has given its partition away."""
    assert _two(Checks(), until=240, arrival=Arrival("b", present={"b"})) == []


def test_a_log_file_that_was_rotated_is_not_silent() -> None:
    """The next file begins where it ends."""
    checks = Checks()
    assert _two(checks, until=125) == []
    assert look(steady(121, 130), checks=checks, arrival=Arrival("a.1")) == []
    later = [steady(start, start + 5) for start in range(125, 240, 5)]
    assert look(*later, checks=checks, arrival=Arrival("b")) == []


def test_files_of_one_log_read_one_after_the_other_are_not_silent() -> None:
    """No two of them overlap."""
    checks = Checks()
    files = [steady(day * 1440, day * 1440 + 600, every=5) for day in range(3)]
    assert [look(file, checks=checks, arrival=Arrival(f"{number}")) for number, file in enumerate(files)] == [
        [],
        [],
        [],
    ]


def test_the_streams_that_are_remembered_are_bounded() -> None:
    """A thousand files are one archive; the oldest is forgotten."""
    checks = Checks()
    for number in range(1_100):
        look([at(number)], checks=checks, arrival=Arrival(f"{number}"))
    assert len(checks.silence.streams) == 1_000
    assert "0" not in checks.silence.streams
