"""Writes the golden alerts anew: `make generate`."""

from tests.golden.scenarios import alerts_of, golden_path, scenarios

for scenario in scenarios():
    golden_path(scenario).write_text(alerts_of(scenario), encoding="utf-8")
