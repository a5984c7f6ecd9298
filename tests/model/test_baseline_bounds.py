"""Baselines stay within their bounds, and a flood of names drives out only itself."""

from typing import Final

import pytest

from detector import baseline
from detector.baseline import Baselines

_MAX: Final = 50
_HOUR: Final = 3600.0


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for fifty identities."""
    monkeypatch.setattr(baseline, "IDENTITIES_MAX", _MAX)


def _known() -> Baselines:
    """Ten services that are known for a day."""
    baselines = Baselines()
    for hour in range(24):
        for number in range(10):
            baselines.teach(f"known-{number}", "services", {"action": {"get secrets"}}, (1.0, 1.0), hour * _HOUR)
    return baselines


def _flood(baselines: Baselines, count: int) -> None:
    for number in range(count):
        seen = {"action": {"list pods"}, "object": {f"pods@shop:{number}"}}
        baselines.teach(f"new-{number}", f"group-{number}", seen, (1.0, 1.0), 25 * _HOUR + number)


def test_identities_crowds_and_groups_are_bounded() -> None:
    """Whoever is forgotten leaves no token and no peer group behind."""
    baselines = _known()
    _flood(baselines, 1000)
    assert len(baselines.identities) <= _MAX
    assert baselines.cluster.members == len(baselines.identities)
    assert len(baselines.cluster.tokens["object"]) <= _MAX
    assert len(baselines.groups) <= _MAX
    assert sum(group.members for group in baselines.groups.values()) == len(baselines.identities)


def test_a_flood_of_new_names_does_not_make_known_identities_forgotten() -> None:
    """What is known of them, and how surprising they would be, stays to the last bit."""
    baselines = _known()
    _flood(baselines, 40)
    before = {name: baselines.identities[name].tokens["action"] for name in baselines.identities if "known" in name}
    _flood(baselines, 1000)
    view = baselines.view("known-3", "services", 30 * _HOUR)
    assert {name: baselines.identities[name].tokens["action"] for name in before} == before
    assert not view.is_new("action", "get secrets")
    assert view.surprise_bits("action", "get secrets") < 1.0
