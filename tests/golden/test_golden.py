"""Each scenario gives the alerts that stand beside it, byte for byte."""

from pathlib import Path

import pytest

from tests.golden.scenarios import alerts_of, golden_path, scenarios


@pytest.mark.parametrize("scenario", scenarios(), ids=lambda path: path.stem)
def test_a_scenario_gives_the_alerts_beside_it(scenario: Path) -> None:
    """A difference is either a mistake, or `make generate` and a look at what changed."""
    assert alerts_of(scenario) == golden_path(scenario).read_text(encoding="utf-8")


def test_there_are_scenarios() -> None:
    """The test above would pass without any."""
    assert len(scenarios()) == 10
