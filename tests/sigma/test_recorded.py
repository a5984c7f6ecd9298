"""The bundled rules against what a real API server logged when a client did the thing, and its benign neighbour."""

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from detector.activity import Activity
from detector.address import Locator
from detector.event import from_mapping
from detector.identity import from_event
from detector.sigma.load import BUNDLED, CompiledRule, load

RECORDED = Path(__file__).parents[1] / "data" / "recorded"
FILES = sorted(path.name for path in RECORDED.glob("*.jsonl") if path.name != "labels.jsonl")


class Row(NamedTuple):
    """What one rule must say of one recorded event."""

    file: str
    line: int
    rule: str
    should_fire: bool
    note: str


ROWS = [Row(**json.loads(line)) for line in (RECORDED / "labels.jsonl").read_text().splitlines()]


@cache
def events_of(file: str) -> list[dict[str, Any]]:
    """The events of one recording."""
    return [json.loads(line) for line in (RECORDED / file).read_text().splitlines()]


@cache
def rule_of(name: str) -> CompiledRule:
    """The one rule of a bundled file."""
    (rule,) = load(BUNDLED / f"kubernetes_audit_{name}.yml")
    return rule


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.file}:{row.line}:{row.rule}")
def test_a_rule_says_of_a_recorded_event_what_it_should(row: Row) -> None:
    """The rule of the idea fires on the thing itself and stays silent on what only looks like it."""
    event = from_mapping(events_of(row.file)[row.line - 1])
    activity = Activity(event, from_event(event), Locator(()).locate(event.source_ips))

    assert rule_of(row.rule).node.evaluate(activity) is row.should_fire, row.note


@pytest.mark.parametrize("file", FILES)
def test_a_recording_holds_the_thing_and_its_benign_neighbour(file: str) -> None:
    """Every file has a row that must fire and one that must not, and no row points past its end."""
    rows = [row for row in ROWS if row.file == file]

    assert {row.should_fire for row in rows} == {True, False}
    assert {row.line for row in rows} <= set(range(1, len(events_of(file)) + 1))
